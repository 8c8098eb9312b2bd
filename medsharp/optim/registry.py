"""Making an optimizer by its name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from medsharp.optim.catalogue import optimizer_info


def create_optimizer(
    name: str,
    model_or_params: nn.Module | Iterable[Any],
    *,
    lr: float = 1e-3,
    base: str | type[Optimizer] = "adamw",
    weight_decay: float = 0.0,
    decay_norm_and_bias: bool = True,
    **hyperparameters: Any,
) -> Optimizer:
    """Make an optimizer by name.

    Args:
        name: One of `list_optimizers()`.
        model_or_params: A model (its batch-norm layers are then kept from counting the extra passes) or parameters.
        lr: Learning rate, more than 0.
        base: What a sharpness-aware method stands on: sgd, adam, adamw, or an optimizer class. A method with a step of
            its own (bayesiansam) has no use for it, nor for its keywords.
        weight_decay: Of the base optimizer.
        decay_norm_and_bias: With a model: decay one-dimensional parameters (biases, norm layers) as well, as torch's
            optimizers do.
        hyperparameters: The method's own keywords, and those of its base.

    Raises:
        ValueError: A name is unknown or a value out of range.
    """
    info = optimizer_info(name)
    if not lr > 0:
        raise ValueError(f"lr must be more than 0, not {lr}")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be 0 or more, not {weight_decay}")
    params: Any = model_or_params
    if isinstance(model_or_params, nn.Module):
        params = _groups(model_or_params, weight_decay, decay_norm_and_bias)
    options: dict[str, Any] = {entry.name: entry.default for entry in info.hyperparameters}
    if not info.sharpness_aware:
        hyperparameters.pop("model", None)  # has no use for it, as for a base
    else:
        options["model"] = model_or_params if isinstance(model_or_params, nn.Module) else None
        options["base"], defaults = _base(base)
        options.update(defaults)
        if info.own_step:
            own = inspect.signature(info.cls).parameters
            # Not maximize: to leave that out would turn the direction round.
            foreign = {"base", *defaults, *inspect.signature(options["base"]).parameters} - {*own, "maximize"}
            options = {key: value for key, value in options.items() if key not in foreign}
            hyperparameters = {key: value for key, value in hyperparameters.items() if key not in foreign}
    stepping = options.get("base", info.cls)
    if weight_decay or "weight_decay" in inspect.signature(stepping).parameters:
        options["weight_decay"] = weight_decay
    return info.cls(params, lr=lr, **{**options, **hyperparameters})


def _base(base: str | type[Optimizer]) -> tuple[type[Optimizer], dict[str, Any]]:
    if not isinstance(base, str):
        if not isinstance(base, type):
            raise ValueError(f"base must be sgd, adam, adamw or an optimizer class, not {base!r}")
        return base, {}
    info = optimizer_info(base)
    if info.sharpness_aware:
        raise ValueError(f"base must be a plain optimizer such as adamw, not {base}")
    return info.cls, {entry.name: entry.default for entry in info.hyperparameters}


def _groups(model: nn.Module, weight_decay: float, decay_all: bool) -> list[dict[str, Any]]:
    chosen: dict[bool, list[tuple[str, nn.Parameter]]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            chosen[decay_all or parameter.ndim > 1].append((name, parameter))
    decays = {True: weight_decay, False: 0.0}
    return [{"params": params, "weight_decay": decays[key]} for key, params in chosen.items() if params]
