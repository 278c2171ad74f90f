"""The state of a trainer: all that a run needs to go on as if it had never stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from uncollapse.errors import InputError
from uncollapse.training.checkpoints import Snapshot
from uncollapse.training.sharding import like, whole

if TYPE_CHECKING:
    from uncollapse.training.trainer import Trainer

#: What of a trainer is neither a tensor nor has a memory of its own.
NUMBERS = ("step", "epoch", "best", "stopped", "told", "seconds", "cpu_seconds")


def taken(trainer: Trainer) -> Snapshot:
    """The state now. Random generators are no part of it: their seeds are functions of the step."""
    tensors = {f"model/{k}": v for k, v in weights(trainer.model).items()}
    tensors |= {f"objective/{k}": v for k, v in trainer.objective.state_dict().items()}
    tensors |= {f"window/{k}": v for k, v in trainer.window.sums.items()}
    for name, player in trainer.players.items():
        tensors |= {f"optimiser/{name}/{k}": v for k, v in player.memory().items()}
    state = {name: getattr(trainer, name) for name in NUMBERS}
    # Floats, as an event may leave a number of another library.
    state |= {
        "clip": None if trainer.clip is None else float(trainer.clip),
        "weights": {name: float(weight) for name, weight in trainer.objective.weights.items()},
        "learning_rates": {name: player.learning_rate for name, player in trainer.players.items()},
        "procedure": trainer.procedure.memory(),
        "plateau": trainer.plateau.memory() if trainer.plateau else {},
    }
    return Snapshot(tensors, state)


def restore(trainer: Trainer, snapshot: Snapshot) -> None:
    """Goes back to a state.

    Raises:
        InputError: where it is the state of another run.
    """
    try:
        _restore(trainer, snapshot)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise InputError(f"the last checkpoint is of another run, it does not fit this one: {why}.") from error


def _restore(trainer: Trainer, snapshot: Snapshot) -> None:
    for name in NUMBERS:
        setattr(trainer, name, snapshot.state[name])
    trainer.clip = snapshot.state["clip"]
    trainer.objective.weights.update(snapshot.state["weights"])
    trainer.procedure.recall(snapshot.state["procedure"])
    if trainer.plateau:
        trainer.plateau.recall(snapshot.state["plateau"])
    load(trainer.model, _under(snapshot.tensors, "model/"))
    trainer.objective.load_state_dict(_under(snapshot.tensors, "objective/"))
    trainer.window.sums = {k: v.to(trainer.device) for k, v in _under(snapshot.tensors, "window/").items()}
    for name, player in trainer.players.items():
        player.recall(_under(snapshot.tensors, f"optimiser/{name}/"), snapshot.state["learning_rates"][name])


def weights(model: nn.Module) -> dict[str, Tensor]:
    """All tensors of a model by name, each whole; every process must ask where they are in pieces."""
    return {name: whole(value) for name, value in model.state_dict().items()}


def load(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Puts whole tensors by name into a model, which may keep them in pieces."""
    here = model.state_dict()
    model.load_state_dict({k: like(here[k], v) if k in here else v for k, v in tensors.items()})


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
