"""What a model must be to be trained: players who own its parameters, and a state that checkpoints can keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from uncollapse.errors import InputError
from uncollapse.training.players import Player


def networks(model: Any) -> dict[str, nn.Module]:
    """The networks that step in turn, by their players' names.

    Raises:
        InputError: where the model names none, or has a state that is no tensor.
    """
    how = "`return {'inference': self.encoder, 'generation': self.decoder}`"
    if "players" not in dir(model):
        raise InputError(
            f"`{type(model).__name__}` cannot be trained: it has no `players`, who step in turn. Give it a method "
            f"`players(self)` that names its networks, such as {how}, or make a `VAE` of them."
        )
    found = model.players()
    named = isinstance(found, Mapping | nn.ModuleDict)
    if not named or not all(isinstance(module, nn.Module) for module in found.values()):
        raise InputError(
            f"`players` of `{type(model).__name__}` must give networks by their names, such as {how}, and gives "
            f"`{type(found).__name__}`."
        )
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"`{name}` of the model's state is a `{type(value).__name__}`, and checkpoints keep tensors: make it a "
                "buffer (`register_buffer`), or leave it out of the state."
            )
    return dict(found.items())


def check_owners(model: nn.Module, players: Mapping[str, Player]) -> None:
    """Refuses a parameter that nobody would step, or that two would.

    Raises:
        InputError: where there is one, and where there is no parameter at all.
    """
    owners: dict[int, list[str]] = {}
    for name, player in players.items():
        for parameter in player.parameters:
            owners.setdefault(id(parameter), []).append(name)
    if not owners:
        raise InputError("the model has no parameter to train: none of its players' parameters asks for a gradient.")
    for name, parameter in model.named_parameters():
        found = owners.get(id(parameter), [])
        if parameter.requires_grad and len(found) != 1:
            raise InputError(_ownership(name, found, list(players)))


def _ownership(parameter: str, owners: list[str], players: list[str]) -> str:
    if owners:
        return (
            f"the parameter `{parameter}` is of the players {' and '.join(f'`{name}`' for name in owners)}, and each "
            "of them would step it: give them parameters of their own, or make them one player."
        )
    return (
        f"the parameter `{parameter}` would not be trained, as it is of none of the players "
        f"({', '.join(f'`{name}`' for name in players)}): put its module into one of those that `players` gives, such "
        "as a prior into `generation` (`nn.ModuleList([decoder, prior])`), or freeze it (`requires_grad_(False)`)."
    )
