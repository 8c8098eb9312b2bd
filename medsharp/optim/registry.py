"""Making an optimizer by its name."""

from __future__ import annotations

import fnmatch
import inspect
from collections.abc import Iterable
from typing import Any, Literal, overload

from torch import nn
from torch.optim import Optimizer

from medsharp.optim.catalogue import list_optimizers, optimizer_info
from medsharp.optim.closure_optimizer import ClosureOptimizer
from medsharp.optim.one_pass import OnePass


@overload
def create_optimizer(
    name: str,
    model_or_params: nn.Module | Iterable[Any],
    *,
    lr: float = ...,
    base: str | type[Optimizer] = ...,
    weight_decay: float = ...,
    decay_norm_and_bias: bool = ...,
    seed: int = ...,
    data_size: int | None = ...,
    protocol: Literal[True],
    **hyperparameters: Any,
) -> ClosureOptimizer: ...


@overload
def create_optimizer(
    name: str,
    model_or_params: nn.Module | Iterable[Any],
    *,
    lr: float = ...,
    base: str | type[Optimizer] = ...,
    weight_decay: float = ...,
    decay_norm_and_bias: bool = ...,
    seed: int = ...,
    data_size: int | None = ...,
    protocol: bool = ...,
    **hyperparameters: Any,
) -> Optimizer: ...


def create_optimizer(
    name: str,
    model_or_params: nn.Module | Iterable[Any],
    *,
    lr: float = 1e-3,
    base: str | type[Optimizer] = "adamw",
    weight_decay: float = 0.0,
    decay_norm_and_bias: bool = True,
    seed: int = 0,
    data_size: int | None = None,
    protocol: bool = False,
    **hyperparameters: Any,
) -> Optimizer:
    """Make an optimizer by name.

    Args:
        name: One of `list_optimizers()`.
        model_or_params: A model (its batch-norm layers are then kept from counting the extra passes) or parameters.
        lr: Learning rate, more than 0.
        base: What a sharpness-aware method stands on: sgd, adam, adamw, or an optimizer class. A method with a step of
            its own (bayesiansam) has no use for it, nor for its keywords. A name and its class mean the same: "sgd" and
            `torch.optim.SGD` have the momentum 0.9 of `optimizer_info("sgd")` where none is given.
        weight_decay: Of the base optimizer.
        decay_norm_and_bias: With a model: decay one-dimensional parameters (biases, norm layers) as well, as torch's
            optimizers do. Without it, what a module names in `no_weight_decay()`, as timm's networks do with class
            tokens and position tables, is not decayed either. Parameters that are frozen are in the groups too, so
            that they learn when they are unfrozen.
        seed: Of what a method draws: ESAM's tensors, Bayesian SAM's noise, Eigen-SAM's first vector. Others draw
            nothing.
        data_size: Number of training samples, for a method that counts on it (bayesiansam, which warns without it).
        protocol: Make a plain optimizer (sgd, adam, adamw) as `OnePass`, which steps with a closure, clips, and skips
            what is not finite, as the sharpness-aware methods do. Without it, it is torch's own class.
        hyperparameters: The method's own keywords, and those of its base.

    Raises:
        ValueError: A name is unknown, or a value out of range.
    """
    info = optimizer_info(name)
    if not lr > 0:
        raise ValueError(f"lr must be more than 0, not {lr}")
    if not weight_decay >= 0:
        raise ValueError(f"weight_decay must be 0 or more, not {weight_decay}")
    model = model_or_params if isinstance(model_or_params, nn.Module) else None
    params: Any = model_or_params if model is None else parameter_groups(model, weight_decay, decay_norm_and_bias)
    options = info.defaults
    method, stepping = info.cls, info.cls
    if info.sharpness_aware:
        stepping, defaults = _base(base)
        options |= {"model": model, "seed": seed, "base": stepping, **defaults}
        if "data_size" in options:
            options["data_size"] = data_size
        if info.own_step:
            own = inspect.signature(info.cls).parameters
            # Not maximize: to leave that out would turn the direction round.
            foreign = {"base", *defaults, *inspect.signature(stepping).parameters} - {*own, "maximize"}
            options = {key: value for key, value in options.items() if key not in foreign}
            hyperparameters = {key: value for key, value in hyperparameters.items() if key not in foreign}
            stepping = info.cls
    elif protocol:
        method = OnePass
        options |= {"model": model, "seed": seed, "base": info.cls}
    else:
        hyperparameters.pop("model", None)  # has no use for it, as for a base
    if weight_decay or "weight_decay" in inspect.signature(stepping).parameters:
        options["weight_decay"] = weight_decay
    return method(params, lr=lr, **{**options, **hyperparameters})


def _base(base: str | type[Optimizer]) -> tuple[type[Optimizer], dict[str, Any]]:
    if not isinstance(base, str):
        if not isinstance(base, type):
            raise ValueError(f"base must be sgd, adam, adamw or an optimizer class, not {base!r}")
        plain = [info for info in map(optimizer_info, list_optimizers()) if not info.sharpness_aware]
        known = next((info for info in plain if info.cls is base), None)
        return base, {} if known is None else known.defaults
    info = optimizer_info(base)
    if info.sharpness_aware:
        raise ValueError(f"base must be a plain optimizer such as adamw, not {base}")
    return info.cls, info.defaults


def parameter_groups(model: nn.Module, weight_decay: float, decay_norm_and_bias: bool = True) -> list[dict[str, Any]]:
    """Return the named parameters of a model in one group that is decayed, and one that is not; neither is empty.

    They are what `create_optimizer` makes of a model; whoever wants other groups, such as learning rates by layer,
    divides these and gives them instead.

    Args:
        model: Whose parameters, frozen ones too.
        weight_decay: Of the group that is decayed.
        decay_norm_and_bias: As for `create_optimizer`.
    """
    chosen: dict[bool, list[tuple[str, nn.Parameter]]] = {True: [], False: []}
    spared = set() if decay_norm_and_bias else _spared(model)
    for name, parameter in model.named_parameters():
        decayed = parameter.ndim > 1 and not any(fnmatch.fnmatchcase(name, pattern) for pattern in spared)
        chosen[decay_norm_and_bias or decayed].append((name, parameter))
    decays = {True: weight_decay, False: 0.0}
    return [{"params": params, "weight_decay": decays[key]} for key, params in chosen.items() if params]


def _spared(model: nn.Module) -> set[str]:
    """Return the names, or patterns of them, that any module of the model wants to be spared from decay."""
    spared = set()
    for prefix, module in model.named_modules():
        stated = getattr(module, "no_weight_decay", ())
        names = stated() if callable(stated) else stated
        spared |= {f"{prefix}.{name}" if prefix else name for name in names}
    return spared
