"""Preflight: every term is differentiated on a few items before training, so that what cannot work is said at once."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from uncollapse.bound import Batch, Bound, Labelled, items
from uncollapse.dials import Schedule, turn
from uncollapse.errors import InputError
from uncollapse.model import ask
from uncollapse.randomness import generator, reseed, seeded
from uncollapse.terms.rates import distortion, rate
from uncollapse.training.descent import Descent
from uncollapse.training.finite import parts
from uncollapse.training.trainer import Trainer

#: How many items are looked at.
ITEMS = 8
#: The standard deviations of what the parameters are moved by: at first, and to get beyond the floor of a term.
NEAR, FAR = 0.01, (0.3, 3.0)
#: What dials may move without changing any term.
_OUTSIDE = ("optimisers.", "objective.weights.")


class Look(NamedTuple):
    """A term at some parameters."""

    value: float
    slope: float
    """The largest number of its gradient in the model's parameters."""
    worst: str
    """Whose that number is."""


def preflight(trainer: Trainer) -> list[str]:
    """What to know of a training before it begins, in a sentence each; the trainer is left as it is.

    On copies of model and objective each term is differentiated under the plain amortised bound, at parameters a little
    off the initial ones, and with the dials at the first, middle and last step. A model that cannot be copied or is in
    pieces, and data that is not finite, are left to the training.

    Raises:
        InputError: for a term that is not finite or changes without a gradient, and for data that a law refuses.
    """
    descent, loop = trainer.descent, trainer.loop
    if descent.sharded:
        return []
    last = loop.max_epochs * len(descent.train) - 1
    return descent.processes.first(lambda: _found(descent, loop.dials, (0, last // 2, last), loop.seed))


def _found(descent: Descent, dials: Mapping[str, Schedule], steps: tuple[int, ...], seed: int) -> list[str]:
    with seeded(seed, "preflight", device=descent.device):
        x = _some(descent.batch(0))
        if not all(part.isfinite().all() for part in parts(x)):
            return []
        try:
            trial = Trial(descent, x, seed)
        except Exception:  # Whatever the copying of somebody's own model raises.
            return []
        trial.move(NEAR)
        looks = [trial.look(dials, step) for step in _different(dials, steps)]
        flat = [name for name in trial.terms if not any(look[name].slope for look in looks)]
        if len(flat) == len(trial.terms):  # It computes with others than the parameters that it names.
            return []
        constant = trial.constant(flat)
        return [*trial.said, *(_idle(n, constant[n]) for n in constant if trial.counts(n, dials, steps))]


def _some(x: Batch) -> Batch:
    """At most ITEMS items; of labelled ones those of two classes, as terms of labels need several of each."""
    if not isinstance(x, Labelled) or x.label.ndim != 1:
        return items(x, slice(0, ITEMS))
    classes, counts = x.label.unique(return_counts=True)
    largest = classes[counts.argsort(descending=True, stable=True)[:2]]
    of_each = [(x.label == one).nonzero().flatten()[: ITEMS // 2] for one in largest]
    return items(x, torch.cat(of_each).sort().values)


def _different(dials: Mapping[str, Schedule], steps: Iterable[int]) -> Iterable[int]:
    """The steps at which dials make a term, or the model, another one."""
    inner = [dial for path, dial in dials.items() if not path.startswith(_OUTSIDE)]
    return {tuple(dial(step) for dial in inner): step for step in steps}.values()


def _idle(name: str, value: float) -> str:
    return (
        f"no parameter of the model changes the term `{name}`, which stays {value:.4g}, so that neither its weight nor "
        "a floor, target or dial of it does anything: leave these out, or choose a posterior whose rate can change."
    )


class Trial:
    """Copies of a model and an objective, and some items to try them on.

    Arguments:
        descent: Whose.
        x: The items.
        seed: Of how the parameters are moved, and of the noise, which is always the same.
    """

    def __init__(self, descent: Descent, x: Batch, seed: int) -> None:
        # At once, as terms may hold parts of the model.
        self.model, self.objective = copy.deepcopy((descent.model, descent.objective))
        self.terms: dict[str, Any] = self.objective.terms
        self.parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad and p.numel()}
        self.x, self.seed, self.device = x, seed, descent.device
        self.said: list[str] = []
        """What terms say of the bound themselves."""

    def move(self, by: float) -> None:
        """Moves every parameter by noise of its own."""
        draw = generator(self.seed, "preflight", str(by))
        with torch.no_grad():
            for parameter in self.parameters.values():
                parameter.add_(torch.randn(parameter.shape, generator=draw).to(parameter), alpha=by)

    def look(self, dials: Mapping[str, Schedule], step: int) -> dict[str, Look]:
        """All terms, with the dials at a step; terms with memory hear of the bound then.

        Raises:
            InputError: where one or its gradient is not finite.
        """
        for path, dial in dials.items():
            if not path.startswith(_OUTSIDE):
                turn(SimpleNamespace(model=self.model, objective=self.objective), path, dial(step))
        bound = self._bound()
        found = {name: self._differentiated(name, bound) for name in self.terms}
        for name, look in found.items():
            _check_finite(name, look)
        self.said = [said for term in self.terms.values() if "remark" in dir(term) and (said := term.remark(bound))]
        with torch.no_grad():
            for term in self.terms.values():
                if "update" in dir(term):
                    term.update(bound)
        return found

    def constant(self, names: list[str]) -> dict[str, float]:
        """Those of some terms that had no gradient yet that have none further away either, with their values.

        Raises:
            InputError: where one changes all the same.
        """
        values: dict[str, list[float]] = {name: [] for name in names}
        for by in (0.0, *FAR) if names else ():
            self.move(by)
            try:
                bound = self._bound()
                looks = {name: self._differentiated(name, bound) for name in values}
            except (ValueError, RuntimeError):  # Too far for a law.
                break
            values = {name: [*values[name], look.value] for name, look in looks.items() if not look.slope}
        for name, found in values.items():
            if not all(math.isclose(value, found[0], rel_tol=1e-4, abs_tol=1e-6) for value in found):
                raise InputError(
                    f"the term `{name}` changes with the parameters of the model, and has no gradient in them: compute "
                    "it without `detach`, `item`, NumPy or rounding, or leave it out."
                )
        return {name: found[0] for name, found in values.items()}

    def counts(self, name: str, dials: Mapping[str, Schedule], steps: Iterable[int]) -> bool:
        """Whether somebody gave a term a weight, or its place to another one: the plain bound may have a constant."""
        dial = dials.get(f"objective.weights.{name}")
        weights = {self.objective.weights[name]} if dial is None else {dial(step) for step in steps}
        return any(weights) and not (self.terms[name] in (rate, distortion) and weights == {1.0})

    def _bound(self) -> Bound:
        reseed(self.seed, "preflight", "noise", device=self.device)
        return ask(self.model, self.x)

    def _differentiated(self, name: str, bound: Bound) -> Look:
        value = self.terms[name](bound)
        if not isinstance(value, Tensor) or value.numel() != 1:
            kind = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type `{type(value).__name__}`"
            raise InputError(
                f"the term `{name}` gives a value of {kind}: a term gives one number, a tensor of shape ()."
            )
        return Look(float(value.detach()), *self._slope(value))

    def _slope(self, value: Tensor) -> tuple[float, str]:
        """The largest number of a gradient, or one that is not finite, and the parameter whose it is."""
        if not value.requires_grad:
            return 0.0, ""
        slopes = torch.autograd.grad(value, list(self.parameters.values()), retain_graph=True, allow_unused=True)
        found = [(float(s.abs().max()), name) for name, s in zip(self.parameters, slopes, strict=True) if s is not None]
        return next((one for one in found if not math.isfinite(one[0])), max(found, default=(0.0, "")))


def _check_finite(name: str, look: Look) -> None:
    if not math.isfinite(look.value):
        raise InputError(
            f"the term `{name}` is {look.value} before training: mend it, change its numbers, or leave it out."
        )
    if not math.isfinite(look.slope):
        raise InputError(
            f"the gradient of the term `{name}` in `{look.worst}` is not finite before training, though the term is "
            f"{look.value:.4g}: mend it (a root or a logarithm of 0?), or leave it out."
        )
