"""The state of a trainer: all that a run needs to go on as if it had never stopped."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from uncollapse.errors import InputError
from uncollapse.training.checkpoints import Snapshot
from uncollapse.training.descent import Descent
from uncollapse.training.plateau import Plateau
from uncollapse.training.procedures import Procedure
from uncollapse.training.sharding import like, whole
from uncollapse.training.standing import Standing


def taken(descent: Descent, procedure: Procedure, plateau: Plateau | None) -> Snapshot:
    """The state now. Random generators are no part of it: their seeds are functions of the step."""
    tensors = {f"model/{k}": v for k, v in weights(descent.model).items()}
    tensors |= {f"objective/{k}": v for k, v in descent.objective.state_dict().items()}
    tensors |= {f"window/{k}": torch.as_tensor(v) for k, v in descent.window.sums.items()}
    averages: dict[str, Any] = {}
    for name, player in descent.players.items():
        tensors |= {f"optimiser/{name}/{k}": v for k, v in player.memory().items()}
        means, averages[name] = player.average.memory()
        tensors |= {f"average/{name}/{k}": v for k, v in means.items()}
    # Floats, as an event may leave a number of another library.
    state = {
        **asdict(descent.standing),
        "clip": None if descent.clip is None else float(descent.clip),
        "weights": {name: float(weight) for name, weight in descent.objective.weights.items()},
        "averages": averages,
        "learning_rates": {name: player.step_size for name, player in descent.players.items()},
        "procedure": procedure.memory(),
        "plateau": plateau.memory() if plateau else {},
    }
    return Snapshot(tensors, state)


def restore(snapshot: Snapshot, descent: Descent, procedure: Procedure, plateau: Plateau | None) -> None:
    """Goes back to a state.

    Raises:
        InputError: where it is the state of another run.
    """
    try:
        _restore(snapshot, descent, procedure, plateau)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"the last checkpoint is of another run, it does not fit this one: {why}.") from error


def _restore(snapshot: Snapshot, descent: Descent, procedure: Procedure, plateau: Plateau | None) -> None:
    tensors, state = snapshot
    # In place, as others hold it too.
    vars(descent.standing).update({name: state[name] for name in vars(Standing())})
    descent.clip = state["clip"]
    descent.objective.weights.update(state["weights"])
    procedure.recall(state["procedure"])
    if plateau:
        plateau.recall(state["plateau"])
    load(descent.model, _under(tensors, "model/"))
    descent.objective.load_state_dict(_under(tensors, "objective/"))
    descent.window.sums = {k: v.to(descent.device) for k, v in _under(tensors, "window/").items()}
    scale = plateau.scale if plateau else 1.0
    for name, player in descent.players.items():
        player.recall(_under(tensors, f"optimiser/{name}/"), state["learning_rates"][name], scale)
        if name in state.get("averages", {}):  # A checkpoint from before there were averages has none.
            player.average.recall(_under(tensors, f"average/{name}/"), state["averages"][name])


def weights(model: nn.Module) -> dict[str, Tensor]:
    """All tensors of a model by name, each whole; every process must ask where they are in pieces."""
    return {name: whole(value) for name, value in model.state_dict().items()}


def load(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Puts whole tensors by name into a model, which may keep them in pieces."""
    here = model.state_dict()
    model.load_state_dict({k: like(here[k], v) if k in here else v for k, v in tensors.items()})


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
