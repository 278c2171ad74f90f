"""Models of Pythae."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from uncollapse.adapters.foreign import Likelihood, foreign
from uncollapse.adapters.libraries import library
from uncollapse.errors import InputError
from uncollapse.model import VAE

#: Those whose posterior is no diagonal Gaussian, or goes on from one by steps or a flow.
OTHER_POSTERIORS = ("VAE_IAF", "VAE_LinNF", "SVAE", "PoincareVAE", "HVAE", "RHVAE")
#: Those that reconstruct by something that is no likelihood.
NO_LIKELIHOOD = ("VAEGAN", "MSSSIM_VAE")
#: The likelihood of a `reconstruction_loss`.
LIKELIHOODS: dict[str, Likelihood] = {"mse": "gaussian", "bce": "bernoulli"}


def from_pythae(
    model: Any,
    *,
    likelihood: Likelihood | Callable[..., Distribution] | None = None,
    scale: float | Literal["learned"] | None = None,
) -> VAE:
    r"""A VAE of Pythae as a model: its own encoder and decoder, and its prior, standard or that of VAMP.

    Its `reconstruction_loss` "mse" is half the squared error, a Gaussian of scale 1 less its constant, so that the
    distortion is :math:`\tfrac{D}{2} \log 2\pi` above the loss of D numbers; "bce" is a Bernoulli law, which holds of
    data of 0 and 1 alone. What else its loss has (a weight of the KL, a critic) is training, and no part of the model.

    References:
        | Pythae: Unifying Generative Autoencoders in Python (Chadebec et al., 2022)
        | https://arxiv.org/abs/2206.08309

    Arguments:
        model: A `pythae.models.VAE`, or one of those made of it whose posterior is a diagonal Gaussian.
        likelihood: As for `foreign`; that of its `reconstruction_loss` by default.
        scale: As for `foreign`.

    Raises:
        InputError: for any other model, and where Pythae is not installed.
    """
    models = library("pythae.models", "from_pythae", "pythae>=0.1.2")
    _check(model, models)
    if likelihood is None:
        refused = next((name for name in NO_LIKELIHOOD if isinstance(model, getattr(models, name))), None)
        if refused is not None:
            raise InputError(
                f"a `{refused}` reconstructs by something that is no likelihood: say of what law its decoder gives "
                'the parameters, as in `uncollapse.from_pythae(model, likelihood="gaussian", scale=0.1)`.'
            )
        likelihood = LIKELIHOODS[model.model_config.reconstruction_loss]
    prior = Pseudo(model) if isinstance(model, models.VAMP) else None
    return foreign(
        encode=Encode(model.encoder), decode=Decode(model.decoder), likelihood=likelihood, scale=scale, prior=prior
    )


def _check(model: Any, models: Any) -> None:
    name = type(model).__name__
    if not isinstance(model, models.VAE):
        raise InputError(
            f"`{name}` is no VAE of Pythae's (`pythae.models.VAE` and what is made of it): without a posterior there "
            "is none to diagnose. A module with `encode` and `decode` comes in by `uncollapse.foreign`."
        )
    other = next((known for known in OTHER_POSTERIORS if isinstance(model, getattr(models, known))), None)
    if other is not None:
        raise InputError(
            f"the posterior of a `{other}` is no diagonal Gaussian, and no other is read from Pythae's models: give "
            "its law yourself, as in `uncollapse.foreign(model, encode=lambda x: law_of(model.encoder(x)), ...)`."
        )


class Encode(nn.Module):
    """From x to the mean and the log-variance."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        found = self.network(x)
        return found["embedding"], found["log_covariance"]


class Decode(nn.Module):
    """From z to the parameter of the likelihood."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor) -> Tensor:
        return self.network(z)["reconstruction"]


class Pseudo(nn.Module):
    """VAMP's prior: the mixture of the posteriors of its pseudo-inputs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.pseudo_inputs, self.shape = model.pseudo_inputs, tuple(model.model_config.input_dim)
        self.register_buffer("one_hot", model.idle_input.detach().clone(), persistent=False)

    def forward(self, encoder: nn.Module) -> Distribution:
        law: Any = encoder(self.pseudo_inputs(self.one_hot).unflatten(1, self.shape))
        return MixtureSameFamily(Categorical(logits=torch.zeros(len(law.loc)).to(law.loc)), law, validate_args=False)
