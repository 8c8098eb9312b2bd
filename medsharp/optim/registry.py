"""Making an optimizer by its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from medsharp.optim.catalogue import optimizer_info

FUSED = {"adam", "adamw"}
"""What torch can step in one trip through memory. Not sgd: torch's fails where a parameter's first gradient is late."""

IMPLEMENTATIONS = {"foreach", "fused", "capturable", "differentiable"}
"""Keywords that choose how torch's optimizers compute."""


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
            its own (bayesiansam) has no use for it, nor for its keywords. adam and adamw are torch's fused ones unless
            you say otherwise (`fused=False`), which are several times as fast and round differently.
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
    elif not isinstance(model_or_params, Tensor):
        params = [_listed(entry) for entry in model_or_params]
    options: dict[str, Any] = {entry.name: entry.default for entry in info.hyperparameters}
    if not info.sharpness_aware:
        hyperparameters.pop("model", None)  # has no use for it, as for a base
    else:
        options["model"] = model_or_params if isinstance(model_or_params, nn.Module) else None
        options["base"], defaults = _base(base)
        options.update(defaults)
        if info.own_step:
            foreign = set(defaults) - {entry.name for entry in info.hyperparameters}
            options = {key: value for key, value in options.items() if key not in {"base", *foreign}}
            hyperparameters = {key: value for key, value in hyperparameters.items() if key not in foreign}
    stepping = name if not info.sharpness_aware else base if not info.own_step else None
    if stepping in FUSED and IMPLEMENTATIONS.isdisjoint(hyperparameters) and _can_be_fused(params):
        options["fused"] = True
    return info.cls(params, lr=lr, weight_decay=weight_decay, **{**options, **hyperparameters})


def _base(base: str | type[Optimizer]) -> tuple[type[Optimizer], dict[str, Any]]:
    if not isinstance(base, str):
        return base, {}
    info = optimizer_info(base)
    if info.sharpness_aware:
        raise ValueError(f"base must be a plain optimizer such as adamw, not {base}")
    return info.cls, {entry.name: entry.default for entry in info.hyperparameters}


def _listed(entry: Any) -> Any:
    """Return a parameter as it is, or a copy of a group whose parameters can be read more than once."""
    if isinstance(entry, dict) and "params" in entry:
        params = entry["params"]
        return {**entry, "params": [params] if isinstance(params, Tensor) else list(params)}
    return entry


def _can_be_fused(params: Any) -> bool:
    groups = [entry if isinstance(entry, dict) else {"params": [entry]} for entry in params]
    entries = [entry for group in groups for entry in group.get("params", [])]
    tensors = [entry[1] if isinstance(entry, tuple) else entry for entry in entries]
    return all(IMPLEMENTATIONS.isdisjoint(group) for group in groups) and all(
        isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.device.type in {"cpu", "cuda"}
        for tensor in tensors
    )


def _groups(model: nn.Module, weight_decay: float, decay_all: bool) -> list[dict[str, Any]]:
    chosen: dict[bool, list[tuple[str, nn.Parameter]]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            chosen[decay_all or parameter.ndim > 1].append((name, parameter))
    decays = {True: weight_decay, False: 0.0}
    return [{"params": params, "weight_decay": decays[key]} for key, params in chosen.items() if params]
