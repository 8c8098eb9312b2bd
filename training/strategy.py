"""How several processes hold one model: a copy each, whose gradients are averaged, or a part of every tensor each."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from medsharp.config import TrainConfig
from medsharp.data.sharing import Division
from medsharp.errors import InputError
from medsharp.optim.catalogue import optimizer_info
from training.losses import Objective
from training.processes import Processes
from training.sharding import divide

_SYNC_BUFFERS = "broadcast_buffers"
if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters:
    _SYNC_BUFFERS = "forward_sync_buffers"  # its name from PyTorch 2.14 on


def check_strategy(config: TrainConfig) -> None:
    """Check what several processes, and parts of a batch, ask of the other settings.

    Raises:
        InputError: Two of them do not go together; the sentence names the key.
    """
    options = config.optimizer.hyperparameters()
    name = config.optimizer.name
    if config.schedule.accumulation > 1:
        asked = f"schedule.accumulation = {config.schedule.accumulation}"
        if options.get("micro_batch") is not None:
            raise InputError(f"{asked}: optimizer.{name}.micro_batch divides a batch already; leave one of them out")
        if name == "esam" and options["gamma"] < 1:
            raise InputError(
                f"{asked}: optimizer.esam.gamma = {options['gamma']} chooses from a whole batch; set one to 1"
            )
    if config.run.strategy == "fsdp":
        cls = optimizer_info(name).cls
        if not getattr(cls, "can_shard", True):
            raise InputError(f"run.strategy = fsdp: {name} needs whole tensors; choose another optimizer.name, or ddp")
        if config.run.precision == "fp16":
            raise InputError("run.strategy = fsdp: fp16 scales gradients as a whole; set run.precision=bf16, or ddp")
        if config.run.ema_decay is not None:
            raise InputError("run.strategy = fsdp: run.ema_decay averages whole weights; leave it out, or set ddp")
        if config.run.compile:
            raise InputError("run.strategy = fsdp: PyTorch's compiler fails on divided blocks; leave run.compile out")
        if config.schedule.frozen_epochs > 0:
            raise InputError("run.strategy = fsdp: schedule.frozen_epochs changes what learns; set it to 0, or set ddp")


def check_division(config: TrainConfig, network: nn.Module, division: Division) -> None:
    """Check that every part of a batch has enough images.

    Raises:
        InputError: It has none, or one where batch norm needs two.
    """
    size, batch = config.schedule.batch_size // division.parts, config.schedule.batch_size
    needed = least_images(config, network, division)
    if size < needed:
        parts = f"{division.processes} processes" if division.processes > 1 else "one process"
        parts += f" by schedule.accumulation = {division.accumulation}" if division.accumulation > 1 else ""
        why = ", and batch norm learns nothing from one" if size else ""
        raise InputError(
            f"schedule.batch_size = {batch} for {parts} leaves {size} images to a part{why}; set it to "
            f"{needed * division.parts} or more"
        )


def least_images(config: TrainConfig, network: nn.Module, division: Division) -> int:
    """Return how many images a part of a batch needs."""
    if config.run.sync_batch_norm and division.processes > 1:
        return 1
    return 2 if any(isinstance(layer, _BatchNorm) for layer in network.modules()) else 1


def division_of(config: TrainConfig, processes: int, begun: Mapping[str, int] | None) -> Division:
    """Return how this many processes divide a batch, so that a run goes on as it began.

    Args:
        config: Of the run.
        processes: That train it now.
        begun: The `Division` that it was begun with, as plain values; None for a new run, and for old ones.

    Raises:
        InputError: It cannot go on as it began.
    """
    together = config.run.perturbation == "synchronised" or config.run.strategy == "fsdp"
    if begun is None:
        return Division(processes, config.schedule.accumulation, int(processes == 1 or not together))
    before = Division(**begun)
    if before.processes == processes:
        return before
    by_samples = config.optimizer.hyperparameters().get("micro_batch") is not None
    whole = config.run.sync_batch_norm or config.optimizer.name == "esam"
    # What is normalised together, or chosen from together, must be evaluated together, by whichever processes.
    accumulation = before.accumulation if whole or by_samples else -(-before.parts // processes)
    climbs = before.all_climbs
    if not optimizer_info(config.optimizer.name).sharpness_aware or by_samples:
        return Division(processes, accumulation, before.climbs)
    if climbs == 1 and config.optimizer.name != "esam":
        return Division(processes, accumulation, int(processes == 1))
    if climbs % processes or whole:
        others = "" if whole else " or a divisor of it"
        raise InputError(
            f"this run was begun by {climbs} processes, each of which climbs for itself (run.perturbation = worker), "
            f"and {processes} cannot do the same; resume it with {climbs}{others}"
        )
    return Division(processes, before.parts // processes, climbs // processes)


def distributed(objective: Objective, config: TrainConfig, processes: Processes, device: torch.device) -> nn.Module:
    """Return what computes the loss: the objective itself, or what several processes share it by.

    Raises:
        InputError: Batch norm is to be synchronised on a CPU, where PyTorch cannot.
    """
    if processes.count == 1:
        return objective
    if config.run.sync_batch_norm:
        if device.type == "cpu":
            raise InputError("run.sync_batch_norm: PyTorch synchronises batch norm on GPUs only; leave it out")
        convert_sync_batchnorm(objective)
    # Weights and normalisation that the first process alone has loaded become those of all.
    objective.load_state_dict(processes.of_first({key: value.cpu() for key, value in objective.state_dict().items()}))
    if config.run.strategy == "fsdp":
        divide(objective, device, processes.count)
        return objective
    options: dict[str, Any] = {
        "device_ids": None if device.type == "cpu" else [device],
        # Batch norm's statistics are averaged once an epoch, and no other buffer changes.
        _SYNC_BUFFERS: False,
        "find_unused_parameters": config.schedule.frozen_epochs > 0 or has_unused(objective, config, device),
    }
    return DistributedDataParallel(objective, **options)


def has_unused(objective: Objective, config: TrainConfig, device: torch.device) -> bool:
    """Whether the loss does not depend on some parameter that learns, which `DistributedDataParallel` must know."""
    training, size = objective.training, config.data.image_size
    objective.eval()
    image = torch.zeros(2, 1, size, size, device=device)
    batch = {"image": image, "label": torch.zeros(2, dtype=torch.int64, device=device)}
    batch |= {"mask": image, "has_mask": torch.ones(2, device=device)}
    params = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(objective(batch).sum(), params, allow_unused=True)
    objective.train(training)
    return any(gradient is None for gradient in gradients)


def losses_of_all(losses: list[Tensor], processes: Processes) -> list[float]:
    """Return the loss of each batch of an epoch, of which each process has a share."""
    values = torch.tensor([float(loss) for loss in losses], dtype=torch.float64)
    return [float(value) for value in processes.sum(values) / processes.count]


def mean_of_finite(losses: list[float], sizes: list[int]) -> float:
    """Return the mean loss of an image over the batches whose loss is finite."""
    known = [(loss, size) for loss, size in zip(losses, sizes, strict=True) if math.isfinite(loss)]
    return sum(loss * size for loss, size in known) / sum(size for _, size in known) if known else math.nan
