"""The figures of a report: pure functions of what runs hold, of which pages and papers are drawn alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from uncollapse.report.folders import Run, number, reading, spaced
from uncollapse.report.reproductions import Means, Way

_GROUPS = 64  # the units of one heat map
_ALONG = 60  # the points of one curve, where many share a figure
_MANY = 12  # runs
_FAR = 1e30  # beyond which nothing is drawn
Numbers: TypeAlias = list[float]


@dataclass(frozen=True)
class Series:
    """Points, or a line through them.

    Arguments:
        label: What the legend calls it; series of one label share their style.
        style: Which of the colours, symbols and dashes.
        x, y: The points.
        names: What each point is, or all are.
        x_error, y_error: Standard errors, where they are known.
        line: Whether a line goes through them.
        ground: Numbers that colour the points, where the style does not.
    """

    label: str
    style: int
    x: Numbers
    y: Numbers
    names: list[str] = field(default_factory=list)
    x_error: Numbers | None = None
    y_error: Numbers | None = None
    line: bool = False
    ground: Numbers | None = None


@dataclass(frozen=True)
class Chart:
    """Series over two axes; `y_range` is what is shown of the second, all where it is None."""

    key: str
    title: str
    x: str
    y: str
    series: list[Series]
    caption: str = ""
    y_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class Film:
    """A chart whose points move over the steps of a training; `diagonal` draws x = y."""

    key: str
    title: str
    x: str
    y: str
    steps: list[int]
    frames: list[list[Series]]
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    diagonal: bool = False
    caption: str = ""


@dataclass(frozen=True)
class Heat:
    """A value for each step and unit."""

    key: str
    title: str
    x: str
    y: str
    value: str
    columns: list[int]
    rows: list[str]
    cells: list[Numbers]
    caption: str = ""


Figure: TypeAlias = Chart | Film | Heat

#: What is drawn over the steps of training: its name in the log, its title, its axis.
CURVES = (
    ("neg_elbo", "−ELBO", "−ELBO, nats/item"),
    ("kl", "Rate", "rate (KL), nats/item"),
    ("mi", "Mutual information", "mutual information, nats"),
    ("active_units", "Active units", "active units"),
)


def styles(runs: Sequence[Run]) -> dict[str, int]:
    """A style a remedy, in the order in which they appear."""
    return {remedy: i for i, remedy in enumerate(dict.fromkeys(run.remedy for run in runs))}


def curves(runs: Sequence[Run]) -> list[Chart]:
    """The validations of every run over its steps."""
    style = styles(runs)
    most = 10**6 if len(runs) <= _MANY else _ALONG
    charts = []
    for name, title, axis in CURVES:
        series = [_curve(run, name, style[run.remedy], most) for run in runs]
        charts.append(Chart(f"curve-{name}", title, "step", axis, [one for one in series if one.x]))
    there = [chart for chart in charts if chart.series]
    # Of the other figures what is far from the rest is what matters: the one remedy that does not collapse.
    return [_without_the_farthest(one) if one.key == "curve-neg_elbo" else one for one in there]


def _without_the_farthest(chart: Chart) -> Chart:
    """A chart of at most nine tenths of its remedies: each of the others, by itself, would take half of the axis."""
    low, tops = math.inf, dict[str, float]()
    for one in chart.series:
        errors = one.y_error or [0.0] * len(one.y)
        low = min(low, *(y - error for y, error in zip(one.y, errors, strict=True)))
        tops[one.label] = max(tops.get(one.label, low), *(y + error for y, error in zip(one.y, errors, strict=True)))
    kept, beyond = sorted(tops, key=lambda label: tops[label]), list[str]()
    while len(kept) - 1 >= 0.9 * len(tops) and tops[kept[-1]] - low > 2 * (tops[kept[-2]] - low):
        beyond.append(kept.pop())
    if not beyond:
        return chart
    high = tops[kept[-1]]
    edge, said = 0.05 * (high - low), ", ".join(f"{label} (up to {tops[label]:.4g})" for label in beyond)
    return replace(chart, y_range=(low - edge, high + edge), caption=f"Beyond the figure: {said}.")


def _curve(run: Run, name: str, style: int, most: int) -> Series:
    points = [(number(record.get("step")), reading(record.get(name)).value) for record in run.epochs]
    kept = spaced([(x, y) for x, y in points if x is not None and y is not None], most)
    return Series(run.remedy, style, [x for x, _ in kept], [y for _, y in kept], [run.name], line=True)


def against(runs: Sequence[Run], name: str, title: str, axis: str) -> Chart | None:
    """The NLL of every run against another figure, with both standard errors; None where no run has both."""
    chart = Chart(f"nll-{name}", f"NLL against {title}", axis, "NLL, nats/item", [])
    for remedy, style in styles(runs).items():
        there = [(run, run.reading(name), run.reading("nll")) for run in runs if run.remedy == remedy]
        both = [(run, x, y) for run, x, y in there if x.value is not None and y.value is not None]
        if both:
            chart.series.append(
                Series(
                    remedy,
                    style,
                    [x.value or 0.0 for _, x, _ in both],
                    [y.value or 0.0 for _, _, y in both],
                    [run.name for run, _, _ in both],
                    [x.se or 0.0 for _, x, _ in both],
                    [y.se or 0.0 for _, _, y in both],
                )
            )
    return _without_the_farthest(chart) if chart.series else None


def heat(run: Run, key: str) -> Heat | None:
    """The rate of each unit over the steps of a training, by the probe."""
    if not run.snapshots or not len(run.snapshots[0].rate):
        return None
    rates = np.nan_to_num(_finite(np.stack([one.rate for one in run.snapshots])))
    kept = np.sort(np.argsort(-rates[-1], kind="stable")[:_GROUPS])
    left = rates.shape[1] - len(kept)
    return Heat(
        key,
        run.name,
        "step",
        "unit",
        "rate, nats",
        [one.step for one in run.snapshots],
        [str(unit) for unit in kept.tolist()],
        rates[:, kept].T.tolist(),
        f"The {left} units of the least rate at the end are left out." if left else "",
    )


def codes(run: Run, key: str) -> Chart | None:
    """Where the codes of kindred items lie in the plane, a colour a family; None where the run's folder has none."""
    said = [run.codes.get(name) for name in ("points", "families", "names")]
    if not all(isinstance(one, list) for one in said):
        return None
    chart = Chart(key, run.name, "first t-SNE coordinate", "second t-SNE coordinate", [])
    by_family: dict[int, list[tuple[float, float, str]]] = {}
    for point, family, name in zip(*said, strict=False):
        x, y = (number(one) for one in point) if isinstance(point, list) and len(point) == 2 else (None, None)
        if x is not None and y is not None and isinstance(family, int):
            by_family.setdefault(family, []).append((x, y, str(name)))
    for style, family in enumerate(sorted(by_family)):
        x, y, names = (list(column) for column in zip(*by_family[family], strict=True))
        chart.series.append(Series(names[0], style, x, y, names))
    return chart if chart.series else None


def way(found: Way) -> Chart:
    """Curves or points as they are, a style each."""
    series = [
        Series(label, i, x, y, [label], line=found.line) for i, (label, (x, y)) in enumerate(found.curves.items())
    ]
    return Chart(found.key, found.title, found.x, found.y, series, found.caption)


def probed(run: Run) -> Means | None:
    """The posterior means of a run's probe; None where it has none."""
    there = [(one.step, one.means) for one in run.snapshots]
    means = [cloud for _, cloud in there if cloud is not None]
    if not means or len(means) < len(there) or len({cloud.shape for cloud in means}) > 1:
        return None
    return Means(run.name, [step for step, _ in there], means)


def film(means: Means, key: str) -> Film:
    r"""Posterior mean space over training.

    With one latent unit and the true posterior's means: q's means against them, as in He et al. (2019), where inference
    has caught up on the diagonal. Else q's means, and the true ones, in the two directions in which they vary most.

    References:
        | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019)
        | https://arxiv.org/abs/1901.05534
    """
    inferred = [_finite(cloud) for cloud in means.inferred]
    true = None if means.true is None else [_finite(cloud) for cloud in means.true]
    if inferred[0].shape[1] == 1:
        return _line(means, inferred, true, key)
    onto = directions(inferred + (true or []))
    clouds = [cloud @ onto for cloud in inferred]
    others = None if true is None else [cloud @ onto for cloud in true]
    ground = clouds[-1][:, 0].tolist()
    frames = [[_cloud("q's mean", 0, cloud, ground)] for cloud in clouds]
    if others is not None:
        frames = [[_cloud("true posterior's mean", 1, o), *frame] for o, frame in zip(others, frames, strict=True)]
    x, y = "first leading direction", "second leading direction"
    lim = _range([*clouds, *(others or [])])
    return Film(key, means.name, x, y, means.steps, frames, lim, lim, caption=_shown(means))


def _line(means: Means, inferred: list[np.ndarray], true: list[np.ndarray] | None, key: str) -> Film:
    ground = inferred[-1][:, 0].tolist()
    if true is None:
        rank = np.argsort(np.argsort(inferred[-1][:, 0], kind="stable"), kind="stable")[:, None].astype(float)
        across = [rank] * len(inferred)
        x, y = "q's mean", "item, by its last mean"
        clouds = [np.hstack([cloud, row]) for cloud, row in zip(inferred, across, strict=True)]
        ranges = _range(inferred), (-1.0, float(len(rank)))
    else:
        x, y = "true posterior's mean", "q's mean"
        clouds = [np.hstack([truth, cloud]) for truth, cloud in zip(true, inferred, strict=True)]
        ranges = (_range([*inferred, *true]),) * 2
    frames = [[_cloud("item", 0, cloud, ground)] for cloud in clouds]
    return Film(key, means.name, x, y, means.steps, frames, *ranges, diagonal=true is not None, caption=_shown(means))


def directions(clouds: Sequence[np.ndarray]) -> np.ndarray:
    """The two directions (D, 2) in which some clouds of points (N, D), taken together, vary most; the same for all."""
    known = [cloud[np.isfinite(cloud).all(1)] for cloud in clouds]
    centred = [cloud - cloud.mean(0) for cloud in known if len(cloud)] or [np.zeros((1, clouds[0].shape[1]))]
    _, vectors = np.linalg.eigh(sum(cloud.T @ cloud for cloud in centred))
    leading = vectors[:, :-3:-1]
    largest = np.abs(leading).argmax(0)
    return leading * np.sign(leading[largest, [0, 1]])  # Of v and -v, the one whose largest number is positive.


def _finite(values: np.ndarray) -> np.ndarray:
    """The same with numbers that can be drawn, or nan: a run that diverged has others."""
    return np.clip(values, -_FAR, _FAR)


def _cloud(label: str, style: int, points: np.ndarray, ground: Numbers | None = None) -> Series:
    return Series(label, style, points[:, 0].tolist(), points[:, 1].tolist(), ground=ground)


def _range(clouds: Sequence[np.ndarray]) -> tuple[float, float]:
    """All of some points, and at least what shows a collapse as a dot: the prior's standard deviation about zero."""
    far = max(1.0, *(float(np.nan_to_num(np.abs(cloud)).max(initial=0.0)) for cloud in clouds)) * 1.05
    return -far, far


def _shown(means: Means) -> str:
    n, d = means.inferred[0].shape
    said = f"{n} items, {d} latent {'unit' if d == 1 else 'units'}; colour follows an item by where it ends."
    return said + (f" {means.caption}" if means.caption else "")
