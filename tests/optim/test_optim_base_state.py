"""A state that is loaded into the base optimizer by itself: both share it at once, and the method's own values stay."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
from small import METHODS, batch, closure_of, create, perceptron
from torch import nn
from torch.optim.lr_scheduler import LinearLR

from medsharp.optim import GSAM, SAM

RADII = (0.2, 0.0)


def halves(model: nn.Sequential, **options: Any) -> list[dict[str, Any]]:
    """Return the parameters of a model as two groups, each with one value of every option."""
    return [
        {"params": [*layer.parameters()], **{name: values[number] for name, values in options.items()}}
        for number, layer in enumerate((model[0], model[2]))
    ]


def learned(cls: Any, lr: float = 0.001, **options: Any) -> dict[str, Any]:
    """Return the state of a plain optimizer that has taken a step with both groups."""
    model = perceptron()
    plain = cls(halves(model), lr=lr, **options)
    closure_of(model, plain, *batch())()
    plain.step()
    return copy.deepcopy(plain.state_dict())


def loaded(method: Any = SAM, cls: Any = torch.optim.AdamW, **options: Any) -> tuple[nn.Sequential, Any]:
    """Return a model and its optimizer, into whose base a state was loaded."""
    model = perceptron()
    optimizer = method(halves(model, rho=RADII), cls, lr=0.1, **options)
    optimizer.base.load_state_dict(learned(cls))
    return model, optimizer


def test_what_is_set_between_loading_and_the_next_step_counts() -> None:
    model, optimizer = loaded()
    assert optimizer.param_groups is optimizer.base.param_groups
    assert optimizer.state is optimizer.base.state
    assert [group["lr"] for group in optimizer.param_groups] == [0.001, 0.001]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(model.state_dict())
    optimizer.step(closure_of(model, optimizer, *batch(1)))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_schedule_that_is_made_after_loading_begins_at_the_loaded_rate() -> None:
    model, optimizer = loaded()
    schedule = LinearLR(optimizer, start_factor=0.5, total_iters=2)
    rates = []
    for step in range(3):
        optimizer.step(closure_of(model, optimizer, *batch(step)))
        schedule.step()
        rates.append(optimizer.base.param_groups[1]["lr"])
    assert rates == pytest.approx([0.00075, 0.001, 0.001])


@pytest.mark.parametrize("name", METHODS)
def test_groups_keep_what_is_the_methods_own(name: str) -> None:
    """Set on each group, not given to the constructor, which knows another value of all groups."""
    if name == "bayesiansam":
        pytest.skip("has no other optimizer's step")
    model = perceptron()
    optimizer = create(name, halves(model, rho=RADII), base="adamw", lr=0.1)
    own = ({*optimizer.param_groups[0]} - {*learned(torch.optim.AdamW)["param_groups"][0]}) - {"adaptive"}
    assert "rho" in own
    for number, group in enumerate(optimizer.param_groups):
        for place, key in enumerate(sorted(own - {"rho"})):
            group[key] = 0.25 + 0.125 * number + 0.0625 * place
    before = [{key: group[key] for key in own} for group in optimizer.param_groups]
    optimizer.base.load_state_dict(learned(torch.optim.AdamW))
    for _ in range(2):
        assert [{key: group[key] for key in own} for group in optimizer.param_groups] == before
        assert [group["rho"] for group in optimizer.param_groups] == list(RADII)
        optimizer.step(closure_of(model, optimizer, *batch()))


def test_what_is_saved_right_after_loading_goes_on_to_the_same_weights() -> None:
    model, optimizer = loaded()
    state = copy.deepcopy(optimizer.state_dict())
    assert len(state["state"]) == 4
    other = perceptron()
    resumed = SAM(halves(other), torch.optim.AdamW, lr=0.5)
    resumed.load_state_dict(state)
    for step in range(3):
        for trained, stepping in ((model, optimizer), (other, resumed)):
            stepping.step(closure_of(trained, stepping, *batch(step)))
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key])


@pytest.mark.parametrize(
    ("method", "cls", "name"), [(SAM, torch.optim.Adadelta, "rho"), (GSAM, torch.optim.RMSprop, "alpha")]
)
def test_a_keyword_that_both_have_stays_the_methods(method: Any, cls: Any, name: str) -> None:
    model, optimizer = loaded(method, cls)
    kept = {"rho": list(RADII), "alpha": [0.4, 0.4]}[name]
    for _ in range(2):
        assert [group[name] for group in optimizer.param_groups] == kept
        optimizer.step(closure_of(model, optimizer, *batch()))


def test_the_state_of_another_method_brings_what_is_its_bases() -> None:
    other, model = perceptron(), perceptron()
    before = GSAM(halves(other), torch.optim.AdamW, rho=0.7, alpha=0.1, lr=0.001)
    before.step(closure_of(other, before, *batch()))
    optimizer = SAM(halves(model, rho=RADII), torch.optim.AdamW, lr=0.1)
    optimizer.base.load_state_dict(copy.deepcopy(before.state_dict()))
    assert [(group["rho"], group["lr"]) for group in optimizer.param_groups] == [(0.2, 0.001), (0.0, 0.001)]
    assert len(optimizer.state) == 4


def copied(model: nn.Sequential, optimizer: Any) -> Any:
    return copy.deepcopy((model, optimizer))


def pickled(model: nn.Sequential, optimizer: Any) -> Any:
    return pickle.loads(pickle.dumps((model, optimizer)))


@pytest.mark.parametrize("way", [copied, pickled])
def test_a_copy_shares_with_its_base_as_well(way: Any) -> None:
    first = SAM(halves(perceptron(), rho=RADII), torch.optim.AdamW, lr=0.1)
    _, optimizer = way(perceptron(), first)
    optimizer.load_state_dict(copy.deepcopy(first.state_dict()))
    optimizer.base.load_state_dict(learned(torch.optim.AdamW))
    assert optimizer.param_groups is optimizer.base.param_groups
    assert [(group["rho"], group["lr"]) for group in optimizer.param_groups] == [(0.2, 0.001), (0.0, 0.001)]
    assert len(optimizer.state) == 4
    assert [group["lr"] for group in first.param_groups] == [0.1, 0.1]
    assert len(optimizer.base._optimizer_load_state_dict_post_hooks) == 1


def test_one_that_loads_in_a_way_of_its_own_is_followed_too() -> None:
    class Own(torch.optim.AdamW):
        def load_state_dict(self, state_dict: Any) -> None:
            loading = torch.optim.AdamW(self.param_groups)
            loading.load_state_dict(state_dict)
            self.param_groups, self.state = loading.param_groups, loading.state

    model, optimizer = loaded(SAM, Own)
    assert len(optimizer.state_dict()["state"]) == 4
    assert [(group["rho"], group["lr"]) for group in optimizer.param_groups] == [(0.2, 0.001), (0.0, 0.001)]
    optimizer.base.load_state_dict(learned(torch.optim.AdamW, lr=0.002))
    optimizer.step(closure_of(model, optimizer, *batch()))
    assert [(group["rho"], group["lr"]) for group in optimizer.param_groups] == [(0.2, 0.002), (0.0, 0.002)]


def test_a_group_that_is_added_to_the_base_has_the_methods_defaults() -> None:
    model, more = perceptron(), nn.Parameter(torch.ones(2, dtype=torch.float64))
    optimizer = SAM(halves(model, rho=RADII), torch.optim.AdamW, rho=0.3, lr=0.1)
    optimizer.base.add_param_group({"params": [more], "lr": 0.01})
    optimizer.step(closure_of(model, optimizer, *batch()))
    assert [group["rho"] for group in optimizer.param_groups] == [*RADII, 0.3]
    assert [group["adaptive"] for group in optimizer.param_groups] == [False, False, False]


def test_an_optimizer_that_nobody_needs_goes_at_once() -> None:
    """Both would hold each other, and the memory of a backup, until rubbish is collected."""
    model = perceptron()
    optimizer = SAM(model.parameters(), lr=0.1)
    optimizer.step(closure_of(model, optimizer, *batch()))
    gone = weakref.ref(optimizer)
    gc.disable()
    try:
        del optimizer
        assert gone() is None
    finally:
        gc.enable()
