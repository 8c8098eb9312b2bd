"""Parameters that `fully_shard` has divided: each process computes with its own part of every tensor."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn


def is_sharded(tensor: Tensor) -> bool:
    """Whether it is a `DTensor`; their module is loaded where there are any, and not for the sake of this question."""
    loaded = sys.modules.get("torch.distributed.tensor")
    return loaded is not None and isinstance(tensor, loaded.DTensor)


def shard(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor, which shares its memory; the tensor itself if it is not divided."""
    return tensor._local_tensor if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def divided_like(parameter: Any, part: Tensor) -> Tensor:
    """Return what is divided as a parameter is, of which this is the part of this process."""
    if not is_sharded(parameter):
        return part
    made: Tensor = type(parameter.data).from_local(
        part,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )
    return made


class Shards:
    """How the parameters of an optimizer are divided.

    Attributes:
        groups: Process groups that together hold every process with this model; none if nothing is divided.
        over: That over which each parameter is divided.
        count: Processes in all.

    Raises:
        ValueError: Parameters are divided in ways that norms cannot be computed of, as `FullyShardedDataParallel` does,
            or the model is not known.
    """

    def __init__(self, model: nn.Module | None, params: list[Tensor]) -> None:
        self.groups: list[Any] = []
        self.over: Any = None
        self.count = 1
        self._modules: list[Any] = []
        if _has_flat_parameters(model, params):
            raise ValueError(
                "the model is divided by FullyShardedDataParallel, which makes one tensor of its parameters; divide "
                "it with torch.distributed.fsdp.fully_shard(model) instead"
            )
        divided: list[Any] = [p for p in params if is_sharded(p)]
        if not divided:
            return
        if len(divided) < len(params):
            raise ValueError("some parameters are sharded and others are not; shard all of them, fully_shard(model)")
        mesh = divided[0].device_mesh
        placements = divided[0].placements
        if any(p.device_mesh != mesh or p.placements != placements for p in divided):
            raise ValueError("parameters are sharded in several ways; shard all over one mesh, fully_shard(model)")
        along = [number for number, placement in enumerate(placements) if not placement.is_replicate()]
        if len(along) != 1 or not placements[along[0]].is_shard(0):
            raise ValueError(
                f"parameters are divided as {placements}; only the first dimension may be, along one dimension of the "
                "mesh, as fully_shard(model) does"
            )
        self._modules = [module for module in (model.modules() if model else ()) if _is_fully_sharded(module)]
        if not self._modules:
            raise ValueError("the parameters are sharded; give the model that fully_shard was called with, model=model")
        self.groups = [mesh.get_group(number) for number in range(mesh.ndim)]
        self.over = self.groups[along[0]]
        self.count = mesh.size()

    def let_go(self) -> None:
        """Free whole parameters, which a pass that did not go backward leaves behind, and the next would use."""
        for module in self._modules:
            module.reshard()

    def sum(self, numbers: list[float], device: torch.device) -> list[float]:
        """Return sums over the parts of the parameters."""
        if self.over is None:
            return numbers
        total = torch.tensor(numbers, device=device, dtype=torch.float64)
        torch.distributed.all_reduce(total, group=self.over)
        return total.tolist()


def check_sharded(method: str, can_shard: bool, scaler: torch.amp.GradScaler | None) -> None:
    """Check that a method can work with shards.

    Args:
        method: Name of its class.
        can_shard: What it says of itself.
        scaler: What the closure scales its loss with.

    Raises:
        ValueError: It cannot, or there is a scaler, which looks at whole tensors.
    """
    if not can_shard:
        raise ValueError(
            f"{method} needs whole tensors and cannot work with parameters that fully_shard has divided; use "
            "DistributedDataParallel, or a method that can, such as SAM"
        )
    if scaler is not None and scaler.is_enabled():
        raise ValueError("a scaler does not go with sharded parameters; use bfloat16, which needs none")


def _is_fully_sharded(module: nn.Module) -> bool:
    from torch.distributed.fsdp import FSDPModule

    return isinstance(module, FSDPModule)


def _has_flat_parameters(model: nn.Module | None, params: list[Tensor]) -> bool:
    """Whether FSDP1 has divided them; it is loaded where that is so, and marks the tensors."""
    loaded = sys.modules.get("torch.distributed.fsdp")
    kind = getattr(loaded, "FullyShardedDataParallel", None)
    # A compiled model has no truth value where the model inside has no length.
    if kind is not None and model is not None and any(isinstance(module, kind) for module in model.modules()):
        return True
    return any(getattr(p, "_fsdp_flattened", False) for p in params)
