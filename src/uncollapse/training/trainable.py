"""What models and terms must be to be trained: players who own all parameters, and a state that checkpoints keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from uncollapse.errors import InputError, unknown
from uncollapse.objective import Objective
from uncollapse.training.optimisers import Optimiser
from uncollapse.training.players import Learner, Player


def networks(model: Any) -> dict[str, nn.Module]:
    """The networks that step in turn, by their players' names.

    Raises:
        InputError: where the model names none, or has a state that is no tensor.
    """
    how = "`return {'inference': self.encoder, 'generation': self.decoder}`"
    if "players" not in dir(model):
        raise InputError(
            f"`{type(model).__name__}` cannot be trained: it has no `players`, who step in turn. Give it a method "
            f"`players(self)` that names its networks, such as {how}, or make a `VAE` of them. A module with `encode` "
            "and `decode` becomes one by `uncollapse.foreign(module, likelihood=...)`."
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


def table(model: nn.Module, objective: Objective, optimisers: Mapping[str, Optimiser]) -> dict[str, Player]:
    """All who step: the model's players by their names, and those of terms by the term's name and their own.

    Arguments:
        model: Names its networks in `players`.
        objective: Its terms may name theirs in `players`, each a `Learner`.
        optimisers: By player, instead of their own.

    Raises:
        InputError: for an optimiser of nobody, averaging of what is not validated, two players of one name, a parameter
            of no player or of two, and a model without any.
    """
    players = {name: Player(Learner(module), optimisers.get(name)) for name, module in networks(model).items()}
    if not any(player.parameters for player in players.values()):
        raise InputError("the model has no parameter to train: none of its players' parameters asks for a gradient.")
    for term, called, learner in _learners(objective):
        name = f"{term}-{called}"
        if name in players:
            raise InputError(f"there are two players `{name}`: rename the term `{term}`, or the model's player.")
        players[name] = Player(learner, optimisers.get(name), term)
    for name in optimisers:
        if name not in players:
            raise unknown("player", name, players)
        if players[name].term is not None and players[name].average.interval is not None:
            raise InputError(
                f"`averaging` has no effect for `{name}`, a player of the term `{players[name].term}`: only the model "
                "is validated. Leave it out, or average a player of the model."
            )
    _check_owners(dict(model.named_parameters()), {k: p for k, p in players.items() if p.term is None}, _OF_THE_MODEL)
    ours = {f"objective.{name}": parameter for name, parameter in objective.named_parameters()}
    _check_owners(ours, {k: p for k, p in players.items() if p.term is not None}, _OF_A_TERM)
    return players


def _learners(objective: Objective) -> list[tuple[str, str, Learner]]:
    """Those of all terms, with the term's name and their own."""
    terms: dict[str, Any] = {name: term for name, term in objective.terms.items() if "players" in dir(term)}
    found = [(term, name, learner) for term in terms for name, learner in terms[term].players().items()]
    kept = {id(parameter) for parameter in objective.parameters()}
    for term, name, learner in found:
        if not all(id(parameter) in kept for parameter in learner.module.parameters()):
            raise InputError(
                f"the player `{name}` of the term `{term}` has parameters that no checkpoint would keep: make the "
                "term an `nn.Module`, and the player's module an attribute of it."
            )
    return found


def _check_owners(parameters: Mapping[str, Tensor], players: Mapping[str, Player], how: str) -> None:
    """Refuses a parameter that nobody would step, or that two would."""
    owners: dict[int, list[str]] = {}
    for name, player in players.items():
        for parameter in player.parameters:
            owners.setdefault(id(parameter), []).append(name)
    for name, parameter in parameters.items():
        found = owners.get(id(parameter), [])
        if parameter.requires_grad and len(found) != 1:
            raise InputError(_ownership(name, found, list(players), how))


_OF_THE_MODEL = (
    "put its module into one of those that `players` gives, such as a prior into `generation` "
    "(`nn.ModuleList([decoder, prior])`)"
)
_OF_A_TERM = "name its module in the `players` of its term, as in `return {'critic': Learner(self.critic)}`"


def _ownership(parameter: str, owners: list[str], players: list[str], how: str) -> str:
    if owners:
        return (
            f"the parameter `{parameter}` is of the players {' and '.join(f'`{name}`' for name in owners)}, and each "
            "of them would step it: give them parameters of their own, or make them one player. A module of which each "
            "uses a half comes in by `uncollapse.foreign(module, likelihood=..., example=x[:8])`."
        )
    there = f", as it is of none of the players ({', '.join(f'`{name}`' for name in players)})" if players else ""
    return f"the parameter `{parameter}` would not be trained{there}: {how}, or freeze it (`requires_grad_(False)`)."
