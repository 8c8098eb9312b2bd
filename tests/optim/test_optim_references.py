"""Equal to the reference implementations: weights, base state and buffers, float64, to 1e-10."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medsharp.optim import SAM, WSAM, create_optimizer, optimizer_info

CASES = sorted((Path(__file__).parent / "oracle").glob("*.json"))
NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "ASAM_samsung": ("asam", {}),
    "ASAM_davda54": ("asam", {"normalization": "elementwise"}),
}
"""What files of reference values call differently from the package."""


class Quadratic(nn.Module):
    """A loss of five weights; it is its own output."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:
        a, c = x.new_tensor([1.0, 10.0, 0.3]), x.new_tensor([2.0, 0.5])
        w, b = self.weight, self.bias
        return 0.5 * (a * w**2).sum() + 0.05 * (w**4).sum() + 0.5 * (c * b**2).sum() + 0.3 * w[0] * b[0] + (w * x).sum()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "quad": Quadratic,
    "logreg": lambda: nn.Sequential(nn.Linear(4, 3)),
    "mlp": lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)),
}


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def model_of(case: dict[str, Any]) -> nn.Module:
    model = MODELS[case["model"]]().double()
    model.load_state_dict({name: tensor(value) for name, value in case["init_state_dict"].items()})
    return model


def optimizer_of(case: dict[str, Any], model: nn.Module, way: str) -> Any:
    """Make the optimizer with the file's hyper-parameters as they are, in one of the ways that there are."""
    options = dict(case["base_optimizer"])
    base = options.pop("cls")
    if case["method"] == "base":
        given = {"model": model}.get(way, model.named_parameters())
        return create_optimizer(base, given, **options)
    name, own = NAMES.get(case["method"], (case["method"], {}))
    options |= {**own, **case["hyperparameters"]}
    match way:
        case "named parameters":
            return optimizer_info(name).cls(model.named_parameters(), getattr(torch.optim, base), **options)
        case "parameters and model":
            return optimizer_info(name).cls(model.parameters(), getattr(torch.optim, base), model=model, **options)
        case "by name, model":
            return create_optimizer(name, model, base=base, **options)
        case _:
            return create_optimizer(name, model.named_parameters(), base=getattr(torch.optim, base), **options)


def same(ours: Tensor, expected: Any) -> None:
    torch.testing.assert_close(ours, tensor(expected).to(ours.dtype), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "way", ["named parameters", "parameters and model", "by name, model", "by name, named parameters"]
)
@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_equals_reference(path: Path, way: str) -> None:
    case = json.loads(path.read_text())
    model = model_of(case)
    optimizer = optimizer_of(case, model, way)
    parameters = dict(model.named_parameters())
    for number, batch in enumerate(case["batches"]):
        x, y = tensor(batch["x"]), torch.tensor(batch["y"])

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = model(x) if case["model"] == "quad" else F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        assert float(loss.detach()) == pytest.approx(case["first_pass_losses"][number], abs=1e-10)
        weights = {name: p.detach().clone() for name, p in parameters.items()}
        if case["method"] == "MSAM":
            # The reference's weights stay perturbed between steps, by -rho v / ||v||.
            velocities = {name: optimizer.state[p]["momentum_buffer"] for name, p in parameters.items()}
            size = torch.cat([v.flatten() for v in velocities.values()]).norm()
            for name, velocity in velocities.items():
                weights[name] -= case["hyperparameters"]["rho"] * velocity / size
        for name, value in weights.items():
            same(value, case["params_after_step"][number][name])
    for name, value in case.get("params_after_move_back", {}).items():
        same(parameters[name].detach(), value)
    for name, value in case["buffers_after_step3"].items():
        same(dict(model.named_buffers())[name], value)
    for key, value in case["base_state_after_step3"].items():
        name, entry = key.split(":")
        same(optimizer.state[parameters[name]][entry], value)


def test_reference_values_are_of_all_models_and_many_methods() -> None:
    cases = [json.loads(path.read_text()) for path in CASES]
    assert {case["model"] for case in cases} == set(MODELS)
    assert len(cases) == 27
    assert len({case["method"] for case in cases}) == 13


def reference_step(
    w: Tensor, gradient: Callable[[Tensor], Tensor], base: torch.optim.Optimizer, method: str, options: dict[str, Any]
) -> None:
    """SAM and WSAM written down once more, as their papers have them, for one parameter."""
    start = w.detach().clone()
    g = gradient(start)
    g_plus = gradient(start + options["rho"] * g / (g.norm() + 1e-12))
    a = options.get("gamma", 0.5) / (1 - options.get("gamma", 0.5))
    if method == "sam":
        w.grad = g_plus
    elif options["decouple"]:
        w.grad = g
    else:
        w.grad = a * g_plus + (1 - a) * g
    base.step()
    if method == "wsam" and options["decouple"]:
        with torch.no_grad():
            w -= base.param_groups[0]["lr"] * a * (g_plus - g)


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("sam", {"rho": 0.3}),
        ("wsam", {"rho": 0.3, "gamma": 0.8, "decouple": True}),
        ("wsam", {"rho": 0.3, "gamma": 0.8, "decouple": False}),
        ("wsam", {"rho": 0.3, "gamma": 0.5, "decouple": False}),
    ],
)
def test_equals_the_equations_with_every_base_and_a_schedule(
    base: type[torch.optim.Optimizer], method: str, options: dict[str, Any]
) -> None:
    generator = torch.Generator().manual_seed(1)
    matrix = torch.randn(6, 6, dtype=torch.float64, generator=generator)
    matrix = matrix @ matrix.T

    def value(w: Tensor) -> Tensor:
        return 0.5 * w @ matrix @ w + 0.1 * (w**4).sum()

    def gradient(w: Tensor) -> Tensor:
        leaf = w.detach().clone().requires_grad_()
        return torch.autograd.grad(value(leaf), leaf)[0]

    start = torch.randn(6, dtype=torch.float64, generator=generator)
    ours, theirs = (nn.Parameter(start.clone()) for _ in range(2))
    optimizer = {"sam": SAM, "wsam": WSAM}[method]([ours], base, lr=0.05, weight_decay=0.01, **options)
    plain = base([theirs], lr=0.05, weight_decay=0.01)
    schedules = [torch.optim.lr_scheduler.StepLR(opt, 2, 0.5) for opt in (optimizer, plain)]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = value(ours)
        loss.backward()
        return loss

    for _ in range(6):
        optimizer.step(closure)
        reference_step(theirs, gradient, plain, method, options)
        for schedule in schedules:
            schedule.step()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)
