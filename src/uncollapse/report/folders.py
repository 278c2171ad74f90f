"""What a report is made of: run directories, read as they are, whoever left them in whatever state."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from uncollapse.errors import InputError, because, cut
from uncollapse.experiment import run
from uncollapse.experiment.codes import CODES
from uncollapse.experiment.compare import ABOUT, CELLS
from uncollapse.experiment.examples import EXAMPLES
from uncollapse.experiment.summary import BASELINE
from uncollapse.experiment.watching import alarm_of
from uncollapse.report.reproductions import Shown, drawn_by

T = TypeVar("T")
Record = dict[str, Any]
#: Snapshots of the probe in one report, over all runs, and the numbers of one run's points: what keeps a page small.
SNAPSHOTS, POINTS = 300, 80_000
_FEWEST, _MOST = 6, 60  # snapshots of one run


class Reading(NamedTuple):
    """A figure as a run's file has it; its value is None where there is none, and then `why` says so."""

    value: float | None = None
    se: float | None = None
    cap: float | None = None
    why: str = ""


class Snapshot(NamedTuple):
    """The probe at a step: the rate of each group, and posterior means (N, D), None where there are none."""

    step: int
    rate: np.ndarray
    means: np.ndarray | None


@dataclass(frozen=True)
class Run:
    """One run, with what of it can be read."""

    name: str
    remedy: str
    seed: int | None
    folder: Path
    spec: Record = field(repr=False)
    about: Record = field(repr=False)
    epochs: list[Record] = field(default_factory=list, repr=False)
    figures: Record = field(default_factory=dict, repr=False)
    evaluated: str = ""
    """How, such as "test, K 100, 500 items"; empty where nobody has evaluated it."""
    snapshots: list[Snapshot] = field(default_factory=list, repr=False)
    examples: Record = field(default_factory=dict, repr=False)
    codes: Record = field(default_factory=dict, repr=False)
    """Where the codes of kindred items lie."""
    alarm: str | None = None
    """Of its watch."""

    @property
    def verdict(self) -> str:
        """The verdict of its evaluation."""
        return str(self.figures.get("verdict") or "not evaluated")

    def reading(self, name: str) -> Reading:
        """A figure of its evaluation."""
        return reading(self.figures.get(name))

    def of_task(self, name: str) -> Reading:
        """A figure that its data's task has."""
        task = self.figures.get("of_task")
        return reading(task.get(name)) if isinstance(task, dict) else Reading()


@dataclass(frozen=True)
class Found:
    """What some folders hold.

    Arguments:
        runs: Those that can be shown.
        beside: What `uncollapse reproduce` found.
        compared: What comparisons say, by folder: their arguments, paired differences and rankings.
        remarks: What cannot be shown, a line each.
    """

    runs: list[Run]
    beside: list[Shown]
    compared: dict[Path, Record]
    remarks: list[str]


def number(value: Any) -> float | None:
    """A number that is one, and finite."""
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_one and abs(value) < 1e300 and math.isfinite(value) else None


def reading(said: Any) -> Reading:
    """A figure as JSON has it, whatever it is."""
    if not isinstance(said, dict):
        return Reading(why="not in the file")
    value, se, cap = (number(said.get(name)) for name in ("value", "se", "cap"))
    return Reading(value, se, cap, str(said.get("unavailable") or "") if value is None else "")


def find(paths: Sequence[Path]) -> Found:
    """What run directories, comparisons and files of posterior means hold.

    Arguments:
        paths: Of folders of runs, of folders of comparisons, and of JSON files that `uncollapse reproduce` wrote.

    Raises:
        InputError: where none of them can be shown; it says why of the first.
    """
    remarks: list[str] = []
    found = Found([], [], {}, remarks)
    folders = [folder for path in dict.fromkeys(paths) for folder in _expanded(path, found)]
    for folder in dict.fromkeys(folders):
        if (one := _told(remarks, None, lambda f=folder: _run(f, len(folders), remarks))) is not None:
            found.runs.append(one)
    if not found.runs and not found.beside:
        more = f" Nor can the {len(remarks) - 1} others be shown." if len(remarks) > 1 else ""
        raise InputError((remarks[0] if remarks else "there is nothing to report: give the folder of a run.") + more)
    return replace(found, runs=_named(found.runs))


def _told(remarks: list[str], otherwise: T, read: Callable[[], T]) -> T:
    """What can be read, or what stands for it and a line."""
    try:
        return read()
    except InputError as error:
        remarks.append(" ".join(str(error).split()))
    except OSError as error:
        remarks.append(f"`{error.filename}` cannot be read: {because(error)}.")
    return otherwise


def _expanded(path: Path, found: Found) -> list[Path]:
    """The runs behind a path; what else is behind it is added to what was found."""
    if path.is_file() and path.suffix == ".json":
        found.beside.extend(_told(found.remarks, [], lambda: drawn_by(path)))
        return []
    if not (path / ABOUT).is_file():
        files = sorted(path.glob("*.json")) if path.is_dir() and not (path / run.SPEC).is_file() else []
        beside = [one for file in files for one in _told([], [], lambda f=file: drawn_by(f))]
        found.beside.extend(beside)
        return [] if beside else [path]
    about = _told(found.remarks, {}, lambda: run.read_json(path / ABOUT))
    ended = _told(found.remarks, {}, lambda: _document(path / "comparison.json"))
    found.compared[path] = {
        "fit": _get(about, "fit", list),
        "differences": _get(ended, "differences", dict),
        "ranking": _get(ended, "ranking", list),
    }
    cells = path / CELLS
    there = sorted(p for p in cells.iterdir() if p.is_dir()) if cells.is_dir() else []
    there.sort(key=lambda cell: not cell.name.startswith(f"{BASELINE}-"))  # The baseline first.
    begun = {p.name for p in there}
    lost = sorted(p.stem for p in cells.glob("*.log") if p.stem not in begun) if cells.is_dir() else []
    found.remarks.extend(
        f"`{cells / name}` holds no run: the cell failed before it began; see its log." for name in lost
    )
    if not there:
        found.remarks.append(f"`{path}` is a comparison without cells.")
    return there


def _get(said: Any, name: str, kind: type[T]) -> T:
    value = said.get(name) if isinstance(said, dict) else None
    return value if isinstance(value, kind) else kind()


def _document(path: Path) -> Record:
    """A JSON object; empty where there is no such file."""
    if not path.exists():
        return {}
    said = run.read_json(path)
    if not isinstance(said, dict):
        raise InputError(f"`{path}` is damaged: it holds no JSON object.")
    return said


def _run(folder: Path, together: int, remarks: list[str]) -> Run:
    spec = run.read_spec(folder)
    if "training" not in spec:
        raise InputError(f"`{folder / run.SPEC}` is not the spec of a run of uncollapse: it has no `training`.")
    about = run.read_environment(folder)
    asked, seed = about["asked"], number(spec.get("seed"))
    remedies = _get(asked, "remedies", list)
    name, figures = _told(remarks, ("", {}), lambda: _evaluation(folder))
    examples = _told(remarks, {}, lambda: _document(folder / EXAMPLES))
    return Run(
        name="",
        remedy=cut(str(asked.get("remedy") or "+".join(map(str, remedies)) or BASELINE)),
        seed=None if seed is None else int(seed),
        folder=folder,
        spec=spec,
        about=about,
        epochs=_epochs(folder / run.METRICS, remarks),
        figures=figures,
        evaluated=name,
        snapshots=_snapshots(folder / run.PROBE, together, remarks),
        codes=_told(remarks, {}, lambda: _document(folder / CODES)),
        examples={key: _get(examples, key, list) for key in ("samples", "reconstructions", "interpolations")},
        alarm=_told(remarks, None, lambda: alarm_of(folder)),
    )


def _named(runs: list[Run]) -> list[Run]:
    """The same with names that tell them apart."""
    short = [run.remedy if run.seed is None else f"{run.remedy}, seed {run.seed}" for run in runs]
    twice = Counter(short)
    return [
        replace(run, name=name if twice[name] == 1 else f"{name} ({run.folder})")
        for run, name in zip(runs, short, strict=True)
    ]


def _evaluation(folder: Path) -> tuple[str, Record]:
    """The evaluation of a run that says most: of the test split, of most items, with most importance samples."""
    paths = sorted(folder.glob("evaluation-*.json"))
    found = [(path, _document(path)) for path in paths]
    if not found:
        return "", {}

    def much(one: tuple[Path, Record]) -> tuple[bool, float, float, str]:
        said = one[1]
        items = number(_get(said, "neg_elbo", dict).get("n")) or 0.0
        return said.get("split") == "test", items, number(said.get("samples")) or 0.0, one[0].name

    path, said = max(found, key=much)
    items = number(_get(said, "neg_elbo", dict).get("n"))
    how = [str(said.get("split") or path.stem), f"K {said.get('samples')}", *([f"{items:.0f} items"] if items else [])]
    return ", ".join(how), said


def _epochs(path: Path, remarks: list[str]) -> list[Record]:
    """The validations of a run; lines that are damaged are counted, and a last one that is cut is not."""
    if not path.is_file():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    records = [_record(line) for line in lines]
    if damaged := records.count(None):
        remarks.append(f"`{path}`: {damaged} of its {len(lines)} lines are damaged, and left out.")
    return [record for record in records if record and record.get("kind") == "epoch"]


def _record(line: bytes) -> Record | None:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) and number(said.get("step")) is not None else None


def _snapshots(folder: Path, together: int, remarks: list[str]) -> list[Snapshot]:
    """The probe at some steps, fewer where many runs share a page."""
    most = min(_MOST, max(_FEWEST, SNAPSHOTS // together))
    paths = sorted(folder.glob("step-*.safetensors")) if folder.is_dir() else []
    read = [_told(remarks, None, lambda p=path: _snapshot(p)) for path in spaced(paths, most)]
    there = [one for one in read if one is not None and len(one.rate) == len(read[0].rate if read[0] else one.rate)]
    items = max(20, POINTS // together // max(1, len(there)))
    return [one._replace(means=None if one.means is None else one.means[:items]) for one in there]


def _snapshot(path: Path) -> Snapshot:
    from uncollapse.metrics.rows import Rows

    rows = Rows.load(path)
    step = path.stem.rpartition("-")[2]
    if not step.isdigit():
        raise InputError(f"`{path}` does not name its step.")
    means = None if rows.means is None else rows.means.flatten(1).numpy()
    return Snapshot(int(step), rows.kl.mean(0).numpy(), means if means is not None and means.size else None)


def spaced(things: Sequence[T], most: int) -> list[T]:
    """At most so many of some things, evenly spaced, both ends among them."""
    if len(things) <= most:
        return list(things)
    return [things[round(i * (len(things) - 1) / (most - 1))] for i in range(most)]
