"""What `uncollapse reproduce` wrote: posterior mean space, the way of one item, the course of information."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uncollapse.errors import InputError
from uncollapse.experiment import run

Records = list[dict[str, Any]]


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
    """Curves over two axes, by what the legend calls them."""

    key: str
    title: str
    x: str
    y: str
    curves: dict[str, tuple[list[float], list[float]]]
    caption: str = ""


def drawn_by(path: Path) -> list[Means | Way]:
    """What is to be drawn of a JSON file.

    It says by `draws` what its `runs` hold: of "space" lists of {"step": n, "inferred": [[..], ..], "true": [[..],
    ..]}; of "trajectory" one item's; of "course" figures. Without `draws` it is one space, its list named `points`.

    Raises:
        InputError: where it holds nothing of these.
    """
    said = run.read_json(path)
    try:
        if "draws" not in said:
            return [_means(path.stem, said["points"], "")]
        name, caption = str(said.get("id") or path.stem), str(said.get("departs") or "")
        return list(_KINDS[said["draws"]](name, said["runs"], caption))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        why = f"{type(error).__name__} {error}"
        raise InputError(f"`{path}` holds no posterior means that can be drawn: {why}.") from None


def _spaces(name: str, runs: Mapping[str, Records], caption: str) -> Iterator[Means]:
    for remedy, records in runs.items():
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


def _trajectory(name: str, runs: Mapping[str, Any], caption: str) -> Iterator[Way]:
    curves = {}
    for remedy, way in runs.items():
        true, inferred = ([float(np.ravel(one[key])[0]) for one in way["steps"]] for key in ("true", "inferred"))
        curves[str(remedy)] = true, inferred
    yield Way(f"{name}-way", f"{name}: the way of one item", "true posterior's mean", "q's mean", curves, caption)


def _course(name: str, runs: Mapping[str, Records], caption: str) -> Iterator[Way]:
    for key, axis in (("kl", "KL, nats"), ("mi", "mutual information, nats"), ("marginal_kl", "marginal KL, nats")):
        curves = {
            str(remedy): ([float(one["step"]) for one in records], [_value(one[key]) for one in records])
            for remedy, records in runs.items()
        }
        yield Way(f"{name}-{key}", f"{name}: {axis.partition(',')[0]}", "step", axis, curves, caption)


def _value(figure: Mapping[str, Any]) -> float:
    value = figure.get("value")
    return float("nan") if value is None else float(value)


_KINDS: dict[str, Callable[[str, Any, str], Iterator[Means | Way]]] = {
    "space": _spaces,
    "trajectory": _trajectory,
    "course": _course,
}
