"""Figures for papers, by Matplotlib: PDF and PNG."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from uncollapse.errors import InputError
from uncollapse.files import unwritable
from uncollapse.report.content import Content, plain
from uncollapse.report.figures import Chart, Figure, Film, Heat, Series
from uncollapse.report.folders import spaced
from uncollapse.report.style import COLOURS, dash

_MARKERS = ("o", "D", "s", "^", "x", "P", "*")
_FRAMES = 4  # of a film on paper
_FILMS = 12  # the most films and heat maps that are drawn
_LINES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
_INCHES = 3.3  # the width of a column
_WITHIN = 8  # series whose legend has a place within a chart
_BESIDE = 20  # lines of a column of the legend beside it


def draw(content: Content, folder: Path) -> list[Path]:
    """Writes every figure of a report as PDF and PNG; a film as some of its steps side by side.

    Raises:
        InputError: where Matplotlib is not installed, and where the folder cannot be written.
    """
    if not find_spec("matplotlib"):
        raise InputError("figures as PDF and PNG need Matplotlib: `pip install 'uncollapse[report]'`.")
    figures: list[Figure] = [
        *content.curves,
        *content.ways,
        *content.scatters,
        *content.codes[:_FILMS],
        *content.films[:_FILMS],
        *content.heats[:_FILMS],
    ]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [path for figure in figures for path in _save(figure, folder)]
    except OSError as error:
        raise unwritable(folder, error) from None


def _save(figure: Figure, folder: Path) -> list[Path]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Paper

    wide = min(_FRAMES, len(figure.steps)) if isinstance(figure, Film) else 1
    with rc_context({"font.size": 8, "pdf.fonttype": 42, "axes.spines.top": False, "axes.spines.right": False}):
        columns = _columns(figure)
        size = _INCHES * (max(1.0, wide * 0.6) + 0.5 * columns), _INCHES * (0.75 if columns == 0 else 1.0)
        paper = Paper(figsize=size, layout="constrained")
        match figure:
            case Chart():
                _chart(paper, figure)
            case Film():
                _film(paper, figure, wide)
            case Heat():
                _heat(paper, figure)
        paths = [folder / f"{figure.key.replace('/', '-')}.{kind}" for kind in ("pdf", "png")]
        # Without the time, so that the same runs give the same bytes.
        paper.savefig(paths[0], metadata={"CreationDate": None})
        paper.savefig(paths[1], dpi=200)
    return paths


def _literal(text: str) -> str:
    """A text in which Matplotlib finds no formula."""
    return plain(text).replace("$", r"\$")


def _chart(paper: Any, chart: Chart) -> None:
    axes = paper.subplots()
    shown: set[str] = set()
    for series in chart.series:
        _series(axes, series, series.label not in shown)
        shown.add(series.label)
    axes.set(xlabel=chart.x, ylabel=chart.y, ylim=chart.y_range)
    if columns := _columns(chart):
        paper.legend(frameon=False, loc="outside right upper", ncols=columns, fontsize=6)
    elif len(shown) > 1:
        axes.legend(frameon=False)


def _columns(figure: Figure) -> int:
    """Of a legend beside a figure; 0 where it has a place within it."""
    labels = len({one.label for one in figure.series}) if isinstance(figure, Chart) else 0
    return 0 if labels <= _WITHIN else -(-labels // _BESIDE)


def _series(axes: Any, series: Series, first: bool) -> None:
    style = series.style
    look = {"color": COLOURS[style % len(COLOURS)], "marker": _MARKERS[style % len(_MARKERS)], "markersize": 3}
    look["label"] = _literal(series.label) if first else None
    if series.line:
        axes.plot(series.x, series.y, linestyle=_LINES[dash(style)], linewidth=1, **look)
    else:
        axes.errorbar(
            series.x, series.y, series.y_error, series.x_error, linestyle="", capsize=2, linewidth=0.8, **look
        )


def _film(paper: Any, film: Film, wide: int) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    from uncollapse.report.style import GROUND

    ground = LinearSegmentedColormap.from_list("ground", [(at, colour) for at, colour in GROUND])
    row = paper.subplots(1, wide, sharex=True, sharey=True, squeeze=False)[0]
    for axes, (step, frame) in zip(row, spaced(list(zip(film.steps, film.frames, strict=True)), wide), strict=True):
        for series in frame:
            colour = {"color": COLOURS[series.style]} if series.ground is None else {"c": series.ground, "cmap": ground}
            axes.scatter(series.x, series.y, s=2, marker=_MARKERS[series.style], linewidths=0.3, **colour)
        if film.diagonal:
            axes.axline((0, 0), slope=1, linestyle=":", linewidth=0.8, color="0.5")
        axes.set(title=f"step {step}", xlim=film.x_range, ylim=film.y_range)
        if film.x_range == film.y_range:
            axes.set_aspect("equal")
    paper.supxlabel(film.x)
    paper.supylabel(film.y)


def _heat(paper: Any, heat: Heat) -> None:
    axes = paper.subplots()
    shown = axes.imshow(heat.cells, aspect="auto", cmap="cividis", vmin=0, interpolation="nearest")
    ticks = spaced(list(range(len(heat.columns))), 6)
    axes.set(xlabel=heat.x, ylabel=heat.y, xticks=ticks, xticklabels=[heat.columns[i] for i in ticks])
    rows = spaced(list(range(len(heat.rows))), 8)
    axes.set(yticks=rows, yticklabels=[heat.rows[i] for i in rows])
    paper.colorbar(shown, label=heat.value)
