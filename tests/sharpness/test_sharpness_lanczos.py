"""Lanczos on known matrices: signs, ends, multiplicity, bounds, and what it costs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medsharp.networks import create_network
from medsharp.sharpness import Lanczos, Problem, density, eigenvalues, find_rescalings, trace, weight_scale


def matrix_of(values: list[float], seed: int = 0) -> Tensor:
    """A symmetric matrix of these eigenvalues."""
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64))
    return basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T


def test_negative_eigenvalues_keep_their_sign() -> None:
    values = [-7.0, -0.5, *[0.01 * k for k in range(-20, 20)], 2.0, 3.0]
    matrix = matrix_of(values)
    start = torch.ones(len(values), dtype=torch.float64)
    found = eigenvalues(
        lambda v: matrix @ v, start, torch.Generator().manual_seed(0), largest=2, smallest=2, tolerance=1e-12
    )
    assert [end.value for end in found.largest] == pytest.approx([3.0, 2.0], abs=1e-9)
    assert [end.value for end in found.smallest] == pytest.approx([-7.0, -0.5], abs=1e-9)


def test_all_eigenvalues_once_every_direction_was_seen() -> None:
    values = [-2.0, -2.0, 0.0, 0.0, 1.0, 5.0, 5.0, 5.0]
    matrix = matrix_of(values)
    found = eigenvalues(
        lambda v: matrix @ v, matrix[0], torch.Generator().manual_seed(0), largest=8, smallest=2, tolerance=1e-12
    )
    assert [end.value for end in found.largest] == pytest.approx(sorted(values, reverse=True), abs=1e-9)
    assert found.products == 8


def test_a_first_guess_without_a_part_in_the_top_eigenvector_does_not_hide_it() -> None:
    matrix = torch.diag(torch.tensor([9.0, 3.0, 2.0, 1.0, 0.5, 0.1], dtype=torch.float64))
    start = torch.tensor([0.0, 1, 1, 1, 1, 1], dtype=torch.float64)
    found = eigenvalues(lambda v: matrix @ v, start, torch.Generator().manual_seed(0), tolerance=1e-6)
    assert found.largest[0].value == pytest.approx(9, rel=1e-5)
    zero = eigenvalues(lambda v: matrix @ v, 0 * start, torch.Generator().manual_seed(0), tolerance=1e-6)
    assert zero.largest[0].value == pytest.approx(9, rel=1e-5)


def test_residuals_bound_what_is_not_converged() -> None:
    values = [k / 50 for k in range(200)] + [4.2]
    matrix = matrix_of(values)
    start = torch.ones(len(values), dtype=torch.float64)
    found = eigenvalues(lambda v: matrix @ v, start, torch.Generator().manual_seed(1), tolerance=1e-9, max_products=6)
    end = found.largest[0]
    assert found.products == 6
    assert not end.converged
    assert 0 < min(abs(end.value - value) for value in values) <= end.residual


def test_basis_stays_orthonormal_long_after_convergence() -> None:
    values = [1e4, *[1 + k / 1000 for k in range(299)]]
    matrix = matrix_of(values)
    recurrence = Lanczos(lambda v: matrix @ v, torch.ones(300, dtype=torch.float64))
    for _ in range(60):
        recurrence.step()
    basis = torch.stack([recurrence.vector(unit) for unit in torch.eye(60)])
    torch.testing.assert_close(basis @ basis.T, torch.eye(60, dtype=torch.float64), atol=1e-12, rtol=0)
    found, _, _ = recurrence.ritz()
    assert (found > 100).sum() == 1  # no ghosts


def test_trace_of_a_diagonal_matrix_is_exact() -> None:
    diagonal = torch.tensor([4.0, -1.0, 0.25], dtype=torch.float64)
    found = trace(lambda v: diagonal * v, diagonal, torch.Generator().manual_seed(0), draws=3)
    assert (found.value, found.standard_error, found.draws) == (3.25, 0.0, 3)
    assert trace(lambda v: diagonal * v, diagonal, torch.Generator(), draws=1).standard_error is None


def test_density_of_few_distinct_eigenvalues_is_exact() -> None:
    diagonal = torch.tensor([-1.0] * 3 + [2.0] * 7, dtype=torch.float64)
    found = density(lambda v: diagonal * v, diagonal, torch.Generator().manual_seed(0), vectors=2, steps=10)
    shares = {round(node, 6): 0.0 for node in found.nodes}
    for node, weight in zip(found.nodes, found.weights, strict=True):
        shares[round(node, 6)] += weight
    assert shares == pytest.approx({-1.0: 0.3, 2.0: 0.7})
    assert found.trace.value == pytest.approx(11)


def test_a_product_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        eigenvalues(lambda v: v * float("nan"), torch.ones(3), torch.Generator())


def losses(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(network(batch[0]), batch[1], reduction="none")


@pytest.fixture
def relu() -> Problem:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)
    )
    network[1].running_var.fill_(0.3)
    generator = torch.Generator().manual_seed(1)
    samples = torch.randn(12, 1, 6, 6, generator=generator), torch.randint(0, 2, (12,), generator=generator)
    batches = list(zip(*(part.split(5) for part in samples), strict=True))
    return Problem(network, batches, losses, dtype=torch.float64)


def test_cost_counts_what_is_run(relu: Problem) -> None:
    assert relu.cost.units == 0
    relu.gradient()
    assert relu.cost.units == pytest.approx(1)
    relu.loss()
    forward = relu.cost.units - 1
    assert 1 / 3 <= forward < 1 / 2  # the input needs no gradient
    relu.product(relu.weights())
    assert 2 < relu.cost.units - 1 - forward < 3.5
    relu.gradient(rows=slice(0, 6))
    assert relu.cost.passes == {"losses": 1, "gradients": 1.5, "products": 1}


def test_a_kept_graph_makes_further_products_cheaper(relu: Problem) -> None:
    kept = Problem(relu.network, relu.batches, losses, dtype=torch.float64, keep_graph=True)
    kept.product(kept.weights())
    first = kept.cost.units
    kept.product(kept.weights())
    assert kept.cost.units - first < 0.75 * first


def test_rescaling_keeps_the_function_and_moves_plain_measures_only(relu: Problem) -> None:
    def logits(network: nn.Module) -> Tensor:
        return network(relu.batches[0][0])

    found = find_rescalings(relu.network, logits)
    # Batch norm follows the first convolution: to scale that one would change what it subtracts.
    assert [(pair.producer, pair.consumer) for pair in found] == [("1", "3"), ("3", "6")]
    before, weights = logits(relu.network), relu.weights()
    network = relu.network
    for pair in found:
        pair.apply(network, 4.0)
    torch.testing.assert_close(logits(network), before)
    assert not torch.equal(relu.weights(), weights)
    other = Problem(network, relu.batches, losses, dtype=torch.float64)
    for pair in found:
        pair.apply(network, 0.25)
    tops = {}
    for scale in ("plain", "adaptive", "filter"):
        values = []
        for problem in (relu, other):
            diagonal = weight_scale(problem, scale)
            ends = eigenvalues(
                lambda v, p=problem, d=diagonal: d * p.product(d * v),
                torch.ones_like(diagonal),
                torch.Generator().manual_seed(0),
                tolerance=1e-10,
            )
            values.append(ends.largest[0].value)
        tops[scale] = values[1] / values[0]
    assert tops["adaptive"] == pytest.approx(1, rel=1e-6)
    assert tops["filter"] == pytest.approx(1, rel=1e-6)
    assert not 0.5 < tops["plain"] < 2


def test_smooth_activations_allow_no_rescaling() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))
    assert find_rescalings(network, lambda n: n(torch.eye(3))) == []


@pytest.mark.slow
def test_top_eigenvalue_of_a_resnet18_takes_at_most_twenty_passes() -> None:
    torch.manual_seed(0)
    network = create_network("resnet18", num_classes=2, image_size=32)
    batch = torch.rand(6, 1, 32, 32) * 255, torch.tensor([0, 1, 0, 1, 1, 1])
    problem, reference = (Problem(network, [batch], losses, keep_graph=True) for _ in range(2))
    _, gradient = problem.gradient()
    found = eigenvalues(problem.product, gradient, torch.Generator().manual_seed(0), tolerance=1e-3)
    assert problem.cost.units <= 20
    start = torch.randn(reference.size, generator=torch.Generator().manual_seed(1))
    exact = eigenvalues(reference.product, start, torch.Generator().manual_seed(2), tolerance=1e-5, max_products=12)
    assert found.largest[0].value == pytest.approx(exact.largest[0].value, rel=1e-3)
