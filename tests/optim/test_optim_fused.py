"""Adam and AdamW by name are torch's fused ones: the same steps in less time, unless told otherwise."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from medsharp.optim import create_optimizer

ADAMS = ["adam", "adamw"]


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()


def run(model: nn.Module, optimizer: Any, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(16, 4, generator=generator, dtype=torch.float64)
        y = torch.randint(2, (16,), generator=generator)

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)


def fused(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [group.get("fused") for group in optimizer.param_groups]


@pytest.mark.parametrize("base", ADAMS)
def test_adams_are_fused_by_themselves_and_below_a_method(base: str) -> None:
    assert fused(create_optimizer(base, network())) == [True]
    assert fused(create_optimizer("sam", network(), base=base)) == [True]


def test_others_are_as_torch_makes_them() -> None:
    assert fused(create_optimizer("sam", network(), base="sgd")) == [None]
    assert fused(create_optimizer("sgd", network())) == [None]
    assert fused(create_optimizer("sam", network(), base=torch.optim.AdamW)) == [None]
    assert fused(create_optimizer("bayesiansam", network())) == [None]
    assert fused(create_optimizer("adamw", nn.Linear(2, 2, device="meta"))) == [None]


@pytest.mark.parametrize("option", [{"fused": False}, {"foreach": True}, {"foreach": False}, {"capturable": False}])
def test_whoever_chooses_an_implementation_gets_it(option: dict[str, bool]) -> None:
    for name in ("adamw", "sam"):
        (group,) = create_optimizer(name, network(), **option).param_groups
        assert not group["fused"]
        for key, value in option.items():
            assert group[key] == value
    model = network()
    groups = [{"params": model[0].parameters(), **option}, {"params": model[2].parameters()}]
    assert not any(fused(create_optimizer("sam", groups)))


def test_groups_may_be_generators_and_stay_as_they_were_given() -> None:
    model = network()
    groups: list[dict[str, Any]] = [{"params": model[0].weight}, {"params": model[2].parameters(), "lr": 0.5}]
    optimizer = create_optimizer("sam", groups, lr=0.1)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 2]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]
    assert set(groups[0]) == {"params"}
    assert set(groups[1]) == {"params", "lr"}


@pytest.mark.parametrize("name", [*ADAMS, "sam", "wsam"])
@pytest.mark.parametrize("base", ADAMS)
def test_the_steps_are_the_same(name: str, base: str) -> None:
    weights = []
    for option in ({}, {"fused": False}):
        model = network()
        below = {} if name in ADAMS else {"base": base}
        run(model, create_optimizer(name, model, lr=0.01, weight_decay=0.1, **below, **option), range(20))
        weights.append(torch.cat([p.detach().view(-1) for p in model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("base", ["sgd", *ADAMS])
def test_the_first_gradient_of_a_parameter_may_come_late(base: str) -> None:
    model = network()
    optimizer = create_optimizer("sam", model, lr=0.01, base=base)
    model[0].requires_grad_(False)
    run(model, optimizer, range(2))
    before = model[0].weight.detach().clone()
    model[0].requires_grad_(True)
    run(model, optimizer, range(2, 4))
    assert not torch.equal(model[0].weight, before)


def test_a_checkpoint_goes_on_with_the_implementation_it_was_written_with() -> None:
    whole = network()
    optimizer = create_optimizer("sam", whole, lr=0.05, fused=False)
    run(whole, optimizer, range(3))
    resumed = network(seed=1)
    resumed.load_state_dict(whole.state_dict())
    again = create_optimizer("sam", resumed)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert not any(fused(again))
    run(whole, optimizer, range(3, 6))
    run(resumed, again, range(3, 6))
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
