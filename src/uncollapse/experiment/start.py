"""What a decoder or an encoder starts with instead of its initialisation: the weights of a trained language model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from uncollapse.data.kinds import Data
from uncollapse.errors import InputError
from uncollapse.experiment import build, run
from uncollapse.experiment.api import best_weights
from uncollapse.experiment.spec import Spec

#: The entries of a VAE's section that name a language model.
ENTRIES = ("start", "encoder_start")
_DECODER = "generation.decoder."
_LAST = "output."


def start(spec: Spec, model: nn.Module, data: Data) -> str:
    """Gives a new model the weights of the language models that its spec names.

    The decoder has those of `model.start`; where a matrix reads z too, its last columns are z's, and these stay as they
    were initialised. The encoder has those of `model.encoder_start`, but for its last layer, which stays too.

    Arguments:
        spec: Of the run that is to begin, or to go on: its checkpoint then takes the place of these weights.
        model: The model of that spec.
        data: The data of that spec.

    Returns:
        The SHA-256 of the weights, a part of the run's identity; nothing where the spec names no language model.

    Raises:
        InputError: where there is no such run, or where it has another vocabulary or other sizes.
    """
    given: dict[str, Tensor] = {}
    if said := getattr(spec.model, "start", None):
        weights = _weights(spec, data, said, "decoder", "start")
        _copy(weights, model.get_submodule(_DECODER.rstrip(".")), spec.model.latent, said)  # pyright: ignore
        given |= weights
    if said := getattr(spec.model, "encoder_start", None):
        weights = _weights(spec, data, said, "encoder", "encoder_start")
        given |= {f"encoder.{name}": value for name, value in _copy_read(weights, spec, model, said).items()}
    return digest(given) if given else ""


def begun_from(spec: Spec) -> list[str]:
    """The entries, such as "model.start", in which a spec names language models."""
    return [f"model.{name}" for name in ENTRIES if getattr(spec.model, name, None)]


def _weights(spec: Spec, data: Data, said: str, who: str, entry: str) -> dict[str, Tensor]:
    """The decoder's tensors in the run of a language model, by their names in the decoder."""
    path, kept = Path(said), build.kind(spec).kept
    if not path.is_dir():
        raise InputError(
            f"there is no run folder `{path}` to start the {who} from: train its language model first, with the same "
            f"data and settings and `--with language-model --out {path}`, or name another with "
            f"`--set model.{entry}=RUN`."
        )
    model = run.read_spec(path).get("model")
    if not isinstance(model, dict) or model.get("kind") != "language-model":
        raise InputError(f"`{path}` is no run of a language model: name one that was trained `--with language-model`.")
    if not (path / kept).is_file() or run.read_json(path / kept) != data.about():
        raise InputError(
            f"the language model `{path}` was trained on another vocabulary or other texts, `{kept}` is not the same: "
            "train it on this run's data, with the same settings of `data`."
        )
    return {name.removeprefix(_DECODER): value for name, value in best_weights(path).items()}


def _copy(weights: Mapping[str, Tensor], decoder: nn.Module, latent: int, path: str) -> None:
    """Copies tensors into those of the same names, which may have `latent` columns more."""
    there = decoder.state_dict()
    if other := sorted(weights.keys() - there.keys()):
        raise _unlike(path, f"it has `{other[0]}`, and the decoder has not")
    for name, value in there.items():
        *rows, columns = value.shape or (0,)
        # What reads z alone a language model may not have.
        shape = weights[name].shape if name in weights else (*rows, 0)
        if shape not in (value.shape, (*rows, columns - latent)):
            raise _unlike(path, f"its `{name}` is {_size(shape)}, and the decoder's {_size(value.shape)}")
    with torch.no_grad():
        for name, given in weights.items():
            value = there[name]
            (value if value.shape == given.shape else value[..., : given.shape[-1]]).copy_(given)


def _copy_read(weights: Mapping[str, Tensor], spec: Spec, model: nn.Module, path: str) -> dict[str, Tensor]:
    """Copies what reads a text into the encoder's network, all but its last layer, and gives what was copied."""
    there = _reader(spec, model).state_dict()
    wanted = [name for name in there if not name.startswith(_LAST)]
    for name in wanted:
        if name not in weights:
            raise _unread(path, f"the encoder has `{name}`, and it has not")
        if weights[name].shape != there[name].shape:
            shapes = _size(weights[name].shape), _size(there[name].shape)
            raise _unread(path, f"its `{name}` is {shapes[0]}, and the encoder's {shapes[1]}")
    with torch.no_grad():
        for name in wanted:
            there[name].copy_(weights[name])
    return {name: weights[name] for name in wanted}


def _reader(spec: Spec, model: nn.Module) -> nn.Module:
    """The network that the spec names in `model.encoder`, wherever the posterior keeps it."""
    said: Any = spec.model
    found = [part for part in model.modules() if type(part) is said.encoder._target]
    if not found:
        raise InputError(
            f"the encoder `{said.encoder.kind}` is made by a function, so that its network cannot be found to start it "
            "from a language model: name the network's class, or leave out `model.encoder_start`."
        )
    return found[0]


def _unread(path: str, why: str) -> InputError:
    return InputError(
        f"the language model `{path}` does not read as this encoder: {why}. It takes an encoder `lstm`, and a language "
        "model of a decoder `lstm` with the encoder's `embedding` and `hidden`, without wrappers."
    )


def _unlike(path: str, why: str) -> InputError:
    return InputError(
        f"the language model `{path}` is not this decoder's: {why}. Train one with the same `model.decoder` and "
        "`model.wrappers`."
    )


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def digest(weights: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors with their names, types and shapes."""
    found = hashlib.sha256()
    for name, value in sorted(weights.items()):
        found.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
