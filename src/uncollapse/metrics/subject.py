"""The model that is measured: how it is called, where its networks are, and the mode they are in."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from uncollapse.bound import Batch, move
from uncollapse.errors import InputError
from uncollapse.noise import NoiseByItem

AS_IT_IS = (
    "the model is a plain function, run in the mode its networks are in: dropout may be on. Pass the nn.Module, or "
    "put its networks in evaluation mode (`.eval()`) yourself."
)


def networks(model: Any) -> list[nn.Module] | None:
    """The networks that a model names; None for a plain function, whose networks nobody can see."""
    if isinstance(model, nn.Module):
        return [model]
    return list(model.players().values()) if "players" in dir(model) else None


def placed(model: Any, x: Batch) -> Batch:
    """A batch where a network's parameters are, its floating numbers of their type; as it is where there are none."""
    parameters = model.parameters() if isinstance(model, nn.Module) else iter(())
    like = next((p for p in parameters if p.is_floating_point()), None)
    return x if like is None else move(x, like.device, like.dtype)


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


@contextmanager
def refining(model: Any, seed: int, items: Sequence[int]) -> Iterator[None]:
    """Within it, posteriors can be refined by their gradient, each item's by noise of its own.

    Arguments:
        model: Its networks have no gradient meanwhile.
        seed: Decides the noise.
        items: The ids of the batch's items.
    """
    with frozen(model), NoiseByItem(seed, items):
        yield


@contextmanager
def frozen(model: Any) -> Iterator[None]:
    """Within it, gradients are taken, and none of those of a model's networks."""
    learning = [p for root in networks(model) or [] for p in root.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        # The recurrent layers of cuDNN have no backward pass in evaluation mode.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


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
            "return a `Bound` on the batch x, at `samples` draws from `q`, or from its own posterior without one. A "
            "module with `encode` and `decode` becomes one by `uncollapse.foreign(module, likelihood=...)`."
        ) from None
