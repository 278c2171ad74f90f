"""What a law of torch refuses, in one line: its own message prints all of the values."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor
from torch.distributions import constraints


class Refusal(NamedTuple):
    """A value or a parameter that a law's validation would not take."""

    law: Any
    name: str
    """The parameter, or "value"."""
    value: Any
    constraint: Any
    """What it must be; None where its shape was refused already."""
    valid: Tensor | None
    """Which of its numbers are."""


def refusal(error: BaseException) -> Refusal | None:
    """What a law refused, where that is what an error says; None where an error is another."""
    here = error.__traceback__
    while here is not None and here.tb_next is not None:
        here = here.tb_next
    # Its message prints a part of the value only; the value is where the error was raised.
    if here is None or here.tb_frame.f_globals["__name__"] != "torch.distributions.distribution":
        return None
    found = here.tb_frame.f_locals
    if "self" not in found or "value" not in found:
        return None
    constraint = found.get("constraint", found.get("support"))
    return Refusal(found["self"], found.get("param", "value"), found["value"], constraint, found.get("valid"))


def said(found: Refusal) -> str | None:
    """What was refused, and what to do; None where it is not finite, which is no matter of the law's."""
    law, value = type(found.law).__name__, found.value
    if not isinstance(value, Tensor):
        return f"a `{law}` scores a tensor, and was given a `{type(value).__name__}`: let the batch's `target` be one."
    if not value.isfinite().all():
        return None
    if found.constraint is None or found.valid is None:
        asked = tuple(found.law.batch_shape + found.law.event_shape)
        return (
            f"a `{law}` with the shape {asked} cannot score values with the shape {tuple(value.shape)}: let the "
            "decoder give a law with the shape of (samples, items, ...) of what is scored."
        )
    worst = f"{value[~found.valid].flatten()[0].item():g}"
    if found.name != "value":
        return (
            f"`{found.name}` of a `{law}` must be in {found.constraint!r}, and is {worst}: end the network with a "
            "function that stays there, such as `softplus` for a scale or `sigmoid` for a probability, or make the law "
            "of logits."
        )
    if found.constraint is constraints.boolean and bool(((value >= 0) & (value <= 1)).all()):
        return (
            f"a `{law}` scores 0 and 1 alone, and the data holds {worst}: binary cross-entropy on grey values is no "
            "log-likelihood. Binarise the data (`(x > 0.5).float()`), or let the decoder give a `ContinuousBernoulli` "
            "or a Gaussian with a learned variance."
        )
    return (
        f"a `{law}` scores values in {found.constraint!r} alone, and the data holds {worst}: scale the data, or let "
        "the decoder give a law that has such values."
    )
