"""Checking a configuration against the registries that only training may import."""

from __future__ import annotations

from typing import Any

from medsharp.config import OptimizerConfig, TrainConfig, validate_config
from medsharp.errors import InputError, nearest
from medsharp.networks import list_networks
from medsharp.optim import Hyperparameter, optimizer_info


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


def optimizer_options(config: OptimizerConfig) -> dict[str, Any]:
    """Return the hyper-parameters beyond name, base, rate and decay, as `create_optimizer` takes them."""
    options = dict(config.model_extra or {})
    if "betas" in options:
        options["betas"] = tuple(options["betas"])
    return options


def _optimizer(config: OptimizerConfig) -> dict[str, Any]:
    infos = [_info("optimizer.name", config.name)]
    if infos[0].sharpness_aware:
        base = _info("optimizer.base", config.base)
        if base.sharpness_aware:
            raise InputError(f"optimizer.base: must be sgd, adam or adamw, not {config.base}")
        infos.append(base)
    known = {entry.name: entry for info in infos for entry in info.hyperparameters}
    given = dict(config.model_extra or {})
    for key, value in given.items():
        if key not in known:
            raise InputError(f"unknown key 'optimizer.{key}' for {config.name}{nearest(key, known)}")
        _check(known[key], value)
    defaults = {key: list(e.default) if isinstance(e.default, tuple) else e.default for key, e in known.items()}
    fixed = {"name": config.name, "base": config.base, "lr": config.lr, "weight_decay": config.weight_decay}
    return {**fixed, **defaults, **given}


def _info(key: str, name: str) -> Any:
    try:
        return optimizer_info(name)
    except ValueError as error:
        raise InputError(f"{key}: {error}") from error


def _check(entry: Hyperparameter, value: Any) -> None:
    key = f"optimizer.{entry.name}"
    if value is None and entry.default is None:
        return
    if isinstance(entry.default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{key} = {value!r}: must be true or false")
    elif isinstance(entry.default, tuple):
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, (int, float)) and 0 <= v < 1 for v in value):
            raise InputError(f"{key} = {value!r}: must be numbers from 0 to below 1, such as {list(entry.default)}")
    else:
        low = float("-inf") if entry.low is None else entry.low
        high = float("inf") if entry.high is None else entry.high
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            bounds = f"from {low:g} to {high:g}" if entry.high is not None else f"of {low:g} or more"
            raise InputError(f"{key} = {value!r}: must be a number {bounds} ({entry.doc})")
