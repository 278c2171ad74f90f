"""The trainer: a descent, its validation and the loop around them, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from uncollapse.bound import Source
from uncollapse.dials import Schedule
from uncollapse.errors import InputError
from uncollapse.inference import Inference, amortised
from uncollapse.metrics.evaluation import Evaluation
from uncollapse.objective import Objective
from uncollapse.processes import ALONE, Processes
from uncollapse.training.checkpoints import Checkpoints
from uncollapse.training.descent import Descent
from uncollapse.training.devices import Precision
from uncollapse.training.events import Happening
from uncollapse.training.listeners import Listener
from uncollapse.training.loop import CHECKPOINT_SECONDS, Loop
from uncollapse.training.optimisers import Optimiser
from uncollapse.training.plateau import Plateau
from uncollapse.training.players import Player
from uncollapse.training.procedures import Adversarial, Joint, Procedure
from uncollapse.training.validation import Selects, Validation


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
        selects: By what the weights of an epoch are the best: "bound", "distortion" alone, or "last" as they are the
            last, which a plateau that reloads the best ones has no use for.

    Raises:
        InputError: for an optimiser of nobody, players that are no networks, a model without parameters, a parameter
            of no player or of two, a state that is no tensor, a dial that leads to no number, a device that is not
            there, and a precision that it lacks.
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
        events: Sequence[Happening] = (),
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
        selects: Selects = "bound",
    ) -> None:
        self.descent = Descent(
            model,
            train,
            objective=objective,
            inference=inference,
            optimisers=optimisers,
            clip=clip,
            device=device,
            precision=precision,
            processes=processes,
            sharded=sharded,
        )
        if selects == "last" and plateau and plateau.reload:
            raise InputError(
                "the last weights are to be the best, and the plateau reloads the best: set its `reload` to false."
            )
        self.validation = Validation(
            self.descent.model, valid, inference, seed, self.descent.device, processes, selects
        )
        procedure = procedure or Joint()
        for term in self.descent.critics:
            procedure = Adversarial(procedure, term)
        self.loop = Loop(
            self.descent,
            self.validation,
            procedure,
            dials=dials,
            events=events,
            max_epochs=max_epochs,
            plateau=plateau,
            seed=seed,
            checkpoints=checkpoints,
            checkpoint_seconds=checkpoint_seconds,
            listeners=listeners,
            window=window,
        )

    @property
    def model(self) -> nn.Module:
        return self.descent.model

    @property
    def objective(self) -> Objective:
        return self.descent.objective

    @property
    def players(self) -> dict[str, Player]:
        return self.descent.players

    @property
    def step(self) -> int:
        """Outer steps done."""
        return self.descent.standing.step

    @property
    def best(self) -> float:
        """The lowest negative bound of the validation split so far."""
        return self.descent.standing.best

    @property
    def finished(self) -> bool:
        return self.loop.finished

    def validate(self) -> Evaluation:
        """What an epoch's validation measures, of the weights of now, or of their means where these are averaged."""
        with self.loop.averaged():
            return self.validation.validate(self.loop.procedure.decides_by)

    def fit(self) -> None:
        """Trains to the end, from the last checkpoint where there is one, and leaves the best weights in the model.

        SIGINT (Ctrl-C) and SIGTERM take effect after a checkpoint at the end of the step; a second one at once.
        """
        self.loop.fit()
