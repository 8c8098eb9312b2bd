"""Trace and spectral density of a symmetric matrix, by its products with random vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medsharp.optim.arithmetic import inner
from medsharp.sharpness.lanczos import Lanczos, Product, random_signs


@dataclass(frozen=True)
class Estimate:
    """A mean of random draws.

    Attributes:
        value: The mean.
        standard_error: Of the mean: the draws' standard deviation over the root of their number; None of one draw.
        draws: Their number.
    """

    value: float
    standard_error: float | None
    draws: int

    @staticmethod
    def of(draws: Sequence[float]) -> Estimate:
        """Return the mean of draws and its standard error."""
        values = torch.tensor(draws, dtype=torch.float64)
        error = float(values.std() / math.sqrt(len(draws))) if len(draws) > 1 else None
        return Estimate(float(values.mean()), error, len(draws))


def trace(product: Product, like: Tensor, generator: torch.Generator, draws: int) -> Estimate:
    """Estimate the trace: the mean of `z^T A z` for random signs z.

    M. Hutchinson, "A Stochastic Estimator of the Trace of the Influence Matrix", 1990. Exact for a diagonal matrix.

    Args:
        product: With the matrix A.
        like: A vector [n] of the shape, dtype and device of z.
        generator: Of the signs.
        draws: How many vectors, each a product.
    """
    values = []
    for _ in range(draws):
        signs = random_signs(like, generator)
        values.append(inner([signs], [product(signs)]))
    return Estimate.of(values)


@dataclass(frozen=True)
class Density:
    """A spectral density as weighted points.

    Attributes:
        nodes: Eigenvalue estimates of all vectors together, ascending.
        weights: Share of the eigenvalues that each stands for; they add up to 1.
        trace: n times the mean, by each vector's own estimate.
        vectors: How many.
        steps: Products for each of them.
    """

    nodes: tuple[float, ...]
    weights: tuple[float, ...]
    trace: Estimate
    vectors: int
    steps: int

    def curve(self, points: int = 400, width: float = 0.01) -> tuple[list[float], list[float]]:
        """Return eigenvalues and the density there, each point a normal distribution.

        Args:
            points: How many, evenly spaced.
            width: Standard deviation, as a share of the range of the nodes.
        """
        nodes = torch.tensor(self.nodes, dtype=torch.float64)
        weights = torch.tensor(self.weights, dtype=torch.float64)
        spread = float(nodes[-1] - nodes[0]) or max(1.0, abs(float(nodes[0])))
        sigma = width * spread
        at = torch.linspace(float(nodes[0]) - 5 * sigma, float(nodes[-1]) + 5 * sigma, points, dtype=torch.float64)
        bells = torch.exp(-0.5 * ((at[:, None] - nodes) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
        return at.tolist(), (bells @ weights).tolist()


def density(product: Product, like: Tensor, generator: torch.Generator, *, vectors: int, steps: int) -> Density:
    """Estimate the spectral density by stochastic Lanczos quadrature.

    For a random v of length 1, Lanczos' Ritz values and the squares of the first components of their vectors are a
    Gaussian quadrature of `v^T f(A) v`, exact for polynomials of degree below 2 `steps`; its mean is `tr f(A) / n`.
    S. Ubaru, J. Chen, Y. Saad, SIAM J. Matrix Anal. Appl. 2017; B. Ghorbani, S. Krishnan, Y. Xiao, ICML 2019.

    Args:
        product: With the matrix A.
        like: A vector [n] of the shape, dtype and device of v.
        generator: Of the signs that v is made of.
        vectors: How many.
        steps: Products for each; fewer where that is all there is to a vector.
    """
    nodes, weights, traces = [], [], []
    for _ in range(vectors):
        recurrence = Lanczos(product, random_signs(like, generator))
        while recurrence.steps < steps and not recurrence.finished:
            recurrence.step()
        values, columns, _ = recurrence.ritz()
        shares = columns[0].square()
        nodes.append(values)
        weights.append(shares / vectors)
        traces.append(like.numel() * float(values @ shares))
    joined, order = torch.cat(nodes).sort()
    return Density(
        tuple(joined.tolist()), tuple(torch.cat(weights)[order].tolist()), Estimate.of(traces), vectors, steps
    )
