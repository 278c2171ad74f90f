"""The trainer: players, the outer loop, validation by the true bound, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from uncollapse.bound import Batch, Source, checked_batch, items, move, size, symbols
from uncollapse.dials import Schedule, turn
from uncollapse.errors import unknown
from uncollapse.metrics.evaluation import Evaluation, evaluate
from uncollapse.noise import WholeBatchNoise
from uncollapse.objective import Loss, Objective
from uncollapse.processes import ALONE, Processes, Share
from uncollapse.randomness import generator, mix, reseed, seeded
from uncollapse.training import finite, sharding, state
from uncollapse.training.checkpoints import Checkpoints, Snapshot
from uncollapse.training.devices import Precision, check_device, check_precision
from uncollapse.training.events import Event
from uncollapse.training.inference import Inference, amortised
from uncollapse.training.interruption import held_back
from uncollapse.training.listeners import TOLD, Listener, Moment
from uncollapse.training.plateau import Plateau
from uncollapse.training.players import Optimiser, Player
from uncollapse.training.procedures import Joint, Procedure
from uncollapse.training.trainable import check_owners, networks
from uncollapse.training.window import DESCENTS, SYMBOLS, Window

CHECKPOINT_SECONDS = 120.0
#: What the first process asks of all after a step, beside a checkpoint (1) and nothing (0).
LEAVE = 2


class Trainer:
    """Trains a model on a source of batches.

    Every random choice of step t (noise, dropout, the inner loop's batches) is a function of (seed, t), and the
    order of the batches of (seed, epoch), so that a run that is stopped and goes on is the run that was not.

    Arguments:
        model: An `nn.Module` that is a `Model`: it returns a `Bound` and names its players.
        train, valid: Sources of batches.
        objective: What is descended; the negative ELBO by default.
        procedure: Who descends when.
        inference: How q is found.
        optimisers: One for each player; Adam at 1e-3 for those not named.
        dials: Schedules by the path of the number they move, such as "objective.weights.rate".
        events: What is done once, and when.
        clip: The largest gradient norm, in total over the players of a step; None for no clipping.
        max_epochs: Passes over `train` at most.
        plateau: The learning-rate decay; None for none.
        seed: Of every random source in training.
        checkpoints: Where the run is kept; in memory by default. A run that goes on does so with the learning rates,
            the objective's weights and the `clip` of its checkpoint, as an event may have changed them.
        checkpoint_seconds: The longest time between two checkpoints within an epoch.
        listeners: Callables that hear of every `Moment`.
        window: Steps between two reads of the loss.
        device: Where it runs.
        precision: "32", or "bf16-mixed": the networks compute in bfloat16, the laws and the optimisers in float32.
        processes: Those that train together, each of which makes this trainer.
        sharded: Whether each of them keeps only a part of the parameters (FSDP2).

    Raises:
        InputError: for an optimiser of nobody, players that are no networks, a model without parameters, a parameter
            of no player or of two, a state that is no tensor, a device that is not there, and a precision that it
            lacks.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Source,
        valid: Source,
        *,
        objective: Objective | None = None,
        procedure: Procedure | None = None,
        inference: Inference = amortised,
        optimisers: Mapping[str, Optimiser] | None = None,
        dials: Mapping[str, Schedule] | None = None,
        events: Sequence[Event] = (),
        clip: float | None = 5.0,
        max_epochs: int = 100,
        plateau: Plateau | None = None,
        seed: int = 0,
        checkpoints: Checkpoints | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        listeners: Sequence[Listener] = (),
        window: int = 20,
        device: torch.device | str = "cpu",
        precision: Precision = "32",
        processes: Processes = ALONE,
        sharded: bool = False,
    ) -> None:
        self.device, self.processes, self.sharded = check_device(device), processes, sharded and processes.size > 1
        check_precision(precision, self.device)
        self.precision = precision
        self.model, self.train, self.valid = self._placed(model), train, valid
        self.objective = (objective or Objective()).to(self.device)
        self.procedure, self.inference = procedure or Joint(), inference
        self.players = _players(model, optimisers or {})
        self.dials, self.events, self.clip = dict(dials or {}), tuple(events), clip
        self.max_epochs, self.plateau, self.seed = max_epochs, plateau, seed
        self.checkpoints, self.checkpoint_seconds = checkpoints or Checkpoints(None), checkpoint_seconds
        self.listeners, self.every = listeners, window
        self.step, self.epoch, self.best, self.stopped, self.told = 0, 0, float("inf"), False, 0
        self.seconds, self.cpu_seconds = 0.0, 0.0
        self.window = Window()
        self.interrupted: Callable[[], bool] = lambda: False

    def _placed(self, model: nn.Module) -> nn.Module:
        """The model on its device, with the first process's values in all, in pieces where that was asked for."""
        players, model = networks(model), model.to(self.device)
        self.processes.align(model.state_dict().values())
        if self.sharded:
            sharding.shard(players, self.device, self.processes.size)
        return model

    # What a procedure is made of.

    def loss(self, x: Batch, inference: Inference | None = None) -> Loss:
        """The objective on a batch, under the players now awake, by another inference than usual where one is given.

        Of several processes each computes its share of the items; the values are those of the whole batch in all.
        """
        counted = symbols(x)
        if counted is not None:
            self.window.count(SYMBOLS, counted.sum())
        share = self.processes.share(size(x))
        model: Any = self.model
        with self.computing(share):
            part = self.objective((inference or self.inference)(model, self.objective, items(x, share.items)))
        if self.processes.size == 1:
            return part
        total, *values = self.processes.total(torch.stack([part.total, *part.parts.values()]) * share.weight)
        return Loss(total, dict(zip(part.parts, values, strict=True)))

    def draw(self) -> Batch:
        """A training batch, uniformly at random with replacement."""
        return self.batch(self.processes.agreed(int(torch.randint(len(self.train), ()))))

    def batch(self, index: int) -> Batch:
        return move(checked_batch(self.train[index]), self.device)

    @contextmanager
    def awake(self, *players: str) -> Iterator[None]:
        """Freezes the other players before the forward pass, so that nothing is computed for them."""
        # What is in pieces cannot be frozen: its gradient is computed and left out.
        others = [player for name, player in self.players.items() if name not in players and not self.sharded]
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

        Arguments:
            loss: What to descend.
            players: Who steps.
            norm_over: Over whose gradients the norm that is clipped is taken; those who step by default.
            stretch: What that norm is multiplied by, to stand for one of more gradients than were computed.
            clip: The largest norm; the trainer's by default.
        """
        loss.total.backward()
        norm_over, clip = norm_over or players, self.clip if clip is None else clip
        norms: dict[str, Tensor] = {}
        total = None
        if not self.sharded:  # Else the backward pass has summed them.
            self.processes.sum_gradients(self._parameters(tuple(dict.fromkeys((*players, *norm_over)))))
        if clip is not None:
            norms = self._norms(norm_over)
            total = torch.stack([*norms.values()]).norm() * stretch
            clip_grads_with_norm_(self._parameters(players), clip, total)
        for name in players:
            self.players[name].step()
        for player in self.players.values():
            player.forget_gradients()
        self.window.count(DESCENTS, 1)
        self.window.note(self.step + 1, players, loss, total)
        return norms

    @contextmanager
    def computing(self, share: Share) -> Iterator[None]:
        """The precision asked for, and the noise that the whole batch's items would have in one process."""
        with ExitStack() as around:
            if self.precision == "bf16-mixed":
                around.enter_context(torch.autocast(self.device.type, torch.bfloat16))
            if self.processes.size > 1:
                around.enter_context(WholeBatchNoise(share.items, share.total))
            yield

    def _parameters(self, players: Sequence[str]) -> list[Tensor]:
        return [parameter for name in players for parameter in self.players[name].parameters]

    def _norms(self, players: Sequence[str]) -> dict[str, Tensor]:
        gradients = {name: [p.grad for p in self.players[name].parameters if p.grad is not None] for name in players}
        # Torch's norm of no gradient is on no device.
        return {name: sharding.whole(get_total_norm(g)).to(self.device) for name, g in gradients.items()}

    # The loop.

    @property
    def finished(self) -> bool:
        return self.stopped or self.epoch >= self.max_epochs

    def fit(self) -> None:
        """Trains to the end, from the last checkpoint where there is one, and leaves the best weights in the model.

        SIGINT (Ctrl-C) and SIGTERM take effect after a checkpoint at the end of the step; a second one at once.
        """
        self._resume()
        self._tell("start", {"epochs": self.max_epochs, "steps_per_epoch": len(self.train), "told": self.told})
        with held_back(self._where) as self.interrupted, seeded(self.seed, "fit", device=self.device):
            while not (self.finished or self.processes.agreed(self.interrupted())):
                self._run_epoch()
        if not self.finished:  # It was the first process that was interrupted.
            raise KeyboardInterrupt(self._where())
        self._load_best()
        self._tell("end", {"seconds": self.seconds})

    def _run_epoch(self) -> None:
        self._began, self._saved = _clocks(), time.perf_counter()
        order = torch.randperm(len(self.train), generator=generator(self.seed, "order", self.epoch)).tolist()
        for index in order[self.step - self.epoch * len(order) :]:
            with finite.watched(self, "training"):
                loss = self._outer_step(index)
            self.window.close_step(self.step, loss)
            if self.step % self.every == 0:
                self._read_window()
            due = time.perf_counter() - self._saved > self.checkpoint_seconds
            asked = self.processes.agreed(LEAVE if self.interrupted() else int(due))
            if asked:
                self._save_last()
            if asked == LEAVE:
                return
        self._read_window()
        self._end_epoch()

    def _happen(self, when: str, at: int) -> None:
        for number, event in enumerate(self.events):
            if (event.when, event.at) == (when, at):
                reseed(self.seed, "event", when, at, number, device=self.device)
                event.do(self)

    def _outer_step(self, index: int) -> Loss:
        self._happen("step", self.step)
        reseed(self.seed, "step", self.step, device=self.device)
        self._turn_dials(self.step)
        self.model.train()
        loss = self.procedure(self, self.batch(index))
        self.processes.align(self.model.buffers())
        self.step += 1
        self._tell("step", {})
        return loss

    def _turn_dials(self, step: int) -> None:
        for path, schedule in self.dials.items():
            turn(self, path, schedule(step))

    def _read_window(self) -> None:
        finite.check(self)
        values = self.window.means()
        if values:
            self.window = Window()
            dialled = {path: schedule(self.step - 1) for path, schedule in self.dials.items()}
            self._tell("window", {**values, **dialled})

    def _end_epoch(self) -> None:
        self._happen("epoch", self.epoch + 1)
        with finite.watched(self, "validation"):
            validation = self.validate()
        value = finite.figure(self, validation, "neg_elbo")
        self.procedure.observe(self.epoch, self.step, validation)
        if value < self.best:
            self.best = value
            best = Snapshot(state.weights(self.model), {"step": self.step})
            self.processes.first(lambda: self.checkpoints.save_best(self.step, best))
        verdict = self.plateau.observe(self.epoch, value) if self.plateau else "go"
        self.epoch += 1
        self.stopped = verdict == "stop"
        names = ("neg_elbo", "distortion", "kl", "mi", "mi_published", "active_units")
        report: dict[str, Any] = {name: getattr(validation, name).to_json() for name in names}
        self._look_at_clocks()
        report |= {**self.procedure.memory(), "learning_rate_scale": self.scale}
        report |= {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        # Told of the weights that were validated, and before they are saved: what a kill in between leaves in a log
        # is cut when the run goes on.
        self._tell("epoch", report)
        if verdict == "decay":
            self._decay()
        self._happen("validation", self.epoch)
        self._save_last()

    @property
    def scale(self) -> float:
        """What the learning rates are multiplied by at present."""
        return self.plateau.scale if self.plateau else 1.0

    def validate(self) -> Evaluation:
        """The true bound (rate weight 1) on the validation split, in evaluation mode, with the same noise each time."""
        # Seeded, as a data set may draw at random: what was drawn before depends on where a run was stopped.
        with seeded(self.seed, "validate", device=self.device), sharding.gathered(self.model):
            return evaluate(
                self.model,
                self.valid,
                samples=0,
                bound_samples=1,
                seed=mix(self.seed, "validate"),
                processes=self.processes,
            )

    def _decay(self) -> None:
        assert self.plateau is not None
        if self.plateau.reload:
            self._load_best()
        for player in self.players.values():
            player.renew(self.scale)

    def _load_best(self) -> None:
        best = self.processes.first(self.checkpoints.best)
        if best is not None:
            state.load(self.model, best.tensors)

    def _tell(self, kind: Any, values: dict[str, Any]) -> None:
        self.told += kind in TOLD
        moment = Moment(kind, self.step, self.epoch, values)
        for listener in self.listeners:
            listener(moment)

    # Checkpoints.

    def _look_at_clocks(self) -> None:
        now, (wall, cpu) = _clocks(), self._began
        self.seconds, self.cpu_seconds = self.seconds + now[0] - wall, self.cpu_seconds + now[1] - cpu
        self._began = now

    def _save_last(self) -> None:
        finite.check(self)  # No bad state replaces a good one.
        self._look_at_clocks()
        self._saved = time.perf_counter()
        snapshot = state.taken(self)
        self.processes.first(lambda: self.checkpoints.save_last(self.step, snapshot))

    def _resume(self) -> None:
        last = self.processes.first(self.checkpoints.last)
        if last is not None:
            state.restore(self, last)
            self._turn_dials(max(0, self.step - 1))

    def _where(self) -> str:
        again = "the same command goes on from there" if self.checkpoints.folder else "it was kept in memory alone"
        return f"stopped at step {self.step}; {again}."


def _clocks() -> tuple[float, float]:
    """Seconds on the wall and seconds of this process's processors: on a shared machine the second is the steadier."""
    return time.perf_counter(), time.process_time()


def _players(model: nn.Module, optimisers: Mapping[str, Optimiser]) -> dict[str, Player]:
    modules = networks(model)
    for name in optimisers:
        if name not in modules:
            raise unknown("player", name, modules)
    players = {name: Player(module, optimisers.get(name, Optimiser())) for name, module in modules.items()}
    check_owners(model, players)
    return players
