"""Optimizers in the loops of others: accumulation, mixed precision, compiled models, flat buffers, copies."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small import FAST, METHODS, batch, create, perceptron
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from medsharp.optim import (
    ESAM,
    MSAM,
    SAM,
    WSAM,
    BayesianSAM,
    LookSAM,
    OnePass,
    RhoScheduler,
    SharpnessAware,
    create_optimizer,
    optimizer_info,
)
from medsharp.optim.randomness import Generators


def closure_of(model: nn.Module, optimizer: Any, x: Tensor, y: Tensor, pieces: int = 1) -> Any:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = torch.zeros((), dtype=x.dtype)
        for part_x, part_y in zip(x.chunk(pieces), y.chunk(pieces), strict=True):
            part = F.cross_entropy(model(part_x), part_y) / pieces
            part.backward()
            loss = loss + part.detach()
        return loss

    return closure


def train(name: str, steps: int = 5, pieces: int = 1, **options: Any) -> nn.Module:
    model = perceptron()
    optimizer = create(name, model, **{"lr": 0.1, "base": "sgd", **FAST.get(name, {}), **options})
    for step in range(steps):
        optimizer.step(closure_of(model, optimizer, *batch(step), pieces=pieces))
    return model


def assert_same(one: nn.Module, other: nn.Module, tolerance: float = 0.0) -> None:
    for (name, value), expected in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(
            value, expected, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("name", METHODS)
def test_accumulated_gradients_give_the_step_of_the_whole_batch(name: str) -> None:
    assert_same(train(name, pieces=3), train(name), tolerance=1e-10)


def test_a_plain_loop_needs_only_the_closure() -> None:
    """The loop that was written for torch.optim, and the same with a closure, reach the same weights."""
    plain, model = perceptron(), perceptron()
    torch_optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.0, lr=0.1, momentum=0.9)
    for step in range(4):
        x, y = batch(step)
        torch_optimizer.zero_grad()
        F.cross_entropy(plain(x), y).backward()
        torch_optimizer.step()
        optimizer.step(closure_of(model, optimizer, x, y))
    assert_same(model, plain)


# Mixed precision


def scaled_closure(
    model: nn.Module, optimizer: Any, scaler: torch.amp.GradScaler, x: Tensor, y: Tensor, half: bool = False
) -> Any:
    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16, enabled=half):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        return loss

    return closure


@pytest.mark.parametrize("name", METHODS)
def test_a_scaled_loss_gives_the_step_of_the_loss(name: str) -> None:
    """A scale that is a power of two changes no digit of a float32 gradient, so that the steps are the same."""
    models = []
    for enabled in (True, False):
        model = perceptron(torch.float32)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, enabled=enabled)
        options = {"scaler": scaler, "max_grad_norm": 0.1, **FAST.get(name, {})}
        optimizer = create(name, model, lr=0.1, base="sgd", **options)
        for step in range(4):
            optimizer.step(scaled_closure(model, optimizer, scaler, *batch(step, dtype=torch.float32)))
            scaler.update()
        models.append(model)
    assert_same(*models, tolerance=1e-7 if name == "eigensam" else 0.0)


@pytest.mark.parametrize("name", ["sam", "gsam", "wsam", "crsam"])
def test_half_precision_with_a_scaler_follows_single_precision(name: str) -> None:
    models = []
    for dtype in (torch.float16, torch.float32):
        model = perceptron(torch.float32)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, enabled=dtype == torch.float16)
        optimizer = create(name, model, lr=0.1, base="sgd", scaler=scaler)
        for step in range(10):
            half = dtype == torch.float16
            optimizer.step(scaled_closure(model, optimizer, scaler, *batch(step, dtype=torch.float32), half=half))
            scaler.update()
        models.append(model)
    start = perceptron(torch.float32)
    moved = float((models[1][0].weight - start[0].weight).detach().norm())
    assert float((models[0][0].weight - models[1][0].weight).detach().norm()) < 0.02 * moved


@pytest.mark.parametrize("bad_pass", [1, 2])
def test_an_overflow_in_any_pass_makes_the_scaler_back_off(bad_pass: int) -> None:
    model = perceptron(torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, scaler=scaler)
    before = copy.deepcopy(model.state_dict())
    passes: list[int] = []
    x, y = batch(dtype=torch.float32)

    def closure() -> Tensor:
        passes.append(0)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        if len(passes) == bad_pass:
            model[0].weight.grad[0, 0] = float("inf")
        return loss

    optimizer.step(closure)
    scaler.update()
    assert scaler.get_scale() == 2.0
    assert optimizer.skipped == 1
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    optimizer.step(closure)
    scaler.update()
    assert optimizer.skipped == 1


@pytest.mark.parametrize("name", METHODS)
def test_bfloat16_autocast_trains(name: str) -> None:
    model = perceptron(torch.float32)
    optimizer = create(name, model, lr=0.1, base="sgd")
    x, y = batch(dtype=torch.float32)

    def closure() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    losses = [float(optimizer.step(closure)) for _ in range(30)]
    assert losses[-1] < losses[0]


# Compiled models


@pytest.mark.parametrize("name", [name for name in METHODS if name != "eigensam"])
def test_a_compiled_model_is_not_compiled_again_after_the_first_step(name: str) -> None:
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    counter = CompileCounter()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))
    compiled = torch.compile(model, backend=counter)
    optimizer = create(name, model, lr=0.1, **FAST.get(name, {}))
    counts = []
    for step in range(4):
        optimizer.step(closure_of(compiled, optimizer, *batch(step, dtype=torch.float32)))
        counts.append(counter.frame_count)
    assert counts[0] >= 1
    assert counts[1:] == [counts[1]] * 3


# Memory that others look into


@pytest.mark.parametrize("name", METHODS)
def test_parameters_and_gradients_that_are_views_of_flat_buffers_stay_so(name: str) -> None:
    model, plain = perceptron(), perceptron()
    size = sum(p.numel() for p in model.parameters())
    weights, gradients = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    start = 0
    for parameter in model.parameters():
        stop = start + parameter.numel()
        weights[start:stop] = parameter.detach().flatten()
        parameter.data = weights[start:stop].view_as(parameter)
        parameter.grad = gradients[start:stop].view_as(parameter)
        start = stop
    options = {"lr": 0.1, "base": "sgd", **FAST.get(name, {})}
    optimizer, reference = create(name, model, **options), create(name, plain, **options)
    for step in range(4):
        x, y = batch(step)

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            gradients.zero_()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
        reference.step(closure_of(plain, reference, x, y))
    assert torch.equal(weights, torch.cat([p.detach().flatten() for p in plain.parameters()]))
    assert torch.equal(gradients, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))


@pytest.mark.parametrize("name", METHODS)
def test_gradients_that_are_cleared_to_zero_do_as_well_as_none(name: str) -> None:
    model = perceptron()
    optimizer = create(name, model, lr=0.1, base="sgd", **FAST.get(name, {}))
    for step in range(5):
        x, y = batch(step)

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad(set_to_none=False)
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
    assert_same(model, train(name))


# What torch's optimizers can do


@pytest.mark.parametrize("name", METHODS)
def test_a_copy_goes_its_own_way(name: str) -> None:
    model = perceptron()
    optimizer = create(name, model, lr=0.1, base="adamw", **FAST.get(name, {}))
    optimizer.step(closure_of(model, optimizer, *batch(0)))
    other_model, other = copy.deepcopy((model, optimizer))
    for step in range(1, 4):
        optimizer.step(closure_of(model, optimizer, *batch(step)))
    before = copy.deepcopy(other_model.state_dict())
    for step in range(1, 4):
        other.step(closure_of(other_model, other, *batch(step)))
    assert_same(other_model, model)
    assert any(not torch.equal(value, before[key]) for key, value in other_model.state_dict().items())


@pytest.mark.parametrize("name", [name for name in METHODS if name != "bayesiansam"])
def test_maximizing_the_negative_loss_is_minimizing_the_loss(name: str) -> None:
    model = perceptron()
    optimizer = create(name, model, lr=0.1, base="sgd", maximize=True, weight_decay=0.1, **FAST.get(name, {}))
    for step in range(5):
        x, y = batch(step)

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            optimizer.zero_grad()
            loss = -F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
    assert_same(model, train(name, weight_decay=0.1), tolerance=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_frozen_and_added_parameters(name: str) -> None:
    model = perceptron()
    model[0].bias.requires_grad_(False)
    frozen = model[0].bias.detach().clone()
    optimizer = create(name, model[0].parameters(), lr=0.1, base="sgd", **FAST.get(name, {}))
    later = copy.deepcopy(model[2].state_dict())
    optimizer.step(closure_of(model, optimizer, *batch(0)))
    assert all(torch.equal(value, later[key]) for key, value in model[2].state_dict().items())
    optimizer.add_param_group({"params": list(model[2].parameters()), "lr": 0.05})
    for step in range(3):
        optimizer.step(closure_of(model, optimizer, *batch(step)))
    assert torch.equal(model[0].bias, frozen)
    assert not any(torch.equal(value, later[key]) for key, value in model[2].state_dict().items())
    assert optimizer.param_groups[1]["rho"] == optimizer.param_groups[0]["rho"]


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("base", ["sgd", "adamw"])
def test_the_base_may_loop_or_not(foreach: bool, base: str) -> None:
    assert_same(train("wsam", base=base, foreach=foreach), train("wsam", base=base), tolerance=1e-12)


def test_any_optimizer_class_can_be_the_base() -> None:
    for base in (torch.optim.NAdam, torch.optim.RMSprop, torch.optim.Adagrad):
        assert_same(train("sam", base=base, rho=0.05), train("sam", base=base, rho=0.05))
    with pytest.raises(ValueError, match="without a closure"):
        SAM(perceptron().parameters(), torch.optim.LBFGS)
    with pytest.raises(ValueError, match="Optimizer class"):
        SAM(perceptron().parameters(), "sgd")  # type: ignore[arg-type]


def test_groups_of_several_precisions_share_one_norm() -> None:
    torch.manual_seed(0)
    parts = [nn.Parameter(torch.randn(3, dtype=dtype)) for dtype in (torch.float64, torch.float32)]
    starts = [p.detach().clone() for p in parts]
    optimizer = SAM([{"params": [p]} for p in parts], torch.optim.SGD, rho=0.5, lr=0.1)
    seen: list[list[Tensor]] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        seen.append([p.detach().clone() for p in parts])
        loss = sum((p.double() ** 2).sum() for p in parts) / 2
        assert isinstance(loss, Tensor)
        loss.backward()
        return loss

    optimizer.step(closure)
    size = torch.sqrt(sum((start.double() ** 2).sum() for start in starts))  # type: ignore[arg-type]
    for start, there in zip(starts, seen[1], strict=True):
        torch.testing.assert_close(there.double(), start.double() * (1 + 0.5 / size), rtol=0, atol=1e-6)


def test_nothing_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in METHODS:
            train(name, steps=3)


# m-sharpness on one device


@pytest.mark.parametrize(
    "name", [name for name in METHODS if "micro_batch" in str(optimizer_info(name).hyperparameters)]
)
def test_a_micro_batch_of_the_whole_batch_is_the_plain_step(name: str) -> None:
    model = perceptron()
    optimizer = create(name, model, lr=0.1, base="sgd", micro_batch=12, **FAST.get(name, {}))
    for step in range(5):
        x, y = batch(step)

        def closure(rows: slice, x: Tensor = x, y: Tensor = y) -> Tensor:
            return closure_of(model, optimizer, x[rows], y[rows])()

        optimizer.step(closure, batch_size=12)  # type: ignore[call-arg, arg-type]
    assert_same(model, train(name), tolerance=1e-12)


def test_micro_batches_are_perturbed_by_themselves() -> None:
    """SAM with m = 5 of 11 samples: the mean, by samples, of three gradients, each at its own worst point."""
    model = perceptron()
    optimizer = SAM(model.parameters(), torch.optim.SGD, rho=0.3, lr=0.1, micro_batch=5)
    x, y = batch(size=11)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}

    def gradient(weights: dict[str, Tensor], rows: slice) -> dict[str, Tensor]:
        leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
        loss = F.cross_entropy(torch.func.functional_call(model, leaves, (x[rows],)), y[rows])
        return dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    expected = {name: value.clone() for name, value in start.items()}
    for rows, share in ((slice(0, 3), 3 / 11), (slice(3, 7), 4 / 11), (slice(7, 11), 4 / 11)):
        g = gradient(start, rows)
        size = torch.sqrt(sum((value**2).sum() for value in g.values()))  # type: ignore[arg-type]
        g_plus = gradient({name: value + 0.3 * g[name] / size for name, value in start.items()}, rows)
        for name, value in g_plus.items():
            expected[name] -= 0.1 * share * value

    def closure(rows: slice) -> Tensor:
        return closure_of(model, optimizer, x[rows], y[rows])()

    loss = optimizer.step(closure, batch_size=11)
    torch.testing.assert_close(loss, F.cross_entropy(perceptron()(x), y).detach(), rtol=0, atol=1e-12)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [*range(1, 40), 1000, 1001])
@pytest.mark.parametrize("micro_batch", [1, 2, 3, 16, 500])
def test_micro_batches_are_even_and_none_is_of_one_sample(size: int, micro_batch: int) -> None:
    asked: list[slice] = []
    optimizer = OnePass(perceptron().parameters(), lr=0.1, micro_batch=micro_batch)

    def closure(rows: slice) -> Tensor:
        asked.append(rows)
        return torch.zeros(())

    optimizer.step(closure, batch_size=size)
    assert [row for rows in asked for row in range(rows.start, rows.stop)] == list(range(size))
    counts = {rows.stop - rows.start for rows in asked}
    assert max(counts) - min(counts) <= 1
    if micro_batch > 1 and size > 1:
        assert min(counts) > 1
        assert max(counts) <= micro_batch or (micro_batch, size) == (2, 3) or micro_batch == 2
    # As near to m as can be: with fewer micro-batches one would be larger than it.
    assert micro_batch == 2 or len(asked) == -(-size // micro_batch)


@pytest.mark.parametrize("name", ["sam", "gsam", "adamw"])
def test_a_batch_of_33_goes_through_batch_norm_in_micro_batches_of_16(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).double()
    optimizer = create(name, model, lr=0.1, micro_batch=16, protocol=True)
    x, y = batch(size=33)
    optimizer.step(lambda rows: closure_of(model, optimizer, x[rows], y[rows])(), batch_size=33)
    assert int(model[1].num_batches_tracked) == 3


def test_batch_norm_and_micro_batches_of_one_are_told_in_a_sentence() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)).double()
    optimizer = SAM(model.parameters(), lr=0.1, model=model, micro_batch=1)
    x, y = batch()

    def closure(rows: slice) -> Tensor:
        return closure_of(model, optimizer, x[rows], y[rows])()

    with pytest.raises(ValueError, match=r"batch norm \(layer '1'\) one sample at a time.*2 or more"):
        optimizer.step(closure, batch_size=12)
    model.eval()
    optimizer.step(closure, batch_size=12)


def test_micro_batches_need_the_size_of_the_batch() -> None:
    model = perceptron()
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, micro_batch=4)
    with pytest.raises(ValueError, match="batch_size"):
        optimizer.step(closure_of(model, optimizer, *batch()))
    with pytest.raises(ValueError, match="micro_batch must be"):
        SAM(model.parameters(), torch.optim.SGD, lr=0.1, micro_batch=0)


# Efficient methods


def test_looksam_saves_passes() -> None:
    model = perceptron()
    optimizer = LookSAM(model.parameters(), torch.optim.SGD, lr=0.1, k=5)
    passes: list[int] = []

    def closure() -> Tensor:
        passes.append(0)
        return closure_of(model, optimizer, *batch())()

    for _ in range(20):
        optimizer.step(closure)
    assert len(passes) == 24


def test_esam_descends_on_the_samples_whose_loss_rose_most() -> None:
    model = perceptron()
    optimizer = ESAM(model.parameters(), torch.optim.SGD, rho=0.5, lr=0.1, gamma=0.5)
    x, y = batch()
    asked: list[Any] = []
    losses: list[Tensor] = []

    def closure(rows: Any = slice(None)) -> Tensor:
        asked.append(rows)
        optimizer.zero_grad()
        each = F.cross_entropy(model(x[rows]), y[rows], reduction="none")
        each.mean().backward()
        losses.append(each.detach())
        return each

    loss = optimizer.step(closure)
    assert torch.equal(loss, losses[0].mean())
    raised = losses[1] - losses[0]
    assert sorted(asked[2].tolist()) == sorted(raised.argsort(descending=True)[:5].tolist())


def test_esam_freezes_tensors_in_the_first_pass_only() -> None:
    model = perceptron()
    optimizer = ESAM(model.parameters(), torch.optim.SGD, rho=0.5, lr=0.1, beta=0.5, seed=1)
    frozen: list[list[bool]] = []
    x, y = batch()

    def closure() -> Tensor:
        frozen.append([not p.requires_grad for p in model.parameters()])
        return closure_of(model, optimizer, x, y)()

    for _ in range(10):
        optimizer.step(closure)
    assert {sum(flags) for flags in frozen[0::2]} >= {1, 2}
    assert not any(any(flags) for flags in frozen[1::2])
    assert all(p.requires_grad for p in model.parameters())


def test_esam_wants_the_loss_of_each_sample() -> None:
    model = perceptron()
    optimizer = ESAM(model.parameters(), torch.optim.SGD, lr=0.1, gamma=0.5)
    with pytest.raises(ValueError, match="loss of each sample"):
        optimizer.step(closure_of(model, optimizer, *batch()))
    with pytest.raises(ValueError, match="leave micro_batch out"):
        ESAM(model.parameters(), torch.optim.SGD, lr=0.1, micro_batch=2)


def test_msam_and_bayesiansam_refuse_a_base_that_they_cannot_use() -> None:
    with pytest.raises(ValueError, match="along the momentum"):
        MSAM(perceptron().parameters(), torch.optim.SGD, lr=0.1, momentum=0.0)
    with pytest.raises(ValueError, match="step of its own"):
        BayesianSAM(perceptron().parameters(), base=torch.optim.SGD, lr=0.1)


COPIES = {
    "wsam": 2,
    "gsam": 2,
    "crsam": 2,
    "fsam": 3,
    "vasso": 3,
    "looksam": 3,
    "eigensam": 2,
    "xsam": 2,
    "gam": 3,
    "bayesiansam": 4,
}
"""Copies of the weights that are held in a pass besides the gradient: the backup, a second gradient where both are
needed, and what the method remembers of earlier steps; one for all others."""


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of large tensors that were made inside of it and still live."""

    def __init__(self) -> None:
        super().__init__()
        self._made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for thing in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(thing, Tensor):
                storage = thing.untyped_storage()
                self._made[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return out

    def count(self, size: int) -> int:
        return sum(size_ for ref, size_ in self._made.values() if size_ >= size and not ref.expired()) // size


def most_copies_held(name: str) -> int:
    """Return how many copies of the weights are alive, at most, at the end of a pass."""
    torch.manual_seed(0)
    model = nn.Linear(256, 256, bias=False)
    momentum = 0.9 if name == "msam" else 0.0
    options = {"momentum": 0.0} if name == "sgd" else {"base": "sgd", "momentum": momentum}
    optimizer = create(name, model, lr=0.1, **options)
    x = torch.randn(4, 256)
    held: list[int] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        held.append(live.count(256 * 256 * 4))
        return loss

    with LiveMemory() as live:
        for _ in range(3):
            optimizer.step(closure)  # type: ignore[arg-type]
    return max(held) - (momentum > 0)


@pytest.mark.parametrize("name", METHODS)
def test_holds_no_more_copies_of_the_weights_than_it_says(name: str) -> None:
    assert most_copies_held(name) - most_copies_held("sgd") <= COPIES.get(name, 1)


class Reservations(TorchDispatchMode):
    """Counts how often memory like a tensor's is reserved."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.empty_like.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["sam", "asam", "gsam", "wsam", "crsam", "gcsam", "looksam", "msam"])
def test_memory_for_the_backup_is_reserved_once(name: str) -> None:
    model = perceptron()
    optimizer = create(name, model, lr=0.1, base="sgd")
    counts = []
    for step in range(7):  # LookSAM climbs in the first and the sixth, MSAM from the second on
        with Reservations() as reservations:
            optimizer.step(closure_of(model, optimizer, *batch(step)))
        counts.append(reservations.count)
    assert sum(counts) == len(list(model.parameters()))


def test_rho_follows_the_learning_rate() -> None:
    model = perceptron()
    optimizer = create_optimizer("gsam", model, lr=0.1, rho=0.5)
    rates = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=4)
    radii = RhoScheduler(optimizer, rho_min=0.1)
    seen = []
    for step in range(4):
        optimizer.step(closure_of(model, optimizer, *batch(step)))
        rates.step()
        radii.step()
        seen.append(optimizer.param_groups[0]["rho"])
    assert seen == pytest.approx([0.4, 0.3, 0.2, 0.1])
    with pytest.raises(ValueError, match="rho_min"):
        RhoScheduler(optimizer, rho_min=1.0)
    with pytest.raises(ValueError, match="sharpness-aware"):
        RhoScheduler(torch.optim.SGD(model.parameters(), lr=0.1))


def test_wsam_is_its_base_without_gamma_and_sam_with_one_half() -> None:
    assert_same(train("wsam", gamma=0.5, decouple=False), train("sam"), tolerance=1e-12)
    model = perceptron()
    optimizer = WSAM(model.parameters(), torch.optim.SGD, lr=0.1, gamma=0.0)
    plain = perceptron()
    reference = torch.optim.SGD(plain.parameters(), lr=0.1)
    for step in range(4):
        optimizer.step(closure_of(model, optimizer, *batch(step)))
        reference.step(closure_of(plain, reference, *batch(step)))
    assert_same(model, plain)


def test_a_base_that_writes_into_the_gradient_does_no_harm() -> None:
    class Careless(torch.optim.SGD):
        @torch.no_grad()
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            super().step()
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad.fill_(1e6)

    assert_same(train("wsam", base=Careless, momentum=0.9), train("wsam", base=torch.optim.SGD))


def test_optimizers_are_found_by_other_spellings() -> None:
    assert optimizer_info("CR-SAM").name == "crsam"
    assert optimizer_info("bSAM").name == "bayesiansam"
    assert isinstance(create_optimizer("Eigen-SAM", perceptron()), SharpnessAware)


def test_noise_goes_on_where_it_was_and_is_new_on_a_device_that_drew_none() -> None:
    """A run that was begun on a GPU may go on without one; what was drawn already is not drawn again."""
    generators = Generators(7)
    first, second = (torch.rand(5, generator=generators.on(torch.device("cpu"))) for _ in range(2))
    halfway = Generators(7)
    torch.rand(5, generator=halfway.on(torch.device("cpu")))
    saved = halfway.state_dict()
    again = Generators(7)
    again.load_state_dict(saved)
    torch.testing.assert_close(torch.rand(5, generator=again.on(torch.device("cpu"))), second)
    elsewhere = Generators(7)
    elsewhere.load_state_dict({"cuda:5": saved["cpu"]})
    assert elsewhere.state_dict().keys() == {"cuda:5"}
    drawn = torch.rand(5, generator=elsewhere.on(torch.device("cpu")))
    assert not torch.equal(drawn, first)
    assert not torch.equal(drawn, second)
    assert elsewhere.state_dict().keys() == {"cuda:5", "cpu"}
    once_more = Generators(7)
    once_more.load_state_dict({"cuda:5": saved["cpu"]})
    torch.testing.assert_close(torch.rand(5, generator=once_more.on(torch.device("cpu"))), drawn)


def drawn(generators: Generators, device: torch.device) -> list[float]:
    return list(torch.rand(3, generator=generators.on(device)).tolist())


def test_noise_goes_on_on_another_device_of_the_same_type() -> None:
    """Of processes with a GPU each, all draw alike and the first alone saves; devices of the CPU stand for theirs."""
    first, second = torch.device("cpu:0"), torch.device("cpu:1")
    generators = Generators(7)
    drawn(generators, first)
    saved = generators.state_dict()
    assert saved.keys() == {"cpu:0"}
    expected = drawn(generators, first)
    resumed = Generators(7)
    resumed.load_state_dict(saved)
    assert drawn(resumed, second) == expected
    # What goes on under another name is not saved under the old one too, which would be drawn from once more.
    later = resumed.state_dict()
    assert later.keys() == {"cpu:1"}
    back = Generators(7)
    back.load_state_dict(later)
    assert drawn(back, first) == drawn(generators, first)


def test_of_several_devices_each_goes_on_with_its_own_noise() -> None:
    first, second, third = (torch.device(f"cpu:{number}") for number in range(3))
    generators = Generators(7)
    drawn(generators, first)
    for _ in range(2):
        drawn(generators, second)
    saved = generators.state_dict()
    resumed = Generators(7)
    resumed.load_state_dict(saved)
    assert drawn(resumed, second) == drawn(generators, second)
    assert drawn(resumed, first) == drawn(generators, first)
    # No state is left for one more: it draws what is new, and not what the seed gave first.
    assert drawn(resumed, third) not in (drawn(Generators(7), first), drawn(resumed, first), drawn(resumed, second))


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Muon])
def test_decay_of_msams_base_acts_where_the_base_says(base: Any) -> None:
    """What the base is given is the gradient at the perturbed weights; of L2 decay, with what it adds at the others."""
    weight = nn.Parameter(torch.linspace(-1, 2, 12, dtype=torch.float64).view(3, 4))
    decay, rho = 0.3, 0.5
    optimizer = MSAM([weight], base, rho=rho, lr=0.02, weight_decay=decay)
    given: list[Tensor] = []
    optimizer.base.register_step_pre_hook(lambda *arguments: given.append(weight.grad.clone()))  # type: ignore[union-attr]
    x = batch()[0]

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (x @ weight.t()).square().mean()
        loss.backward()
        return loss

    for step in range(3):
        start = weight.detach().clone()
        state = optimizer.state.get(weight, {})
        velocity = state.get("momentum_buffer", state.get("exp_avg"))
        away = torch.zeros_like(start) if velocity is None else -rho * velocity / velocity.norm()
        at = (start + away).requires_grad_()
        (expected,) = torch.autograd.grad((x @ at.t()).square().mean(), at)
        if base is torch.optim.SGD:  # which adds the decay of the weights themselves
            expected = expected + decay * away
        optimizer.step(closure)
        assert (step == 0) == (velocity is None)
        torch.testing.assert_close(given[-1], expected, rtol=0, atol=1e-10)  # 1e-12 is added to the norm
