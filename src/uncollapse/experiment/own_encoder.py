"""An encoder of text that is that of a run of one's own, and stays as it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from uncollapse.data.sequences import as_text
from uncollapse.data.vocabulary import Vocabulary
from uncollapse.errors import InputError
from uncollapse.nets.frozen import FrozenEncoder, Readout
from uncollapse.nets.pretrained import Pooling, PretrainedEncoder


class OwnEncoder(FrozenEncoder):
    """The posterior's mean of a VAE of text of one's own, which may have another vocabulary and other networks.

    Arguments:
        words, outputs, readout: As for `FrozenEncoder`.
        path: The run's folder.
        size: The number of its latent units.

    Raises:
        InputError: when it first reads, where the run is of no text; see also `FrozenEncoder`.
    """

    def __init__(self, words: Vocabulary, outputs: int, path: str, size: int, readout: Readout = "linear") -> None:
        super().__init__(words, outputs, path, size, readout)
        self.path = os.path.abspath(path)

    def load(self, device: torch.device) -> tuple[nn.Module, Callable[[str], Tensor]]:
        from uncollapse.experiment.api import load  # It makes models of parts, of which this is one.

        trained = load(self.path)
        if "words" not in trained.interface.facts or "tags" in trained.interface.facts:
            raise InputError(f"the run `{self.model}` reads no text: name one that does as `model.encoder.model`.")
        words: Vocabulary = trained.interface.facts["words"]  # pyright: ignore[reportAssignmentType]
        # Not as a person's line, which must have a known word.
        return trained.model.to(device), lambda text: trained.encode(as_text([words.encode(text)]))[0]


def pretrained(
    words: Vocabulary, outputs: int, model: str, pooling: Pooling = "mean", readout: Readout = "linear"
) -> FrozenEncoder:
    """A frozen encoder, of the library `transformers` or of a run of yours, that reads a text and gives one code.

    Arguments:
        words: Of the data, to make texts of token ids.
        outputs: The size of the result.
        model: A model of `transformers` (its folder, an installed package that carries it, or its name on
            huggingface.co), or the folder of a run of a VAE of text.
        pooling: What is made of the former's states at its tokens: their "mean", or the "first".
        readout: "linear": a layer that is trained gives the result; "none": the code is the result.

    Raises:
        InputError: as `PretrainedEncoder` and `OwnEncoder` do.
    """
    size = _units(model)
    if size is None:
        return PretrainedEncoder(words, outputs, model, pooling, readout)
    if pooling != "mean":
        raise InputError(f"the code of a run, such as `{model}`, is its posterior's mean: leave `pooling` out.")
    return OwnEncoder(words, outputs, model, size, readout)


def _units(path: str) -> int | None:
    """How many latent units the VAE of a run has; None where there is no run."""
    from uncollapse.experiment import run  # Its specs are made of parts, of which this is one.

    if not (Path(path) / run.SPEC).is_file():
        return None
    model = run.read_spec(Path(path)).get("model")
    size = model.get("latent") if isinstance(model, dict) and model.get("kind") == "vae" else None
    if not isinstance(size, int):
        raise InputError(f"the run `{path}` has no encoder that gives a text one code: name one of a VAE.")
    return size
