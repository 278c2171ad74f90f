"""The commands that make runs again, from what their folders say."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from uncollapse.data.kinds import FILES, KINDS
from uncollapse.errors import InputError
from uncollapse.experiment.compose import compose
from uncollapse.experiment.spec import validated
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
    files = {name: str(data[name]) for name in FILES if KINDS[kind].files and data.get(name) is not None}
    try:
        base = compose(recipe, [run.remedy])
        usual = validated({**base, "data": {**base.get("data", {}), "kind": kind, **files}}).model_dump(mode="json")
    except (InputError, TypeError, AttributeError):
        return ""
    beyond = [f"{path}={value}" for path, value in _differing(run.spec, usual) if path != "seed"]
    words = ["uncollapse", "fit", str(kind), "--recipe", recipe, "--with", run.remedy, "--seed", str(run.seed)]
    words += [word for name, path in files.items() for word in (f"--{name}", path)]
    words += [word for override in beyond for word in ("--set", override)]
    return shlex.join([*words, "--out", str(run.folder)])


def _differing(spec: Mapping[str, Any], usual: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """The entries of a spec that are not the usual ones, as a path and JSON."""
    for key, value in spec.items():
        other = usual.get(key) if isinstance(usual, dict) else None
        if isinstance(value, dict) and isinstance(other, dict) and value and other:
            yield from _differing(value, other, f"{before}{key}.")
        elif value != other:
            yield f"{before}{key}", json.dumps(value)
