"""The loop: epochs in their order, dials and events at their steps, checkpoints when due, and how a run goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import randperm

from uncollapse.dials import Schedule, turn
from uncollapse.objective import Loss
from uncollapse.randomness import generator, reseed, seeded
from uncollapse.training import state
from uncollapse.training.averaging import Average, shown
from uncollapse.training.checkpoints import Checkpoints, Snapshot
from uncollapse.training.descent import Descent
from uncollapse.training.events import Happening
from uncollapse.training.finite import Watch
from uncollapse.training.interruption import held_back
from uncollapse.training.listeners import TOLD, Listener, Moment
from uncollapse.training.plateau import Plateau
from uncollapse.training.procedures import Procedure
from uncollapse.training.validation import Validation
from uncollapse.training.window import Window

CHECKPOINT_SECONDS = 120.0
#: What the first process asks of all after a step, beside a checkpoint (1) and nothing (0).
LEAVE = 2


class Loop:
    """Runs a procedure over all epochs; every random choice is a function of the seed and the step.

    Arguments:
        descent: What the procedure moves.
        validation: What is measured after an epoch.
        procedure: Who descends when.
        rest: As for `Trainer`.
    """

    def __init__(
        self,
        descent: Descent,
        validation: Validation,
        procedure: Procedure,
        *,
        dials: Mapping[str, Schedule] | None = None,
        events: Sequence[Happening] = (),
        max_epochs: int = 100,
        plateau: Plateau | None = None,
        seed: int = 0,
        checkpoints: Checkpoints | None = None,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        listeners: Sequence[Listener] = (),
        window: int = 20,
    ) -> None:
        self.descent, self.validation, self.procedure = descent, validation, procedure
        self.standing, self.processes = descent.standing, descent.processes
        self.dials, self.events = dict(dials or {}), tuple(events)
        self.max_epochs, self.plateau, self.seed = max_epochs, plateau, seed
        self.checkpoints, self.checkpoint_seconds = checkpoints or Checkpoints(None), checkpoint_seconds
        self.listeners, self.every = listeners, window
        self.watch = Watch(descent, validation, self.checkpoints)
        self.interrupted: Callable[[], bool] = lambda: False
        self.turn_dials(0)  # A wrong path stops a run before it starts.
        for event in self.events:
            if "check" in dir(event):
                event.check(descent)  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def finished(self) -> bool:
        return self.standing.stopped or self.standing.epoch >= self.max_epochs

    @property
    def scale(self) -> float:
        """What the learning rates are multiplied by at present."""
        return self.plateau.scale if self.plateau else 1.0

    def fit(self) -> None:
        """Trains to the end, from the last checkpoint where there is one, and leaves the best weights in the model."""
        self._resume()
        steps = len(self.descent.train)
        self._tell("start", {"epochs": self.max_epochs, "steps_per_epoch": steps, "told": self.standing.told})
        device = self.descent.device
        with held_back(self._where) as self.interrupted, seeded(self.seed, "fit", device=device):
            while not (self.finished or self.processes.agreed(self.interrupted())):
                self._run_epoch()
        if not self.finished:  # It was the first process that was interrupted.
            raise KeyboardInterrupt(self._where())
        self._load_best()
        self._tell("end", {"seconds": self.standing.seconds})

    def _run_epoch(self) -> None:
        self._began, self._saved = _clocks(), time.perf_counter()
        self.descent.model.train()
        standing, steps = self.standing, len(self.descent.train)
        order = randperm(steps, generator=generator(self.seed, "order", standing.epoch)).tolist()
        for index in order[standing.step - standing.epoch * steps :]:
            with self.watch.over("training"):
                loss = self._outer_step(index)
            self.descent.window.close_step(standing.step, loss)
            if standing.step % self.every == 0:
                self._read_window()
            due = time.perf_counter() - self._saved > self.checkpoint_seconds
            asked = self.processes.agreed(LEAVE if self.interrupted() else int(due))
            if asked:
                self._save_last()
            if asked == LEAVE:
                return
        self._read_window()
        self._end_epoch()

    def _outer_step(self, index: int) -> Loss:
        step = self.standing.step
        self._happen("step", step)
        reseed(self.seed, "step", step, device=self.descent.device)
        self.turn_dials(step)
        if not self.descent.model.training:  # It takes long to say so to every module.
            self.descent.model.train()
        loss = self.procedure(self.descent, self.descent.batch(index))
        self.descent.update_terms()
        self.descent.align_buffers()
        self.standing.step += 1
        self._tell("step", {})
        return loss

    def _happen(self, when: str, at: int) -> None:
        for number, event in enumerate(self.events):
            if (event.when, event.at) == (when, at):
                reseed(self.seed, "event", when, at, number, device=self.descent.device)
                event.do(self.descent)

    def turn_dials(self, step: int) -> None:
        """Sets every dialled number to its value at a step.

        Raises:
            InputError: for a path that leads to no number.
        """
        for path, schedule in self.dials.items():
            turn(self.descent, path, schedule(step))

    def _read_window(self) -> None:
        self.watch.check()
        values = self.descent.window.means()
        if values:
            self.descent.window = Window()
            dialled = {path: schedule(self.standing.step - 1) for path, schedule in self.dials.items()}
            self._tell("window", {**values, **dialled})

    def _end_epoch(self) -> None:
        standing = self.standing
        self._happen("epoch", standing.epoch + 1)
        if standing.best == math.inf:  # Nothing counts that an event has ended.
            for average in self._averages():
                average.forget()
        with self.averaged():
            verdict = self._validate()
        if verdict == "decay":
            self._decay()
        self._happen("validation", standing.epoch)
        self._save_last()

    def averaged(self) -> AbstractContextManager[None]:
        """Within it the weights are those that count: the means of those that are averaged by now."""
        return shown(self._averages())

    def _averages(self) -> list[Average]:
        return [player.average for player in self.descent.players.values()]

    def _validate(self) -> str:
        """Measures the weights of now, keeps the best, and tells of them; gives what the plateau asks for."""
        standing = self.standing
        with self.watch.over("validation"):
            validation = self.validation.validate(self.procedure.decides_by)
        value = self.watch.figure(validation, self.validation.decides(validation))
        self.procedure.observe(standing.epoch, standing.step, validation)
        if self.plateau and standing.best == math.inf:
            self.plateau.forget()  # Nothing counts that an event has ended.
        if value < standing.best or self.validation.selects == "last":
            standing.best = value
            best = Snapshot(state.weights(self.descent.model), {"step": standing.step})
            self.processes.first(lambda: self.checkpoints.save_best(standing.step, best))
        verdict = self.plateau.observe(standing.epoch, value) if self.plateau else "go"
        for average in self._averages():
            average.observe(value)
        standing.epoch += 1
        standing.stopped = verdict == "stop"
        self._look_at_clocks()
        # Told of the weights that were validated, and before they are saved: what a kill in between leaves in a log
        # is cut when the run goes on.
        self._tell("epoch", self._report(validation))
        return verdict

    def _report(self, validation: Any) -> dict[str, Any]:
        names = ("neg_elbo", "distortion", "kl", "mi", "mi_published", "active_units")
        report: dict[str, Any] = {name: getattr(validation, name).to_json() for name in names}
        report |= {**self.procedure.memory(), "learning_rate_scale": self.scale}
        if averaged := [name for name, player in self.descent.players.items() if player.average.count]:
            report["averaged"] = averaged
        return report | {"seconds": self.standing.seconds, "cpu_seconds": self.standing.cpu_seconds}

    def _decay(self) -> None:
        if self.plateau and self.plateau.reload:
            self._load_best()
        for player in self.descent.players.values():
            player.renew(self.scale)

    def _load_best(self) -> None:
        best = self.processes.first(self.checkpoints.best)
        if best is not None:
            state.load(self.descent.model, best.tensors)

    def _tell(self, kind: Any, values: dict[str, Any]) -> None:
        self.standing.told += kind in TOLD
        moment = Moment(kind, self.standing.step, self.standing.epoch, values)
        for listener in self.listeners:
            listener(moment)

    def _look_at_clocks(self) -> None:
        now, (wall, cpu) = _clocks(), self._began
        self.standing.seconds += now[0] - wall
        self.standing.cpu_seconds += now[1] - cpu
        self._began = now

    def _save_last(self) -> None:
        self.watch.check()  # No bad state replaces a good one.
        self._look_at_clocks()
        self._saved = time.perf_counter()
        snapshot = state.taken(self.descent, self.procedure, self.plateau)
        self.processes.first(lambda: self.checkpoints.save_last(self.standing.step, snapshot))

    def _resume(self) -> None:
        last = self.processes.first(self.checkpoints.last)
        if last is not None:
            state.restore(last, self.descent, self.procedure, self.plateau)
            self.turn_dials(max(0, self.standing.step - 1))

    def _where(self) -> str:
        again = "the same command goes on from there" if self.checkpoints.folder else "it was kept in memory alone"
        return f"stopped at step {self.standing.step}; {again}."


def _clocks() -> tuple[float, float]:
    """Seconds on the wall and seconds of this process's processors: on a shared machine the second is the steadier."""
    return time.perf_counter(), time.process_time()
