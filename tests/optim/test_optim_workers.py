"""Two workers of DistributedDataParallel: the same weights, and those of one process that plays both."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from small import METHODS, closure_of, create
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from two_processes import Weights, weights_of_two

from medsharp.optim import create_optimizer

STEPS = 50
SIZE = 4
"""Samples of one worker."""


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)).double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    """Both workers' samples, those of the first worker first."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(2 * SIZE, 3, generator=generator, dtype=torch.float64)
    return x, torch.randint(2, (2 * SIZE,), generator=generator)


def options_of(name: str) -> dict[str, Any]:
    own = {"looksam": {"k": 3}, "eigensam": {"freq": 7}, "esam": {"beta": 0.7}, "xsam": {"interval": 7}}.get(name, {})
    return {"lr": 0.05, "base": "sgd", **own}


def train(name: str, model: nn.Module, rows: slice, **options: Any) -> nn.Module:
    optimizer = create(name, model, **{**options_of(name), **options})
    for step in range(STEPS):
        x, y = batch(step)

        def closure(rows: slice = rows, x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            return loss

        extra = {"batch_size": 2 * SIZE} if "micro_batch" in options else {}
        optimizer.step(closure, **extra)  # type: ignore[arg-type, call-arg]
    return model


def worker(rank: int) -> Weights:
    """Train with every method, per worker and synchronised, and return this worker's weights."""
    rows = slice(rank * SIZE, (rank + 1) * SIZE)
    states = {}
    for name in METHODS:
        for synchronised in (False, True):
            if synchronised and name == "esam":
                continue  # its frozen tensors have no gradient to average
            views = name in {"wsam", "crsam"}
            model = DistributedDataParallel(network(), gradient_as_bucket_view=views)
            train(name, model, rows, sync_perturbation=synchronised)
            states[f"{name} {synchronised}"] = copy.deepcopy(model.module.state_dict())
        states[f"{name} exchanges"] = {"of a step": exchanges(name, rank)}
    skipping(rank)
    scaling(rank)
    return states


EXCHANGES = {
    1: ["sam", "asam", "esam", "gcsam", "lesam", "msam", "usam", "zsharp"],
    2: ["gsam", "wsam", "crsam", "fsam", "vasso", "stablesam", "xsam", "bayesiansam"],
    3: ["gam"],
}
"""What docs/optimizers.md says of them; besides, LookSAM and Eigen-SAM, whose steps differ."""


def exchanges(name: str, rank: int) -> Tensor:
    """Return how often the gradient of one parameter is summed over both workers, in each of two steps."""
    model = DistributedDataParallel(network())
    summed, all_reduce = [0], dist.all_reduce

    def average(bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        summed[0] += bucket.is_last()
        work: Any = all_reduce(bucket.buffer(), async_op=True)
        future: torch.futures.Future[Tensor] = work.get_future().then(lambda done: done.value()[0] / 2)
        return future

    def counting(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
        summed[0] += tensor.shape == model.module[0].weight.shape
        return all_reduce(tensor, *arguments, **options)

    model.register_comm_hook(None, lambda state, bucket: average(bucket))  # which must not have annotations as text
    optimizer = create(name, model, **{**options_of(name), "k": 2} if name == "looksam" else options_of(name))
    seen = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dist, "all_reduce", counting)
        for step in range(2):
            summed[0] = 0
            optimizer.step(closure_of(model, optimizer, *(part[rank * SIZE :][:SIZE] for part in batch(step))))
            seen.append(summed[0])
    return torch.tensor(seen)


def skipping(rank: int) -> None:
    """A loss that is not finite on one worker makes both skip, and neither wait for the other."""
    model = DistributedDataParallel(network())
    optimizer: Any = create_optimizer("gsam", model, lr=0.1, base="sgd")
    before = copy.deepcopy(model.state_dict())
    passes: list[int] = []

    def closure() -> Tensor:
        passes.append(0)
        optimizer.zero_grad()
        x, y = batch(0)
        loss = F.cross_entropy(model(x), y) * (float("nan") if rank == 1 and len(passes) == 2 else 1.0)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert optimizer.skipped == 1
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    optimizer.step(closure)
    assert optimizer.skipped == 1


def scaling(rank: int) -> None:
    """An overflow in the gradient of one worker lowers the scale of both, or they would part for good."""
    for name, bad_pass in (("sam", 1), ("sam", 2), ("gsam", 1), ("crsam", 2), ("adamw", 1)):
        model = DistributedDataParallel(network().float())
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=10**6)
        optimizer: Any = create(name, model, lr=0.1, base="sgd", scaler=scaler, protocol=True)
        passes: list[int] = []

        def closure(model: nn.Module = model, optimizer: Any = optimizer, scaler: Any = scaler) -> Tensor:
            optimizer.zero_grad()
            x, y = batch(0)
            loss = F.cross_entropy(model(x.float()), y)
            scaler.scale(loss).backward()
            return loss

        def overflowing(passes: list[int] = passes, bad: int = bad_pass, closure: Any = closure) -> Tensor:
            passes.append(0)
            loss: Tensor = closure()
            if rank == 1 and len(passes) == bad:
                next(iter(model.parameters())).grad.fill_(float("inf"))  # type: ignore[union-attr] # noqa: B023
            return loss

        for step, scale in ((overflowing, 2.0**9), (closure, 2.0**9)):
            optimizer.step(step)
            scaler.update()
            assert scaler.get_scale() == scale, (name, rank, bad_pass)
        assert optimizer.skipped == 1


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[Weights]:
    """The weights of both workers after training."""
    return weights_of_two(worker, tmp_path_factory.mktemp("workers"))


@pytest.mark.parametrize("synchronised", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_workers_keep_the_same_weights(name: str, synchronised: bool, trained: Any) -> None:
    if synchronised and name == "esam":
        pytest.skip("ESAM refuses it")
    one, other = (states[f"{name} {synchronised}"] for states in trained)
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_exchanged_as_often_as_the_docs_say(name: str, trained: Any) -> None:
    steps = {"looksam": [2, 1], "eigensam": [6, 1]}  # a step of SAM, an estimate of five products
    steps |= {method: [count, count] for count, methods in EXCHANGES.items() for method in methods}
    for worker in trained:
        assert worker[f"{name} exchanges"]["of a step"].tolist() == steps[name]


@pytest.mark.parametrize("name", [name for name in METHODS if name not in {"esam", "eigensam", "bayesiansam"}])
def test_perturbing_per_worker_is_m_sharpness_of_one_process(name: str, trained: Any) -> None:
    alone = train(name, network(), slice(0, 2 * SIZE), micro_batch=SIZE)
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(trained[0][f"{name} False"][key], value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in {"esam", "eigensam"}])
def test_synchronised_perturbation_is_the_step_of_one_process(name: str, trained: Any) -> None:
    alone = train(name, network(), slice(0, 2 * SIZE))
    for key, value in alone.state_dict().items():
        torch.testing.assert_close(trained[0][f"{name} True"][key], value, rtol=0, atol=1e-9)


def test_perturbing_per_worker_is_not_perturbing_together(trained: Any) -> None:
    assert not torch.equal(trained[0]["sam False"]["0.weight"], trained[0]["sam True"]["0.weight"])
    assert not torch.equal(trained[0]["wsam False"]["0.weight"], trained[0]["wsam True"]["0.weight"])


def test_sam_with_two_workers_is_the_mean_of_both_gradients(trained: Any) -> None:
    """Written down once more, without any optimizer of the package."""
    model = network()
    momentum = [torch.zeros_like(p) for p in model.parameters()]

    def gradients(rows: slice, step: int) -> list[Tensor]:
        x, y = batch(step)
        return list(torch.autograd.grad(F.cross_entropy(model(x[rows]), y[rows]), list(model.parameters())))

    for step in range(STEPS):
        start = [p.detach().clone() for p in model.parameters()]
        mean = [torch.zeros_like(p) for p in model.parameters()]
        for rows in (slice(0, SIZE), slice(SIZE, 2 * SIZE)):
            g = gradients(rows, step)
            size = torch.sqrt(sum((part**2).sum() for part in g))  # type: ignore[arg-type]
            with torch.no_grad():
                for p, part in zip(model.parameters(), g, strict=True):
                    p.add_(0.05 * part / size)
            for total, part in zip(mean, gradients(rows, step), strict=True):
                total.add_(part, alpha=0.5)
            with torch.no_grad():
                for p, before in zip(model.parameters(), start, strict=True):
                    p.copy_(before)
        with torch.no_grad():
            for p, velocity, part in zip(model.parameters(), momentum, mean, strict=True):
                velocity.mul_(0.9).add_(part)
                p.sub_(0.05 * velocity)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(trained[0]["sam False"][key], value, rtol=0, atol=1e-9)
