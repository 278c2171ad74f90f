"""The objective: a named, weighted sum of terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from uncollapse.bound import Bound
from uncollapse.errors import unknown
from uncollapse.terms.rates import distortion, rate

Term = Callable[[Bound], Tensor]


class Loss(NamedTuple):
    """An objective's value on one batch."""

    total: Tensor
    """(), what is descended."""
    parts: dict[str, Tensor]
    """Each term's value before its weight, ()."""


class Objective(nn.Module):
    r"""A weighted sum of terms, to be minimised; the negative ELBO by default.

    .. math:: \sum_t w_t \, \mathrm{term}_t(\mathrm{bound})

    Arguments:
        terms: The terms by name, each `Bound -> Tensor` of shape ().
        weights: Their weights by name, 1 where absent.

    Raises:
        InputError: for the weight of a term that is not there.
    """

    def __init__(self, terms: Mapping[str, Term] | None = None, weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        self.terms: dict[str, Term] = dict(terms or {"distortion": distortion, "rate": rate})
        self.learned = nn.ModuleDict({k: t for k, t in self.terms.items() if isinstance(t, nn.Module)})
        self.weights = dict.fromkeys(self.terms, 1.0)
        for name, weight in (weights or {}).items():
            if name not in self.terms:
                raise unknown("term", name, self.terms)
            self.weights[name] = float(weight)

    def forward(self, bound: Bound, only: Sequence[str] | None = None) -> Loss:
        parts = {name: self.terms[name](bound) for name in (self.terms if only is None else only)}
        # A small model's step is mostly calls: a weight of 1 is none.
        weighted = [parts[k] if (weight := self.weights[k]) == 1 else weight * parts[k] for k in parts]
        return Loss(sum(weighted[1:], start=weighted[0]), parts)

    def extra_repr(self) -> str:
        return " + ".join(f"{self.weights[name]:g} {name}" for name in self.terms)
