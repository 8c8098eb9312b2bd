"""Equal to the reference implementations: weights, base state and buffers, float64, to 1e-10."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medsharp.optim import ASAM, CRSAM, FSAM, GCSAM, GSAM, SAM, USAM, WSAM, StableSAM, VaSSO

CASES = sorted((Path(__file__).parent / "oracle").glob("*.json"))
METHODS: dict[str, Any] = {
    "SAM": SAM,
    "WSAM": WSAM,
    "ASAM_samsung": ASAM,
    "ASAM_davda54": partial(ASAM, normalization="elementwise"),
    "GSAM": GSAM,
    "CR-SAM": CRSAM,
    "F-SAM": FSAM,
    "VaSSO": VaSSO,
    "USAM": USAM,
    "StableSAM": StableSAM,
    "GCSAM": GCSAM,
}
"""As the files of reference values call them."""


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def model_of(case: dict[str, Any]) -> nn.Module:
    if case["model"] == "logreg":
        model: nn.Module = nn.Sequential(nn.Linear(4, 3))
    else:
        model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))
    model.double()
    model.load_state_dict({name: tensor(value) for name, value in case["init_state_dict"].items()})
    return model


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_equals_reference(path: Path) -> None:
    case = json.loads(path.read_text())
    model = model_of(case)
    options = dict(case["base_optimizer"])
    base = getattr(torch.optim, options.pop("cls"))
    if case["method"] == "base":
        optimizer: Any = base(model.parameters(), **options)
    else:
        optimizer = METHODS[case["method"]](model.named_parameters(), base, **case["hyperparameters"], **options)
    for number, batch in enumerate(case["batches"]):
        x, y = tensor(batch["x"]), torch.tensor(batch["y"])

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        loss = optimizer.step(closure)
        assert float(loss.detach()) == pytest.approx(case["first_pass_losses"][number], abs=1e-10)
        for name, value in model.state_dict().items():
            torch.testing.assert_close(value, tensor(case["params_after_step"][number][name]), rtol=0, atol=1e-10)
    parameters = dict(model.named_parameters())
    for key, value in case["base_state_after_step3"].items():
        name, entry = key.split(":")
        torch.testing.assert_close(optimizer.state[parameters[name]][entry], tensor(value), rtol=0, atol=1e-10)


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
    optimizer = METHODS[method.upper()]([ours], base, lr=0.05, weight_decay=0.01, **options)
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
