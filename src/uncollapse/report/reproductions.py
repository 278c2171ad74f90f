"""What `uncollapse reproduce` wrote: posterior mean space, ways through it and through training, tables and points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uncollapse.errors import InputError
from uncollapse.experiment import run

Records = list[dict[str, Any]]
Said = Mapping[str, Any]


class Means(NamedTuple):
    """Posterior means of the same items over training, each (N, D): q's, and the true ones where they are known.

    A mean that could not be computed is nan.
    """

    name: str
    steps: list[int]
    inferred: list[np.ndarray]
    true: list[np.ndarray] | None = None
    caption: str = ""


class Way(NamedTuple):
    """Curves over two axes, or points where there is no line, by what the legend calls them."""

    key: str
    title: str
    x: str
    y: str
    curves: dict[str, tuple[list[float], list[float]]]
    caption: str = ""
    line: bool = True


class Rows(NamedTuple):
    """A table in words."""

    caption: str
    header: list[str]
    rows: list[list[str]]


Shown = Means | Way | Rows


def drawn_by(path: Path) -> list[Shown]:
    """What is to be shown of a JSON file.

    It says by `draws` what it holds; see `experiment.reproduce`. Without `draws` it is one space, its list named
    `points`.

    Raises:
        InputError: where it holds nothing of these.
    """
    said = run.read_json(path)
    try:
        if "draws" not in said:
            return [_means(path.stem, said["points"], "")]
        name, caption = str(said.get("id") or path.stem), str(said.get("departs") or "")
        found = list(_KINDS[said["draws"]](name, said, caption))
        return [*found, *_cards(name, said)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        why = f"{type(error).__name__} {error}"
        raise InputError(f"`{path}` holds no reproduction that can be drawn: {why}.") from None


def _spaces(name: str, said: Said, caption: str) -> Iterator[Means]:
    for remedy, records in said["runs"].items():
        yield _means(f"{name}: {remedy}", records, caption)


def _means(name: str, records: Records, caption: str) -> Means:
    records = sorted(records, key=lambda one: one["step"])

    def clouds(key: str) -> list[np.ndarray]:
        found = [np.asarray(one[key], dtype=float) for one in records]
        return [cloud.reshape(len(cloud), -1) for cloud in found]

    inferred = clouds("inferred")
    true = clouds("true") if all("true" in one for one in records) else None
    if len({cloud.shape for cloud in [*inferred, *(true or [])]}) != 1 or not inferred[0].size:
        raise ValueError("its clouds of points are empty or of different shapes")
    return Means(name, [int(one["step"]) for one in records], inferred, true, caption)


def _trajectory(name: str, said: Said, caption: str) -> Iterator[Way]:
    curves = {}
    for remedy, way in said["runs"].items():
        true, inferred = ([float(np.ravel(one[key])[0]) for one in way["steps"]] for key in ("true", "inferred"))
        curves[str(remedy)] = true, inferred
    yield Way(f"{name}-way", f"{name}: the way of one item", "true posterior's mean", "q's mean", curves, caption)


def _course(name: str, said: Said, caption: str) -> Iterator[Way]:
    for key, axis in (("kl", "KL, nats"), ("mi", "mutual information, nats"), ("marginal_kl", "marginal KL, nats")):
        curves = {
            str(remedy): ([float(one["step"]) for one in records], [_value(one[key]) for one in records])
            for remedy, records in said["runs"].items()
        }
        yield Way(f"{name}-{key}", f"{name}: {axis.partition(',')[0]}", "step", axis, curves, caption)


def _points(name: str, said: Said, caption: str) -> Iterator[Way]:
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for one in said["points"]:
        for axis, figure in zip(curves.setdefault(str(one["remedy"]), ([], [])), ("active_units", "nll"), strict=True):
            axis.append(_value(one[figure]))
    yield Way(f"{name}-points", name, "active units", "NLL, nats/item", curves, caption, line=False)


def _table(name: str, said: Said, caption: str) -> Iterator[Rows]:
    header, *rows = ([str(cell) for cell in row] for row in said["table"])
    if any(len(row) != len(header) for row in rows):
        raise ValueError("the rows of its table are of different lengths")
    yield Rows(_titled(name, caption), header, rows)


def _evaluations(name: str, said: Said, caption: str) -> Iterator[Rows]:
    names = list(dict.fromkeys(figure for run in said["runs"].values() for figure in run))
    rows = [[str(remedy), *(_spread(run.get(one)) for one in names)] for remedy, run in said["runs"].items()]
    yield Rows(_titled(f"{name}: mean (variance) over evaluations", caption), ["remedy", *names], rows)


def _spread(figure: Mapping[str, Any] | None) -> str:
    return "n/a" if figure is None else f"{figure['mean']:.2f} ({figure['variance']:.4f})"


def _cards(name: str, said: Said) -> Iterator[Rows]:
    """Published figures beside ours, and how the order of the trainings agrees."""
    for key, title in (
        ("card", f"{name}: published figures and ours"),
        ("orders", f"{name}: the order of the trainings"),
    ):
        header, *rows = ([str(cell) for cell in row] for row in said.get(key) or [[]])
        if rows:
            yield Rows(title, header, rows)


def _titled(name: str, caption: str) -> str:
    return f"{name}. Departs: {caption}" if caption else name


def _value(figure: Mapping[str, Any]) -> float:
    value = figure.get("value")
    return float("nan") if value is None else float(value)


_KINDS: dict[str, Callable[[str, Said, str], Iterator[Shown]]] = {
    "space": _spaces,
    "trajectory": _trajectory,
    "course": _course,
    "points": _points,
    "table": _table,
    "samples": _table,
    "evaluations": _evaluations,
}
