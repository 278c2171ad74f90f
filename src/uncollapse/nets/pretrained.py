"""An encoder of text that somebody else trained, by the library `transformers`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from uncollapse.data.vocabulary import MARKERS, UNK, Vocabulary
from uncollapse.errors import InputError
from uncollapse.nets.frozen import FrozenEncoder, Readout

Pooling = Literal["mean", "first"]


class PretrainedEncoder(FrozenEncoder):
    """A frozen network of the library `transformers`.

    Arguments:
        words, outputs, readout: As for `FrozenEncoder`.
        model: The folder of a model, an installed package with one in its folder `model`, or a name on huggingface.co,
            from where it is fetched.
        pooling: What is made of the states at its tokens: their "mean", or the "first".

    Raises:
        InputError: where `transformers` is not installed, and where there is no such model; see also `FrozenEncoder`.
    """

    def __init__(
        self,
        words: Vocabulary,
        outputs: int,
        model: str,
        pooling: Pooling = "mean",
        readout: Readout = "linear",
    ) -> None:
        place = _place(model)
        super().__init__(words, outputs, model, _size(_read("AutoConfig", place)), readout)
        self.place, self.pooling = place, pooling

    def load(self, device: torch.device) -> tuple[nn.Module, Callable[[str], Tensor]]:
        network = _read("AutoModel", self.place).eval().requires_grad_(False).to(device)
        tokenizer = _read("AutoTokenizer", self.place)

        def read(text: str) -> Tensor:
            known = text.replace(MARKERS[UNK], tokenizer.unk_token or MARKERS[UNK])
            said = tokenizer(known, return_tensors="pt", truncation=True).to(device)
            states: Tensor = network(**said).last_hidden_state[0]
            return states.mean(0) if self.pooling == "mean" else states[0]

        return network, read


def _place(model: str) -> str:
    """Where a model lies: a folder, that of a package, or its name as it is."""
    if Path(model).is_dir():
        return os.path.abspath(model)
    package = find_spec(model) if model.isidentifier() else None
    for folder in (package and package.submodule_search_locations) or ():
        if (inside := Path(folder) / "model" / "config.json").is_file():
            return str(inside.parent)
    return model


def _read(what: str, place: str) -> Any:
    """A part of a model.

    Raises:
        InputError: where it cannot be read.
    """
    if find_spec("transformers") is None:
        raise InputError("a pretrained encoder needs `transformers`: `pip install 'uncollapse[pretrained]'`.")
    import transformers

    with _quietly(transformers.utils.logging):
        try:
            return getattr(transformers, what).from_pretrained(place)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"there is no model of `transformers` in `{place}`: {' '.join(str(error).split())[:200]} Name a folder "
                "with a `config.json`, an installed package that carries one, a name on huggingface.co, or a run of "
                "yours."
            ) from None


@contextmanager
def _quietly(logging: Any) -> Iterator[None]:
    """Without bars of progress, and words on weights left over, which are those of heads that nobody asked for."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


def _size(config: Any) -> int:
    """How many numbers a state has."""
    found = getattr(config, "hidden_size", None) or getattr(config, "d_model", None)
    if not isinstance(found, int):
        raise InputError(f"a `{config.model_type}` says no size of its states (`hidden_size`): name another model.")
    return found
