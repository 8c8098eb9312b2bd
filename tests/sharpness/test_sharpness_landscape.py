"""Lines, planes and blends: at the right place, in the right direction, and back again."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medsharp.sharpness import Problem, Triangle, barrier, between, blend, filter_normalised, line, plane


def network_of(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    network[1].running_mean.uniform_(-0.5, 0.5)
    network[1].running_var.uniform_(0.5, 2)
    return network.double().eval()


def problem_of(network: nn.Module) -> Problem:
    generator = torch.Generator().manual_seed(1)
    images, labels = torch.randn(9, 1, 5, 5, generator=generator), torch.randint(0, 2, (9,), generator=generator)

    def losses(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(network(batch[0]), batch[1], reduction="none")

    return Problem(network, [(images, labels)], losses, dtype=torch.float64)


def test_random_directions_have_the_length_of_each_filter_and_leave_norm_layers() -> None:
    problem = problem_of(network_of(0))
    drawn = problem.split(filter_normalised(problem, torch.Generator().manual_seed(0)))
    weights = problem.split(problem.weights())
    for name in ("0.weight", "4.weight"):
        torch.testing.assert_close(drawn[name].flatten(1).norm(dim=1), weights[name].flatten(1).norm(dim=1))
        assert not torch.allclose(drawn[name], weights[name])
    assert not any(drawn[name].any() for name in ("0.bias", "1.weight", "1.bias", "4.bias"))


def test_lines_and_planes_are_losses_at_their_places() -> None:
    problem = problem_of(network_of(0))
    one, two = (filter_normalised(problem, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    steps = [-0.5, 0.0, 1.0]
    heights = plane(problem, one, two, steps)
    assert heights[1] == line(problem, one, steps)
    assert [row[1] for row in heights] == line(problem, two, steps)
    assert heights[1][1] == problem.loss()
    assert heights[2][0] == problem.loss(-0.5 * one + 1.0 * two)
    assert len({height for row in heights for height in row}) == 9


def test_blends_end_at_the_networks_running_statistics_included() -> None:
    networks = [network_of(seed) for seed in (0, 1)]
    problem = problem_of(networks[0])
    values = between(problem, networks, [(1, 0), (0.25, 0.75), (0, 1)])
    assert values[0] == problem.loss()
    assert values[2] == problem_of(networks[1]).loss()
    middle = blend(networks, (0.25, 0.75))
    torch.testing.assert_close(
        middle[1].running_var, 0.25 * networks[0][1].running_var + 0.75 * networks[1][1].running_var
    )
    torch.testing.assert_close(middle[0].weight, 0.25 * networks[0][0].weight + 0.75 * networks[1][0].weight)
    assert values[1] == problem_of(middle).loss()
    assert (blend(networks, (4, -3))[1].running_var >= 0).all()


def test_networks_of_other_layers_are_not_blended() -> None:
    with pytest.raises(ValueError, match="different layers"):
        blend([network_of(0), nn.Sequential(nn.Linear(2, 2))], (0.5, 0.5))


def test_barrier_is_measured_from_the_line_between_the_losses() -> None:
    assert barrier([1.0, 2.5, 3.0], [0.0, 0.25, 1.0]) == pytest.approx(1.0)
    assert barrier([1.0, 1.0, 3.0], [0.0, 0.5, 1.0]) == 0


def test_triangle_gives_each_corner_its_network() -> None:
    weights = [torch.tensor(values, dtype=torch.float64) for values in ([1.0, 1, 0], [4.0, 1, 0], [2.0, 1, -2])]
    triangle = Triangle.through(weights)
    assert triangle.corners == ((0, 0), (3, 0), (pytest.approx(1), pytest.approx(2)))
    for place, (x, y) in enumerate(triangle.corners):
        assert triangle.shares(x, y) == pytest.approx([float(place == other) for other in range(3)])
    assert triangle.shares(1.0, 1.0) == pytest.approx([1 - 1 / 6 - 0.5, 1 / 6, 0.5])
    with pytest.raises(ValueError, match="on a line"):
        Triangle.through([weights[0], weights[1], 2 * weights[1] - weights[0]])
