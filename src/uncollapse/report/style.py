"""How figures look, on a page and on paper: the colours of Okabe and Ito, never colour alone."""

from __future__ import annotations

#: Those of the eight that both a white and a black ground show.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "cross", "star")
_DASHES = ("solid", "dash", "dot", "dashdot")
#: From one end to the other through grey, and a scale that grows evenly lighter.
GROUND = [[0, "#0072B2"], [0.5, "#8A8A8A"], [1, "#E69F00"]]
HEAT = "Cividis"


def dash(style: int) -> str:
    """The line of a style: those of one colour differ."""
    return _DASHES[style // len(COLOURS) % len(_DASHES)]
