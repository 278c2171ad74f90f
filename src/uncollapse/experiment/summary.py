"""What a comparison says: means and spreads over seeds, and paired differences to plain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

BASELINE = "plain"
FIGURES = ("nll", "neg_elbo", "kl", "mi", "active_units")
#: Those of tasks that a table has room for; see `tasks.of_task`.
TASKS = ("accuracy", "distance")
HEADER = ("remedy", "seeds", "NLL", "−ELBO", "KL", "MI", "cap", "active units", "time", "verdict")


class Difference(NamedTuple):
    """A paired difference to the baseline, in nats an item: same items, same noise, same seed of training."""

    value: float
    over_items: float
    """Its standard error over items, each item's difference averaged over seeds; nan with one item."""
    over_seeds: float
    """Its standard error over seeds; nan with one seed."""
    seeds: int

    def __str__(self) -> str:
        errors = {"items": self.over_items, "seeds": self.over_seeds}
        said = ", ".join(f"{over} ± {error:.2f}" for over, error in errors.items() if not math.isnan(error))
        return f"{self.value:+.2f}" + (f" ({said})" if said else "")


@dataclass(frozen=True)
class Comparison:
    """The cells of a comparison.

    Arguments:
        rows: One a cell: remedy, seed and either its figures, or its `error`, or why they are `absent`.
    """

    rows: Sequence[dict[str, Any]]

    def only(self, remedies: Sequence[str], seeds: Sequence[int]) -> Comparison:
        """The comparison of some of the cells."""
        return Comparison([row for row in self.rows if row["remedy"] in remedies and row["seed"] in seeds])

    @cached_property
    def _done(self) -> dict[str, dict[int, dict[str, Any]]]:
        """The finished cells by remedy, in order of appearance, and seed."""
        done: dict[str, dict[int, dict[str, Any]]] = {}
        for row in self.rows:
            if "verdict" in row:
                done.setdefault(row["remedy"], {})[row["seed"]] = row
        return done

    @cached_property
    def _tasks(self) -> list[str]:
        """The figures that all finished cells have because of what their data is for."""
        cells = [cell.get("of_task", {}) for of_remedy in self._done.values() for cell in of_remedy.values()]
        return [name for name in TASKS if cells and all(name in cell for cell in cells)]

    def table(self) -> list[list[str]]:
        """Mean (standard deviation) over seeds; with one seed, value ± standard error over items."""
        body = [self._line(remedy, list(cells.values())) for remedy, cells in self._done.items()]
        header = [*HEADER[:-2], *(name.replace("_", " ") for name in self._tasks), *HEADER[-2:]]
        blank = [""] * (len(header) - 3)
        others = [
            [row["remedy"], f"seed {row['seed']}", *blank, row.get("absent") or f"failed: {row['error']}"]
            for row in self.rows
            if "verdict" not in row
        ]
        return [header, *body, *others]

    def _line(self, remedy: str, cells: list[dict[str, Any]]) -> list[str]:
        *shown, units = [_spread([cell[name] for cell in cells]) for name in FIGURES]
        cap = cells[0]["mi"].get("cap")
        shown.append("" if cap is None else _number(cap))
        task = [_spread([cell["of_task"][name] for cell in cells]) for name in self._tasks]
        return [remedy, str(len(cells)), *shown, units, *task, self._time(remedy), _verdicts(cells)]

    def _time(self, remedy: str) -> str:
        """Processor time of training relative to the baseline with the same seed."""
        base = self._done.get(BASELINE, {})
        pairs = [(cell, base[seed]) for seed, cell in self._done[remedy].items() if seed in base]
        if not pairs:
            return f"{mean(cell['cpu_seconds']['value'] for cell in self._done[remedy].values()):.0f} s"
        ratios = [cell["cpu_seconds"]["value"] / max(plain["cpu_seconds"]["value"], 1e-9) for cell, plain in pairs]
        return f"{mean(ratios):.1f}×"

    def core_hours(self) -> float:
        """The processor time of all finished trainings."""
        return sum(row["cpu_seconds"]["value"] for row in self.rows if "cpu_seconds" in row) / 3600

    def difference(self, remedy: str, figure: str) -> Difference | None:
        """The paired difference of a per-item figure, "nll" or "neg_elbo", to the baseline."""
        base = self._done.get(BASELINE, {})
        pairs = [(cell, base[seed]) for seed, cell in self._done[remedy].items() if seed in base]
        if not pairs or any("value" not in one[figure] for pair in pairs for one in pair):
            return None
        import torch

        from uncollapse.metrics.estimate import standard_error

        each = torch.stack([_per_item(cell, figure) - _per_item(plain, figure) for cell, plain in pairs])
        values = each.mean(1).tolist()
        items = standard_error(each.mean(0))
        seeds = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return Difference(mean(values), items, seeds, len(values))

    def differences(self) -> list[list[str]]:
        """Paired differences of NLL and −ELBO to the baseline, with their errors over items and over seeds."""
        body = [
            [remedy, *(str(self.difference(remedy, figure) or "n/a") for figure in ("nll", "neg_elbo"))]
            for remedy in self._done
            if remedy != BASELINE and BASELINE in self._done
        ]
        return [["remedy − plain", "NLL", "−ELBO"], *body]

    def front(self) -> list[str]:
        """The remedies that no other one is as good as, and better in one of them: mean NLL, and processor time."""
        both = {
            remedy: (_mean(cells, "nll"), _mean(cells, "cpu_seconds"))
            for remedy, cells in self._done.items()
            if all("value" in cell["nll"] for cell in cells.values())
        }
        return [name for name, one in both.items() if not any(_dominates(other, one) for other in both.values())]

    def ranking(self) -> list[list[str]]:
        """The remedies by their mean NLL, with the chance of as large a difference to the baseline where there is none.

        p is two-sided, of the paired difference over its errors over items and over seeds, taken together, the latter
        with as few degrees of freedom as there are seeds, and corrected for the number of remedies by Holm's method.
        With one seed there is no p. What has no NLL has no rank.

        References:
            | A simple sequentially rejective multiple test procedure (Holm, 1979)
            | https://www.jstor.org/stable/4615733
        """
        there = [name for name, cells in self._done.items() if all("value" in cell["nll"] for cell in cells.values())]
        differences = {name: self.difference(name, "nll") for name in there if name != BASELINE and BASELINE in there}
        corrected = holm({name: p for name, d in differences.items() if d and (p := _chance(d)) is not None})
        front = self.front()
        body = []
        for rank, name in enumerate(sorted(there, key=lambda name: _mean(self._done[name], "nll")), 1):
            found, p = differences.get(name), corrected.get(name)
            shown = [_number(_mean(self._done[name], "nll")), "" if found is None else str(found)]
            body.append([str(rank), name, *shown, "" if p is None else f"{p:.2g}", "front" if name in front else ""])
        return [["rank", "remedy", "NLL", "remedy − plain", "p, Holm", "of NLL and time"], *body]

    def to_json(self) -> dict[str, Any]:
        """The cells' figures and the paired differences."""
        compared = [remedy for remedy in self._done if remedy != BASELINE]
        differences = {
            remedy: {f: d._asdict() for f in ("nll", "neg_elbo") if (d := self.difference(remedy, f))}
            for remedy in compared
        }
        found = {"rows": [_plain(row) for row in self.rows], "differences": differences}
        return {**found, "ranking": self.ranking(), "front": self.front()}


def _mean(cells: Mapping[int, dict[str, Any]], figure: str) -> float:
    return mean(cell[figure]["value"] for cell in cells.values())


def _dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and one != other


def _chance(found: Difference) -> float | None:
    """The two-sided p of a difference, by Student's law with Welch and Satterthwaite's degrees of freedom.

    None with one seed: from another one the difference may be as large by itself.
    """
    items, seeds = found.over_items**2, found.over_seeds**2
    if math.isnan(items + seeds) or items + seeds == 0:
        return None
    from scipy.special import ndtr, stdtr

    t = -abs(found.value) / math.sqrt(items + seeds)
    # Of the many items there are as good as infinitely many.
    return 2 * float(stdtr((found.seeds - 1) * ((items + seeds) / seeds) ** 2, t) if seeds else ndtr(t))


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """p values corrected for how many there are, so that any one below 0.05 is so by chance in 1 of 20 comparisons."""
    found, least, left = dict[str, float](), 0.0, len(chances)
    for name, p in sorted(chances.items(), key=lambda one: one[1]):
        least = max(least, min(1.0, left * p))
        found[name], left = least, left - 1
    return found


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    names = ("remedy", "seed", *FIGURES, "of_task", "seconds", "cpu_seconds", "verdict", "error", "absent", "warnings")
    return {name: row[name] for name in names if name in row}


def _spread(figures: list[dict[str, Any]]) -> str:
    values = [figure["value"] for figure in figures if figure.get("value") is not None]
    if not values:
        return "n/a"
    if len(values) == 1:
        error = figures[0].get("se")
        return _number(values[0]) + (f" ± {_number(error)}" if error else "")
    return f"{_number(mean(values))} ({_number(stdev(values))})"


def _number(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}"  # + 0.0: no minus zero


def _verdicts(cells: list[dict[str, Any]]) -> str:
    """The verdict of one cell; the tally of several."""
    if len(cells) == 1:
        return cells[0]["verdict"]
    kinds = [cell["verdict"].split(":")[0] for cell in cells]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def _per_item(cell: dict[str, Any], figure: str) -> Any:
    from uncollapse.metrics.rows import Rows

    rows = Rows.load(Path(cell["folder"]) / f"{cell['rows']}.safetensors", cell["rows_digest"])
    return -rows.log_evidence if figure == "nll" and rows.log_evidence is not None else rows.neg_elbo
