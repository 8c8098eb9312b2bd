"""Several readers beside the model: one model against the mean of readers, readers and cases random (MRMC)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medsharp.evaluation.readers.columns import Reader
from medsharp.evaluation.readers.paired import OBUCHOWSKI, area_figure, too_little
from medsharp.evaluation.statistics.delong import obuchowski_covariance, placements, two_sided
from medsharp.evaluation.statistics.figures import Cases
from medsharp.evaluation.statistics.intervals import Z
from medsharp.evaluation.statistics.mrmc import ReaderMean, mean_over_readers, model_less_readers

RANDOM = "Obuchowski and Rockette, Hillis' degrees of freedom; readers and patients random"


def study_of(cases: Cases, readers: Sequence[Reader]) -> dict[str, Any] | None:
    """Compare the model's AUROC with the mean of the readers', on the images that all of them judged.

    Args:
        cases: All images.
        readers: With judgements in the order of `cases`.

    Returns:
        None with fewer than two readers; a `reason` where the images that all of them judged are too few.
    """
    if len(readers) < 2:
        return None
    common = np.all([reader.read for reader in readers], axis=0)
    chosen = cases.chosen(common) if common.any() else None
    content: dict[str, Any] = {
        "readers": [reader.name for reader in readers],
        "images": int(common.sum()),
        "left_out": int((~common).sum()),
        "positives": int(cases.labels[common].sum()),
        "clusters": chosen.patients() if chosen else 0,
    }
    reason = "there is no image that all readers judged" if chosen is None else too_little(chosen)
    if chosen is None or reason:
        return content | {"reason": reason}
    found = placements(chosen.labels, np.stack([chosen.scores, *(reader.ratings[common] for reader in readers)]))
    covariance = obuchowski_covariance(found, chosen.labels, chosen.clusters)
    difference = model_less_readers(found.areas, covariance)
    mean = mean_over_readers(found.areas[1:], covariance[1:, 1:])
    return content | {
        "model_auroc": area_figure(float(found.areas[0]), float(covariance[0, 0]), chosen),
        "areas": {reader.name: float(area) for reader, area in zip(readers, found.areas[1:], strict=True)},
        "mean_auroc": _clipped(_random(float(found.areas[1:].mean()), mean, content["images"])),
        "auroc_difference": _tested(float(found.areas[0] - found.areas[1:].mean()), difference, content["images"]),
        "auroc_difference_these_readers": _fixed(difference, content["images"]),
        "components": difference
        and {
            "mean_square_readers": difference.mean_square,
            "covariance_readers": difference.covariance,
            "standard_error": difference.standard_error,
            "degrees_of_freedom": difference.degrees_of_freedom,
        },
    }


def _random(value: float, mean: ReaderMean | None, images: int) -> dict[str, Any]:
    figure = {"value": value, "low": None, "high": None, "n": images}
    if mean is None:
        return figure | {"reason": "readers and patients leave it without variance"}
    return figure | {"low": mean.low, "high": mean.high, "method": RANDOM}


def _tested(value: float, mean: ReaderMean | None, images: int) -> dict[str, Any]:
    return _random(value, mean, images) | {"p": mean and mean.p}


def _clipped(figure: dict[str, Any]) -> dict[str, Any]:
    """Keep the limits of an area, which are made on its own scale, inside 0 to 1."""
    if figure["low"] is None:
        return figure
    return figure | {"low": max(0.0, figure["low"]), "high": min(1.0, figure["high"])}


def _fixed(mean: ReaderMean | None, images: int) -> dict[str, Any] | None:
    """Return the difference from these very readers, whom no one stands for: only patients are random."""
    if mean is None or not mean.fixed_error > 0 or not math.isfinite(mean.fixed_error):
        return None
    return {
        "value": mean.value,
        "low": mean.value - Z * mean.fixed_error,
        "high": mean.value + Z * mean.fixed_error,
        "n": images,
        "method": f"{OBUCHOWSKI}, paired; for these readers alone",
        "p": two_sided(mean.value, mean.fixed_error**2),
    }
