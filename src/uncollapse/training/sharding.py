"""FSDP2: every player's parameters in pieces, one a process, gathered when the player computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.utils._pytree import tree_map

from uncollapse.distributions import operations
from uncollapse.errors import InputError

# torch's part of this is imported where something is in pieces: it takes more than a second.


def shard(players: Mapping[str, nn.Module], device: torch.device, processes: int) -> None:
    """Splits each player by itself, so that one may step while another rests; gradients are summed, not averaged."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes,))
    for name, module in players.items():
        if isinstance(module, nn.ParameterList | nn.ModuleList | nn.ModuleDict):
            raise InputError(
                f'the player `{name}` is no network with a forward pass, which FSDP needs: take `strategy="ddp"`, or '
                "make a `VAE` of modules that share nothing."
            )
        # FSDP gathers a player again for its backward pass by the tensors that it sees go out: show it those of a law.
        module.register_forward_hook(lambda module, given, out: tree_map(_opened, out))
        sharded = fully_shard(module, mesh=mesh)
        module.register_forward_hook(lambda module, given, out: tree_map(_closed, out, is_leaf=_is_opened))
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)  # Gloo knows no other.


class _Opened(NamedTuple):
    law: Distribution
    parameters: dict[str, Tensor]


def _is_opened(value: Any) -> bool:
    return isinstance(value, _Opened)


def _opened(value: Any) -> Any:
    if not isinstance(value, Distribution):
        return value
    # Copies, as FSDP warns of views, such as the two halves of what an encoder gives.
    return _Opened(value, {name: part.clone() for name, part in operations.parameters(value).items()})


def _closed(value: Any) -> Any:
    return operations.rebuild(value.law, value.parameters) if isinstance(value, _Opened) else value


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Within it every process holds all parameters, so that each may run the model as often as it likes."""
    parts: list[Any] = [module for module in model.modules() if "unshard" in dir(type(module))]
    for part in parts:
        part.set_reshard_after_forward(False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(True)


def in_pieces(tensor: Tensor) -> bool:
    """Whether a process holds only a part of a tensor (a `DTensor`)."""
    return type(tensor).__module__.startswith("torch.distributed.")


def whole(tensor: Any) -> Tensor:
    """All of a tensor that may be in pieces; every process must ask."""
    return tensor.full_tensor() if in_pieces(tensor) else tensor


def here(tensor: Any) -> Tensor:
    """The part of a tensor that this process holds."""
    return tensor.to_local() if in_pieces(tensor) else tensor


def like(pattern: Any, tensor: Tensor) -> Tensor:
    """A whole tensor in the pieces of another of its shape; as it is where that one is whole, or has another shape."""
    if not in_pieces(pattern) or pattern.shape != tensor.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    # Every process has all of it already: nothing needs to be sent.
    tensor = tensor.to(pattern.device)
    return distribute_tensor(tensor, pattern.device_mesh, pattern.placements, src_data_rank=None)
