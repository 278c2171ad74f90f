"""A prior that is made of posteriors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily
from torch.func import functional_call

from uncollapse.bound import Batch
from uncollapse.data.text import Text
from uncollapse.errors import InputError
from uncollapse.quantities import Count


class VampPrior(nn.Module):
    r"""The mean of the encoder's posteriors of pseudo-inputs that are learned.

    .. math:: p(z) = \frac1K \sum_k q(z | u_k)

    The KL to it, in nats, is the mean of log q - log p over the draws. The pseudo-inputs are all that it owns: they are
    items of numbers, or texts whose embeddings are learned in place of tokens. The encoder is the model's own, and its
    gradient is taken where the encoder steps; what the encoder averages over batches hears nothing of them. They are
    encoded anew at every pass.

    References:
        | VAE with a VampPrior (Tomczak & Welling, 2018)
        | https://arxiv.org/abs/1705.07120

    Arguments:
        encoder: The encoder, whose embeddings tell how wide those of a text are; it is not kept.
        shape: The shape of an item that is made of numbers.
        components: K.
        length: How many tokens a pseudo-text has.
        bounded: Whether pseudo-inputs are kept within [0, 1], as items of zeros and ones need.

    Raises:
        InputError: where the encoder reads neither numbers nor embeddings of tokens.
    """

    def __init__(
        self,
        encoder: nn.Module,
        shape: tuple[int, ...] | None = None,
        components: Count = 50,
        length: Count = 10,
        bounded: bool = False,
    ) -> None:
        super().__init__()
        self.bounded, self.of_text = bounded, shape is None
        if shape is not None:
            start = torch.randn(components, *shape)
            self.inputs = nn.Parameter(0.5 + 0.01 * start if bounded else start)
        else:
            width = _table(encoder)[1].embedding_dim
            self.inputs = nn.Parameter(0.1 * torch.randn(components, length, width))

    def forward(self, encoder: nn.Module) -> Distribution:
        changed, batch = self._batch(encoder)
        # On copies of its running averages, as those are of the data alone.
        changed |= {name: value.clone() for name, value in encoder.named_buffers()}
        each = functional_call(encoder, changed, (batch,))
        alike = Categorical(logits=self.inputs.new_zeros(len(self.inputs)), validate_args=False)
        return MixtureSameFamily(alike, each, validate_args=False)

    def _batch(self, encoder: nn.Module) -> tuple[dict[str, Tensor], Batch]:
        """The pseudo-inputs as a batch, and the encoder's parameters that are others for it."""
        if not self.of_text:
            return {}, self.inputs.clamp(0, 1) if self.bounded else self.inputs
        # A table of their embeddings alone, in which each token is one of its own; the first row is padding.
        table = torch.cat([torch.zeros_like(self.inputs[0, :1]), self.inputs.flatten(0, 1)])
        tokens = 1 + torch.arange(len(table) - 1, device=table.device).view(self.inputs.shape[:2])
        return {f"{_table(encoder)[0]}.weight": table}, Text(tokens)


def _table(encoder: nn.Module) -> tuple[str, nn.Embedding]:
    """The encoder's embedding of tokens, and its name."""
    found = [(name, module) for name, module in encoder.named_modules() if isinstance(module, nn.Embedding)]
    if len(found) != 1:
        raise InputError(
            f"`vampprior` makes texts of embeddings, and `{type(encoder).__name__}` has {len(found)} tables of them: "
            "take an encoder that reads each token by one embedding, or another prior."
        )
    return found[0]
