"""All measures of a loss at its weights, as plain values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from medsharp.progress import Progress
from medsharp.sharpness import (
    SCALES,
    Eigenvalue,
    Norm,
    Problem,
    Scale,
    average_case,
    density,
    eigenvalues,
    scaled_product,
    slope,
    trace,
    weight_scale,
    worst_case,
)


@dataclass(frozen=True)
class Ball:
    """A ball around the weights.

    Attributes:
        scale: How far each weight may move.
        norm: Whose length is bounded.
        rho: Its radius by default.
    """

    scale: Scale
    norm: Norm
    rho: float


BALLS: Mapping[str, Ball] = {
    "l2": Ball("plain", "l2", 0.05),
    "adaptive-l2": Ball("adaptive", "l2", 0.5),
    "filter-l2": Ball("filter", "l2", 0.5),
    "linf": Ball("plain", "linf", 1e-4),
    "adaptive-linf": Ball("adaptive", "linf", 1e-3),
}
"""The balls of `medsharp sharpness`; for l2 with the radii that SAM and ASAM train with."""


ROUNDING = 32
"""Units of the last place of a loss, within which a rise may be rounding alone."""


@dataclass(frozen=True)
class Measures:
    """What to measure, and how hard to try; a count of 0 leaves a measure out.

    Attributes:
        largest: Largest eigenvalues of the Hessian; of the scaled ones, the largest alone.
        smallest: Smallest eigenvalues of the Hessian.
        tolerance: Relative, of eigenvalues.
        max_products: At most so many products with the Hessian for the eigenvalues of each scale.
        trace_draws: Random vectors for the trace, of each scale.
        density_vectors: Random vectors for the spectral density.
        density_steps: Products for each of them.
        ascent_steps: Of the worst case in each ball.
        average_draws: Pairs for the average case in each l2 ball.
        micro_batch: m of m-sharpness.
        radii: By the name of the ball; of `BALLS` where none is given.
        seed: Of all random vectors.
    """

    largest: int = 3
    smallest: int = 1
    tolerance: float = 1e-3
    max_products: int = 40
    trace_draws: int = 5
    density_vectors: int = 1
    density_steps: int = 20
    ascent_steps: int = 10
    average_draws: int = 5
    micro_batch: int = 32
    radii: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def radius(self, ball: str) -> float:
        """Return the radius of a ball."""
        return self.radii.get(ball, BALLS[ball].rho)


def measure(problem: Problem, how: Measures, progress: Progress | None = None) -> dict[str, Any]:
    """Measure everything.

    Every measure draws from a generator of its own seed: leaving one out changes no other.

    Args:
        problem: The loss.
        how: What and how hard.
        progress: Called with measures done, measures in all and what is being done.

    Returns:
        Plain values: `loss`, `gradient_norm` and `eigenvalues` and `trace` by scale, `density`, `surrogate_gap`,
        `worst_case` and `average_case` by ball, and what it took: `cost`.

    Raises:
        ValueError: m is more than there are samples, or a loss is not finite.
    """
    scales = {name: weight_scale(problem, name) for name in SCALES}
    result: dict[str, Any] = {"weights": problem.size}
    works: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("slope", lambda: _slopes(problem, scales, how)),
        ("eigenvalues", lambda: _eigenvalues(problem, scales, how)),
        ("trace", lambda: _traces(problem, scales, how)),
        ("spectral density", lambda: _density(problem, how)),
        ("worst case", lambda: _worst(problem, scales, how)),
        ("average case", lambda: _average(problem, scales, how)),
    ]
    costs: dict[str, float] = {}
    before = 0.0
    for done, (what, work) in enumerate(works):
        if progress is not None:
            progress(done, len(works), "measuring")
        result |= work()
        costs[what] = problem.cost.units - before
        before = problem.cost.units
    if progress is not None:
        progress(len(works), len(works), "measuring")
    cost = problem.cost
    result["cost"] = {"units": cost.units, "seconds": cost.seconds, "passes": cost.passes, "by_measure": costs}
    return result


def _slopes(problem: Problem, scales: Mapping[Scale, Tensor], how: Measures) -> dict[str, Any]:
    loss, norms = 0.0, {}
    gaps: dict[str, Any] = {}
    for name, scale in scales.items():
        balls = [key for key, ball in BALLS.items() if (ball.scale, ball.norm) == (name, "l2")]
        found = slope(problem, scale, [how.radius(key) for key in balls])
        loss, norms[name] = found.loss, found.gradient_norm
        gaps |= {key: {"rho": how.radius(key), "value": found.surrogate_gap[how.radius(key)]} for key in balls}
    if not math.isfinite(loss):
        raise ValueError("the loss is not finite")
    return {"loss": loss, "gradient_norm": norms, "surrogate_gap": gaps}


def _eigenvalues(problem: Problem, scales: Mapping[Scale, Tensor], how: Measures) -> dict[str, Any]:
    spectra: dict[str, Any] = {}
    if how.largest:
        _, gradient = problem.gradient()
        for name, scale in scales.items():
            found = eigenvalues(
                scaled_product(problem, scale),
                scale * gradient,
                _generator(how, 1),
                largest=how.largest if name == "plain" else 1,
                smallest=how.smallest if name == "plain" else 0,
                tolerance=how.tolerance,
                max_products=how.max_products,
            )
            spectra[name] = {
                "largest": [asdict(end) for end in found.largest],
                "smallest": [asdict(end) for end in found.smallest],
                "products": found.products,
            }
    return {"eigenvalues": spectra}


def _traces(problem: Problem, scales: Mapping[Scale, Tensor], how: Measures) -> dict[str, Any]:
    if not how.trace_draws:
        return {"trace": {}}
    estimates = {
        name: trace(scaled_product(problem, scale), scale, _generator(how, 2), how.trace_draws)
        for name, scale in scales.items()
    }
    return {"trace": {name: asdict(estimate) for name, estimate in estimates.items()}}


def _density(problem: Problem, how: Measures) -> dict[str, Any]:
    if not how.density_vectors:
        return {"density": None}
    found = density(
        problem.product, problem.weights(), _generator(how, 3), vectors=how.density_vectors, steps=how.density_steps
    )
    at, height = found.curve()
    return {"density": asdict(found) | {"curve": {"eigenvalue": at, "density": height}}}


def _worst(problem: Problem, scales: Mapping[Scale, Tensor], how: Measures) -> dict[str, Any]:
    rises: dict[str, Any] = {}
    sizes = sorted({problem.samples, how.micro_batch}, reverse=True)
    for key, ball in BALLS.items() if how.ascent_steps else ():
        rho = how.radius(key)
        found = [
            worst_case(
                problem, scales[ball.scale], rho, norm_of=ball.norm, steps=how.ascent_steps, micro_batch=micro_batch
            )
            for micro_batch in sizes
        ]
        rises[key] = [{"rho": rho, "rise": each.rise, "m": each.micro_batch, "steps": each.steps} for each in found]
    return {"worst_case": rises}


def _average(problem: Problem, scales: Mapping[Scale, Tensor], how: Measures) -> dict[str, Any]:
    rises: dict[str, Any] = {}
    # Spread over millions of weights, rho moves each of them so little that single precision may not show the rise.
    rounding = ROUNDING * torch.finfo(problem.dtype).eps * abs(problem.loss()) if how.average_draws else 0.0
    for key, ball in BALLS.items():
        if how.average_draws and ball.norm == "l2":
            rho = how.radius(key)
            found = average_case(problem, scales[ball.scale], rho, _generator(how, 4), how.average_draws)
            rises[key] = {"rho": rho, **asdict(found), "above_rounding": abs(found.value) > rounding}
    return {"average_case": rises}


def _generator(how: Measures, measure_number: int) -> torch.Generator:
    return torch.Generator().manual_seed(how.seed * 1009 + measure_number)


def top_eigenvalue(measured: Mapping[str, Any], scale: Scale = "plain") -> Eigenvalue | None:
    """Return the largest eigenvalue of what `measure` returned, if it was measured."""
    spectrum = measured["eigenvalues"].get(scale)
    return Eigenvalue(**spectrum["largest"][0]) if spectrum else None
