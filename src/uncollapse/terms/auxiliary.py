"""Terms of what a model offers beside the bound."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from uncollapse.bound import Bound
from uncollapse.errors import unknown


@dataclass
class Auxiliary:
    r"""The cost of an extra that is a log-likelihood: its mean over items, negated.

    Arguments:
        extra: The name of the extra, in nats an item.

    Raises:
        InputError: where the model offers no such extra.
    """

    extra: str

    def __call__(self, bound: Bound) -> Tensor:
        if self.extra not in bound.extras:
            raise unknown("extra", self.extra, bound.extras)
        return -bound.extras[self.extra].mean()
