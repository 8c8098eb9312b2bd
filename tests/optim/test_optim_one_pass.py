"""A plain optimizer with the protocol of the others: its own step, clipped, and nothing of a step that is skipped."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small import FAST, METHODS, batch, closure_of, create, perceptron
from torch import Tensor, nn

from medsharp.optim import ClosureOptimizer, SharpnessAware, create_optimizer, list_optimizers

PLAIN = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2)).double()


def assert_same(one: nn.Module, other: nn.Module) -> None:
    for key, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[key], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", PLAIN)
def test_without_the_protocol_it_is_torch_s_own_class(name: str) -> None:
    assert type(create_optimizer(name, network())) is PLAIN[name]


@pytest.mark.parametrize("name", list_optimizers())
def test_every_optimizer_has_the_protocol_when_asked_for(name: str) -> None:
    optimizer = create(name, network(), protocol=True)
    assert isinstance(optimizer, ClosureOptimizer)
    assert isinstance(optimizer, SharpnessAware) == (name in METHODS)


@pytest.mark.parametrize("limit", [None, 0.01])
@pytest.mark.parametrize("name", PLAIN)
def test_its_step_is_that_of_torch_s_optimizer_with_clipping(name: str, limit: float | None) -> None:
    models = [perceptron(), perceptron()]
    optimizer = create_optimizer(name, models[0], lr=0.05, weight_decay=0.1, protocol=True, max_grad_norm=limit)
    plain = create_optimizer(name, models[1], lr=0.05, weight_decay=0.1)
    for step in range(5):
        x, y = batch(step)
        loss = optimizer.step(closure_of(models[0], optimizer, x, y))
        expected = closure_of(models[1], plain, x, y)()
        if limit is not None:
            assert float(nn.utils.clip_grad_norm_(models[1].parameters(), limit)) > limit
        plain.step()
        torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-12)
    assert_same(*models)


@pytest.mark.parametrize("where", ["loss", "gradient", "exception"])
@pytest.mark.parametrize("name", PLAIN)
def test_what_goes_wrong_leaves_everything_as_it_was(name: str, where: str) -> None:
    model = network()
    optimizer = create_optimizer(name, model, lr=0.05, protocol=True)
    x, y = batch()
    optimizer.step(closure_of(model, optimizer, x, y))
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict()["state"])

    def closure() -> Tensor:
        loss: Tensor = closure_of(model, optimizer, x * float("nan") if where == "loss" else x, y)()
        if where == "gradient":
            model[3].weight.grad[0, 0] = float("inf")  # type: ignore[index, union-attr]
        if where == "exception":
            raise KeyboardInterrupt
        return loss

    if where == "exception":
        with pytest.raises(KeyboardInterrupt):
            optimizer.step(closure)
    else:
        optimizer.step(closure)
    assert optimizer.skipped == (where != "exception")
    for key, value in model.state_dict().items():
        assert torch.equal(value, weights[key]), key
    for number, entries in optimizer.state_dict()["state"].items():
        for key, value in entries.items():
            assert value is None or torch.equal(value, state[number][key])


@pytest.mark.parametrize("name", PLAIN)
def test_micro_batches_accumulate_the_gradient_of_the_batch(name: str) -> None:
    models = [perceptron(), perceptron()]
    optimizer = create_optimizer(name, models[0], lr=0.05, protocol=True, micro_batch=5)
    plain = create_optimizer(name, models[1], lr=0.05)
    for step in range(4):
        x, y = batch(step)

        def closure(rows: slice, x: Tensor = x, y: Tensor = y) -> Tensor:
            return closure_of(models[0], optimizer, x[rows], y[rows])()

        optimizer.step(closure, batch_size=12)
        plain.step(closure_of(models[1], plain, x, y))
    assert_same(*models)


@pytest.mark.parametrize("name", PLAIN)
def test_a_state_goes_back_and_forth_between_torch_s_class_and_this(name: str) -> None:
    models = [network(), network()]
    optimizer: Any = create_optimizer(name, models[0], lr=0.05, protocol=True)
    optimizer.step(closure_of(models[0], optimizer, *batch()))
    plain = create_optimizer(name, models[1], lr=0.9)
    models[1].load_state_dict(models[0].state_dict())
    plain.load_state_dict(copy.deepcopy(optimizer.base.state_dict()))
    optimizer.step(closure_of(models[0], optimizer, *batch(1)))
    plain.step(closure_of(models[1], plain, *batch(1)))
    assert_same(*models)


def test_what_a_closure_must_do_can_be_asked() -> None:
    """So that a training loop names no method."""
    for name in list_optimizers():
        optimizer = create(name, perceptron(), protocol=True)
        assert not optimizer.needs_sample_losses
        assert not optimizer.passes_rows
    selecting = create_optimizer("esam", perceptron(), gamma=0.5, protocol=True)
    assert selecting.needs_sample_losses
    assert selecting.passes_rows
    chunked = create_optimizer("sgd", perceptron(), micro_batch=4, protocol=True)
    assert not chunked.needs_sample_losses
    assert chunked.passes_rows


@pytest.mark.parametrize("name", list_optimizers())
@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_a_loop_that_names_no_method_trains_with_each(name: str, gamma: float) -> None:
    model = perceptron()
    own = {"gamma": gamma} if name == "esam" else FAST.get(name, {})
    optimizer = create(name, model, lr=0.1, protocol=True, **own)
    x, y = batch()

    def closure(rows: Any = slice(None)) -> Tensor:
        optimizer.zero_grad()
        losses = F.cross_entropy(model(x[rows]), y[rows], reduction="none")
        losses.mean().backward()
        return losses if optimizer.needs_sample_losses else losses.mean()

    losses = [float(optimizer.step(closure, batch_size=len(x))) for _ in range(30)]
    assert losses[-1] < losses[0]


DRAWING = {"esam": {"beta": 0.5}, "bayesiansam": {}, "eigensam": {}}
"""The methods that draw, set so that they do."""


def drawn(name: str, global_seed: int = 0, **options: Any) -> Tensor:
    """Return the weights after three steps."""
    model = perceptron()
    torch.manual_seed(global_seed)
    radius = {"rho": 0.5} if name in METHODS else {}
    optimizer = create(name, model, **{"base": "sgd", "lr": 0.1, "protocol": True, **radius, **options})
    for step in range(3):
        optimizer.step(closure_of(model, optimizer, *batch(step)))
    return torch.cat([parameter.detach().view(-1) for parameter in model.parameters()])


@pytest.mark.parametrize("name", list_optimizers())
def test_a_seed_decides_all_that_a_method_draws(name: str) -> None:
    own = DRAWING.get(name, {})
    ends = [drawn(name, other, seed=seed, **own) for seed, other in ((0, 1), (0, 2), (1, 1))]
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2]) == (name not in DRAWING)


def test_bayesian_sam_says_when_it_is_not_told_the_number_of_training_samples() -> None:
    with pytest.warns(UserWarning, match=r"assumes 10,000.*give data_size=len\(dataset\)") as warned:
        create_optimizer("bayesiansam", perceptron())
    assert len(warned) == 1
    few = drawn("bayesiansam", data_size=10)
    assert not torch.equal(few, drawn("bayesiansam", data_size=10_000))
    assert create_optimizer("bayesiansam", perceptron(), data_size=7).param_groups[0]["data_size"] == 7
