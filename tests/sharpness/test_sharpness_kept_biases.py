"""Networks of timm that keep attention biases between passes in evaluation mode."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medsharp.sharpness import Problem, between


def losses(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(network(batch[0]), batch[1], reduction="none")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Not as it begins, when its attention counts for nothing."""
    torch.manual_seed(0)
    made = timm.create_model("efficientvit_m0", in_chans=1, num_classes=2, img_size=64)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def problem_of(network: nn.Module, keep_graph: bool = False) -> Problem:
    generator = torch.Generator().manual_seed(1)
    batch = (torch.randn(3, 1, 64, 64, generator=generator), torch.tensor([0, 1, 1]))
    return Problem(network, [batch], losses, dtype=torch.float64, keep_graph=keep_graph)


def along_biases(problem: Problem) -> Tensor:
    """A direction of length 1 in the attention biases alone, [n]."""
    generator = torch.Generator().manual_seed(2)
    parts = [
        torch.randn(part.shape, generator=generator, dtype=torch.float64).flatten() * name.endswith("attention_biases")
        for name, part in problem.split(problem.weights()).items()
    ]
    direction = torch.cat(parts)
    return direction / direction.norm()


def test_a_gradient_can_be_taken_twice_and_before_anything_else(network: nn.Module) -> None:
    problem = problem_of(network)
    (first, one), (second, two) = problem.gradient(), problem.gradient()
    assert first == second
    torch.testing.assert_close(one, two, atol=0, rtol=0)
    assert float((one * along_biases(problem)).abs().sum()) > 0


@pytest.mark.parametrize("keep_graph", [False, True])
def test_derivatives_along_the_biases_are_those_of_the_loss(network: nn.Module, keep_graph: bool) -> None:
    problem = problem_of(network, keep_graph)
    problem.loss()  # a pass without a graph first
    direction, step = along_biases(problem), 1e-6
    rise = (problem.loss(step * direction) - problem.loss(-step * direction)) / (2 * step)
    assert abs(rise) > 1e-6
    assert float(problem.gradient()[1] @ direction) == pytest.approx(rise, rel=1e-4)
    # Over so short a way hardly any ReLU bends.
    ahead, behind = (problem.gradient(sign * step * direction)[1] for sign in (1, -1))
    for _ in range(2):
        product = problem.product(direction)
        expected = (ahead - behind) / (2 * step)
        assert float((product - expected).norm()) < 1e-3 * float(expected.norm())
    assert float(product @ direction) != 0


def test_a_network_that_keeps_a_graph_can_be_given_and_its_copy_copied(network: nn.Module) -> None:
    used = copy.deepcopy(network).eval()
    losses(used, (torch.zeros(1, 1, 64, 64), torch.tensor([0])))
    kept = [module.attention_bias_cache for module in used.modules() if hasattr(module, "attention_bias_cache")]
    assert kept
    assert all(kept)
    problem = problem_of(used)
    assert all(kept)  # the network that is given is left as it is
    value, _ = problem.gradient()
    again = Problem(problem.network, problem.batches, problem.losses, dtype=torch.float64)
    assert again.loss() == value
    assert between(again, [problem.network], [(1.0,)]) == [value]
