"""The models that a spec can make of its networks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

from torch import nn

from uncollapse.language_model import language_model as without_latents
from uncollapse.model import VAE
from uncollapse.nets.lstm import initialise
from uncollapse.nets.stochastic import ZForcing
from uncollapse.quantities import Count, File, Maker, Slot


def vae(
    encoder: Annotated[Maker, Slot("encoders", "lstm", later=True)],
    decoder: Annotated[Maker, Slot("decoders", "lstm", later=True)],
    latent: Count,
    posterior: Annotated[Maker, Slot("posteriors", "gaussian", later=True)],
    prior: Annotated[Maker, Slot("priors", "standard-normal", later=True)],
    wrappers: dict[str, Annotated[Maker, Slot("wrappers", later=True)]],
    heads: dict[str, Annotated[Maker, Slot("heads", later=True)]],
    initialisation: Literal["small_uniform", "offset", "torch"] = "small_uniform",
    start: File | None = None,
    encoder_start: File | None = None,
) -> VAE:
    """A VAE of an encoder, a decoder and a prior.

    Arguments:
        encoder, decoder: The networks.
        latent: The number of latent units.
        posterior: The family of q(z | x), made around the encoder.
        prior: The law p(z).
        wrappers: What stands around the decoder, by name, the first name innermost.
        heads: What is told of an item from z beside the decoder, by name; see `VAE`. One that asks for the decoder is
            handed the network within the wrappers.
        initialisation: Of the networks, see `nets.lstm.initialise`; what a posterior or a prior has beside them starts
            as these say.
        start: The folder of a language model's run, whose weights the decoder has when the training begins. They are
            put there by who trains (see `experiment.start`), as a trained model is made without that folder.
        encoder_start: The same for the encoder, which then reads a text as the language model does: all of its weights
            but those of the last layer.
    """
    nets = nn.ModuleList()
    inference = posterior(latent=latent, net=lambda outputs: nets.append(encoder(outputs=outputs))[-1])
    network: Any = decoder(latent=latent)
    generation, law = _wrapped(network, wrappers, latent), prior(latent=latent, encoder=inference)
    initialise(nets.append(generation), initialisation)
    beside = {name: heads[name](latent=latent, decoder=network) for name in sorted(heads)}
    made = VAE(inference, generation, law, heads=beside)
    # Last, so that the other networks start as they do without heads.
    initialise(made.generation.heads, initialisation)
    made.anew = partial(vae, encoder, decoder, latent, posterior, prior, wrappers, heads, initialisation)
    return made


def language_model(
    decoder: Annotated[Maker, Slot("decoders", "lstm", later=True)],
    wrappers: dict[str, Annotated[Maker, Slot("wrappers", later=True)]],
    initialisation: Literal["small_uniform", "offset", "torch"] = "small_uniform",
) -> VAE:
    """A decoder without z: its likelihood is exact, and what a VAE with the same decoder has to beat.

    Arguments:
        decoder: The network.
        wrappers, initialisation: As for `vae`.
    """
    with warnings.catch_warnings():
        # That is what a layer from no units is.
        warnings.filterwarnings("ignore", "Initializing zero-element tensors is a no-op")
        generation = _wrapped(decoder(latent=0), wrappers, latent=0)
        initialise(generation, initialisation)
    made = without_latents(generation)
    made.anew = partial(language_model, decoder, wrappers, initialisation)
    return made


def _wrapped(network: nn.Module, wrappers: Mapping[str, Maker], latent: int) -> nn.Module:
    """A decoder with its wrappers around it."""
    for name in sorted(wrappers):
        network = wrappers[name](latent=latent, decoder=network)
    return network


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
