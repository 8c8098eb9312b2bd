"""Checking a configuration against the registries that only training may import."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from medsharp.config import OptimizerConfig, TrainConfig, validate_config
from medsharp.errors import InputError, nearest
from medsharp.networks import list_networks
from medsharp.optim import Hyperparameter, SharpnessAware, create_optimizer, optimizer_info


def resolve_config(config: TrainConfig) -> TrainConfig:
    """Check network and optimizer names and hyper-parameters; fill in the method's defaults.

    Raises:
        InputError: A name is unknown, or a hyper-parameter is unknown or out of range; the sentence names the key.
    """
    name = config.network.name
    known = list_networks()
    if name not in known:
        raise InputError(f"network.name: unknown network '{name}'{nearest(name, known)}")
    values = config.model_dump(mode="json")
    values["optimizer"] = _optimizer(config.optimizer)
    return validate_config(values)


def make_optimizer(
    config: OptimizerConfig,
    model_or_params: nn.Module | list[Tensor],
    clip_grad_norm: float | None,
    seed: int = 0,
    data_size: int = 1,
) -> Optimizer:
    """Make the optimizer of a resolved configuration.

    A sharpness-aware one clips for itself, what it applies: a gradient clipped in the closure would distort differences
    between passes.
    """
    options = dict(config.model_extra or {})
    options["data_size"] = options.get("data_size") or data_size
    if "betas" in options:
        options["betas"] = tuple(options["betas"])
    optimizer = create_optimizer(
        config.name,
        model_or_params,
        base=config.base,
        lr=config.lr,
        weight_decay=config.weight_decay,
        decay_norm_and_bias=False,
        seed=seed,
        **options,
    )
    if isinstance(optimizer, SharpnessAware):
        optimizer.max_grad_norm = clip_grad_norm
    return optimizer


def _optimizer(config: OptimizerConfig) -> dict[str, Any]:
    infos = [_info("optimizer.name", config.name)]
    if infos[0].sharpness_aware and not infos[0].own_step:
        base = _info("optimizer.base", config.base)
        if base.sharpness_aware:
            raise InputError(f"optimizer.base: must be sgd, adam or adamw, not {config.base}")
        infos.append(base)
    known = {entry.name: entry for info in infos for entry in info.hyperparameters}
    given = dict(config.model_extra or {})
    for key, value in given.items():
        if key not in known:
            raise InputError(f"unknown key 'optimizer.{key}' for {infos[0].name}{nearest(key, known)}")
        _check(known[key], value)
    defaults = {key: list(e.default) if isinstance(e.default, tuple) else e.default for key, e in known.items()}
    fixed = {"name": infos[0].name, "base": config.base, "lr": config.lr, "weight_decay": config.weight_decay}
    values = {**fixed, **defaults, **given}
    _try(OptimizerConfig.model_validate(values), [*known, "lr", "weight_decay"])
    return values


def _try(config: OptimizerConfig, keys: list[str]) -> None:
    """Make the optimizer once: it knows rules that a range of one value cannot say."""
    try:
        make_optimizer(config, [torch.zeros(1, requires_grad=True)], None)
    except ValueError as error:
        named = [key for key in sorted(keys, key=len, reverse=True) if key in str(error).lower()]
        raise InputError(f"optimizer.{named[0] if named else 'name'}: {error}") from error


def _info(key: str, name: str) -> Any:
    try:
        return optimizer_info(name)
    except ValueError as error:
        raise InputError(f"{key}: {error}") from error


def _check(entry: Hyperparameter, value: Any) -> None:
    key = f"optimizer.{entry.name}"
    if value is None and entry.default is None:
        return
    if entry.choices:
        if value not in entry.choices:
            raise InputError(f"{key} = {value!r}: must be one of {', '.join(entry.choices)}")
    elif isinstance(entry.default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{key} = {value!r}: must be true or false")
    elif isinstance(entry.default, tuple):
        count = len(entry.default)
        right = isinstance(value, (list, tuple)) and len(value) == count
        if not right or not all(isinstance(item, (int, float)) and 0 <= item < 1 for item in value):
            example = list(entry.default)
            raise InputError(f"{key} = {value!r}: must be {count} numbers from 0 to below 1, such as {example}")
    else:
        low = float("-inf") if entry.low is None else entry.low
        high = float("inf") if entry.high is None else entry.high
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            bounds = f"from {low:g} to {high:g}" if entry.high is not None else f"of {low:g} or more"
            raise InputError(f"{key} = {value!r}: must be a number {bounds} ({entry.doc})")
