"""A descent: the players of a model and of its objective's terms, and a step of some of them on a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from uncollapse.bound import Batch, Bound, Source, checked_batch, items, size, symbols, thinned
from uncollapse.errors import InputError, unknown
from uncollapse.inference import Inference, amortised, inferred
from uncollapse.metrics.subject import placed
from uncollapse.model import ask_latents
from uncollapse.noise import WholeBatchNoise
from uncollapse.objective import Loss, Objective
from uncollapse.processes import ALONE, Processes, Share
from uncollapse.training import sharding
from uncollapse.training.devices import Precision, check_device, check_precision
from uncollapse.training.gathering import whole_bound
from uncollapse.training.optimisers import Optimiser
from uncollapse.training.play import Critic
from uncollapse.training.players import Player, parameters, shorten
from uncollapse.training.standing import Standing
from uncollapse.training.trainable import networks, table
from uncollapse.training.window import DESCENTS, SYMBOLS, Window


class Descent:
    """What a procedure moves, see `Play`, and what an event may change, see `Stage`.

    The arguments are those of `Trainer`.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Source,
        *,
        objective: Objective | None = None,
        inference: Inference = amortised,
        optimisers: Mapping[str, Optimiser] | None = None,
        clip: float | None = 5.0,
        device: torch.device | str = "cpu",
        precision: Precision = "32",
        processes: Processes = ALONE,
        sharded: bool = False,
    ) -> None:
        self.device, self.precision = check_device(device), precision
        check_precision(precision, self.device)
        self.train, self.inference, self.clip = train, inference, clip
        self.processes, self.sharded = processes, sharded
        self.model = self._placed(model.train())
        self.objective = (objective or Objective()).to(self.device)
        processes.align(self.objective.state_dict().values())
        self.players = table(self.model, self.objective, optimisers or {})
        terms = self.objective.terms.items()
        self.critics = {name: self._critic(name, term) for name, term in terms if "opposition" in dir(term)}
        self._updated: list[Any] = [term for _, term in terms if "update" in dir(term)]
        self._last: tuple[Bound, Share] | None = None
        self.standing, self.window = Standing(), Window()

    def _placed(self, model: nn.Module) -> nn.Module:
        """The model on its device, with the first process's values in all, in pieces where that was asked for."""
        players, model = networks(model), model.to(self.device)
        self.processes.align(model.state_dict().values())
        if self.sharded:
            sharding.shard(players, self.device, self.processes.size)
        return model

    def _critic(self, name: str, term: Any) -> Critic:
        return Critic(tuple(k for k, player in self.players.items() if player.term == name), term.steps)

    @property
    def step(self) -> int:
        return self.standing.step

    @property
    def partners(self) -> tuple[str, ...]:
        critics = [name for critic in self.critics.values() for name in critic.players]
        return tuple(name for name in self.players if name not in critics)

    @property
    def terms(self) -> tuple[str, ...]:
        return tuple(self.objective.terms)

    @property
    def optimisers(self) -> dict[str, Player]:
        """The players, as dials know them."""
        return self.players

    # What is descended.

    def loss(self, x: Batch, share: float = 1.0, only: Sequence[str] | None = None) -> Loss:
        """The objective on a batch, under the players now awake.

        Of several processes each computes its share of the items; the values are those of the whole batch in all.

        Arguments:
            x: The batch.
            share: Which share of its symbols is scored, drawn at random; see `thinned`.
            only: The terms that are meant; None for all of them. The decoder has no pass where they read no likelihood.

        Raises:
            InputError: for a term that there is not, and where none is meant.
        """
        if only is not None:
            self._check_terms(only)
        if only is not None and self._of_latents(only):
            return self._of_all(x, lambda few: self.objective(ask_latents(self.model, few), only))
        counted = symbols(x)
        if counted is not None:
            self.window.count(SYMBOLS, counted.sum())
        mine = self.processes.share(size(x))

        def scored(few: Batch) -> Loss:
            bound, lesson = self._inferred(few, share)
            if self._updated:
                self._last = bound, mine
            loss = self.objective(bound, only)
            return loss if lesson is None else loss._replace(total=loss.total + (lesson - lesson.detach()) / size(few))

        return self._of_all(x, scored)

    def opposition(self, term: str, x: Batch) -> Loss:
        """What the critic of a term descends on a batch; nothing is computed for the model's gradient."""
        critic: Any = self.objective.terms[term]
        alone = self._of_latents([term])

        def scored(few: Batch) -> Loss:
            with torch.no_grad():
                bound = ask_latents(self.model, few) if alone else self.bound(few)
            value = critic.opposition(bound)
            return Loss(value, {f"{term} critic": value})

        return self._of_all(x, scored)

    def _check_terms(self, names: Sequence[str]) -> None:
        if not names:
            raise InputError("there is no term to descend in a turn or a phase: name one for it, or leave it out.")
        for name in names:
            if name not in self.objective.terms:
                raise unknown("term", name, self.objective.terms)

    def _of_latents(self, terms: Sequence[str]) -> bool:
        """Whether these read z and labels alone; an inference that refines q needs the decoder all the same."""
        alone = all(getattr(self.objective.terms[name], "of_latents", False) for name in terms)
        return alone and self.inference is amortised

    def bound(self, x: Batch, share: float = 1.0) -> Bound:
        r"""The bound on a batch, or an estimate of it by a random share of the symbols to predict.

        .. math:: \log p(x | z) = \sum_t \log p(x_t | x_{<t}, z) \approx
                  \frac{T}{|K|} \sum_{t \in K} \log p(x_t | x_{<t}, z)

        The estimate is unbiased, and costs the logits of K alone.
        """
        return self._inferred(x, share)[0]

    def _inferred(self, x: Batch, share: float) -> tuple[Bound, Tensor | None]:
        few, weight = (x, 1.0) if share == 1 else thinned(x, share)

        def of_all(bound: Bound) -> Bound:
            return bound if share == 1 else bound._replace(x=x, log_likelihood=bound.log_likelihood * weight)

        def aim(bound: Bound) -> Tensor:
            return self.objective(of_all(bound)).total * size(x)

        model: Any = self.model
        bound, lesson = inferred(self.inference, model, few, aim)
        return of_all(bound), lesson

    def _of_all(self, x: Batch, scored: Callable[[Batch], Loss]) -> Loss:
        """A loss on a batch, from each process's items."""
        if self.processes.size == 1:
            with self._precisely():
                return scored(x)
        share = self.processes.share(size(x))
        with self.computing(share):
            part = scored(items(x, share.items))
        total, *values = self.processes.total(torch.stack([part.total, *part.parts.values()]) * share.weight)
        return Loss(total, dict(zip(part.parts, values, strict=True)))

    @contextmanager
    def computing(self, share: Share) -> Iterator[None]:
        """The precision asked for, and the noise that the whole batch's items would have in one process."""
        noise = WholeBatchNoise(share.items, share.total) if self.processes.size > 1 else nullcontext()
        with self._precisely(), noise:
            yield

    def _precisely(self) -> AbstractContextManager[Any]:
        mixed = self.precision == "bf16-mixed"
        return torch.autocast(self.device.type, torch.bfloat16) if mixed else nullcontext()

    def draw(self) -> Batch:
        """A training batch, uniformly at random with replacement."""
        return self.batch(self.processes.agreed(int(torch.randint(len(self.train), ()))))

    def batch(self, index: int) -> Batch:
        return placed(self.model, checked_batch(self.train[index]))

    # Who descends it.

    @contextmanager
    def awake(self, *players: str) -> Iterator[None]:
        """Freezes the other players before the forward pass, so that nothing is computed for them."""
        # What is in pieces cannot be frozen: its gradient is computed and left out.
        others = [p for name, p in self.players.items() if not (name in players or p.frozen or p.in_pieces)]
        for player in others:
            player.freeze(True)
        try:
            yield
        finally:
            for player in others:
                player.freeze(False)

    def descend(
        self,
        loss: Loss,
        *players: str,
        norm_over: Sequence[str] | None = None,
        stretch: Tensor | float = 1.0,
        clip: float | None = None,
    ) -> dict[str, Tensor]:
        """One step of some players down a loss; gives the norm of each one's gradient, nothing where none is clipped.

        The norm is of the model's players alone: what terms bring is clipped by itself, if at all.

        Arguments:
            loss: What to descend; who ascends climbs it.
            players: Who steps.
            norm_over: Over whose gradients the norm that is clipped is taken; those who step by default.
            stretch: What that norm is multiplied by, to stand for one of more gradients than were computed.
            clip: The largest norm; the descent's own by default.

        Raises:
            InputError: where the loss does not depend on anybody who is awake.
        """
        if not loss.total.requires_grad:
            raise InputError(
                f"the loss does not depend on {' and '.join(f'`{name}`' for name in players)}, who cannot descend it "
                "alone: leave out what makes it so, such as `svi` without the encoder, or train jointly."
            )
        loss.total.backward()
        measured, clip = self._models(norm_over or players), self.clip if clip is None else clip
        self._sum_gradients([*players, *measured])
        norms: dict[str, Tensor] = {}
        total = None
        if clip is not None and measured:
            norms = {name: self._norm(self.players[name]) for name in measured}
            total = torch.linalg.vector_norm(torch.stack([*norms.values()]))
            total = total if isinstance(stretch, float) and stretch == 1 else total * stretch
            shorten((self.players[name] for name in self._models(players)), clip, total)
        for name in players:
            self.players[name].step()
        for player in self.players.values():
            player.forget_gradients()
        self.window.count(DESCENTS, 1)
        self.window.note(self.step + 1, players, loss, total)
        return norms

    def _models(self, players: Sequence[str]) -> list[str]:
        return [name for name in players if self.players[name].term is None]

    def _sum_gradients(self, players: Sequence[str]) -> None:
        """Over the processes, where the backward pass has not."""
        asked = [self.players[name] for name in dict.fromkeys(players) if not self.players[name].in_pieces]
        if asked and self.processes.size > 1:
            self.processes.sum_gradients(parameters(asked))

    def _norm(self, player: Player) -> Tensor:
        return sharding.whole(player.norm()).to(self.device)

    # What moves beside the players.

    def update_terms(self) -> None:
        """Lets the terms with memory hear the bound that was last descended, on the whole batch in every process."""
        if self._last is None:
            return
        bound, share = self._last
        self._last = None
        with torch.no_grad():
            whole = whole_bound(bound, share, self.processes)
            for term in self._updated:
                term.update(whole)

    def align_buffers(self) -> None:
        """Gives every process the first one's memory that is no parameter."""
        self.processes.align(self.model.buffers())
        self.processes.align(self.objective.buffers())
