r"""Procedures: who descends when, within one outer step on one batch.

Aggressive training of the inference network (He et al. 2019) alternates

.. math:: \phi \leftarrow \arg\max_\phi \mathcal{L}(\theta, \phi), \qquad
          \theta \leftarrow \theta + \eta \nabla_\theta \mathcal{L}(\theta, \phi)

approximately: encoder steps on fresh batches until the bound stops improving, then one decoder step; and goes
back to joint training once the mutual information I_q(x; z) of the validation split stops climbing.

References:
    | Lagging Inference Networks and Posterior Collapse in Variational Autoencoders (He et al., 2019)
    | https://arxiv.org/abs/1901.05534
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from uncollapse.bound import Batch, size, symbols
from uncollapse.errors import InputError, TrainingError
from uncollapse.metrics.estimate import Estimate
from uncollapse.metrics.evaluation import Evaluation
from uncollapse.objective import Loss
from uncollapse.quantities import Count, Index, Positive, Share
from uncollapse.training.play import Play


class Procedure(Protocol):
    """One outer step, and what must be remembered between steps."""

    def __call__(self, play: Play, x: Batch) -> Loss:
        """Does one outer step on a batch and gives its loss."""
        ...

    def stepping(self, play: Play) -> Sequence[str]:
        """The names of those who step in the outer step at hand, critics among them."""
        ...

    @property
    def decides_by(self) -> str | None:
        """The figure of the next validation that `observe` decides by, such as "mi"; None where there is none."""
        ...

    def observe(self, epoch: int, step: int, validation: Evaluation) -> None:
        """Hears the validation after each epoch, counted from 0, with the outer steps done so far."""
        ...

    def memory(self) -> dict[str, Any]:
        """What a checkpoint must hold, as JSON."""
        ...

    def recall(self, memory: dict[str, Any]) -> None:
        """Takes back what `memory` gave."""
        ...


class Joint:
    """Everyone descends the same loss at every step: ordinary training."""

    def __call__(self, play: Play, x: Batch) -> Loss:
        loss = play.loss(x)
        play.descend(loss, *play.partners)
        return loss

    def stepping(self, play: Play) -> Sequence[str]:
        return [*play.players]

    @property
    def decides_by(self) -> None:
        return None

    def observe(self, epoch: int, step: int, validation: Evaluation) -> None:
        pass

    def memory(self) -> dict[str, Any]:
        return {}

    def recall(self, memory: dict[str, Any]) -> None:
        pass


@dataclass
class Adversarial:
    """The critic of a term learns by itself before each outer step of another procedure, and rests within it.

    Its first step is on the batch at hand, the others on random training batches. Where the procedure lets it rest, it
    takes none. The trainer surrounds its procedure by one of these for each term that has a critic.

    Arguments:
        procedure: What is surrounded.
        term: Whose critic it is.
    """

    procedure: Procedure
    term: str

    def __call__(self, play: Play, x: Batch) -> Loss:
        players, steps = play.critics[self.term]
        rests = set(players).isdisjoint(self.procedure.stepping(play))
        with play.awake(*players):
            for i in range(0 if rests else steps):
                play.descend(play.opposition(self.term, play.draw() if i else x), *players)
        with play.awake(*(name for name in play.players if name not in players)):
            return self.procedure(play, x)

    def stepping(self, play: Play) -> Sequence[str]:
        return self.procedure.stepping(play)

    @property
    def decides_by(self) -> str | None:
        return self.procedure.decides_by

    def observe(self, epoch: int, step: int, validation: Evaluation) -> None:
        self.procedure.observe(epoch, step, validation)

    def memory(self) -> dict[str, Any]:
        return self.procedure.memory()

    def recall(self, memory: dict[str, Any]) -> None:
        self.procedure.recall(memory)


@dataclass
class UntilInformationDrops:
    r"""When aggressive training ends: the validation split's mutual information no longer climbs.

    With `estimator="published"` it ends at the first epoch whose MI, estimated within evaluation batches, is below
    that of the epoch before, as in the code of He et al. That estimate is noisy, and capped at the log of the
    batch size. With "full" (the default) the MI over the whole split, averaged over several draws, must fall below
    the best so far by more than its own standard error, after at least `min_steps` outer steps. With a `patience` of
    more than one, as in the code for images, each epoch is held against the best so far whatever the estimator.

    Arguments:
        estimator: "full" or "published".
        min_steps: Outer steps before which it never ends.
        max_epochs: Epochs after which it ends in any case; None for no cap.
        max_steps: Outer steps after which it ends in any case, also within an epoch; None for no cap.
        start: The MI that the first epoch is held against (0 for text, -1 for the synthetic set in the code).
        patience: How many such epochs there must be, in all and not in a row; 5 in the code for images.
    """

    estimator: Literal["full", "published"] = "full"
    min_steps: Index = 0
    max_epochs: Count | None = None
    max_steps: Count | None = None
    start: float = 0.0
    patience: Count = 1

    @property
    def figure(self) -> str:
        """What of a validation it reads."""
        return "mi" if self.estimator == "full" else "mi_published"

    def __call__(
        self, epoch: int, step: int, validation: Evaluation, reference: float, failures: int
    ) -> tuple[bool, float, int]:
        """Whether to end, and the reference and the number of failures for the next epoch."""
        mi = getattr(validation, self.figure)
        if not isinstance(mi, Estimate):
            raise InputError(f"aggressive training needs the validation split's mutual information: {mi.reason}")
        margin = mi.se if self.estimator == "full" else 0.0
        failures += mi.value + margin < reference and step >= self.min_steps
        capped = self.max_epochs is not None and epoch + 1 >= self.max_epochs
        best = self.estimator == "full" or self.patience > 1
        reference = max(mi.value, reference) if best else mi.value
        return capped or failures >= self.patience, reference, failures


@dataclass
class Aggressive:
    r"""Aggressive training of the inference network, then joint training.

    Before each step of the generation player, the inference player steps on the batch at hand and then on random
    training batches; after every `window` steps the mean loss per predicted symbol (per item where there are
    none) is held against the window before, and the loop ends where it is not better, or after `limit` steps.

    Where paper and code differ: the window is 10 in the paper and at the time of its experiments, 15 in the
    released text.py (default 10); the paper ends the loop where the bound "stays the same or decreases", the code
    only where it decreases (`ties`; default as the paper). The code clips the joint gradient norm of encoder and
    decoder even where only one of them steps (`clip="joint"`, the default); "own" clips a player by its own norm
    and does not compute the other's gradient at all; "ratio" does not either in inner steps, and takes for the joint
    norm the encoder's times the ratio of the two when the decoder last stepped (1 before it first did).

    Arguments:
        window: Inner steps between two looks at the loss.
        limit: The most inner steps before one outer step; 99 in the code.
        ties: Whether an equal window ends the loop ("stop") or not ("continue").
        budget: Exactly this many inner steps instead of the rule (Table 4); None for the rule.
        clip: Over whom the gradient norm is taken: "joint", "own" or "ratio".
        until: When aggressive training ends.
        inner_clip: The largest gradient norm of an inner step; that of all steps where it is None.
        share: Which share of a batch's symbols an inner step scores, drawn at random, without bias.
    """

    window: Count = 10
    limit: Count = 99
    ties: Literal["stop", "continue"] = "stop"
    budget: Count | None = None
    clip: Literal["joint", "own", "ratio"] = "joint"
    until: UntilInformationDrops = field(default_factory=UntilInformationDrops)
    inner_clip: Positive | None = None
    share: Share = 1.0

    active: bool = field(default=True, init=False)
    reference: float | None = field(default=None, init=False)
    failures: int = field(default=0, init=False)
    stretch: Tensor | float = field(default=1.0, init=False)

    def __call__(self, play: Play, x: Batch) -> Loss:
        _check_players(play)
        if self.until.max_steps is not None and play.step >= self.until.max_steps:
            self.active = False
        if not self.active:
            return Joint()(play, x)
        self._catch_up(play, x)
        # What terms bring, and any other part of the model, steps with the decoder.
        return self._descend(play, x, *(name for name in play.partners if name != "inference"))

    def stepping(self, play: Play) -> Sequence[str]:
        return [*play.players]

    def _descend(self, play: Play, x: Batch, *players: str, share: float = 1.0) -> Loss:
        inner = players == ("inference",)
        largest = self.inner_clip if inner else None
        if self.clip == "ratio" and not inner and play.clip is None:
            largest = math.inf  # It clips nothing, and the norms are taken all the same.
        if self.clip == "own" or (self.clip == "ratio" and inner):
            with play.awake(*players):
                loss = play.loss(x, share)
                play.descend(loss, *players, stretch=self.stretch, clip=largest)
            return loss
        loss = play.loss(x, share)
        norms = play.descend(loss, *players, norm_over=play.partners, clip=largest)
        if self.clip == "ratio" and norms:
            # Where the encoder's gradient is zero, an infinite ratio would make the next step's NaN.
            self.stretch = torch.stack([*norms.values()]).norm() / norms["inference"].clamp(min=1e-12)
        return loss

    def _catch_up(self, play: Play, x: Batch) -> None:
        """Encoder steps until the bound stops improving; the first on the decoder's own batch."""
        last, total, count = float("inf"), 0.0, 0.0
        for i in range(1, (self.budget or self.limit) + 1):
            loss = self._descend(play, x, "inference", share=self.share).total.detach()
            predicted = symbols(x)
            total = total + loss * size(x)
            count = count + (size(x) if predicted is None else predicted.sum())
            x = play.draw()
            if self.budget is None and i % self.window == 0:
                current = float(total / count)
                if not math.isfinite(current):
                    raise TrainingError(f"the loss of the encoder's steps became {current}: lower the learning rate.")
                if current > last or (current == last and self.ties == "stop"):
                    return
                last, total, count = current, 0.0, 0.0

    @property
    def decides_by(self) -> str | None:
        return self.until.figure if self.active else None

    def observe(self, epoch: int, step: int, validation: Evaluation) -> None:
        if self.active:
            reference = self.until.start if self.reference is None else self.reference
            ended, self.reference, self.failures = self.until(epoch, step, validation, reference, self.failures)
            self.active = not ended

    def memory(self) -> dict[str, Any]:
        stretch = {"stretch": float(self.stretch)} if self.clip == "ratio" else {}
        failures = {"failures": self.failures} if self.until.patience > 1 else {}
        return {"active": self.active, "reference": self.reference, **failures, **stretch}

    def recall(self, memory: dict[str, Any]) -> None:
        self.active, self.reference = memory["active"], memory["reference"]
        self.failures = memory.get("failures", 0)
        self.stretch = memory.get("stretch", 1.0)


def _check_players(play: Play) -> None:
    for name in ("inference", "generation"):
        if name not in play.players:
            there = [name for name, player in play.players.items() if player.term is None]
            why = getattr(play.model, "undivided", "let its `players` name them so")
            raise InputError(
                f"aggressive training needs a player `{name}`, and the model's are: {', '.join(there)}. "
                f"{why[0].upper()}{why[1:]}."
            )
