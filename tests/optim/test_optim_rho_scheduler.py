"""Schedules of rho: where they begin and end, and that they go on from a checkpoint."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small import create, perceptron

from medsharp.optim import RhoScheduler


def optimizer_of(rho: float = 0.2) -> Any:
    return create("sam", perceptron(), base="sgd", lr=0.1, rho=rho)


def course(schedule: str, steps: int = 5, **ends: float) -> list[float]:
    """Return rho at each step of a training."""
    optimizer = optimizer_of()
    radii = RhoScheduler(optimizer, schedule, steps=steps, **ends)
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["rho"])
        radii.step()
    return seen


@pytest.mark.parametrize(
    ("schedule", "ends", "expected"),
    [
        ("constant", {}, [0.2, 0.2, 0.2, 0.2, 0.2]),
        ("constant", {"rho_max": 0.3}, [0.3, 0.3, 0.3, 0.3, 0.3]),
        ("linear", {}, [0.2, 0.15, 0.1, 0.05, 0.0]),
        ("linear", {"rho_max": 0.5, "rho_min": 0.1}, [0.5, 0.4, 0.3, 0.2, 0.1]),
        ("cosine", {}, [0.1 * (1 + math.cos(math.pi * number / 4)) for number in range(5)]),
        ("cosine", {"rho_min": 0.2}, [0.2, 0.2, 0.2, 0.2, 0.2]),
    ],
)
def test_rho_goes_from_one_end_to_the_other(schedule: str, ends: dict[str, float], expected: list[float]) -> None:
    assert course(schedule, **ends) == pytest.approx(expected)


def test_groups_that_learn_at_a_share_of_the_rate_have_the_radius_of_the_whole() -> None:
    model = perceptron()
    shares = [1.0, 0.25]
    groups = [
        {"params": layer.parameters(), "lr": 0.1 * share, "lr_scale": share}
        for layer, share in zip((model[0], model[2]), shares, strict=True)
    ]
    optimizer = create("sam", groups, base="sgd", lr=0.1, rho=0.2)  # type: ignore[arg-type]
    radii = RhoScheduler(optimizer, "lr", rho_min=0.05, lr_min=0.02)
    for rate in (0.1, 0.06, 0.02):
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_scale"]
        radii.step()
        expected = 0.05 + 0.15 * (rate - 0.02) / 0.08
        assert [group["rho"] for group in optimizer.param_groups] == pytest.approx([expected, expected])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_rho_stays_at_its_end_afterwards_and_one_step_begins_and_ends(schedule: str) -> None:
    optimizer = optimizer_of()
    radii = RhoScheduler(optimizer, schedule, steps=3, rho_min=0.05)
    for _ in range(10):
        radii.step()
    assert optimizer.param_groups[0]["rho"] == pytest.approx(0.05)
    assert course(schedule, steps=1) == [0.2]


@pytest.mark.parametrize("schedule", ["lr", "constant", "linear", "cosine"])
def test_a_loaded_schedule_goes_on(schedule: str) -> None:
    expected = course(schedule)
    optimizer = optimizer_of()
    radii = RhoScheduler(optimizer, schedule, steps=5)
    for _ in range(2):
        radii.step()
    later = optimizer_of(rho=9.0)
    resumed = RhoScheduler(later, schedule, steps=5)
    resumed.load_state_dict(radii.state_dict())
    assert later.param_groups[0]["rho"] == pytest.approx(expected[2])
    for number in range(3, 5):
        resumed.step()
        assert later.param_groups[0]["rho"] == pytest.approx(expected[number])
    resumed.step(1)  # whatever was set before
    assert later.param_groups[0]["rho"] == pytest.approx(expected[1])


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (["linear"], {}, r"schedule linear needs the number of optimizer steps"),
        (["cosine"], {"steps": 0}, r"1 or more, not 0"),
        (["sine"], {"steps": 5}, r"one of lr, constant, linear, cosine, not 'sine'"),
        (["linear"], {"steps": 5, "rho_min": 0.3}, r"rho_min must be at least 0 and at most rho_max"),
        (["linear"], {"steps": 5, "rho_min": -0.1}, r"rho_min must be at least 0"),
        ([], {"lr_min": 0.2}, r"lr_min must be less than lr_max"),
    ],
)
def test_wrong_schedules_are_a_sentence(arguments: list[str], options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RhoScheduler(optimizer_of(), *arguments, **options)


def test_a_method_without_rho_has_no_schedule_of_it() -> None:
    with pytest.raises(ValueError, match="sharpness-aware"):
        RhoScheduler(create("adamw", perceptron(), protocol=True), "constant")
    with pytest.raises(ValueError, match="sharpness-aware"):
        RhoScheduler(torch.optim.SGD(perceptron().parameters(), lr=0.1))


@pytest.mark.parametrize("schedule", ["lr", "linear"])
def test_a_schedule_that_is_made_of_a_loaded_optimizer_goes_on(schedule: str) -> None:
    """It takes the loaded radius, on its way down, for the upper end, until its own state is loaded."""
    optimizer = optimizer_of()
    radii = RhoScheduler(optimizer, schedule, steps=5)
    optimizer.param_groups[0]["lr"] = 0.05
    radii.step(2)
    later = optimizer_of(rho=9.0)
    later.load_state_dict(optimizer.state_dict())
    resumed = RhoScheduler(later, schedule, steps=5, lr_max=0.1)
    resumed.load_state_dict(radii.state_dict())
    assert later.param_groups[0]["rho"] == pytest.approx(0.1)
    assert optimizer.param_groups[0]["rho"] == pytest.approx(0.1)


def test_a_loaded_schedule_is_that_of_as_many_groups() -> None:
    optimizer, later = optimizer_of(), optimizer_of()
    radii, resumed = RhoScheduler(optimizer, "linear", steps=5), RhoScheduler(later, "linear", steps=5)
    state = radii.state_dict()
    later.add_param_group({"params": [("more", torch.nn.Parameter(torch.zeros(2)))], "rho": 0.4})
    resumed.load_state_dict(state)
    resumed.step(2)
    assert [group["rho"] for group in later.param_groups] == pytest.approx([0.1, 0.2])
    radii.step(1)  # which the group of the other has no part in
    assert optimizer.param_groups[0]["rho"] == pytest.approx(0.15)
    with pytest.raises(ValueError, match="schedule of 2 groups, and there are 1"):
        radii.load_state_dict(resumed.state_dict())
    assert optimizer.param_groups[0]["rho"] == pytest.approx(0.15)


def test_what_a_schedule_gave_does_not_go_on_with_it() -> None:
    optimizer = optimizer_of()
    radii = RhoScheduler(optimizer, "linear", steps=5)
    state = radii.state_dict()
    optimizer.add_param_group({"params": [("more", torch.nn.Parameter(torch.zeros(2)))], "rho": 0.4})
    radii.step()
    assert len(state["rho_max"]) == 1
    RhoScheduler(optimizer_of(), "linear", steps=5).load_state_dict(state)
