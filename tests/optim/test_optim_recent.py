"""XSAM, LE-SAM and ZSharp: what each does that no other method does."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from small import batch, closure_of, create, perceptron
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from medsharp.optim import LESAM, SAM, XSAM, RhoScheduler, ZSharp
from medsharp.optim.arithmetic import PART, kth_smallest
from medsharp.optim.zsharp import outstanding


def vector(model: nn.Module) -> Tensor:
    return parameters_to_vector(model.parameters()).detach().clone()


def visited(optimizer: Any, model: nn.Module, x: Tensor, y: Tensor, **options: Any) -> list[tuple[Tensor, Tensor]]:
    """Take a step; return the weights, as one vector, and the loss of each pass."""
    passes: list[tuple[Tensor, Tensor]] = []

    def closure(rows: Any = slice(None)) -> Tensor:
        loss: Tensor = closure_of(model, optimizer, x[rows], y[rows])()
        passes.append((vector(model), loss.detach()))
        return loss

    optimizer.step(closure, **options)
    return passes


# XSAM


def test_xsam_takes_the_direction_of_the_largest_loss_at_rho_max() -> None:
    chosen = set()
    for step in range(12):
        model = perceptron()
        optimizer = XSAM(model.parameters(), lr=0.1, rho=0.4, rho_max=3.0)
        start = vector(model)
        passes = visited(optimizer, model, *batch(step))
        assert len(passes) == 2 + 21
        search = passes[2:]
        for weights, _ in search:
            assert float((weights - start).norm()) == pytest.approx(3.0, rel=1e-9)
        # The first candidate is the ascent, the tenth the direction of SAM.
        torch.testing.assert_close((search[0][0] - start) / 3, (passes[1][0] - start) / 0.4, rtol=0, atol=1e-10)
        losses = [float(loss) for _, loss in search]
        assert optimizer.a == losses.index(max(losses)) / 10
        moved = vector(model) - start
        cosine = float(F.cosine_similarity(moved, search[losses.index(max(losses))][0] - start, dim=0))
        assert cosine == pytest.approx(-1, abs=1e-9)
        chosen.add(optimizer.a)
    assert len(chosen) > 2


def test_the_length_of_xsams_gradient_is_that_at_the_ascent() -> None:
    model, other = perceptron(), perceptron()
    lengths = []
    for cls, net in ((XSAM, model), (SAM, other)):
        optimizer = cls(net.parameters(), lr=1.0, rho=0.4)
        before = vector(net)
        optimizer.step(closure_of(net, optimizer, *batch()))
        lengths.append(float((vector(net) - before).norm()))
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-9)
    assert not torch.allclose(vector(model), vector(other))


def test_xsam_searches_every_so_many_steps_and_keeps_what_it_found() -> None:
    model = perceptron()
    optimizer = XSAM(model.parameters(), lr=0.1, rho=0.4, interval=3)
    assert optimizer.a == 1.0
    counts = [len(visited(optimizer, model, *batch(step))) for step in range(7)]
    assert counts == [23, 2, 2, 23, 2, 2, 23]
    saved = copy.deepcopy(optimizer.state_dict())
    resumed = XSAM(perceptron().parameters(), lr=0.1, rho=0.4, interval=3)
    resumed.load_state_dict(saved)
    assert resumed.a == optimizer.a != 1.0
    assert XSAM(perceptron().parameters(), lr=0.1).interval == 100


def test_a_search_that_is_skipped_is_made_in_the_next_step() -> None:
    model = perceptron()
    optimizer = XSAM(model.parameters(), lr=0.1, interval=4)
    x, y = batch()
    before = vector(model)
    passes: list[int] = []

    def closure() -> Tensor:
        passes.append(0)
        return closure_of(model, optimizer, x * float("nan") if len(passes) == 10 else x, y)()

    optimizer.step(closure)
    assert (optimizer.skipped, optimizer.a) == (1, 1.0)
    assert torch.equal(vector(model), before)
    assert len(visited(optimizer, model, x, y)) == 23


def test_xsams_search_does_not_go_backward_and_leaves_no_trace() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)).double()
    optimizer = create("xsam", model, lr=0.1, base="sgd", interval=2)
    x, y = batch()
    backward: list[int] = []
    model[0].weight.register_hook(lambda gradient: backward.append(1))
    noise: list[float] = []

    def closure() -> Tensor:
        noise.append(float(torch.rand(1)))
        return closure_of(model, optimizer, x, y)()

    for _ in range(2):
        optimizer.step(closure)
    assert len(backward) == 4
    assert int(model[1].num_batches_tracked) == 2
    # The candidates of a search see one noise, which is that of no pass before.
    assert len(set(noise[2:23])) == 1
    assert len(set(noise)) == 5
    assert optimizer._explored == []  # no batch is held between steps


def peak(name: str, start: float, rho: float) -> tuple[Any, nn.Parameter]:
    """One weight near the peak of a cosine."""
    weight = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = create(name, [weight], base="sgd", momentum=0.0, lr=0.1, rho=rho)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = weight.cos().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return optimizer, weight


@pytest.mark.parametrize(("start", "rho"), [(-0.1, 0.15), (-0.4, 0.15)], ids=["opposite", "parallel"])
def test_where_two_directions_span_no_plane_xsam_is_sam(start: float, rho: float) -> None:
    optimizer, weight = peak("xsam", start, rho)
    _, expected = peak("sam", start, rho)
    torch.testing.assert_close(weight, expected, rtol=0, atol=1e-12)
    assert math.isfinite(optimizer.a)


def test_micro_batches_of_xsam_search_together() -> None:
    model = perceptron()
    optimizer = XSAM(model.parameters(), lr=0.1, rho=0.4, rho_max=3.0, micro_batch=5)
    start, (x, y) = vector(model), batch(3, size=11)
    passes = visited(optimizer, model, x, y, batch_size=11)
    assert len(passes) == 3 * (2 + 21)
    losses = []
    for candidate in range(21):
        parts = passes[6 + 3 * candidate : 9 + 3 * candidate]
        assert all(torch.equal(weights, parts[0][0]) for weights, _ in parts)
        losses.append(sum(size * float(loss) for size, (_, loss) in zip((3, 4, 4), parts)) / 11)
    assert optimizer.a == losses.index(max(losses)) / 10
    # The first candidate is the mean of the three ascents.
    ascents = torch.stack([size / 11 * (passes[2 * i + 1][0] - start) for i, size in enumerate((3, 4, 4))]).sum(0)
    torch.testing.assert_close((passes[6][0] - start) / 3, ascents / ascents.norm(), rtol=0, atol=1e-10)


def test_groups_of_xsam_have_a_radius_of_search_each() -> None:
    reached = []
    for factor in (1.0, 0.25):
        model = perceptron()
        groups = [
            {"params": list(model[0].parameters())},
            {"params": list(model[2].parameters()), "rho_max": 2.0 * factor},
        ]
        optimizer = XSAM(groups, lr=0.1, rho=0.4, rho_max=2.0)
        start, size = vector(model), sum(p.numel() for p in model[0].parameters())
        moved = visited(optimizer, model, *batch())[2][0] - start
        reached.append((moved[:size], moved[size:]))
    torch.testing.assert_close(reached[1][0], reached[0][0], rtol=0, atol=1e-12)
    torch.testing.assert_close(reached[1][1], reached[0][1] / 4, rtol=0, atol=1e-12)


# LE-SAM


@pytest.mark.parametrize("adaptive", [False, True])
def test_lesam_raises_the_loss_by_sigma_to_first_order(adaptive: bool) -> None:
    model = perceptron()
    optimizer = LESAM(model.parameters(), lr=0.1, sigma=0.01, rho=100.0, adaptive=adaptive)
    start, (x, y) = vector(model), batch()
    gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    passes = visited(optimizer, model, x, y)
    e = passes[1][0] - start
    assert float(e @ parameters_to_vector(gradients)) == pytest.approx(0.01, rel=1e-9)
    # In fact, by what its curvature adds.
    assert float(passes[1][1] - passes[0][1]) == pytest.approx(0.01, rel=0.1)


def test_lesam_climbs_no_farther_than_rho_which_a_schedule_may_move() -> None:
    model = perceptron()
    optimizer = LESAM(model.parameters(), lr=0.0, sigma=1e3, rho=0.5)
    radii = RhoScheduler(optimizer, "linear", rho_min=0.0, steps=3)
    lengths = []
    for _ in range(3):
        start = vector(model)
        lengths.append(float((visited(optimizer, model, *batch())[1][0] - start).norm()))
        radii.step()
    assert lengths == pytest.approx([0.5, 0.25, 0.0])
    optimizer.param_groups[0] |= {"rho": 0.5, "sigma": 0.0}
    start = vector(model)
    assert torch.equal(visited(optimizer, model, *batch())[1][0], start)


# ZSharp


def test_zsharp_climbs_with_the_entries_that_stand_out_either_way() -> None:
    torch.manual_seed(0)
    model = nn.Linear(40, 10).double()
    optimizer = ZSharp(model.parameters(), lr=0.1, rho=0.3)
    start = vector(model)
    x, y = torch.randn(12, 40, dtype=torch.float64), torch.randint(10, (12,))
    gradient = torch.autograd.grad(F.cross_entropy(model(x), y), model.weight)[0].flatten()
    e = visited(optimizer, model, x, y)[1][0] - start
    weight, bias = e[:400], e[400:]
    z = (gradient - gradient.mean()) / gradient.std()
    assert sorted(torch.nonzero(weight).flatten().tolist()) == sorted(z.abs().argsort()[-20:].tolist())
    assert (weight > 0).any()
    assert (weight < 0).any()
    assert (bias != 0).all()
    assert float(e.norm()) == pytest.approx(0.3)


def test_zsharp_by_tensors_is_as_long_as_rho_in_each() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 10, bias=False), nn.Tanh(), nn.Linear(10, 4, bias=False)).double()
    optimizer = ZSharp(model.parameters(), lr=0.1, rho=0.3, norm="tensor")
    start, x, y = vector(model), torch.randn(12, 20, dtype=torch.float64), torch.randint(4, (12,))
    e = visited(optimizer, model, x, y)[1][0] - start
    assert [float(part.norm()) for part in (e[:200], e[200:])] == pytest.approx([0.3, 0.3])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_equal_scores_and_what_is_not_finite_are_not_filtered(dtype: torch.dtype) -> None:
    for value in (0.0, 0.5):
        flat = torch.full((4, 5), value, dtype=dtype)
        assert torch.equal(outstanding(flat, 0.95), flat)
    for bad in (float("nan"), float("inf"), -float("inf")):
        gradient = torch.randn(6, 7).to(dtype)
        gradient[2, 3] = bad
        assert not torch.isfinite(outstanding(gradient, 0.95)).all()
    gradient = torch.randn(50, 50).to(dtype)
    kept = outstanding(gradient, 0.9)
    assert 200 < int((kept != 0).sum()) <= 250  # fewer where numbers of low precision are equal
    assert kept.dtype == dtype
    assert kept is not gradient
    assert outstanding(gradient, 0.9, overwrite=True) is gradient
    assert torch.equal(kept, gradient)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_cut_between_opposite_entries_leaves_both_out_whatever_the_rounding(dtype: torch.dtype) -> None:
    """As in a head of two classes, whose rows are each other's negative up to rounding."""
    row = torch.linspace(0.1, 1, 20, dtype=dtype)
    for noise in (0.0, 1.0, -1.0):
        gradient = torch.stack([row, -row * (1 + noise * 4 * torch.finfo(dtype).eps)])
        # Seven of forty are above the quantile: three pairs and one of the next.
        assert int((outstanding(gradient, 32.5 / 39) != 0).sum()) == 6


def test_numbers_that_are_none_are_the_largest() -> None:
    numbers = torch.rand(2 * PART)
    numbers[::2] = float("nan")
    assert torch.isnan(kth_smallest(numbers, PART + 1))
    assert float(kth_smallest(numbers, PART)) == float(numbers[1::2].max())


@pytest.mark.parametrize("quantile", [0.0, 0.5, 0.95, 0.999, 0.999999])
@pytest.mark.parametrize("kind", ["normal", "sparse", "sorted", "ties", "periodic"])
def test_the_kth_smallest_of_many_is_found_in_a_sample(kind: str, quantile: float) -> None:
    torch.manual_seed(0)
    count = 5 * PART + 17
    numbers = torch.randn(count).abs()
    if kind == "sparse":
        numbers[torch.rand(count) < 0.97] = 0.0
    elif kind == "sorted":
        numbers = numbers.sort().values
    elif kind == "ties":
        numbers = (4 * numbers).round()
    elif kind == "periodic":
        numbers[:: count // 4096] += 10  # all that a sample would see
    k = 1 + int(quantile * (count - 1))
    assert torch.equal(kth_smallest(numbers, k), numbers.sort().values[k - 1])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("xsam", {"rho_max": -0.1}, "rho_max must be 0 or more, not -0.1"),
        ("xsam", {"interval": 0}, "interval must be a whole number, 1 or more, not 0"),
        ("xsam", {"ascents": 1.5}, "ascents must be a whole number"),
        ("lesam", {"sigma": -1.0}, "sigma must be 0 or more, not -1.0"),
        ("zsharp", {"quantile": 1.0}, "quantile must be at least 0 and less than 1, not 1.0"),
        ("zsharp", {"norm": "layer"}, "norm must be one of global, tensor, not layer"),
    ],
)
def test_wrong_values_are_a_sentence(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        create(name, perceptron(), **options)
