"""A trained model in use: encode, generate, reconstruct, interpolate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from uncollapse import decoding
from uncollapse.bound import Batch
from uncollapse.data.text import Text, Vocabulary, as_text
from uncollapse.distributions import operations
from uncollapse.errors import InputError, unknown
from uncollapse.randomness import seeded

_ITEMS = 256  # texts in one pass


@dataclass(frozen=True)
class Trained:
    """A model with the vocabulary it was trained with (None where it reads no text).

    Everything runs in evaluation mode, without gradients, and a seed decides every draw.
    """

    model: nn.Module
    vocabulary: Vocabulary | None = None
    max_length: int = 100
    """The most tokens that are generated."""

    def encode(self, items: Sequence[str] | Batch, sample: bool = False, seed: int = 0) -> Tensor:
        """The posterior's mean of each item with shape (N, D), or a draw from it with shape (N, ...).

        Arguments:
            items: Lines of text, or a batch that the model reads.
            sample: Whether to draw instead.
            seed: Of the draw.
        """
        with self._still(seed):
            laws = [self.model(x).q for x in self._batches(items)]
            if laws[0] is None:
                raise InputError("this model's posterior depends on the path: it has no law to encode with.")
            law = operations.cat(laws)
            return law.sample() if sample else operations.mean(law)

    def generate(
        self, n: int, decode: str = "sample", temperature: float = 1.0, width: int = 5, seed: int = 0
    ) -> list[str]:
        """Texts from draws of the prior, without `<unk>`; `decode` is "greedy", "beam" or "sample"."""
        with self._still(seed):
            return self._decode(self._prior_draws(n), decode, temperature, width)

    def reconstruct(
        self,
        lines: Sequence[str],
        decode: str = "greedy",
        sample: bool = False,
        width: int = 5,
        seed: int = 0,
    ) -> list[str]:
        """What the decoder makes of each line's posterior mean, or of a draw."""
        z = self.encode(lines, sample, seed)
        with self._still(seed):
            return self._decode(z, decode, 1.0, width)

    def interpolate(
        self, first: str, second: str, steps: int = 5, decode: str = "greedy", width: int = 5, seed: int = 0
    ) -> list[str]:
        """Texts along the straight line between two posterior means, both ends included."""
        if steps < 2:
            raise InputError(f"{steps} steps make no line between two sentences: ask for at least 2.")
        a, b = self.encode([first, second])
        z = torch.lerp(a, b, torch.linspace(0, 1, steps, device=a.device).unsqueeze(1))
        with self._still(seed):
            return self._decode(z, decode, 1.0, width)

    @contextmanager
    def _still(self, seed: int) -> Iterator[None]:
        was = self.model.training
        self.model.eval()
        with torch.no_grad(), seeded(seed, "use", device=self._device):
            yield
        self.model.train(was)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _words(self) -> Vocabulary:
        if self.vocabulary is None:
            raise InputError("this model was not trained on text: it has no vocabulary to read or write with.")
        return self.vocabulary

    def _batches(self, items: Any) -> Iterator[Batch]:
        if isinstance(items, Tensor) or "_fields" in dir(items):
            yield items
            return
        if not items:
            raise InputError("there is nothing to encode: give at least one item.")
        ids = [self._words().encode(line) for line in items]
        for start in range(0, len(ids), _ITEMS):
            yield Text(as_text(ids[start : start + _ITEMS]).tokens.to(self._device))

    def _prior_draws(self, n: int) -> Tensor:
        if n < 1:
            raise InputError(f"cannot generate {n} texts: ask for at least 1.")
        return self.model.prior().sample((n,))  # pyright: ignore[reportCallIssue]

    def _decode(self, z: Tensor, how: str, temperature: float, width: int) -> list[str]:
        words, decoder, never = self._words(), self.model.decoder, decoding.SPOKEN
        ways = {
            "greedy": lambda: decoding.greedy(decoder, z, self.max_length, never),
            "sample": lambda: decoding.sample(decoder, z, self.max_length, temperature, never),
            "beam": lambda: decoding.beam(decoder, z, self.max_length, width, never),
        }
        if how not in ways:
            raise unknown("way of decoding", how, ways)
        return [words.decode(ids) for ids in ways[how]()]
