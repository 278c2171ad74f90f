"""The stock model, encoder + decoder + prior, and what the rest of the library knows of any model."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.bound import Batch, Bound, checked, seen, target
from uncollapse.divergence import kl_by_group


class Model(Protocol):
    """All that training and evaluation know of a model."""

    def __call__(self, x: Batch, q: Distribution | None = None, samples: int = 1) -> Bound:
        """The bound on a batch; under `q` where it is given, else under the model's own posterior."""
        ...

    def players(self) -> dict[str, nn.Module]:
        """Who can step, by name; asked only in training."""
        ...


class Generation(nn.Module):
    """p(x, z): the decoder, which is scored inside its own forward pass, and the prior."""

    def __init__(self, decoder: nn.Module, prior: nn.Module) -> None:
        super().__init__()
        self.decoder, self.prior = decoder, prior

    def forward(self, z: Tensor, x: Batch) -> tuple[Tensor, Distribution]:
        return self.decoder(z, seen(x)).log_prob(target(x)), self.prior()


class VAE(nn.Module):
    r"""A variational autoencoder of three networks.

    .. math:: \log p(x) \ge \mathbb{E}_{q(z|x)}[\log p(x|z)] - \mathrm{KL}(q(z|x) \| p(z))

    References:
        | Auto-Encoding Variational Bayes (Kingma & Welling, 2014)
        | https://arxiv.org/abs/1312.6114

    Arguments:
        encoder: `x -> Distribution` over z, batch shape (B,); see `Posterior`.
        decoder: `(z, seen) -> Distribution` over x, batch shape (S, B), for z with shape (S, B, ...); `seen` is
            what it may look at (teacher forcing), and may be ignored.
        prior: `() -> Distribution` over z, such as `StandardNormal(d)`.

    Example:
        >>> from torch import nn, randn
        >>> from torch.distributions import Independent, Normal
        >>> import uncollapse as uc
        >>> class Decoder(nn.Linear):
        ...     def forward(self, z, seen):
        ...         return Independent(Normal(super().forward(z), 1.0), 1)
        >>> encoder = uc.Posterior(nn.Linear(5, 4), uc.gaussian, sizes=(2, 2))
        >>> model = uc.VAE(encoder, Decoder(2, 5), uc.StandardNormal(2))
        >>> model(randn(7, 5), samples=3).log_likelihood.shape
        torch.Size([3, 7])
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, prior: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.generation = Generation(decoder, prior)

    @property
    def decoder(self) -> nn.Module:
        return self.generation.decoder

    @property
    def prior(self) -> nn.Module:
        return self.generation.prior

    def forward(self, x: Batch, q: Distribution | None = None, samples: int = 1) -> Bound:
        law: Distribution = self.encoder(x) if q is None else q
        z = law.rsample((samples,))  # pyright: ignore[reportArgumentType]
        log_likelihood, p = self.generation(z, x)
        log_q, log_p = law.log_prob(z), p.log_prob(z)
        return Bound(x, z, log_likelihood, log_q, log_p, kl_by_group(law, p, log_q, log_p), law, p)

    def players(self) -> dict[str, nn.Module]:
        return {"inference": self.encoder, "generation": self.generation}


def posterior(model: Any, x: Batch) -> Distribution | None:
    """The q of a model's bound on a batch; of the stock model, as it is, without a pass of its decoder."""
    forward = getattr(model, "forward", None)
    return model.encoder(x) if getattr(forward, "__func__", None) is VAE.forward else checked(model(x), x).q
