"""Terms of what a model's heads say of items."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from uncollapse.bound import Bound
from uncollapse.errors import InputError


@dataclass
class Auxiliary:
    r"""An auxiliary loss: minus a log-likelihood that a head of the model offers, in nats, mean over items.

    .. math:: -\mathbb{E}_x \mathbb{E}_{q(z|x)} \log p(h(x) | z)

    It is no part of the bound, which is reported as if there were no head.

    Arguments:
        extra: The name of the head, or of another extra of the bound, with shape (B, ...), summed over an item.

    Raises:
        InputError: where the bound has no such extra.
    """

    extra: str

    def __call__(self, bound: Bound) -> Tensor:
        if self.extra not in bound.extras:
            there = ", ".join(sorted(bound.extras)) or "none"
            raise InputError(
                f"a term `auxiliary` reads the extra `{self.extra}`, and the model offers {there}: give it a "
                f"head of that name (`model.heads.{self.extra}` in a spec, `VAE(..., heads=...)`)."
            )
        found = bound.extras[self.extra]
        return -found.sum() / len(found)


def label_of(bound: Bound, term: str) -> Tensor:
    """The labels of a bound's items, (B,).

    Arguments:
        bound: The bound.
        term: Who asks, for an error.

    Raises:
        InputError: where they have none.
    """
    label = bound.extras.get("label")
    if label is None or label.ndim != 1 or label.is_floating_point():
        raise InputError(
            f"a term `{term}` needs the class of every item: give items with the numbers of their classes, as in "
            "`uncollapse.Labelled(x, y)`, or set `data.labels`."
        )
    return label
