"""An encoder of text that somebody else trained, and that stays as it is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from uncollapse.data.text import Text
from uncollapse.data.vocabulary import MARKERS, UNK, Vocabulary
from uncollapse.distributions.tokens import PAD
from uncollapse.errors import InputError

#: How many texts' codes are kept, so that each is read once.
MOST = 2**18


class PretrainedEncoder(nn.Module):
    """A frozen network of the library `transformers` that reads a text as its words, and gives one code.

    It stays where it lies: a checkpoint holds its checksum alone. A text is read by itself and
    once, so that its code does not depend on the batch that it is in.

    Arguments:
        words: Of the data, to make texts of token ids.
        outputs: The size of the result.
        model: The folder of a model, an installed package with one in its folder `model`, or a name on huggingface.co,
            from where it is fetched.
        pooling: What is made of the states at its tokens: their "mean", or the "first".
        readout: "linear": a layer that is trained gives the result; "none": the code is the result.

    Raises:
        InputError: where `transformers` is not installed, there is no such model, and where the code is the result and
            not of its size; when it first reads, where a checkpoint is of other weights.
    """

    checksum: Tensor

    def __init__(
        self,
        words: Vocabulary,
        outputs: int,
        model: str,
        pooling: Literal["mean", "first"] = "mean",
        readout: Literal["linear", "none"] = "linear",
    ) -> None:
        super().__init__()
        self.words, self.place, self.pooling = words, _place(model), pooling
        size = _size(_read("AutoConfig", self.place))
        if readout == "none" and size != outputs:
            raise InputError(
                f"`{model}` gives codes of {size} numbers, and {outputs} are asked for: set `model.latent={size}`, or "
                "`model.encoder.readout=linear`."
            )
        self.output = nn.Linear(size, outputs) if readout == "linear" else nn.Identity()
        self.register_buffer("checksum", torch.zeros((), dtype=torch.int64))  # 0 where it has read nothing yet.
        # Behind a function, so that its weights are not this module's.
        self._network: Callable[[], tuple[Any, Any]] | None = None
        self._codes: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Text) -> Tensor:
        """The result for every text, with shape (B, outputs)."""
        texts = [tuple(row[row != PAD].tolist()) for row in x.tokens.cpu()]
        return self.output(torch.stack([self._code(ids) for ids in texts]).to(x.tokens.device))

    def _code(self, ids: tuple[int, ...]) -> Tensor:
        if ids in self._codes:
            return self._codes[ids]
        network, tokenizer = self._read()
        text = self.words.decode(ids).replace(MARKERS[UNK], tokenizer.unk_token or MARKERS[UNK])
        said = tokenizer(text, return_tensors="pt", truncation=True).to(self.checksum.device)
        with torch.no_grad(), torch.autocast(self.checksum.device.type, enabled=False):
            states: Tensor = network(**said).last_hidden_state[0]
        code = (states.mean(0) if self.pooling == "mean" else states[0]).float().cpu()
        if len(self._codes) < MOST:
            self._codes[ids] = code
        return code

    def _read(self) -> tuple[Any, Any]:
        """The network, on this module's device, and what cuts texts for it."""
        if self._network is None:
            network = _read("AutoModel", self.place).eval().requires_grad_(False)
            found = _checksum(network)
            if self.checksum and self.checksum != found:
                raise InputError(
                    f"`{self.place}` has other weights than the encoder that this model was trained with: name that "
                    "one as `model.encoder.model`."
                )
            self.checksum.fill_(found)
            both = network.to(self.checksum.device), _read("AutoTokenizer", self.place)
            self._network = lambda: both
        return self._network()


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
                "with a `config.json`, an installed package that carries one, or a name on huggingface.co."
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


def _checksum(network: nn.Module) -> int:
    """A number of a network's weights, not 0."""
    found = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        found.update(name.encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().data)
    return int.from_bytes(found.digest()[:7]) + 1
