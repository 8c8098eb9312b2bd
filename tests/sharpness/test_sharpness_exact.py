"""Every measure against what it is by definition, on networks whose full Hessian fits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call

from medsharp.sharpness import (
    SCALES,
    Problem,
    average_case,
    density,
    eigenvalues,
    scaled_product,
    slope,
    trace,
    weight_scale,
    worst_case,
)

SPLITS = [[23], [5, 1, 17], [10, 13]]


def losses(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(network(batch[0]), batch[1], reduction="none", label_smoothing=0.1)


@pytest.fixture
def network() -> nn.Module:
    """Batch norm whose running statistics are not those of the samples, dropout, and a frozen layer."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(18, 3),
        nn.Linear(3, 3),
    )
    network[1].running_mean.uniform_(-0.5, 0.5)
    network[1].running_var.uniform_(0.5, 2)
    network[6].requires_grad_(False)
    return network


@pytest.fixture
def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(23, 1, 5, 5, generator=generator), torch.randint(0, 3, (23,), generator=generator)


def problem_of(network: nn.Module, samples: tuple[Tensor, Tensor], sizes: list[int], **options: bool) -> Problem:
    batches = list(zip(*(part.split(sizes) for part in samples), strict=True))
    return Problem(network, batches, losses, dtype=torch.float64, **options)


def full_hessian(network: nn.Module, samples: tuple[Tensor, Tensor]) -> Tensor:
    """Row by row, of one batch."""
    network = network.double().eval()
    learnable = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    batch = (samples[0].double(), samples[1])

    def mean_loss(flat: Tensor) -> Tensor:
        parts = flat.split([p.numel() for p in learnable.values()])
        weights = {name: part.view_as(p) for (name, p), part in zip(learnable.items(), parts, strict=True)}
        return losses(lambda x: functional_call(network, weights, (x,)), batch).mean()

    return hessian(mean_loss, torch.cat([p.reshape(-1) for p in learnable.values()]))


@pytest.mark.parametrize("sizes", SPLITS)
@pytest.mark.parametrize("keep_graph", [False, True])
def test_products_are_those_of_the_full_hessian_for_any_batches(
    network: nn.Module, samples: tuple[Tensor, Tensor], sizes: list[int], keep_graph: bool
) -> None:
    problem = problem_of(network, samples, sizes, keep_graph=keep_graph)
    expected = full_hessian(network, samples)
    assert problem.size == len(expected) == 2 * 9 + 2 + 4 + 18 * 3 + 3
    columns = [problem.product(unit) for unit in torch.eye(problem.size, dtype=torch.float64)]
    torch.testing.assert_close(torch.stack(columns, dim=1), expected, atol=1e-10, rtol=1e-8)


def test_a_kept_graph_follows_the_weights(network: nn.Module, samples: tuple[Tensor, Tensor]) -> None:
    kept, again = (problem_of(network, samples, [10, 13], keep_graph=keep) for keep in (True, False))
    vector = torch.linspace(-1, 1, kept.size, dtype=torch.float64)
    for _ in range(2):
        torch.testing.assert_close(kept.product(vector), again.product(vector), atol=0, rtol=1e-12)
        assert kept.loss(vector) == again.loss(vector)  # moves the weights and brings them back
    assert torch.equal(kept.weights(), problem_of(network, samples, [23]).weights())


@pytest.mark.parametrize("sizes", SPLITS)
def test_eigenvalues_of_both_ends_are_those_of_the_full_hessian(
    network: nn.Module, samples: tuple[Tensor, Tensor], sizes: list[int]
) -> None:
    problem = problem_of(network, samples, sizes)
    expected = torch.linalg.eigvalsh(full_hessian(network, samples))
    assert expected[0] < -1e-3  # the network is not trained: there is something with a sign
    _, gradient = problem.gradient()
    found = eigenvalues(
        problem.product, gradient, torch.Generator().manual_seed(0), largest=3, smallest=2, tolerance=1e-10
    )
    values = torch.tensor([end.value for end in found.largest + found.smallest], dtype=torch.float64)
    torch.testing.assert_close(values, torch.cat([expected[-3:].flip(0), expected[:2]]), atol=1e-9, rtol=1e-7)
    assert all(end.converged for end in found.largest + found.smallest)
    assert found.products < problem.size
    for end, vector in zip(found.largest, found.vectors, strict=True):
        torch.testing.assert_close(problem.product(vector), end.value * vector, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("scale", SCALES)
def test_scaled_spectrum_is_that_of_the_scaled_hessian(
    network: nn.Module, samples: tuple[Tensor, Tensor], scale: str
) -> None:
    problem = problem_of(network, samples, [5, 18])
    diagonal = weight_scale(problem, scale)
    expected = diagonal[:, None] * full_hessian(network, samples) * diagonal
    product = scaled_product(problem, diagonal)
    found = eigenvalues(
        product, torch.ones_like(diagonal), torch.Generator().manual_seed(0), largest=2, smallest=1, tolerance=1e-9
    )
    values = torch.linalg.eigvalsh(expected)
    torch.testing.assert_close(
        torch.tensor([end.value for end in found.largest + found.smallest], dtype=torch.float64),
        torch.stack([values[-1], values[-2], values[0]]),
        atol=1e-9,
        rtol=1e-6,
    )
    estimate = trace(product, diagonal, torch.Generator().manual_seed(1), draws=400)
    assert estimate.standard_error is not None
    assert abs(estimate.value - float(expected.trace())) < 4 * estimate.standard_error
    assert 0 < estimate.standard_error < 0.3 * abs(float(expected.diagonal().abs().sum()))


def test_density_has_the_moments_of_the_spectrum(network: nn.Module, samples: tuple[Tensor, Tensor]) -> None:
    problem = problem_of(network, samples, [23])
    expected = torch.linalg.eigvalsh(full_hessian(network, samples))
    vectors = 300
    found = density(problem.product, problem.weights(), torch.Generator().manual_seed(0), vectors=vectors, steps=4)
    nodes, weights = torch.tensor(found.nodes), torch.tensor(found.weights)
    assert len(nodes) == 4 * vectors
    assert float(weights.sum()) == pytest.approx(1, abs=1e-6)
    assert (nodes.diff() >= 0).all()
    for power in (1, 2, 3):
        mean = float((weights * nodes**power).sum())
        assert mean == pytest.approx(float(expected.pow(power).mean()), rel=0.15), power
    assert found.trace.standard_error is not None
    assert abs(found.trace.value - float(expected.sum())) < 4 * found.trace.standard_error
    at, height = found.curve(points=2000)
    assert sum(height) * (at[1] - at[0]) == pytest.approx(1, abs=1e-3)


def test_slope_is_the_gradient_and_where_it_leads(network: nn.Module, samples: tuple[Tensor, Tensor]) -> None:
    problem = problem_of(network, samples, [5, 18])
    network = network.double().eval()
    loss = losses(network, (samples[0].double(), samples[1])).mean()
    learnable = [p for p in network.parameters() if p.requires_grad]
    gradient = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, learnable)])
    for name in SCALES:
        diagonal = weight_scale(problem, name)
        found = slope(problem, diagonal, [0.05, 0.2])
        step = diagonal**2 * gradient / (diagonal * gradient).norm()
        assert found.loss == pytest.approx(loss.item(), rel=1e-12)
        assert found.gradient_norm == pytest.approx(float((diagonal * gradient).norm()), rel=1e-9)
        for rho, gap in found.surrogate_gap.items():
            before = [p.detach().clone() for p in learnable]
            with torch.no_grad():
                nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(learnable) + rho * step, learnable)
                moved = losses(network, (samples[0].double(), samples[1])).mean()
                for p, old in zip(learnable, before, strict=True):
                    p.copy_(old)
            assert gap == pytest.approx((moved - loss).item(), rel=1e-9)
            assert gap == pytest.approx(rho * found.gradient_norm, rel=0.5)


def test_scales_are_those_of_weights_and_filters(network: nn.Module, samples: tuple[Tensor, Tensor]) -> None:
    problem = problem_of(network, samples, [23])
    parts = problem.split(weight_scale(problem, "filter"))
    filters = network[0].weight.detach().double()
    expected = filters.flatten(1).norm(dim=1) / 3
    torch.testing.assert_close(parts["0.weight"], expected.view(2, 1, 1, 1).expand(2, 1, 3, 3))
    torch.testing.assert_close(parts["1.bias"], network[1].bias.detach().double().abs())
    torch.testing.assert_close(problem.split(weight_scale(problem, "adaptive"))["0.weight"], filters.abs())
    assert (weight_scale(problem, "plain") == 1).all()


class Quadratic(nn.Module):
    """`g_i w + w A_i w / 2` for sample i: the worst and the average within a ball are known."""

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(start)

    def forward(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        slopes, matrices = batch
        return slopes @ self.w + 0.5 * torch.einsum("i,bij,j->b", self.w, matrices, self.w)


def quadratic(samples: int = 6, size: int = 5, split: tuple[int, ...] = (6,)) -> tuple[Problem, Tensor, Tensor]:
    """A problem at w = 0 but with weights of known scale: indefinite matrices, positive and negative ends."""
    generator = torch.Generator().manual_seed(3)
    matrices = torch.randn(samples, size, size, generator=generator, dtype=torch.float64)
    matrices = matrices + matrices.transpose(1, 2)
    slopes = torch.randn(samples, size, generator=generator, dtype=torch.float64)
    batches = list(zip(slopes.split(split), matrices.split(split), strict=True))
    problem = Problem(Quadratic(torch.zeros(size)), batches, lambda network, batch: network(batch), dtype=torch.float64)
    return problem, slopes, matrices


def trust_region(slope: Tensor, matrix: Tensor, rho: float) -> float:
    """The maximum of `g e + e A e / 2` for `||e|| <= rho`, by bisection for the multiplier."""
    values, vectors = torch.linalg.eigh(matrix)
    part = vectors.T @ slope
    low = max(float(values[-1]), 0.0) + 1e-13
    high = low + float(slope.norm()) / rho + 1

    def length(multiplier: float) -> float:
        return float((part / (multiplier - values)).norm())

    if length(low) < rho:
        return float(part @ (part / (low - values)) - 0.5 * (values * (part / (low - values)) ** 2).sum())
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if length(middle) > rho else (low, middle)
    step = part / (high - values)
    return float(part @ step + 0.5 * (values * step**2).sum())


@pytest.mark.parametrize("rho", [0.1, 3.0])
def test_worst_case_in_an_l2_ball_is_that_of_a_trust_region(rho: float) -> None:
    problem, slopes, matrices = quadratic(split=(2, 4))
    scale = torch.tensor([1.0, 0.2, 3.0, 0.5, 2.0], dtype=torch.float64)
    expected = trust_region(scale * slopes.mean(0), scale[:, None] * matrices.mean(0) * scale, rho)
    found = worst_case(problem, scale, rho, steps=200)
    assert found.rise == pytest.approx(expected, rel=1e-4)
    assert found.rise <= expected * (1 + 1e-9)
    assert (found.steps, found.micro_batch) == (200, 6)


def test_m_sharpness_is_the_mean_of_micro_batches() -> None:
    problem, slopes, matrices = quadratic(split=(1, 5))  # batches are not micro-batches
    scale = torch.ones(5, dtype=torch.float64)
    for size, groups in ((2, (2, 2, 2)), (4, (3, 3)), (1, (1,) * 6)):
        expected = sum(
            len(g) / 6 * trust_region(g.mean(0), m.mean(0), 0.5)
            for g, m in zip(slopes.split(groups), matrices.split(groups), strict=True)
        )
        found = worst_case(problem, scale, 0.5, steps=200, micro_batch=size)
        assert found.rise == pytest.approx(expected, rel=1e-4), size
        assert found.micro_batch == max(groups)  # four do not divide six: groups of three are what was measured
    assert worst_case(problem, scale, 0.5, steps=50, micro_batch=6).rise < found.rise
    with pytest.raises(ValueError, match="m = 7"):
        worst_case(problem, scale, 0.5, micro_batch=7)


def test_worst_case_in_a_box_is_at_a_corner_of_a_convex_loss() -> None:
    problem, slopes, matrices = quadratic()
    matrix = matrices.mean(0) @ matrices.mean(0).T / 10
    problem = Problem(
        Quadratic(torch.zeros(5)),
        [(slopes.mean(0)[None], matrix[None])],
        lambda network, batch: network(batch),
        dtype=torch.float64,
    )
    scale = torch.tensor([1.0, 0.2, 3.0, 0.5, 2.0], dtype=torch.float64)
    corners = torch.cartesian_prod(*[torch.tensor([-0.3, 0.3], dtype=torch.float64)] * 5) * scale
    heights = corners @ slopes.mean(0) + 0.5 * torch.einsum("ki,ij,kj->k", corners, matrix, corners)
    found = worst_case(problem, scale, 0.3, norm_of="linf", steps=20)
    assert found.rise == pytest.approx(float(heights.max()), rel=1e-9)


def test_one_step_of_the_ascent_leads_where_sam_looks_and_more_never_lower(
    network: nn.Module, samples: tuple[Tensor, Tensor]
) -> None:
    problem = problem_of(network, samples, [5, 18])
    scale = weight_scale(problem, "adaptive")
    gap = slope(problem, scale, [0.3]).surrogate_gap[0.3]
    rises = [worst_case(problem, scale, 0.3, steps=steps).rise for steps in (1, 2, 5, 20)]
    assert rises[0] == pytest.approx(gap, rel=1e-12)
    assert rises == sorted(rises)
    assert rises[-1] > rises[0]


def test_average_case_is_half_the_scaled_trace_of_a_quadratic() -> None:
    problem, _, matrices = quadratic(split=(2, 4))
    scale = torch.tensor([1.0, 0.2, 3.0, 0.5, 2.0], dtype=torch.float64)
    expected = 0.7**2 / 5 * float((scale**2 * matrices.mean(0).diagonal()).sum()) / 2
    found = average_case(problem, scale, 0.7, torch.Generator().manual_seed(0), draws=4000)
    assert found.standard_error is not None
    assert abs(found.value - expected) < 4 * found.standard_error
    assert found.standard_error < 0.1 * abs(expected)


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="no batch"):
        Problem(nn.Linear(1, 1), [], losses)
    with pytest.raises(ValueError, match="no parameter that learns"):
        Problem(nn.Linear(1, 1).requires_grad_(False), [torch.ones(1, 1)], losses)
