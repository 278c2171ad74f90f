"""Decoding: from latents to sequences of tokens, greedily, at random, or by beam search.

A decoder that has `begin` and `next` is asked one token at a time; any other is run again over the whole prefix for
every token. One that has `ahead`, as its tokens do not depend on those before, is run once. All are used in the mode
they are in: call `.eval()` first to have dropouts off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent

from uncollapse.data.vocabulary import END, START, UNK
from uncollapse.distributions.tokens import PAD, Tokens
from uncollapse.errors import InputError

#: What is never emitted: these are no part of a text. `SPOKEN` also leaves out `<unk>`, which no reader can use.
NEVER = (PAD, START)
SPOKEN = (*NEVER, UNK)


@runtime_checkable
class Stepwise(Protocol):
    """A decoder that can be asked one token at a time; a state is a NamedTuple of tensors, each (N, ...)."""

    def begin(self, z: Tensor) -> Any:
        """The state before the first token, for z (N, d)."""
        ...

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The logits (N, V) of what follows the tokens (N,), and the state after them."""
        ...


class Prefix(NamedTuple):
    """What `Replay` remembers: all there was."""

    z: Tensor
    """(N, d)."""
    tokens: Tensor
    """(N, t)."""


class Replay:
    """Makes any decoder step-wise: for every token it runs over the whole prefix again.

    Arguments:
        decoder: From z (1, N, d) and tokens (N, t) to a law that `logits_at` knows.
    """

    def __init__(self, decoder: Callable[[Tensor, Tensor], Distribution]) -> None:
        self.decoder = decoder

    def begin(self, z: Tensor) -> Prefix:
        """The empty prefix."""
        return Prefix(z, torch.empty(len(z), 0, dtype=torch.long, device=z.device))

    def next(self, tokens: Tensor, state: Prefix) -> tuple[Tensor, Prefix]:
        """The logits (N, V) of what follows the longer prefix, and that prefix."""
        prefix = torch.cat([state.tokens, tokens.unsqueeze(1)], 1)
        law = self.decoder(state.z.unsqueeze(0), prefix)
        return logits_at(law).squeeze(0), Prefix(state.z, prefix)


@runtime_checkable
class Parallel(Protocol):
    """A decoder whose tokens do not depend on those before them."""

    def ahead(self, z: Tensor, length: int) -> Distribution:
        """The law of the first `length` tokens, for z (1, N, d)."""
        ...


class Ahead:
    """Makes such a decoder step-wise: it runs once, and the logits of a place are made as it is reached.

    Arguments:
        decoder: What is `Parallel`.
        length: How many tokens are to be decoded.
    """

    def __init__(self, decoder: Parallel, length: int) -> None:
        self.decoder, self.length = decoder, length

    def begin(self, z: Tensor) -> tuple[Distribution, int]:
        """The law of all tokens, and the first place."""
        return self.decoder.ahead(z.unsqueeze(0), max(1, self.length)), 0

    def next(self, tokens: Tensor, state: tuple[Distribution, int]) -> tuple[Tensor, tuple[Distribution, int]]:
        """The logits (N, V) at this place, and the next one."""
        law, place = state
        return logits_at(law, place).squeeze(0), (law, place + 1)


class Conditioned:
    """Makes a decoder that is told something of each item beside z one that writes from z alone.

    Arguments:
        decoder: From z (S, N, d) and what `given.before(tokens)` says to a law that `logits_at` knows; where it has
            `begin`, that is handed `given` too, as is `ahead`.
        given: A NamedTuple of tensors, each (N, ...), with `before`, such as `data.pairs.Condition`.
    """

    def __init__(self, decoder: Any, given: Any) -> None:
        self.decoder, self.given = decoder, given
        if isinstance(decoder, Parallel):
            self.ahead = lambda z, length: decoder.ahead(z, length, self._for(z.shape[1]))  # pyright: ignore

    def only(self, kept: slice) -> Conditioned:
        """The same decoder for some of the items."""
        return Conditioned(self.decoder, type(self.given)(*(part[kept] for part in self.given)))

    def __call__(self, z: Tensor, tokens: Tensor) -> Distribution:
        return self.decoder(z, self._for(z.shape[1]).before(tokens))

    def begin(self, z: Tensor) -> Any:
        """The state before the first token, for z (N, d), or for several z (N W, d) of each item in turn."""
        if isinstance(self.decoder, Stepwise):
            return self.decoder.begin(z, self._for(len(z)))  # pyright: ignore[reportCallIssue]
        return Replay(self).begin(z)

    def next(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The logits (N, V) of what follows the tokens (N,), and the state after them."""
        return (self.decoder if isinstance(self.decoder, Stepwise) else Replay(self)).next(tokens, state)

    def _for(self, count: int) -> Any:
        times = count // len(self.given[0])
        return type(self.given)(*(part.repeat_interleave(times, 0) for part in self.given))


@singledispatch
def logits_at(law: Distribution, place: int = -1) -> Tensor:
    """The logits of a token under a law of sequences, with shape (..., V); of the one that comes next by default."""
    raise InputError(
        f"cannot decode from the law `{type(law).__name__}`: return `Tokens` or "
        "`Independent(Categorical(...), 1)`, give the decoder `begin` and `next`, or register the law with "
        "`uncollapse.decoding.logits_at`."
    )


@logits_at.register
def _(law: Tokens, place: int = -1) -> Tensor:
    return law.logits(place)


@logits_at.register
def _(law: Independent, place: int = -1) -> Tensor:
    if not isinstance(law.base_dist, Categorical):
        return logits_at(law.base_dist, place)
    return law.base_dist.logits[..., place, :]


def greedy(decoder: Any, z: Tensor, max_length: int, never: Sequence[int] = NEVER) -> list[list[int]]:
    """The most probable token at every step, for z (N, d), of those that are not `never` to be emitted.

    Returns:
        For each z the ids before `</s>`; it and all others are at most `max_length` tokens.
    """
    return _follow(decoder, z, max_length, never, lambda logits: logits.argmax(-1))


def sample(
    decoder: Any, z: Tensor, max_length: int, temperature: float = 1.0, never: Sequence[int] = NEVER
) -> list[list[int]]:
    """A random token at every step, from softmax(logits / temperature); the rest is as in `greedy`."""
    if temperature <= 0:
        raise InputError(f"cannot sample at temperature {temperature}: give one above 0, or decode greedily.")

    def draw(logits: Tensor) -> Tensor:
        return (logits / temperature).softmax(-1).multinomial(1).squeeze(1)

    return _follow(decoder, z, max_length, never, draw)


def beam(decoder: Any, z: Tensor, max_length: int, width: int = 5, never: Sequence[int] = NEVER) -> list[list[int]]:
    """The most probable sequence that beam search finds; the rest is as in `greedy`."""
    return [_before_end(found.tokens) for found in search(decoder, z, max_length, width, never)]


class Found(NamedTuple):
    """A sequence that beam search found."""

    tokens: list[int]
    """With `</s>`, where it ended."""
    score: float
    """Its log-probability in nats, not normalised by its length."""


def search(decoder: Any, z: Tensor, max_length: int, width: int = 5, never: Sequence[int] = NEVER) -> list[Found]:
    """Beam search for each z (N, d), over all of them at once: the best sequence of each."""
    return [found[0] for found in _searched(decoder, z, max_length, width, never, 1)]


def ranked(decoder: Any, z: Tensor, max_length: int, width: int = 5, never: Sequence[int] = NEVER) -> list[list[Found]]:
    """The sequences that beam search finds for each z (N, d), `width` of them, the most probable first."""
    return _searched(decoder, z, max_length, width, never, width)


@torch.no_grad()
def _searched(
    decoder: Any, z: Tensor, max_length: int, width: int, never: Sequence[int], wanted: int
) -> list[list[Found]]:
    """The best sequences for each z, as many as wanted."""
    if width < 1:
        raise InputError(f"a beam of width {width} holds nothing: give a width of at least 1.")
    steps, n = stepwise(decoder), len(z)
    state = steps.begin(z.repeat_interleave(width, 0))
    tokens = torch.full((n * width,), START, device=z.device)
    rows = tokens.new_empty(n, width, 0)
    # All beams start alike: only the first may grow, or each would hold the same sequence.
    scores = torch.full((n, width), -torch.inf, device=z.device)
    scores[:, 0] = 0
    first = width * torch.arange(n, device=z.device).unsqueeze(1)
    for _ in range(max_length):
        logits, state = steps.next(tokens, state)
        scores, parent, chosen = _extend(_allowed(logits.log_softmax(-1), never), tokens, scores)
        rows = torch.cat([rows.take_along_dim(parent.unsqueeze(2), 1), chosen.unsqueeze(2)], 2)
        state = type(state)(*(part[(first + parent).flatten()] for part in state))
        tokens = chosen.flatten()
        # Scores only fall, so nothing overtakes finished sequences that lead.
        if _ended(chosen[:, :wanted]).all():
            break
    return [
        [Found([token for token in row if token != PAD], score) for row, score in zip(*beams, strict=True)]
        for beams in zip(rows[:, :wanted].tolist(), scores[:, :wanted].tolist(), strict=True)
    ]


def _extend(steps: Tensor, tokens: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of beams with scores (N, W): their scores, their beams and their new tokens."""
    ended = _ended(tokens)
    # A finished sequence stays in the beam, followed by padding that costs nothing.
    steps = steps.masked_fill(ended.unsqueeze(1), -torch.inf)
    steps[:, PAD] = steps[:, PAD].masked_fill(ended, 0)
    total = (scores.unsqueeze(2) + steps.unflatten(0, scores.shape)).flatten(1)
    scores, best = total.topk(scores.shape[1])
    return scores, best // steps.shape[1], best % steps.shape[1]


@torch.no_grad()
def _follow(
    decoder: Any, z: Tensor, max_length: int, never: Sequence[int], choose: Callable[[Tensor], Tensor]
) -> list[list[int]]:
    steps = Ahead(decoder, max_length) if isinstance(decoder, Parallel) else stepwise(decoder)
    state: Any = steps.begin(z)
    tokens = torch.full((len(z),), START, device=z.device)
    rows, ended = tokens.new_empty(len(z), 0), tokens == END
    for _ in range(max_length):
        logits, state = steps.next(tokens, state)
        tokens = choose(_allowed(logits, never))
        rows = torch.cat([rows, tokens.unsqueeze(1)], 1)
        ended = ended | (tokens == END)
        if ended.all():
            break
    return [_before_end(row) for row in rows.tolist()]


def stepwise(decoder: Any) -> Stepwise:
    """The decoder itself where it can be asked one token at a time; else a `Replay` of it."""
    return decoder if isinstance(decoder, Stepwise) else Replay(decoder)


def _allowed(logits: Tensor, never: Sequence[int]) -> Tensor:
    """The logits with no chance for what is never emitted."""
    return logits.index_fill(-1, torch.tensor(never, device=logits.device), -torch.inf)


def _ended(tokens: Tensor) -> Tensor:
    return (tokens == END) | (tokens == PAD)


def _before_end(row: list[int]) -> list[int]:
    return row[: row.index(END)] if END in row else row
