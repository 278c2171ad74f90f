"""A race: cells of a comparison that fall far behind plain training are stopped early, by a rule that is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

#: Standard errors of its own bound by which a cell may be behind.
BEHIND = 5.0


class Validated(NamedTuple):
    """The bound of a validation, in nats an item, and its standard error over items."""

    value: float
    se: float


def hopeless(log: Path, plain: Path, grace: int) -> str | None:
    """Why a cell is not to go on, in words; None where it is.

    .. math:: \\min_{e \\le n} -\\mathrm{ELBO}_e - \\min_{e \\le n} -\\mathrm{ELBO}^{plain}_e > 5 \\, \\mathrm{se}

    for the n epochs that both have validated, from n = `grace` on. One without a bound is never stopped.

    Arguments:
        log: Of the cell.
        plain: That of plain training with the same seed.
        grace: Epochs before which none is stopped.
    """
    mine, other = bounds(log), bounds(plain)
    n = min(len(mine), len(other))
    if n < max(grace, 1):
        return None
    best, plains = min(mine[:n]), min(other[:n])
    behind = best.value - plains.value
    if not behind > BEHIND * best.se:
        return None
    return (
        f"stopped by --race: after {n} epochs its best validation −ELBO, {best.value:.2f}, is {behind:.2f} nats above "
        f"plain's, more than {BEHIND:g} standard errors ({best.se:.2f})"
    )


def bounds(log: Path) -> list[Validated]:
    """The bounds of a run's validations, one an epoch; none where there is no log, or no bound."""
    found = []
    for line in log.read_bytes().splitlines() if log.is_file() else ():
        if b'"epoch"' not in line[:20]:
            continue
        try:
            bound = json.loads(line).get("neg_elbo")
            found.append(Validated(float(bound["value"]), float(bound["se"])))
        except (ValueError, KeyError, TypeError):  # A line that is being written, or no bound.
            continue
    return found
