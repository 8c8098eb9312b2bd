"""Who is measured: an optimizer of medsharp, and the same method of pytorch_optimizer where that is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from medsharp.errors import InputError
from medsharp.optim import create_optimizer, list_optimizers, optimizer_info
from training.benchmark.workload import Closure

Step = Callable[[Closure], None]

OURS, THEIRS, BARE = "medsharp", "pytorch_optimizer", "bare calls"

RATE = 1e-4
"""Learning rate: small, as the same batch is seen in every step."""

SETTINGS: dict[str, dict[str, Any]] = {"esam": {"beta": 0.6, "gamma": 0.5}, "bayesiansam": {"data_size": 10_000}}
"""What differs from the defaults: those of ESAM switch its savings off; these are its paper's. Bayesian SAM has
none for the number of training samples."""

EPOCH = 100
"""Steps from one search of XSAM to the next."""

WHOLE_CYCLE = 5
"""A method that repeats itself after more steps than this is measured at the first step of a cycle and one other."""


@dataclass(frozen=True)
class Contestant:
    """Something that takes steps.

    Attributes:
        name: As `medsharp.optim` spells the method.
        by: Whose version; `BARE` is no optimizer but a yardstick.
        passes: Forward and backward passes a step, on average; None where its documentation does not say.
        period: Steps after which it does the same again.
        make: Builds it for a network; it then makes a step from a closure. With `empty`, for passes without a network.
        per_sample: The closure takes rows and returns the loss of each.
        differentiates: It differentiates through a pass now and then; such steps need a real network.
        compiles: It can work with a compiled network.
    """

    name: str
    by: str
    passes: float | None
    period: int
    make: Callable[[nn.Module, bool], Step]
    per_sample: bool = False
    differentiates: bool = False
    compiles: bool = True

    @property
    def weights(self) -> list[float]:
        """The share of each step that is measured in the mean step: the steps of a cycle, or two that stand for it."""
        if self.period <= WHOLE_CYCLE:
            return [1 / self.period] * self.period
        return [1 / self.period, 1 - 1 / self.period]


def choose(names: list[str], base: str, rivals: bool, fused: bool | None = None) -> list[Contestant]:
    """Return the base optimizer, bare SAM, then each method, followed by its rival.

    Args:
        names: Of the methods; all that are sharpness-aware where empty.
        base: What they stand on.
        rivals: Whether to include those of pytorch_optimizer.
        fused: Whether the base optimizer is torch's fused one; as torch chooses where None.

    Raises:
        InputError: A name is unknown, or `base` is none.
    """
    known = list_optimizers()
    plain = [name for name in known if not optimizer_info(name).sharpness_aware]
    if base not in plain:
        raise InputError(f"--base must be one of {', '.join(plain)}, not {base}")
    infos = []
    for name in names or [name for name in known if name not in plain]:
        try:
            infos.append(optimizer_info(name))
        except ValueError as error:
            raise InputError(f"--optimizer: {error}") from error
    below: dict[str, Any] = {} if fused is None else {"fused": fused}
    chosen = [_ours(base, base, below), _bare(base, below)]
    for name in dict.fromkeys(info.name for info in infos if info.name != base):
        chosen.append(_ours(name, base, below))
        rival = _theirs(name, base, below) if rivals else None
        if rival is not None:
            chosen.append(rival)
    return chosen


def rival_library() -> ModuleType | None:
    """Return pytorch_optimizer, or None where it is not installed."""
    try:
        return importlib.import_module(THEIRS)
    except ModuleNotFoundError as error:
        if error.name != THEIRS:
            raise
        return None


def _ours(name: str, base: str, below: dict[str, Any]) -> Contestant:
    info = optimizer_info(name)
    defaults = {entry.name: entry.default for entry in info.hyperparameters}
    key = next((key for key in ("k", "freq", "interval") if key in defaults), None)
    period = (defaults[key] or EPOCH) if key else 1
    differentiates = name == "eigensam"

    def make(network: nn.Module, empty: bool) -> Step:
        options = {**SETTINGS.get(name, {}), **({} if info.own_step else below)}
        if info.sharpness_aware:
            options["base"] = base
        if key and period > WHOLE_CYCLE:
            options[key] = 2
        if key and empty and differentiates:
            options[key] = 2**62
        optimizer: Any = create_optimizer(name, network, lr=RATE, **options)

        def step(closure: Closure) -> None:
            optimizer.step(closure)
            if getattr(optimizer, "skipped", 0):  # torch's own skip nothing
                raise ArithmeticError(f"{name} met a loss or gradient that is not finite; the times would mean nothing")

        return step

    per_sample = SETTINGS.get(name, {}).get("gamma", 1) < 1 and name == "esam"
    compiles = name not in {"esam", "eigensam"}
    return Contestant(name, OURS, info.passes, period, make, per_sample, differentiates, compiles)


def _bare(base: str, below: dict[str, Any]) -> Contestant:
    """Return the least that SAM takes in torch operations, to measure what a machine's memory makes of any method.

    A norm, a backup into memory that is there already, the climb, the restoration. Nothing is checked, batch-norm
    statistics count both passes, and there is one parameter group.
    """
    rho = {entry.name: entry.default for entry in optimizer_info("sam").hyperparameters}["rho"]

    def make(network: nn.Module, empty: bool) -> Step:
        optimizer = create_optimizer(base, network, lr=RATE, **below)
        params: list[Tensor] = [parameter for parameter in network.parameters() if parameter.requires_grad]
        backups = [torch.empty_like(parameter) for parameter in params]

        @torch.no_grad()
        def step(closure: Closure) -> None:
            with torch.enable_grad():
                closure()
            gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in params]
            size = torch.stack(torch._foreach_norm(gradients)).norm()
            torch._foreach_copy_(backups, params)
            torch._foreach_add_(params, gradients, alpha=rho / (float(size) + 1e-12))
            del gradients  # the second pass may have their memory
            with torch.enable_grad():
                closure()
            torch._foreach_copy_(params, backups)
            optimizer.step()

        return step

    return Contestant("sam", BARE, 2, 1, make)


_NAMES = {
    "sam": "SAM",
    "gcsam": "SAM",
    "gsam": "GSAM",
    "wsam": "WSAM",
    "fsam": "FriendlySAM",
    "looksam": "LookSAM",
    "bayesiansam": "BSAM",
}
"""What pytorch_optimizer calls them. Its adaptive SAM is another method than ASAM."""


def _theirs(name: str, base: str, below: dict[str, Any]) -> Contestant | None:
    library = rival_library()
    if library is None or name not in _NAMES:
        return None
    method = getattr(library, _NAMES[name])
    plain = optimizer_info(base)
    options = {"lr": RATE, **{entry.name: entry.default for entry in plain.hyperparameters}}
    options.update(below)
    own = {entry.name: entry.default for entry in optimizer_info(name).hyperparameters} | SETTINGS.get(name, {})

    def make(network: nn.Module, empty: bool) -> Step:
        params = list(network.parameters())
        if name == "bayesiansam":
            optimizer = method(params, num_data=own["data_size"], lr=RATE, weight_decay=1e-4)
        elif name == "gsam":
            return _their_gsam(library, network, plain.cls(params, **options), own)
        elif name == "wsam":
            optimizer = method(network, params, plain.cls, rho=own["rho"], gamma=own["gamma"], **options)
        else:
            extra: dict[str, Any] = {key: own[key] for key in ("k", "alpha", "sigma", "lmbda") if key in own}
            if name == "gcsam":
                extra["use_gc"] = True
            optimizer = method(params, plain.cls, rho=own["rho"], **extra, **options)

        def step(closure: Closure) -> None:
            # Its documentation asks for the first pass outside of step; BSAM fails on its very first step without one.
            first = name == "bayesiansam" and not optimizer.state
            if first or name not in {"bayesiansam", "wsam"}:
                closure()
            optimizer.step(closure)

        return step

    return Contestant(name, THEIRS, None, own.get("k", 1), make)


def _their_gsam(library: ModuleType, network: nn.Module, base: Optimizer, own: dict[str, Any]) -> Step:
    constant = torch.optim.lr_scheduler.ConstantLR(base, factor=1.0)
    radius = library.ProportionScheduler(constant, max_lr=RATE, min_lr=RATE, max_value=own["rho"], min_value=own["rho"])
    optimizer = library.GSAM(network.parameters(), base, network, radius, alpha=own["alpha"])

    def step(closure: Closure) -> None:
        def with_outputs() -> tuple[None, Tensor]:
            with torch.enable_grad():
                return None, closure()

        optimizer.step(with_outputs)

    return step
