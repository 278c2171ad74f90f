"""Penalties of what a decoder's states do, beside the bound."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from uncollapse.bound import Bound
from uncollapse.errors import InputError
from uncollapse.quantities import Weight


@dataclass
class ActivationRegularisation:
    r"""Keeps a recurrent decoder's states small (AR) and slow (TAR); summed over an item's tokens, mean over items.

    .. math:: \mathbb{E}_x \sum_t \frac1H (\alpha \|m h_t\|^2 + \beta \|h_t - h_{t-1}\|^2)

    h are the last layer's H states and m its dropout. As in the reference, each token adds as much to its nats: there
    both are means over tokens.

    References:
        | Regularizing and Optimizing LSTM Language Models (Merity et al., 2018)
        | https://arxiv.org/abs/1708.02182

    Arguments:
        activation: :math:`\alpha`.
        change: :math:`\beta`.

    Raises:
        InputError: where the decoder does not tell of its states.
    """

    activation: Weight = 2.0
    change: Weight = 1.0

    def __call__(self, bound: Bound) -> Tensor:
        if not {"activation", "change"} <= bound.extras.keys():
            raise InputError(
                f"the bound has no extras `activation` and `change`, but {', '.join(bound.extras) or 'none'}: "
                "`activation-regularisation` is for a decoder that offers them in training mode, such as `awd-lstm`."
            )
        found = self.activation * bound.extras["activation"] + self.change * bound.extras["change"]
        return found.mean()
