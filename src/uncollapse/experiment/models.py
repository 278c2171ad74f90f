"""The models that a spec can make of its networks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

from torch import nn

from uncollapse.errors import InputError
from uncollapse.language_model import language_model as without_latents
from uncollapse.model import VAE, Labels
from uncollapse.nets.conditional import Tagged
from uncollapse.nets.labels import Classifier, Reader, Told
from uncollapse.nets.lstm import initialise
from uncollapse.nets.stochastic import ZForcing
from uncollapse.quantities import Count, File, Maker, Slot

#: To whom the labels of items are told.
Tells = Literal["nobody", "decoder", "encoder-and-decoder", "wrappers"]
#: What they are to the model then: wrappers act in training alone.
TOLD: dict[Tells, Labels] = {
    "nobody": "kept",
    "decoder": "given",
    "encoder-and-decoder": "given",
    "wrappers": "in-training",
}


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
    tells: Tells = "nobody",
    label_classes: int | None = None,
    shape: tuple[int, ...] | None = None,
    tags: int | None = None,
) -> VAE:
    """A VAE of an encoder, a decoder and a prior.

    Labels, where the data has them, come back with the bound, for terms and figures. Beside that they are what a
    decoder of the kind `classifier` is to tell, or what the networks are told.

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
        tells: Who is told the label of an item: the decoder, beside z; the encoder too, beside the item; or the
            wrappers of the decoder alone.
        label_classes: How many classes labels are of; None where there are no labels.
        shape: The shape of an item, where it has one.
        tags: Of pairs, how many tags a target may have: the decoder is told them, by further units of z where it is one
            of text. None where items are no pairs.

    Raises:
        InputError: where somebody is told a label, and there is none.
    """
    told = _told(tells, label_classes)
    nets = nn.ModuleList()
    inference = posterior(
        latent=latent, net=lambda outputs: nets.append(_reading(encoder, outputs, label_classes, shape, told))[-1]
    )
    network: Any = _decoding(decoder, latent + told["decoder"], tags)
    if tells != "nobody":
        network = Told(network, told["decoder"])
    generation, law = _wrapped(network, wrappers, latent), prior(latent=latent, encoder=inference)
    initialise(nets.append(generation), initialisation)
    beside = {name: heads[name](latent=latent, decoder=network) for name in sorted(heads)}
    labels = "target" if isinstance(network, Classifier) else TOLD[tells]
    made = VAE(inference, generation, law, heads=beside, labels=labels)
    # Last, so that the other networks start as they do without heads.
    initialise(made.generation.heads, initialisation)
    made.bounds = _bounds(network, tags)
    more = {"tells": tells, "label_classes": label_classes, "shape": shape, "tags": tags}
    made.anew = partial(vae, encoder, decoder, latent, posterior, prior, wrappers, heads, initialisation, **more)
    return made


def _decoding(decoder: Maker, latent: int, tags: int | None) -> nn.Module:
    """The decoder's network; of pairs, one that is told the tags."""
    network = decoder(latent=latent)
    if tags is None or getattr(network, "reads_pairs", False):
        return network
    return Tagged(decoder(latent=latent + tags))


def _bounds(network: Any, tags: int | None) -> str | None:
    """What the likelihoods of pairs are of."""
    if tags is None:
        return None
    told = ["source"] * (getattr(network, "reader", None) is not None) + ["tags"] * (tags > 0)
    return f"log p(target{' | ' * bool(told)}{', '.join(told)})"


def _told(tells: Tells, classes: int | None) -> dict[str, int]:
    """How many classes each network is told of.

    Raises:
        InputError: where there are none.
    """
    if tells != "nobody" and classes is None:
        raise InputError(f"`model.tells` is {tells}, and the data has no labels to tell: set `data.labels`.")
    who = {"decoder": ("decoder",), "encoder-and-decoder": ("encoder", "decoder")}.get(tells, ())
    return {name: (classes or 0) if name in who else 0 for name in ("encoder", "decoder")}


def _reading(
    encoder: Maker, outputs: int, classes: int | None, shape: tuple[int, ...] | None, told: Mapping[str, int]
) -> nn.Module:
    """The encoder's network; where there are labels, one that reads items with them."""
    if classes is None:
        return encoder(outputs=outputs)
    if not told["encoder"] or shape is None:
        return Reader(encoder(outputs=outputs))
    return Reader(encoder(outputs=outputs, shape=(shape[0] + classes, *shape[1:])), classes)


def language_model(
    decoder: Annotated[Maker, Slot("decoders", "lstm", later=True)],
    wrappers: dict[str, Annotated[Maker, Slot("wrappers", later=True)]],
    initialisation: Literal["small_uniform", "offset", "torch"] = "small_uniform",
    tags: int | None = None,
) -> VAE:
    """A decoder without z: its likelihood is exact, and what a VAE with the same decoder has to beat.

    Arguments:
        decoder: The network.
        wrappers, initialisation, tags: As for `vae`.
    """
    with warnings.catch_warnings():
        # That is what a layer from no units is.
        warnings.filterwarnings("ignore", "Initializing zero-element tensors is a no-op")
        network = _decoding(decoder, 0, tags)
        generation = _wrapped(network, wrappers, latent=0)
        initialise(generation, initialisation)
    made = without_latents(generation)
    made.bounds = _bounds(network, tags)
    made.anew = partial(language_model, decoder, wrappers, initialisation, tags)
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
    tags: int | None = None,
) -> ZForcing:
    """A text's model with a latent variable at every step, whose posterior knows what follows; see `nets.stochastic`.

    Arguments:
        encoder: What reads a text from its end.
        decoder: What writes it.
        latent: The number of latent units of a step.
        initialisation: Of the networks, see `nets.lstm.initialise`.
        tags: None, as it reads no pairs.

    Raises:
        InputError: where it is to read pairs.
    """
    if tags is not None:
        raise InputError("a model of the kind `z-forcing` has no place for a source and tags: use `text` for it.")
    made = ZForcing(encoder(), decoder(latent=latent))
    initialise(made, initialisation)
    made.anew = partial(z_forcing, encoder, decoder, latent, initialisation)
    return made
