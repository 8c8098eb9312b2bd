"""The loss along lines and planes through weights: random, of the Hessian's eigenvectors, and between networks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medsharp.optim.arithmetic import inner, norm
from medsharp.sharpness.lanczos import random_vector
from medsharp.sharpness.problem import Problem


def filter_normalised(problem: Problem, generator: torch.Generator) -> Tensor:
    """Return a random direction, [n], each filter of which has the length that the filter of the weights has.

    Tensors of one dimension, biases and norm layers, are left where they are, as in the authors' code. H. Li, Z. Xu, G.
    Taylor, C. Studer, T. Goldstein, "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018, section 4.
    """
    weights = problem.weights()
    direction = random_vector(weights, generator)
    parts = [
        _like_filters(drawn, weight)
        for drawn, weight in zip(problem.split(direction).values(), problem.split(weights).values(), strict=True)
    ]
    return torch.cat([part.reshape(-1) for part in parts])


def _like_filters(drawn: Tensor, weight: Tensor) -> Tensor:
    if weight.ndim < 2:
        return torch.zeros_like(weight)
    drawn, weight = drawn.flatten(1), weight.flatten(1)  # [filters, n_f]
    return drawn * (weight.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True))


def line(problem: Problem, direction: Tensor, steps: Sequence[float]) -> list[float]:
    """Return `L(w + a d)` for each a of `steps`."""
    return [problem.loss(step * direction) for step in steps]


def plane(
    problem: Problem,
    first: Tensor,
    second: Tensor,
    steps: Sequence[float],
    row_done: Callable[[], None] = lambda: None,
) -> list[list[float]]:
    """Return `L(w + a d + b e)`: a row for each b of `steps`, a column for each a.

    Args:
        problem: The loss.
        first: d, [n].
        second: e, [n].
        steps: Of a and of b.
        row_done: Called after each row.
    """
    rows = []
    for b in steps:
        rows.append([problem.loss(a * first + b * second) for a in steps])
        row_done()
    return rows


def blend(networks: Sequence[nn.Module], shares: Sequence[float]) -> nn.Module:
    """Return a network whose weights and running statistics are `sum_i share_i x_i` of those of several.

    Running variances are not let below 0, which shares below 0 might lead to. Counters are those of the first.

    Args:
        networks: With the same names and shapes.
        shares: Add up to 1; exactly 1 and 0 give one of the networks to the bit.

    Raises:
        ValueError: Names or shapes differ.
    """
    states = [network.state_dict() for network in networks]
    shapes = [{name: value.shape for name, value in state.items()} for state in states]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError("the networks have different layers")
    mixed = {}
    for name, value in states[0].items():
        if value.is_floating_point():
            parts = [share * state[name] for share, state in zip(shares, states, strict=True) if share]
            value = torch.stack(parts).sum(0)
            value = value.clamp_min(0) if name.endswith("running_var") else value
        mixed[name] = value
    network = copy.deepcopy(networks[0])
    network.load_state_dict(mixed)
    return network


def between(problem: Problem, networks: Sequence[nn.Module], shares: Sequence[Sequence[float]]) -> list[float]:
    """Return the loss at blends of networks, by the samples and losses of a problem."""
    values = []
    for point in shares:
        blended = Problem(
            blend(networks, point), problem.batches, problem.losses, dtype=problem.dtype, device=problem.device
        )
        blended.cost = problem.cost
        values.append(blended.loss())
    return values


def barrier(losses: Sequence[float], steps: Sequence[float]) -> float:
    """Return how far the loss on a line between two minima lies above the straight line between their losses, at most.

    `max_t L(t) - ((1 - t) L(0) + t L(1))`; near 0, the minima are linearly connected (J. Frankle et al., "Linear Mode
    Connectivity and the Lottery Ticket Hypothesis", ICML 2020).

    Args:
        losses: Along the line.
        steps: t of each, from 0 to 1; the first is 0 and the last 1.
    """
    return max(loss - ((1 - t) * losses[0] + t * losses[-1]) for loss, t in zip(losses, steps, strict=True))


@dataclass(frozen=True)
class Triangle:
    """The plane through three networks, with the first at the origin and the second on the first axis.

    Attributes:
        corners: Coordinates of each, in lengths of weights.
    """

    corners: tuple[tuple[float, float], ...]

    @staticmethod
    def through(weights: Sequence[Tensor]) -> Triangle:
        """Return the plane through three vectors [n].

        Raises:
            ValueError: They lie on a line.
        """
        first, second, third = weights
        along, other = second - first, third - first
        length = float(norm(along))
        x = inner([along], [other]) / length if length else 0.0
        height = float(norm(other)) ** 2 - x**2
        if length == 0 or height <= 1e-12 * length**2:
            raise ValueError("the three networks lie on a line")
        return Triangle(((0.0, 0.0), (length, 0.0), (x, height**0.5)))

    def shares(self, x: float, y: float) -> tuple[float, float, float]:
        """Return the share of each corner at a point; they add up to 1."""
        (_, _), (length, _), (across, height) = self.corners
        third = y / height
        second = (x - third * across) / length
        return 1 - second - third, second, third
