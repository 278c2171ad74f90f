"""The commands that make runs again, from what their folders say."""

from __future__ import annotations

import shlex
from pathlib import Path

from uncollapse.data.kinds import KINDS
from uncollapse.errors import InputError
from uncollapse.experiment.again import beyond, files
from uncollapse.report.folders import Found, Record, Run

_FIRST = 5  # runs whose commands are shown


def commands(found: Found) -> list[str]:
    """One for each comparison, and for each of the first runs that belong to none."""
    said = [_compare(found, folder, about) for folder, about in found.compared.items()]
    alone = [run for run in found.runs if not any(folder in run.folder.parents for folder in found.compared)]
    said += [command for run in alone[:_FIRST] if (command := _fit(run))]
    return said


def _compare(found: Found, folder: Path, about: Record) -> str:
    cells = [run for run in found.runs if folder in run.folder.parents]
    remedies = ",".join(dict.fromkeys(run.remedy for run in cells))
    seeds = max((run.seed or 0 for run in cells), default=0) + 1
    return shlex.join(
        [
            "uncollapse",
            "compare",
            *map(str, about["fit"]),
            "--remedies",
            remedies,
            "--seeds",
            str(seeds),
            "--out",
            str(folder),
        ]
    )


def _fit(run: Run) -> str:
    """The command of a run: its recipe and remedies, and what its spec has beyond them."""
    recipe, data = run.about["asked"].get("recipe"), run.spec.get("data")
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(recipe, str) or not isinstance(data, dict) or kind not in KINDS:
        return ""  # A run of somebody's own networks or data: their program makes it.
    try:
        settings, named = beyond(run.spec, recipe, run.remedy), files(data)
    except (InputError, TypeError, AttributeError):
        return ""
    words = ["uncollapse", "fit", str(kind), "--recipe", recipe, "--with", run.remedy, "--seed", str(run.seed)]
    words += [word for name, path in named.items() for word in (f"--{name}", path)]
    words += [word for override in settings for word in ("--set", override)]
    return shlex.join([*words, "--out", str(run.folder)])
