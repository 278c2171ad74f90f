"""The models that a spec can make of its networks."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from torch import nn

from uncollapse.model import VAE
from uncollapse.nets.lstm import initialise
from uncollapse.nets.stochastic import ZForcing
from uncollapse.quantities import Count, Maker, Slot


def vae(
    encoder: Annotated[Maker, Slot("encoders", "lstm", later=True)],
    decoder: Annotated[Maker, Slot("decoders", "lstm", later=True)],
    latent: Count,
    posterior: Annotated[Maker, Slot("posteriors", "gaussian", later=True)],
    prior: Annotated[Maker, Slot("priors", "standard-normal", later=True)],
    wrappers: dict[str, Annotated[Maker, Slot("wrappers", later=True)]],
    initialisation: Literal["small_uniform", "offset", "torch"] = "small_uniform",
) -> VAE:
    """A VAE of an encoder, a decoder and a prior.

    Arguments:
        encoder, decoder: The networks.
        latent: The number of latent units.
        posterior: The family of q(z | x), made around the encoder.
        prior: The law p(z).
        wrappers: What stands around the decoder, by name, the first name innermost.
        initialisation: Of the networks, see `nets.lstm.initialise`; what a posterior or a prior has beside them starts
            as these say.
    """
    nets = nn.ModuleList()
    inference = posterior(latent=latent, net=lambda outputs: nets.append(encoder(outputs=outputs))[-1])
    generation: Any = decoder(latent=latent)
    for name in sorted(wrappers):
        generation = wrappers[name](latent=latent, decoder=generation)
    made = VAE(inference, generation, prior(latent=latent, encoder=inference))
    initialise(nets.append(generation), initialisation)
    made.anew = partial(vae, encoder, decoder, latent, posterior, prior, wrappers, initialisation)
    return made


def z_forcing(
    encoder: Annotated[Maker, Slot("backward-encoders", "lstm", later=True)],
    decoder: Annotated[Maker, Slot("stochastic-decoders", "lstm", later=True)],
    latent: Count,
    initialisation: Literal["small_uniform", "offset", "torch"] = "torch",
) -> ZForcing:
    """A text's model with a latent variable at every step, whose posterior knows what follows; see `nets.stochastic`.

    Arguments:
        encoder: What reads a text from its end.
        decoder: What writes it.
        latent: The number of latent units of a step.
        initialisation: Of the networks, see `nets.lstm.initialise`.
    """
    made = ZForcing(encoder(), decoder(latent=latent))
    initialise(made, initialisation)
    made.anew = partial(z_forcing, encoder, decoder, latent, initialisation)
    return made
