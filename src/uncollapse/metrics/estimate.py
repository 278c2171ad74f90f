"""What a metric answers: a figure with its error, or why there is none."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from uncollapse.documents import finite

#: An estimate at this share of its cap, or above, says no more than that the truth is not lower.
SATURATED = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure with its standard error.

    Arguments:
        value: The figure.
        se: Its standard error over the items; nan where there is one item.
        n: How many items it is over.
        unit: What it counts, such as `nats/item`.
        cap: What the estimator cannot exceed whatever the truth; None where there is no such number.
        bias: About how much the estimator exceeds the truth on average, to first order; it is *not* taken off
            the value. None where it is unbiased, or the bias is not known.
    """

    value: float
    se: float
    n: int
    unit: str
    cap: float | None = None
    bias: float | None = None

    @property
    def saturated(self) -> bool:
        """Whether the value is within 5 % of its cap, so that larger truths would read the same."""
        return self.cap is not None and self.value >= SATURATED * self.cap

    def to_json(self) -> dict[str, Any]:
        """The fields, with None for what is not finite, and whether it is saturated."""
        return {**finite(asdict(self)), "saturated": self.saturated}

    def __str__(self) -> str:
        # Two digits of the error are all that the figure knows.
        digits = 4 if not math.isfinite(self.se) or self.se <= 0 else max(0, 1 - math.floor(math.log10(self.se)))
        of = "" if self.cap is None else f" (cap {self.cap:.4g})"
        return f"{self.value:.{digits}f} ± {self.se:.{digits}f} {self.unit}{of}"


@dataclass(frozen=True)
class Unavailable:
    """Why there is no figure."""

    reason: str

    def to_json(self) -> dict[str, str]:
        """The reason, under a key that no estimate has."""
        return {"unavailable": self.reason}

    def __str__(self) -> str:
        return f"not available: {self.reason}"


Answer: TypeAlias = Estimate | Unavailable


def mean(values: Tensor, unit: str, cap: float | None = None, bias: float | None = None) -> Estimate:
    r"""The mean over items, with the standard error :math:`\text{sd} / \sqrt n`.

    Arguments:
        values: One figure an item, with shape (N,).
        unit: What they count.
        cap: See `Estimate`.
        bias: See `Estimate`.
    """
    return Estimate(values.double().mean().item(), standard_error(values), len(values), unit, cap, bias)


def standard_error(values: Tensor) -> float:
    r""":math:`\text{sd} / \sqrt n` of figures with shape (N,), divisor N - 1; nan for one item."""
    if len(values) < 2:
        return math.nan
    return values.double().std().item() / math.sqrt(len(values))


def perplexity(nats: Any, symbols: Any, unit: str) -> Estimate:
    r"""exp(sum of nats / sum of symbols), with its standard error over items by the delta method.

    .. math:: r = \frac{\sum_i n_i}{\sum_i t_i}, \quad \text{se}(e^r) = e^r \, \text{se}(n_i - r t_i) / \bar t

    Arguments:
        nats: Of every item, with shape (N,).
        symbols: As many counts, their sum above 0.
        unit: Of the figure.
    """
    nats, symbols = (torch.as_tensor(one, dtype=torch.float64) for one in (nats, symbols))
    ratio = (nats.sum() / symbols.sum()).item()
    error = standard_error(nats - ratio * symbols) / symbols.mean().item()
    value = math.exp(ratio) if ratio < 700 else math.inf
    return Estimate(value, value * error, len(nats), unit)
