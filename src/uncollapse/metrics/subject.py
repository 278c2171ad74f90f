"""The model that is measured: how it is called, where its networks are, and the mode they are in."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from uncollapse.errors import InputError


def networks(model: Any) -> list[nn.Module] | None:
    """The networks that a model names; None for a plain function, whose networks nobody can see."""
    if isinstance(model, nn.Module):
        return [model]
    return list(model.players().values()) if "players" in dir(model) else None


def home(model: Any) -> torch.device | None:
    """Where a network lives, and its batches must be; None for what has no parameters."""
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return None if parameter is None else parameter.device


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Every network that a model names in evaluation mode within the block, each module as it was after it."""
    roots = networks(model) or []
    before = {module: module.training for root in roots for module in root.modules()}
    try:
        for root in roots:
            root.eval()
        yield
    finally:
        for module, training in before.items():
            module.training = training


def refuse_other_signatures(model: Any) -> None:
    """Stops what cannot be called as `model(x, q=None, samples=1)`.

    Raises:
        InputError: where it lacks one of the arguments, or asks for more.
    """
    # A module's own __call__ takes anything.
    call = model.forward if isinstance(model, nn.Module) else model
    try:
        inspect.signature(call).bind(None, q=None, samples=1)
    except ValueError:
        return  # Compiled code has no signature to look at.
    except TypeError as error:
        name = getattr(model, "__name__", type(model).__name__)
        raise InputError(
            f"`{name}` cannot be evaluated: {error}. It must have the signature `(x, q=None, samples=1)` and "
            "return a `Bound` on the batch x, at `samples` draws from `q`, or from its own posterior without one."
        ) from None
