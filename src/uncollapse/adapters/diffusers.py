"""Autoencoders of Diffusers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor, nn
from torch.distributions import Distribution

from uncollapse.adapters.foreign import Likelihood, foreign
from uncollapse.adapters.libraries import library
from uncollapse.errors import InputError
from uncollapse.model import VAE

#: The parts of an autoencoder that only its encoder uses.
INFERENCE = ("encoder", "quant_conv")


def from_diffusers(
    model: Any,
    *,
    likelihood: Likelihood | Callable[..., Distribution] = "gaussian",
    scale: float | Literal["learned"] | None = None,
) -> VAE:
    r"""An autoencoder of Diffusers as a model, such as an `AutoencoderKL`, whose z has channels and positions.

    z is what it encodes, before `scaling_factor`; q is its `latent_dist`, and the prior is standard normal, as in its
    `kl()`. It has no likelihood of its own, so that all nats depend on the one that is assumed: squared errors that
    are summed, as its training script has them, are a Gaussian of scale :math:`\sqrt{1/2}`, absolute ones a Laplace
    law of scale 1.

    References:
        | High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022)
        | https://arxiv.org/abs/2112.10752

    Arguments:
        model: A model whose `encode` gives a diagonal Gaussian and whose `decode` gives what x is to be.
        likelihood: As for `foreign`; a Gaussian by default.
        scale: Of a "gaussian" or "laplace", as for `foreign`; 1 by default.

    Raises:
        InputError: for any other model, and where Diffusers is not installed.
    """
    kinds = library("diffusers.models.autoencoders.vae", "from_diffusers", "diffusers>=0.42")
    if not isinstance(model, nn.Module) or not {"encode", "decode"} <= set(dir(model)):
        raise InputError(
            f"`{type(model).__name__}` is no autoencoder of Diffusers: give the one of a pipeline, as in "
            "`uncollapse.from_diffusers(pipeline.vae)`."
        )
    encode = Encode(model, kinds.DiagonalGaussianDistribution)
    return foreign(encode=encode, decode=Decode(model), likelihood=likelihood, scale=scale)


class Encode(nn.Module):
    """From x to the mean and the log-variance."""

    def __init__(self, model: Any, gaussian: type) -> None:
        super().__init__()
        self.gaussian, self.encode = gaussian, model.encode
        self.networks = nn.ModuleList(part for name, part in model.named_children() if name in INFERENCE)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.encode(x, return_dict=False)[0]
        if not isinstance(found, self.gaussian):
            raise InputError(
                f"the autoencoder gives a `{type(found).__name__}` for its z, and must give a diagonal Gaussian, as an "
                "`AutoencoderKL` does: where codes are points there is no posterior to diagnose."
            )
        return found.mean, found.logvar


class Decode(nn.Module):
    """From z to what x is to be."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decode = model.decode
        self.networks = nn.ModuleList(part for name, part in model.named_children() if name not in INFERENCE)

    def forward(self, z: Tensor) -> Tensor:
        return self.decode(z, return_dict=False)[0]
