"""Lanczos' method: a symmetric matrix, known by its products with vectors, as a small tridiagonal one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medsharp.optim.arithmetic import inner, norm

Product = Callable[[Tensor], Tensor]
"""The product of a symmetric matrix with a vector, [n] to [n]."""


class Lanczos:
    """The Lanczos recurrence with full reorthogonalisation.

    After m steps `Q^T A Q = T` is tridiagonal, with the orthonormal `Q` [n, m] of which the first column is the start.
    Every new vector is made orthogonal to all before, twice (W. Kahan and B. Parlett: twice is enough): without it,
    eigenvalues that have converged come again as ghosts.

    C. Lanczos, J. Res. Natl. Bur. Stand. 45, 1950; G. Golub, C. Van Loan, "Matrix Computations", chapter 10.

    Args:
        product: With the matrix A.
        start: [n], not 0.
        generator: Of the vectors to go on with where an invariant subspace is full; none are drawn without it, and the
            recurrence ends there.
    """

    def __init__(self, product: Product, start: Tensor, generator: torch.Generator | None = None) -> None:
        self._product = product
        self._generator = generator
        self._basis = [start / norm(start).to(start.dtype)]
        self.diagonal: list[float] = []
        self.below: list[float] = []
        self.finished = False

    @property
    def steps(self) -> int:
        """Number of products so far, m."""
        return len(self.diagonal)

    def step(self) -> None:
        """Multiply once; does nothing when finished, which is when no further direction is left."""
        if self.finished:
            return
        vector = self._basis[-1]
        image = self._product(vector)
        self.diagonal.append(inner([vector], [image]))
        image = self._orthogonal(image)
        size = float(norm(image))
        # What is left of rounding alone is no direction.
        left = size > 100 * torch.finfo(image.dtype).eps * self._scale()
        self.below.append(size if left else 0.0)
        following = image if left else self._fresh(image)
        if self.steps == len(vector) or following is None:
            self.finished = True
            return
        self._basis.append(following / norm(following).to(following.dtype))

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return Ritz values [m], ascending, their vectors in the basis [m, m] as columns, and residuals [m], float64.

        The residual is `||A y - theta y||`: an eigenvalue of A lies at most so far from theta.
        """
        matrix = torch.diag(torch.tensor(self.diagonal, dtype=torch.float64))
        if self.steps > 1:
            side = torch.diag(torch.tensor(self.below[: self.steps - 1], dtype=torch.float64), 1)
            matrix = matrix + side + side.T
        values, vectors = torch.linalg.eigh(matrix)
        return values, vectors, (self.below[-1] * vectors[-1]).abs()

    def vector(self, coefficients: Tensor) -> Tensor:
        """Return the vector [n] of these coefficients [m] in the basis, of length 1."""
        total = torch.zeros_like(self._basis[0])
        for weight, column in zip(coefficients.tolist(), self._basis):
            total.add_(column, alpha=weight)
        return total / norm(total).to(total.dtype)

    def _orthogonal(self, vector: Tensor) -> Tensor:
        for _ in range(2):
            for column in self._basis:
                vector = vector - inner([column], [vector]) * column
        return vector

    def _fresh(self, like: Tensor) -> Tensor | None:
        if self._generator is None or self.steps == len(like):
            return None
        return self._orthogonal(random_vector(like, self._generator))

    def _scale(self) -> float:
        return max(map(abs, [*self.diagonal, *self.below]))


@dataclass(frozen=True)
class Eigenvalue:
    """An eigenvalue, and how well it is known.

    Attributes:
        value: With its sign.
        residual: A true eigenvalue lies at most so far away.
        error: How far it is likely to be: `residual^2 / gap`, with the gap to the next Ritz value, where that is less
            (D. Kaniel and C. Paige's bound, with an estimate of the gap).
        converged: Whether `error` is below the tolerance that was asked for.
    """

    value: float
    residual: float
    error: float
    converged: bool


@dataclass(frozen=True)
class Eigenvalues:
    """Both ends of a spectrum.

    Attributes:
        largest: The algebraically largest, descending.
        smallest: The algebraically smallest, ascending; where they are negative, the loss curves down.
        vectors: Of the largest, of length 1, each [n].
        products: With the matrix that it took.
    """

    largest: tuple[Eigenvalue, ...]
    smallest: tuple[Eigenvalue, ...]
    vectors: tuple[Tensor, ...]
    products: int


def eigenvalues(
    product: Product,
    start: Tensor,
    generator: torch.Generator,
    *,
    largest: int = 1,
    smallest: int = 0,
    tolerance: float = 1e-3,
    max_products: int = 100,
) -> Eigenvalues:
    """Compute the eigenvalues at both ends of a symmetric matrix.

    Of an eigenvalue that occurs several times, Lanczos' method finds one unless it has run through all directions.

    Args:
        product: With the matrix.
        start: A first guess at the top eigenvector, [n]; a gradient is a good one, because gradients lie mostly in the
            span of the top eigenvectors (G. Gur-Ari, D. Roberts, E. Dyer, arXiv 1812.04754). A twentieth of its length
            of noise is added, for where it has no part in one of them.
        generator: Of the noise.
        largest: How many of the largest.
        smallest: How many of the smallest.
        tolerance: Stop when the error of each is below this share of it, or of a hundredth of the largest in magnitude
            where it is smaller than that.
        max_products: Stop then in any case.

    Raises:
        ValueError: A product is not finite.
    """
    noise = random_vector(start, generator)
    size = float(norm(start))
    first = noise if size == 0 else start / size + 0.05 * noise / norm(noise).to(noise.dtype)
    recurrence = Lanczos(product, first, generator)
    least = min(len(start), largest + smallest + 2)  # fewer than that show no gap to judge by
    while True:
        recurrence.step()
        if not math.isfinite(recurrence.diagonal[-1]):
            raise ValueError("the product with the Hessian is not finite")
        top, bottom, vectors = _ends(recurrence, largest, smallest, tolerance)
        enough = recurrence.steps >= least and all(end.converged for end in (*top, *bottom))
        if enough or recurrence.finished or recurrence.steps >= max_products:
            return Eigenvalues(top, bottom, vectors, recurrence.steps)


def _ends(
    recurrence: Lanczos, largest: int, smallest: int, tolerance: float
) -> tuple[tuple[Eigenvalue, ...], tuple[Eigenvalue, ...], tuple[Tensor, ...]]:
    values, vectors, residuals = recurrence.ritz()
    count, scale = len(values), float(values.abs().max())

    def known(place: int) -> Eigenvalue:
        value, residual = float(values[place]), float(residuals[place])
        others = torch.cat([values[:place], values[place + 1 :]])
        gap = float((others - values[place]).abs().min()) if count > 1 else 0.0
        error = min(residual, residual**2 / gap) if gap > 0 else residual
        return Eigenvalue(value, residual, error, error <= tolerance * max(abs(value), scale / 100))

    top = range(count - 1, max(-1, count - 1 - largest), -1)
    bottom = range(min(smallest, count))
    return (
        tuple(known(place) for place in top),
        tuple(known(place) for place in bottom),
        tuple(recurrence.vector(vectors[:, place]) for place in top),
    )


def random_vector(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return independent standard normal numbers in shape, dtype and place of a tensor, the same on every device."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)


def random_signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """Return independent signs, -1 or 1 with the same chance (Rademacher), in shape, dtype and place of a tensor."""
    return (torch.randint(0, 2, like.shape, generator=generator).to(like.dtype) * 2 - 1).to(like.device)
