"""Measures of the sharpness of a study's runs: those that are cheap, plain and scale-invariant, on training images."""

from __future__ import annotations

from medsharp.runs import Run
from training.sharpness import Measures, measure_runs
from training.study.flatness import Measure, Measured

_CHEAP = Measures(
    largest=1,
    smallest=0,
    tolerance=0.05,
    max_products=10,
    trace_draws=0,
    density_vectors=0,
    ascent_steps=0,
    average_draws=0,
)


def measure_with(images: int, device: str = "cpu") -> Measure:
    """Return what measures a run on so many of the images that it learned from.

    The largest eigenvalue of the Hessian (to 5 %, within ten products), the gradient's norm and the surrogate gap, each
    plain, adaptive and filter-normalised: some 80 forward and backward passes over the images.

    Args:
        images: How many, each class in its share.
        device: Where to compute.
    """

    def measure(run: Run) -> Measured:
        document = measure_runs([run.folder], splits=["train"], images=images, measures=_CHEAP, device=device)
        measured = document["runs"][0]["splits"][0]["measures"]
        values = {f"gradient norm, {scale}": value for scale, value in measured["gradient_norm"].items()}
        values |= {f"surrogate gap, {ball}": gap["value"] for ball, gap in measured["surrogate_gap"].items()}
        ends = {f"top eigenvalue, {scale}": each["largest"][0] for scale, each in measured["eigenvalues"].items()}
        values |= {name: end["value"] for name, end in ends.items()}
        return Measured(values, tuple(name for name, end in ends.items() if not end["converged"]))

    return Measure(f"{images}-images", measure)
