"""Weights and optimizer states that `fully_shard` has divided, as one process has them, and back.

Of what is not divided everything here is as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from medsharp.optim import ClosureOptimizer
from medsharp.optim.shards import divided_like, shard

_ROWS = (nn.Sequential, nn.ModuleList)


def divide(model: nn.Module, device: torch.device, processes: int) -> None:
    """Divide the parameters of a model among processes: block by block, so that one is whole at a time.

    Blocks are what stands in a row: the children of each outermost `nn.Sequential` or `nn.ModuleList`, and of those in
    it, as the stages and blocks of timm's networks are.
    """
    mesh = init_device_mesh(device.type, (processes,))
    for block in blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of a model, the parameters of each of which are gathered at once; inner ones first."""
    found = []
    for child in model.children():
        inner = blocks(child)
        found += inner
        in_row = isinstance(model, _ROWS) and not isinstance(child, _ROWS)
        if in_row and not inner and any(True for _ in child.parameters()):
            found.append(child)
    return found


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor, on every process that has a part of it; all of them must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the state of a model as one process has it."""
    return {key: whole(value.detach()) for key, value in model.state_dict().items()}


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load what `whole_weights` gave."""
    own = model.state_dict()
    model.load_state_dict({key: _like(own[key], value) if key in own else value for key, value in weights.items()})


def whole_state(optimizer: ClosureOptimizer) -> dict[str, Any]:
    """Return the state of an optimizer as one process has it."""
    params = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = optimizer.state_dict()
    base = {
        number: {key: whole(value) if isinstance(value, Tensor) else value for key, value in entry.items()}
        for number, entry in state["state"].items()
    }
    memory = {
        slot: {number: whole(divided_like(params[number], value)) for number, value in values.items()}
        for slot, values in state["memory"].items()
    }
    return {**state, "state": base, "memory": memory}


def load_optimizer(optimizer: ClosureOptimizer, state: dict[str, Any]) -> None:
    """Load what `whole_state` gave."""
    params = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    base = {
        number: {key: _part_of(value, params[number]) for key, value in entry.items()}
        for number, entry in state["state"].items()
    }
    memory = {
        slot: {number: shard(_like(params[number], value)) for number, value in values.items()}
        for slot, values in state.get("memory", {}).items()
    }
    optimizer.load_state_dict({**state, "state": base, "memory": memory})


def _part_of(value: Any, parameter: Tensor) -> Any:
    """Return what a process keeps of an entry of a parameter's state; counters and the like are not divided."""
    alike = isinstance(value, Tensor) and value.shape == parameter.shape
    return _like(parameter, value) if alike else value


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """Return this process's part of a whole tensor, divided as a parameter is."""
    if not isinstance(parameter, DTensor):
        return value
    device = shard(parameter).device
    # Every process has all of it: nothing is to be sent.
    return distribute_tensor(value.to(device), parameter.device_mesh, parameter.placements, src_data_rank=None)
