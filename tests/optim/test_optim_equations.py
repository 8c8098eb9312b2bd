"""Equal to the equations of `reference.py`: weights, base state, buffers and loss, float64, to 1e-10."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from reference import METHODS, Step
from small import create
from torch import Tensor, nn

from medsharp.optim import arithmetic, list_optimizers, optimizer_info

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sam": ("sam", {"rho": 0.3}),
    "asam-names": ("asam", {"rho": 0.8, "eta": 0.02, "normalization": "names"}),
    "asam-elementwise": ("asam", {"rho": 1.5, "eta": 0.02, "normalization": "elementwise"}),
    "gsam": ("gsam", {"rho": 0.3, "alpha": 0.4}),
    "wsam-decoupled": ("wsam", {"rho": 0.3, "gamma": 0.7, "decouple": True, "max_norm": None}),
    "wsam-coupled": ("wsam", {"rho": 0.3, "gamma": 0.7, "decouple": False, "max_norm": None}),
    "wsam-decoupled-max-norm": ("wsam", {"rho": 0.3, "gamma": 0.7, "decouple": True, "max_norm": 0.2}),
    "wsam-coupled-max-norm": ("wsam", {"rho": 0.3, "gamma": 0.7, "decouple": False, "max_norm": 0.2}),
    "crsam": ("crsam", {"rho": 0.3, "gamma": 0.3, "beta": 0.2}),
    "fsam": ("fsam", {"rho": 0.3, "sigma": 0.8, "lmbda": 0.6}),
    "vasso": ("vasso", {"rho": 0.3, "theta": 0.4}),
    "usam": ("usam", {"rho": 0.5}),
    "stablesam": ("stablesam", {"rho": 0.5}),
    "gcsam": ("gcsam", {"rho": 0.3}),
    "gam": ("gam", {"rho": 0.2, "norm_rho": 0.3, "gamma": 0.4, "beta1": 0.6, "beta2": -0.5, "beta3": 0.4}),
    "looksam-global": ("looksam", {"rho": 0.3, "alpha": 0.5, "k": 3, "projection": "global"}),
    "looksam-tensor": ("looksam", {"rho": 0.3, "alpha": 0.5, "k": 3, "projection": "tensor"}),
    "esam": ("esam", {"rho": 0.3, "beta": 1.0, "gamma": 0.5}),
    "esam-frozen": ("esam", {"rho": 0.3, "beta": 0.6, "gamma": 0.8, "seed": 3}),
    "xsam": ("xsam", {"rho": 0.3, "rho_max": 0.6, "ascents": 1, "interval": 3}),
    "xsam-three-ascents": ("xsam", {"rho": 0.2, "rho_max": 1.0, "ascents": 3, "interval": 2}),
    "lesam": ("lesam", {"rho": 2.0, "sigma": 0.1}),
    "lesam-bounded": ("lesam", {"rho": 0.3, "sigma": 1.0}),
    "zsharp-global": ("zsharp", {"rho": 0.3, "quantile": 0.8, "norm": "global"}),
    "zsharp-tensor": ("zsharp", {"rho": 0.3, "quantile": 0.7, "norm": "tensor"}),
    "msam": ("msam", {"rho": 0.5}),
    "bayesiansam": ("bayesiansam", {"rho": 0.4, "data_size": 50, "precision": 0.7, "damping": 0.1, "seed": 3}),
    "eigensam": ("eigensam", {"rho": 0.3, "alpha": 0.4, "freq": 4, "seed": 3}),
}
ADAPTIVE = [
    "sam",
    "gsam",
    "wsam-decoupled",
    "wsam-coupled-max-norm",
    "crsam",
    "fsam",
    "vasso",
    "usam",
    "stablesam",
    "gcsam",
    "gam",
    "looksam-global",
    "esam-frozen",
    "lesam",
    "lesam-bounded",
]
BASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.02}),
    "nesterov": (torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.02}),
    "adam": (torch.optim.Adam, {"lr": 0.02, "weight_decay": 0.02, "betas": (0.8, 0.95)}),
    "adamw": (torch.optim.AdamW, {"lr": 0.02, "weight_decay": 0.1, "betas": (0.8, 0.95)}),
}


def network(batch_norm: bool) -> nn.Sequential:
    torch.manual_seed(5)
    # Without a bias that batch norm would cancel: its gradient is rounding noise, which Adam blows up.
    layers = [nn.Linear(5, 6, bias=False), nn.BatchNorm1d(6)] if batch_norm else [nn.Linear(5, 6)]
    return nn.Sequential(*layers, nn.Tanh(), nn.Linear(6, 3)).double()


def grouped(model: nn.Module, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Two groups of named parameters whose rho, learning rate and weight decay differ."""
    sides: list[list[Any]] = [[], []]
    for name, parameter in model.named_parameters():
        sides[parameter.ndim > 1].append((name, parameter))
    keys = ("rho", "lr", "weight_decay")
    return [{"params": side, **{key: options[key] * factor for key in keys}} for side, factor in zip(sides, (0.4, 1))]


def close(ours: Any, expected: Any, what: str) -> None:
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10, msg=lambda text: f"{what}: {text}")


def check(
    case: str,
    base: str,
    batch_norm: bool,
    *,
    groups: bool = False,
    maximize: bool = False,
    adaptive: bool = False,
    max_grad_norm: float | None = None,
) -> None:
    name, hyperparameters = CASES[case]
    cls, base_options = BASES[base]
    ours, model = network(batch_norm), network(batch_norm)
    options = {**hyperparameters, **base_options}

    own = {"adaptive": True} if adaptive else {}
    if optimizer_info(name).own_step:
        base_options = {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": 0.02}
        options = {**hyperparameters, **base_options}
        cls = torch.optim.SGD  # for its groups
    else:
        own |= {"base": cls} | ({"maximize": True} if maximize else {})
    params: Any = grouped(ours, options) if groups else ours.named_parameters()
    optimizer = optimizer_info(name).cls(params, model=ours, max_grad_norm=max_grad_norm, **own, **options)

    params = grouped(model, options) if groups else model.named_parameters()
    known = {key: value for key, value in base_options.items() if cls is not torch.optim.SGD or key != "betas"}
    plain = cls(params, **known)
    for group in plain.param_groups:
        group.setdefault("rho", options["rho"])
    values = SimpleNamespace(**{"adaptive": adaptive, "seed": 0, **options})
    memory: dict[str, Any] = {}

    schedules = [torch.optim.lr_scheduler.StepLR(o, 2, 0.6) for o in (optimizer, plain)]
    generator = torch.Generator().manual_seed(7)
    for _ in range(6):
        x = torch.randn(8, 5, dtype=torch.float64, generator=generator)
        y = torch.randint(3, (8,), generator=generator)

        def closure(rows: Any = slice(None), x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            losses = F.cross_entropy(ours(x[rows]), y[rows], reduction="none")
            losses.mean().backward()
            return losses if name == "esam" else losses.mean()

        loss = optimizer.step(closure)
        step = Step(model, plain, x, y, values, memory, sign=-1 if maximize else 1, max_grad_norm=max_grad_norm)
        METHODS[name](step)
        if optimizer_info(name).own_step:
            plain.step()  # has no gradients; for the schedule's order
        close(float(loss), step.first_loss, "loss")
        for key, value in model.state_dict().items():
            close(ours.state_dict()[key], value, key)
        for schedule in schedules:
            schedule.step()
        for o in (optimizer, plain):
            for group in o.param_groups:
                group["rho"] *= 0.9

    own_state = {"momentum": step.split(memory["m"]), "precision": step.split(memory["s"])} if "s" in memory else {}
    for number, (mine, theirs) in enumerate(zip(ours.parameters(), step.tensors)):
        for key, value in {**plain.state[theirs], **{k: v[number] for k, v in own_state.items()}}.items():
            close(optimizer.state[mine][key], value, key)


def test_every_method_has_its_equations() -> None:
    sharpness_aware = {name for name in list_optimizers() if optimizer_info(name).sharpness_aware}
    assert sharpness_aware == set(METHODS) == {name for name, _ in CASES.values()}


@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batchnorm"])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("case", [case for case in CASES if case != "bayesiansam"])
def test_equals_the_equations_while_rate_and_rho_change(case: str, base: str, batch_norm: bool) -> None:
    check(case, base, batch_norm)


@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batchnorm"])
def test_bayesian_sam_equals_its_equations(batch_norm: bool) -> None:
    check("bayesiansam", "adam", batch_norm)


@pytest.mark.parametrize("case", ADAPTIVE)
def test_equals_the_equations_when_adaptive(case: str) -> None:
    check(case, "sgd", True, adaptive=True)


def test_every_adaptive_method_is_checked_adaptive() -> None:
    adaptive = {i.name for i in map(optimizer_info, METHODS) if any(h.name == "adaptive" for h in i.hyperparameters)}
    assert adaptive == {CASES[case][0] for case in ADAPTIVE}
    for name in set(METHODS) - adaptive - {"asam"}:
        with pytest.raises(ValueError, match="leave adaptive out"):
            create(name, [nn.Parameter(torch.ones(1))], adaptive=True)


@pytest.mark.parametrize("case", ["asam-names", "asam-elementwise"])
def test_working_on_parts_changes_nothing(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "PART", 4)
    check(case, "sgd", True)
    check(case, "sgd", True, groups=True)


@pytest.mark.parametrize("case", CASES)
def test_what_is_applied_is_clipped_once(case: str) -> None:
    check(case, "sgd", True, max_grad_norm=0.1)


@pytest.mark.parametrize("base", ["sgd", "adamw"])
@pytest.mark.parametrize("case", CASES)
def test_groups_have_a_rho_each_and_one_norm(case: str, base: str) -> None:
    check(case, base, True, groups=True)


@pytest.mark.parametrize("base", ["sgd", "adam"])
@pytest.mark.parametrize("case", [case for case in CASES if case != "bayesiansam"])
def test_maximizing_is_minimizing_the_negative(case: str, base: str) -> None:
    check(case, base, True, maximize=True)
