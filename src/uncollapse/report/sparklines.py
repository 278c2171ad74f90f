"""Curves in a line of text."""

from __future__ import annotations

from collections.abc import Sequence

from uncollapse.report.folders import spaced

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """Numbers as bars between their least and their largest; of equal ones the lowest bar."""
    kept = spaced(values, width)
    if not kept:
        return ""
    low, span = min(kept), (max(kept) - min(kept)) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in kept)
