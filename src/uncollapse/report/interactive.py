"""Figures as Plotly takes them: plain data, which the page draws."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import isfinite
from typing import Any

from uncollapse.report.content import plain
from uncollapse.report.figures import Chart, Figure, Film, Heat, Series
from uncollapse.report.style import COLOURS, GROUND, HEAT, SYMBOLS, dash

_MANY = 12  # lines of one figure, beyond which each is thin
Drawn = dict[str, Any]


def drawn(figure: Figure) -> Drawn:
    """A figure's traces and layout; of a film the numbers of every step too."""
    match figure:
        case Chart():
            return _chart(figure)
        case Film():
            return _film(figure)
        case Heat():
            return _heat(figure)


def _text(text: str) -> str:
    """A text in which Plotly finds no tags of its own."""
    return escape(plain(text), quote=False)  # Plotly knows no &quot;.


def _short(values: Sequence[float]) -> list[float | None]:
    """Four digits, all that a screen shows; None, which is not drawn, for what is no number."""
    return [float(f"{value:.4g}") if isfinite(value) else None for value in values]


def _layout(x: str, y: str, **more: Any) -> Drawn:
    return {"xaxis": {"title": {"text": _text(x)}}, "yaxis": {"title": {"text": _text(y)}}, **more}


def _chart(chart: Chart) -> Drawn:
    shown: set[str] = set()
    traces = []
    for series in chart.series:
        traces.append(_series(series, chart.y, series.label not in shown, len(chart.series) > _MANY))
        shown.add(series.label)
    counts = [value for series in chart.series for value in (series.x if "units" in chart.x else series.y)]
    whole = "units" in chart.x or "units" in chart.y
    layout = _layout(chart.x, chart.y, showlegend=len(shown) > 1)
    if len(shown) > _MANY:  # On top they would leave no place for what they explain.
        layout["legend"] = {"orientation": "v", "x": 1.02, "xanchor": "left", "y": 1, "yanchor": "top"}
        layout["legend"]["font"] = {"size": 10}
    if chart.y_range:
        layout["yaxis"]["range"] = list(chart.y_range)
    if whole and max(counts, default=0) < 10:  # Units are counted.
        layout["xaxis" if "units" in chart.x else "yaxis"]["dtick"] = 1
    return {"data": traces, "layout": layout}


def _series(series: Series, axis: str, first: bool, thin: bool) -> Drawn:
    colour, symbol = COLOURS[series.style % len(COLOURS)], SYMBOLS[series.style % len(SYMBOLS)]
    trace: Drawn = {
        "type": "scatter",
        "name": _text(series.label),
        "legendgroup": str(series.style),
        "showlegend": first,
        "x": _short(series.x),
        "y": _short(series.y),
        "mode": "markers" if not series.line else "lines" if thin else "lines+markers",
        "marker": {"color": colour, "symbol": symbol, "size": 7 if series.line else 10},
    }
    if series.line:
        trace["line"] = {"color": colour, "width": 1.5 if thin else 2, "dash": dash(series.style)}
        trace["hovertemplate"] = f"{_text(series.names[0])}<br>step %{{x}}: %{{y}}<extra></extra>"
    elif series.names:
        trace["text"] = [_text(name) for name in series.names]
        trace["hovertemplate"] = "%{text}<br>%{x}, " + f"{_text(axis.partition(',')[0])} " + "%{y}<extra></extra>"
    for name, error in (("error_x", series.x_error), ("error_y", series.y_error)):
        if error is not None:
            trace[name] = {"array": _short(error), "color": colour, "thickness": 1, "width": 3}
    return trace


def _film(film: Film) -> Drawn:
    last = film.frames[-1]
    traces = [_dots(series) for series in last]
    layout = _layout(film.x, film.y, showlegend=len(last) > 1)
    layout["xaxis"]["range"], layout["yaxis"]["range"] = list(film.x_range), list(film.y_range)
    if film.diagonal:
        low, high = film.x_range
        layout["shapes"] = [
            {"type": "line", "x0": low, "y0": low, "x1": high, "y1": high, "line": {"dash": "dot", "width": 1}}
        ]
    if film.x_range == film.y_range:
        layout["yaxis"] |= {"scaleanchor": "x", "constrain": "domain"}
        layout["xaxis"]["constrain"] = "domain"
    frames = [[[_close(one.x), _close(one.y)] for one in frame] for frame in film.frames]
    return {"data": traces, "layout": layout, "steps": film.steps, "frames": frames}


def _close(values: Sequence[float]) -> list[float | None]:
    """The same with three digits behind the point at most: a dot of a film is no more precise."""
    return [value if value is None else round(value, 3) for value in _short(values)]


def _dots(series: Series) -> Drawn:
    marker: Drawn = {"symbol": SYMBOLS[series.style], "size": 6, "opacity": 0.75, "color": COLOURS[series.style]}
    if series.ground is not None:
        marker |= {"color": _short(series.ground), "colorscale": GROUND}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": series.label,
        "x": _close(series.x),
        "y": _close(series.y),
        "marker": marker,
        "hovertemplate": "%{x:.2f}, %{y:.2f}<extra></extra>",
    }


def _heat(heat: Heat) -> Drawn:
    trace = {
        "type": "heatmap",
        "x": [str(step) for step in heat.columns],
        "y": heat.rows,
        "z": [_close(row) for row in heat.cells],
        "zmin": 0,
        "colorscale": HEAT,
        "colorbar": {"title": {"text": _text(heat.value), "side": "right"}, "thickness": 12, "outlinewidth": 0},
        "hovertemplate": "step %{x}, unit %{y}: %{z:.3f} nats<extra></extra>",
        "xgap": 1,
        "ygap": 1,
    }
    layout = _layout(heat.x, heat.y)
    for axis in ("xaxis", "yaxis"):
        layout[axis] |= {"type": "category", "showgrid": False}
    layout["yaxis"]["autorange"] = "reversed"  # The first unit on top.
    return {"data": [trace], "layout": layout}
