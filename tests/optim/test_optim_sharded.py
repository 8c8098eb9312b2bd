"""Two processes that share a model by `fully_shard`: the steps of one process, and what cannot be shared is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from small import FAST, METHODS, create
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from two_processes import Weights, weights_of_two

from medsharp.optim import SAM, optimizer_info

SIZE = 4
"""Samples of one process."""
STEPS = 4
SHARED = [name for name in METHODS if optimizer_info(name).cls.can_shard]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, FAST.get(name, {})) for name in SHARED},
    "adamw": ("adamw", {"protocol": True, "base": "adamw"}),
    "clipped": ("gsam", {"max_grad_norm": 0.05}),
    "clipped wsam": ("wsam", {"max_grad_norm": 0.05, "max_norm": 0.2}),
    "adaptive": ("sam", {"adaptive": True}),
    "adaptive gcsam": ("gcsam", {"adaptive": True}),
    "elementwise": ("asam", {"normalization": "elementwise"}),
    "by tensor": ("looksam", {"k": 2, "projection": "tensor"}),
    "three ascents": ("xsam", {"interval": 2, "ascents": 3}),
    "on adamw": ("wsam", {"base": "adamw"}),
    "micro-batches": ("sam", {"micro_batch": 2}),
}


def network() -> nn.Sequential:
    """Of odd sizes: the last bias is not on both processes, and rows are not shared evenly."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 1)).double()


def divided(model: nn.Sequential) -> nn.Sequential:
    mesh = DeviceMesh("cpu", list(range(dist.get_world_size())))
    for layer in model:
        if isinstance(layer, nn.Linear) and layer.out_features > 1:
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(2 * SIZE, 3, generator=generator, dtype=torch.float64)
    return x, torch.randn(2 * SIZE, 1, generator=generator, dtype=torch.float64)


def closure_of(model: nn.Module, optimizer: Any, step: int, share: slice) -> Any:
    x, y = (part[share] for part in batch(step))

    def closure(rows: slice = slice(None)) -> Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x[rows]), y[rows])
        loss.backward()
        return loss

    return closure


def make(case: str, model: nn.Module) -> Any:
    name, options = CASES[case]
    rho = {} if name == "adamw" else {"rho": 0.2}
    return create(name, model, **{"lr": 0.05, "base": "sgd", **rho, **options})


def train(case: str, model: nn.Module, optimizer: Any, share: slice, steps: range) -> None:
    for step in steps:
        extra = {"batch_size": SIZE} if "micro_batch" in CASES[case][1] else {}
        optimizer.step(closure_of(model, optimizer, step, share), **extra)


def whole(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().full_tensor().clone() for name, p in model.named_parameters()}  # type: ignore[attr-defined]


def worker(rank: int) -> Weights:
    """Train every case, once more from the middle, and return the whole weights as this process sees them."""
    share = slice(rank * SIZE, (rank + 1) * SIZE)
    states = {}
    for case in CASES:
        model = divided(network())
        optimizer = make(case, model)
        train(case, model, optimizer, share, range(2))
        saved, weights = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(model.state_dict())
        train(case, model, optimizer, share, range(2, STEPS))
        assert optimizer.skipped == 0
        states[case] = whole(model)
        resumed = divided(network())
        resumed.load_state_dict(weights)
        optimizer = make(case, resumed)
        optimizer.load_state_dict(saved)
        train(case, resumed, optimizer, share, range(2, STEPS))
        states[f"{case}, resumed"] = whole(resumed)
    for name in SHARED:
        restoring(name, rank)
    refusing()
    return states


def restoring(name: str, rank: int) -> None:
    """Nothing moves with a rate of zero, nor in a step that one process cannot take."""
    model = divided(network())
    optimizer = create(name, model, lr=0.1, base="sgd", rho=0.5, **FAST.get(name, {}))
    before, places = whole(model), [p.to_local().data_ptr() for p in model.parameters()]  # type: ignore[attr-defined]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    train(name, model, optimizer, slice(rank * SIZE, (rank + 1) * SIZE), range(2))
    assert all(torch.equal(value, before[key]) for key, value in whole(model).items()), name
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    passes: list[int] = []
    inner = closure_of(model, optimizer, 0, slice(None))

    def closure() -> Tensor:
        passes.append(0)
        loss: Tensor = inner()
        return loss * float("nan") if rank == 1 and len(passes) == 2 else loss

    optimizer.step(closure)
    if len(passes) > 1:
        assert optimizer.skipped == 1, name
        assert all(torch.equal(value, before[key]) for key, value in whole(model).items()), name
    assert places == [p.to_local().data_ptr() for p in model.parameters()]  # type: ignore[attr-defined]
    # What is computed after a step is computed with the weights that the step has left.
    optimizer.step(inner)
    x, _ = batch(0)
    plain = network()
    plain.load_state_dict(whole(model))
    assert torch.equal(model(x), plain(x)), name


def refusing() -> None:
    model = divided(network())
    for name in (name for name in METHODS if not optimizer_info(name).cls.can_shard):
        with pytest.raises(ValueError, match="cannot work with parameters that fully_shard has divided"):
            create(name, model, lr=0.1)
    with pytest.raises(ValueError, match="give the model that fully_shard was called with, model=model"):
        SAM(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="some parameters are sharded and others are not"):
        SAM([*model.parameters(), nn.Parameter(torch.ones(1))], lr=0.1, model=model)
    with pytest.raises(ValueError, match="a scaler does not go with sharded parameters"):
        SAM(model.parameters(), lr=0.1, model=model, scaler=torch.amp.GradScaler("cpu"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Weights]:
    """The whole weights, as both processes see them after training."""
    return weights_of_two(worker, tmp_path_factory.mktemp("sharded"))


@pytest.mark.parametrize("case", [case for case in CASES if case != "micro-batches"])
def test_two_processes_that_share_a_model_take_the_steps_of_one(case: str, trained: Any) -> None:
    model = network()
    train(case, model, make(case, model), slice(0, 2 * SIZE), range(STEPS))
    for key, value in model.state_dict().items():
        torch.testing.assert_close(trained[0][case][key], value, rtol=0, atol=1e-10)
        assert not torch.equal(value, network().state_dict()[key])


def test_micro_batches_of_both_processes_are_perturbed_together(trained: Any) -> None:
    model = network()
    optimizer = make("sam", model)
    for step in range(STEPS):
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        x, y = batch(step)
        for first in (0, 2):
            rows = [first, first + 1, SIZE + first, SIZE + first + 1]  # the micro-batch of either process
            g = torch.autograd.grad(F.mse_loss(model(x[rows]), y[rows]), list(model.parameters()))
            size = torch.cat([part.flatten() for part in g]).norm()
            up = {name: start[name] + 0.2 * part / size for name, part in zip(start, g)}
            leaves = {name: value.requires_grad_() for name, value in up.items()}
            loss = F.mse_loss(torch.func.functional_call(model, leaves, (x[rows],)), y[rows])
            for name, part in zip(leaves, torch.autograd.grad(loss, list(leaves.values()))):
                total[name] += part / 2
        for name, p in model.named_parameters():
            p.grad = total[name]
        optimizer.base.step()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(trained[0]["micro-batches"][key], value, rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", CASES)
def test_both_see_the_same_weights_and_resume_to_them(case: str, trained: Any) -> None:
    one, other = trained
    for key, value in one[case].items():
        assert torch.equal(value, other[case][key])
        assert torch.equal(value, one[f"{case}, resumed"][key])
