"""Inference: how q(z | x) is found for a batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from uncollapse.bound import Batch, Bound, checked, thinned
from uncollapse.model import Model
from uncollapse.objective import Objective

Inference = Callable[[Model, Objective, Batch], Bound]


def amortised(model: Model, objective: Objective, x: Batch) -> Bound:
    """The encoder's answer as it is."""
    return checked(model(x), x)


@dataclass(frozen=True)
class Thinned:
    r"""Another inference on a random share of the symbols to predict.

    .. math:: \log p(x | z) = \sum_t \log p(x_t | x_{<t}, z) \approx
              \frac{T}{|K|} \sum_{t \in K} \log p(x_t | x_{<t}, z)

    The estimate is unbiased, and costs the logits of K alone.

    Arguments:
        inference: How q is found.
        share: Which share of the batch's symbols K is; a batch must know how to leave symbols out.
    """

    inference: Inference
    share: float

    def __call__(self, model: Model, objective: Objective, x: Batch) -> Bound:
        few, weight = thinned(x, self.share)
        bound = self.inference(model, objective, few)
        return bound._replace(x=x, log_likelihood=bound.log_likelihood * weight)
