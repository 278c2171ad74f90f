"""The law of independent zeros and ones."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Bernoulli

from uncollapse.errors import InputError


class Bits(Bernoulli):
    r"""A Bernoulli law that scores zeros and ones, and refuses all else.

    .. math:: \log p(x | l) = x l - \log(1 + e^l), \quad x \in \{0, 1\}

    The same formula gives a number for a grey value too, the "binary cross-entropy", but the log-probability of none.

    Arguments:
        logits: l, of any shape.
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits=logits, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, element by element.

        Raises:
            InputError: for a value other than 0 and 1.
        """
        grey = value[(value != 0) & (value != 1)]
        if len(grey):
            raise InputError(
                f"a Bernoulli likelihood is of zeros and ones, and the data has {grey[0]:.4g}: the binary "
                "cross-entropy of such a value is no log-likelihood. Make the values 0 or 1 first, or use a Gaussian "
                "likelihood with a learned variance."
            )
        return super().log_prob(value)
