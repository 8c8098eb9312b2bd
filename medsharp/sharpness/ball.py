"""How much the loss rises within a ball around the weights: at worst, on average, and where SAM looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from medsharp.optim.arithmetic import norm
from medsharp.optim.micro_batches import dealt
from medsharp.sharpness.lanczos import random_vector
from medsharp.sharpness.problem import Problem
from medsharp.sharpness.spectrum import Estimate

Norm = Literal["l2", "linf"]
"""Of `T^-1 e`, for a displacement e of the weights and a diagonal T (`weight_scale`): its length, or its largest part.
Both are at most rho in a ball."""


@dataclass(frozen=True)
class WorstCase:
    """The largest rise that was found: a lower bound of the largest there is.

    Attributes:
        rise: `max L(w + e) - L(w)`, at least 0; of micro-batches the mean of each one's own.
        loss: `L(w)`.
        steps: Of the ascent.
        micro_batch: Samples that a displacement is sought for, of the largest group; all of them where m is their
            number. An m that does not divide them makes groups that are as even as can be, and smaller.
    """

    rise: float
    loss: float
    steps: int
    micro_batch: int


def worst_case(
    problem: Problem,
    scale: Tensor,
    rho: float,
    *,
    norm_of: Norm = "l2",
    steps: int = 10,
    micro_batch: int | None = None,
) -> WorstCase:
    """Climb to the largest loss within a ball by projected gradient ascent.

    In the coordinates `z = T^-1 e`: z begins at 0 and goes `rho` along the direction of its gradient `T g` (l2) or
    along its sign (linf), and is projected back into the ball. The first step thus leads where SAM (or ASAM) looks. A
    step after which the loss is not higher is taken back, and half of it is tried.

    With `micro_batch` it is m-sharpness: a displacement for each m samples by themselves, and the mean of their rises
    (P. Foret et al., "Sharpness-Aware Minimization", ICLR 2021, section 4.1). Samples are divided evenly as they
    stand, see `medsharp.optim.micro_batches.dealt`.

    Args:
        problem: The loss.
        scale: Diagonal of T, [n].
        rho: Radius of the ball, more than 0.
        norm_of: Which ball.
        steps: Of the ascent; each costs a forward and backward pass over the samples.
        micro_batch: m; all samples without it.

    Raises:
        ValueError: m is less than 1 or more than there are samples.
    """
    total = problem.samples
    size = total if micro_batch is None else micro_batch
    if not 1 <= size <= total:
        raise ValueError(f"m = {size}: there are {total} samples")
    parts = [None] if size == total else dealt(total, size)
    rise = loss = 0.0
    for rows in parts:
        share = 1.0 if rows is None else (rows.stop - rows.start) / total
        before, after = _climb(problem, scale, rho, norm_of, steps, rows)
        rise += share * (after - before)
        loss += share * before
    used = max(total if rows is None else rows.stop - rows.start for rows in parts)
    return WorstCase(rise, loss, steps, used)


def _climb(
    problem: Problem, scale: Tensor, rho: float, norm_of: Norm, steps: int, rows: slice | None
) -> tuple[float, float]:
    """Return the loss at the weights, and the highest that was found."""
    before, slope = problem.gradient(rows=rows)
    place, best, length = torch.zeros_like(scale), before, rho
    for step in range(steps):
        tried = _into_ball(place + length * _direction(scale * slope, norm_of), rho, norm_of)
        if step + 1 == steps:  # no slope is needed from there
            loss = problem.loss(scale * tried, rows)
            return before, max(best, loss)
        loss, tried_slope = problem.gradient(scale * tried, rows)
        if loss > best:
            place, best, slope = tried, loss, tried_slope
        else:
            length /= 2
    return before, best


def _direction(slope: Tensor, norm_of: Norm) -> Tensor:
    if norm_of == "linf":
        return slope.sign()
    size = norm(slope).to(slope.dtype)
    return slope / size if size > 0 else slope


def _into_ball(place: Tensor, rho: float, norm_of: Norm) -> Tensor:
    if norm_of == "linf":
        return place.clamp(-rho, rho)
    size = float(norm(place))
    return place * (rho / size) if size > rho else place


def average_case(problem: Problem, scale: Tensor, rho: float, generator: torch.Generator, draws: int) -> Estimate:
    """Return how much the loss rises on average, `E L(w + T z) - L(w)` for normal z of mean square length `rho^2`.

    Each part of z has the variance `rho^2 / n`, so that the radius compares with that of the l2 ball. Drawn are pairs
    z and -z, whose mean knows nothing of the slope: their number is `draws`, and the standard error is that of pairs.
    For a quadratic loss the mean is `rho^2 tr(T H T) / 2n`.

    Args:
        problem: The loss.
        scale: Diagonal of T, [n].
        rho: Root mean square length of z.
        generator: Of z.
        draws: Pairs, each two forward passes over the samples.
    """
    before, rises = problem.loss(), []
    for _ in range(draws):
        step = scale * random_vector(scale, generator) * (rho / math.sqrt(scale.numel()))
        rises.append((problem.loss(step) + problem.loss(-step)) / 2 - before)
    return Estimate.of(rises)


@dataclass(frozen=True)
class Slope:
    """What one gradient tells.

    Attributes:
        loss: `L(w)`.
        gradient_norm: `||T g||`.
        surrogate_gap: `L(w + rho T^2 g / ||T g||) - L(w)`, the rise where SAM looks (J. Zhuang et al., "Surrogate Gap
            Minimization Improves Sharpness-Aware Training", ICLR 2022, eq. 4), by radius.
    """

    loss: float
    gradient_norm: float
    surrogate_gap: dict[float, float]


def slope(problem: Problem, scale: Tensor, radii: Sequence[float]) -> Slope:
    """Return gradient norm and SAM's surrogate gap; T is 1 for SAM, `|w|` for element-wise ASAM.

    Args:
        problem: The loss.
        scale: Diagonal of T, [n].
        radii: Each a further forward pass.
    """
    loss, gradient = problem.gradient()
    direction = _direction(scale * gradient, "l2")
    gaps = {rho: problem.loss(rho * scale * direction) - loss for rho in radii}
    return Slope(loss, float(norm(scale * gradient)), gaps)
