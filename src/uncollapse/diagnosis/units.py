"""Findings on parts of z: units, or the channels and positions of a z with a shape."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from uncollapse.diagnosis.evidence import Evidence
from uncollapse.diagnosis.findings import Finding, Next, Standing
from uncollapse.diagnosis.verdicts import UNIT, alive, matter, units_used
from uncollapse.metrics.estimate import Unavailable
from uncollapse.metrics.usage import block, blocks


def parts(e: Evidence) -> str:
    """What is taken one by one of z: the first dimension of one with a shape is that of its channels."""
    law = e.figures.rows.law
    return "channels" if law is not None and len(law.event_shape) > 1 else "units"


def units(e: Evidence, then: Next, verdict: str) -> Finding:
    """How many units, or channels, are in use."""
    found = units_used(e)
    if found is None:
        return Finding("units", None, None, "units of this law of z cannot be exchanged one by one", "unknown")
    count, total = found
    says = f"{count} of {total} carry {UNIT} nats or more that the decoder uses"
    if (used := alive(e)) is not None and not bool(used.all()):
        dead = (~used).nonzero().flatten().tolist()
        says += f"; unused: {', '.join(map(str, dead[:12]))}{', ...' if len(dead) > 12 else ''}"
    standing: Standing = "decides" if verdict == "partly collapsed" else "bad" if count < total else "fine"
    then = then if verdict == "partly collapsed" else Next()
    error = None if isinstance(e.usage, Unavailable) else _error(e.usage.units)
    return Finding("units", count, error, says, standing, parts(e), total, then.advice, then.command)


def positions(e: Evidence) -> Iterator[Finding]:
    """How many positions of a z with a shape are in use, and where it is worth most and least; nothing of other z."""
    if isinstance(e.usage, Unavailable) or e.usage.blocks is None or e.figures.rows.law is None:
        return
    cost, shape = e.usage.blocks, e.figures.rows.law.event_shape[1:]
    used, each, side = matter(cost), cost.mean(0), block(shape)
    assert used is not None
    where = [tuple(part.start for part in within) for within in blocks(shape)]
    most, least = (f"{each[i].item():.2f} at {where[i]}" for i in (int(each.argmax()), int(each.argmin())))
    count, total = int(used.sum()), len(used)
    says = f"{count} of {total} carry {UNIT} nats or more that the decoder uses, from {least} to {most}"
    standing: Standing = "bad" if count < total else "fine"
    unit = f"blocks of {' x '.join([str(side)] * len(shape))} positions" if side > 1 else "positions"
    yield Finding("positions", count, _error(cost), says, standing, unit, total)


def _error(cost: Tensor | None) -> float | None:
    """Of how many parts are in use, from the chance of each to be counted."""
    if cost is None:
        return None
    cost = cost[:, ~cost.isnan().any(0)]
    error = (cost.std(0) / len(cost) ** 0.5).clamp(min=1e-12)
    chance = torch.special.ndtr((cost.mean(0) - (3 * error).clamp(min=UNIT)) / error)
    return math.sqrt((chance * (1 - chance)).sum().item())
