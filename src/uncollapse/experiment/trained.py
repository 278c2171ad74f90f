"""A trained model in use: encode, generate, reconstruct, interpolate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from uncollapse import decoding
from uncollapse.bound import Batch, move
from uncollapse.data.batches import Batched, in_order, numbered, source
from uncollapse.data.text import UNK, Vocabulary, as_text
from uncollapse.distributions import operations
from uncollapse.errors import InputError, unknown
from uncollapse.metrics.subject import evaluating
from uncollapse.randomness import seeded

_ITEMS = 256  # texts in one pass
MAX_LENGTH = 100  # where the longest training item is not known


@dataclass(frozen=True)
class Trained:
    """A model with the vocabulary it was trained with (None where it reads no text).

    Everything runs in evaluation mode, without gradients, and a seed decides every draw. `max_length` sets the
    most tokens of one call.
    """

    model: nn.Module
    vocabulary: Vocabulary | None = None
    max_length: int = MAX_LENGTH
    """The most tokens that are generated, `</s>` included."""

    def encode(self, items: Any, sample: bool = False, seed: int = 0, batch_size: int = _ITEMS) -> Tensor:
        """The posterior's mean of each item with shape (N, D), or a draw from it with shape (N, ...).

        Arguments:
            items: Lines of text, or what `fit` takes: a tensor, an array, a NamedTuple of tensors, a map-style
                Dataset, or batches, whose items come back in the order of their ids.
            sample: Whether to draw instead.
            seed: Of the draw.
            batch_size: The items of one pass, where they are not batches already.

        Raises:
            InputError: for items that cannot be used, and a model that has no law to encode with.
        """
        with self._still(seed):
            ids, laws = zip(*((ids, self.model(x).q) for ids, x in self._batches(items, batch_size)), strict=True)
            if laws[0] is None:
                raise InputError("this model's posterior depends on the path: it has no law to encode with.")
            law = operations.take(operations.cat(laws), torch.cat(ids).argsort(stable=True))
            return law.sample() if sample else operations.mean(law)

    def generate(
        self,
        n: int,
        decode: str = "sample",
        temperature: float = 1.0,
        width: int = 5,
        seed: int = 0,
        max_length: int | None = None,
    ) -> list[str]:
        """Texts from draws of the prior, without `<unk>`; `decode` is "greedy", "beam" or "sample"."""
        with self._still(seed):
            return self._decode(self._prior_draws(n), decode, temperature, width, max_length)

    def reconstruct(
        self,
        lines: Sequence[str],
        decode: str = "greedy",
        sample: bool = False,
        width: int = 5,
        seed: int = 0,
        max_length: int | None = None,
    ) -> list[str]:
        """What the decoder makes of each line's posterior mean, or of a draw."""
        z = self.encode(lines, sample, seed)
        with self._still(seed):
            return self._decode(z, decode, 1.0, width, max_length)

    def interpolate(
        self,
        first: str,
        second: str,
        steps: int = 5,
        decode: str = "greedy",
        width: int = 5,
        seed: int = 0,
        max_length: int | None = None,
    ) -> list[str]:
        """Texts along the straight line between two posterior means, both ends included."""
        if steps < 2:
            raise InputError(f"{steps} steps make no line between two sentences: ask for at least 2.")
        for sentence in (first, second):
            self._check_known([sentence])
        a, b = self.encode([first, second])
        z = torch.lerp(a, b, torch.linspace(0, 1, steps, device=a.device).unsqueeze(1))
        with self._still(seed):
            return self._decode(z, decode, 1.0, width, max_length)

    @contextmanager
    def _still(self, seed: int) -> Iterator[None]:
        with evaluating(self.model), torch.no_grad(), seeded(seed, "use", device=self._device):
            yield

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _words(self) -> Vocabulary:
        if self.vocabulary is None:
            raise InputError("this model was not trained on text: it has no vocabulary to read or write with.")
        return self.vocabulary

    def _check_known(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of some lines; refused where no token of any is known, as what they come to would say nothing."""
        words = self._words()
        ids = [words.encode(line) for line in lines]
        if all(token == UNK for line in ids for token in line[1:-1]):
            known = " ".join(words.words[:8])
            raise InputError(
                f"{_quoted(lines)} holds none of the {len(words.words)} {words.tokens} that the model knows, such as "
                f"`{known}`: give a text with some of them."
            )
        return ids

    def _batches(self, items: Any, batch_size: int) -> Iterator[tuple[Tensor, Batch]]:
        """Every batch on the model's device, with the ids of its items."""
        if isinstance(items, list | tuple) and items and isinstance(items[0], str):
            lines = self._check_known(items)
            items = Batched(lambda ids: as_text(lines[i] for i in ids.tolist()), in_order(len(lines), batch_size))
        for ids, x in numbered(source(items, batch_size)):
            yield ids, move(x, self._device)

    def _prior_draws(self, n: int) -> Tensor:
        if n < 1:
            raise InputError(f"cannot generate {n} texts: ask for at least 1.")
        return self.model.prior().sample((n,))  # pyright: ignore[reportCallIssue]

    def _decode(self, z: Tensor, how: str, temperature: float, width: int, max_length: int | None) -> list[str]:
        words, decoder, never = self._words(), self.model.decoder, decoding.SPOKEN
        most = self.max_length if max_length is None else max_length
        ways = {
            "greedy": lambda z: decoding.greedy(decoder, z, most, never),
            "sample": lambda z: decoding.sample(decoder, z, most, temperature, never),
            "beam": lambda z: decoding.beam(decoder, z, most, width, never),
        }
        if how not in ways:
            raise unknown("way of decoding", how, ways)
        # A wide beam is many texts.
        size = max(1, 5 * _ITEMS // max(5, width)) if how == "beam" else _ITEMS
        return [words.decode(ids) for part in z.split(size) for ids in ways[how](part)]


def _quoted(lines: Sequence[str]) -> str:
    first = f"`{lines[0][:80]}`" if lines[0].strip() else "an empty text"
    return first if len(lines) == 1 else f"a text of {len(lines)} items that begins with {first}"
