"""Stops a training whose numbers are no longer finite, and says where that began and what to try."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from uncollapse.bound import Batch, Source
from uncollapse.distributions.refusals import refusal
from uncollapse.errors import TrainingError
from uncollapse.metrics.evaluation import Evaluation
from uncollapse.processes import gone
from uncollapse.training import sharding
from uncollapse.training.checkpoints import Checkpoints, step_of
from uncollapse.training.descent import Descent
from uncollapse.training.validation import Validation
from uncollapse.training.window import Move

Split: TypeAlias = Literal["training", "validation"]


class Watch:
    """Looks whether what a training comes to is finite.

    Arguments:
        descent: What trains.
        validation: What is measured of it.
        checkpoints: What is left of it.
    """

    def __init__(self, descent: Descent, validation: Validation, checkpoints: Checkpoints) -> None:
        self.descent, self.validation, self.checkpoints = descent, validation, checkpoints

    def check(self) -> None:
        """Looks at all descents since the window was last read, and at the parameters.

        Raises:
            TrainingError: where a term, a gradient or a parameter is not finite.
        """
        ours = self._bad()
        # Where each process has a part of the parameters, one may see what the others do not.
        found = self.descent.processes.gather(ours) if self.descent.sharded else [ours]
        if said := next(filter(None, found), None):
            raise self._stopped(said, "training")

    @contextmanager
    def over(self, split: Split) -> Iterator[None]:
        """Within it, what fails because a number is not finite fails for that reason."""
        try:
            yield
        except (ValueError, RuntimeError) as error:
            if said := self._bad():  # By this process alone: the others may have met no error.
                raise self._stopped(said, "training") from error
            if ended := gone(error):  # In what FSDP exchanges by itself.
                raise ended from error
            if said := refused(error, self.descent.step):
                raise self._stopped(said, split) from error
            raise

    def figure(self, validation: Evaluation, name: str) -> float:
        """A figure of the validation split that training cannot do without.

        Raises:
            TrainingError: where it is not finite.
        """
        value: float = getattr(validation, name).value
        if not math.isfinite(value):
            self.check()
            parts = ", ".join(f"{part} {getattr(validation, part).value:.4g}" for part in ("distortion", "kl"))
            said = f"the validation split's {name} became {value} ({parts}) after step {self.descent.step}"
            raise self._stopped(said, "validation")
        return value

    def _bad(self) -> str | None:
        descent = self.descent
        return (
            first_bad(descent.window.trail)
            or bad_parameter(descent.model, descent.step)
            or bad_parameter(descent.objective, descent.step)
        )

    def _stopped(self, said: str, split: Split) -> TrainingError:
        descent = self.descent
        batch = bad_batch(descent.train if split == "training" else self.validation.batches)
        if batch is not None:
            return TrainingError(
                f"{said}: {split} batch {batch} holds a number that is not finite. Mend or drop it. {self._kept()}"
            )
        rates = ", ".join(f"{name} {player.step_size:g}" for name, player in descent.players.items())
        clip = "clip the gradient" if descent.clip is None else f"clip the gradient below {descent.clip:g}"
        return TrainingError(
            f"{said}: lower the learning rate ({rates}), {clip}, anneal the rate's weight, or look for an item unlike "
            f"the others. {self._kept()}"
        )

    def _kept(self) -> str:
        folder, last = self.checkpoints.folder, self.checkpoints.latest()
        if folder is None:
            return "The run is in memory alone: give a folder to keep checkpoints."
        if last is None:
            return f"There is no checkpoint yet in `{folder}`."
        return (
            f"The last good checkpoint is `{last}`, of step {step_of(last.name)}; other settings need another folder."
        )


def first_bad(trail: list[Move]) -> str | None:
    """What of some descents was the first that is not finite, in words; None where all is."""
    if not trail:
        return None
    # One look for all of them, as each would wait for the device.
    flags = torch.stack([value.float() for one in trail for value in one.values.values()]).isfinite()
    if flags.all():
        return None
    for number, one in enumerate(trail):
        values = {name: float(value) for name, value in one.values.items()}
        bad = {name: value for name, value in values.items() if not math.isfinite(value)}
        if bad:
            return _named(bad) + f" at step {one.step}" + _inner(trail, number)
    return None


def _named(bad: dict[str, float]) -> str:
    """The terms that are not finite; the loss only where all of them are, the gradient where the loss is too."""
    terms = {name: value for name, value in bad.items() if name not in ("loss", "gradient")} or bad
    if set(terms) == {"gradient"}:
        return f"the gradient's norm became {terms['gradient']}, though the loss was finite,"
    names = [name for name in terms if name != "gradient"]
    return f"{' and '.join(f'`{name}`' for name in names)} became {terms[names[0]]}"


def _inner(trail: list[Move], number: int) -> str:
    """Which descent of its outer step one was, where the step has several."""
    same = [i for i, one in enumerate(trail) if one.step == trail[number].step and one.players]
    if len(same) < 2 or number not in same:
        return ""
    return f", descent {same.index(number) + 1} in it ({' and '.join(trail[number].players)})"


def bad_parameter(model: nn.Module, step: int) -> str | None:
    """The first parameter that is not finite here, in words; None where all are."""
    parameters = {name: sharding.here(p.detach()) for name, p in model.named_parameters()}
    if not parameters or torch.stack([p.isfinite().all() for p in parameters.values()]).all():
        return None
    name, value = next((name, p) for name, p in parameters.items() if not p.isfinite().all())
    return f"the parameter `{name}` became {_worst(value)} by step {step}"


def refused(error: Exception, step: int) -> str | None:
    """What a law of torch would not take because it is not finite, in words; None where an error is another."""
    found = refusal(error)
    if found is None or not isinstance(found.value, Tensor) or found.value.isfinite().all():
        return None
    return f"`{found.name}` of a {type(found.law).__name__} became {_worst(found.value)} after step {step}"


def _worst(value: Tensor) -> float:
    return float(value.detach()[~value.isfinite()][0])


def bad_batch(source: Source) -> int | None:
    """The first batch that holds a number that is not finite; None where none does, or where none is a fraction."""
    if not any(part.is_floating_point() for part in parts(source[0])):
        return None
    return next((i for i in range(len(source)) if not all(p.isfinite().all() for p in parts(source[i]))), None)


def parts(x: Batch) -> list[Tensor]:
    return [part for part in ([x] if isinstance(x, Tensor) else x) if isinstance(part, Tensor)]
