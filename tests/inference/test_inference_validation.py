"""What validation predictions tell of a score, against counts made by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from medsharp.bundle import read_bundle
from medsharp.evaluation.statistics.intervals import wilson
from medsharp.inference.validation import Validation

MODELS = Path(__file__).resolve().parents[2] / "models"


def made(positives: int = 250, negatives: int = 250) -> Validation:
    """Negatives score .000, .001, ..., positives from .5 on in the same steps; each patient has two images."""
    scores = np.concatenate([np.arange(negatives) / 1000, 0.5 + np.arange(positives) / 1000])
    positive = np.repeat([False, True], [negatives, positives])
    return Validation("made", scores, positive, np.arange(len(scores)) // 2, "patients")


def test_window_holds_the_hundred_nearest_in_rank_and_counts_the_positive_class() -> None:
    near = made().near(0.5 - 0.0005)  # between the two classes: 50 of either
    assert near is not None
    assert (near.images, near.positives) == (100, 50)
    assert (near.low, near.high) == (pytest.approx(0.2), pytest.approx(0.549))
    assert near.interval == wilson(25, 50)  # 50 patients with two images each
    assert near.beyond is None
    high = made().near(0.7)
    assert high is not None
    assert (high.positives, high.low, high.high) == (100, pytest.approx(0.65), pytest.approx(0.749))


def test_window_at_the_end_is_of_the_last_images_and_says_when_nothing_scored_so() -> None:
    highest, lowest = made().near(0.99), made().near(-0.1)
    assert highest is not None
    assert (highest.positives, highest.beyond) == (100, "above")
    assert lowest is not None
    assert (lowest.positives, lowest.images, lowest.beyond) == (0, 100, "below")


def test_window_is_a_fifth_of_few_images_and_nothing_of_very_few() -> None:
    of_200 = made(100, 100).near(0.3)
    assert of_200 is not None
    assert of_200.images == 40
    assert made(50, 49).near(0.3) is None


def test_rates_are_those_of_images_called_from_the_threshold_on() -> None:
    validation = Validation(
        "made",
        np.array([0.1, 0.2, 0.3, 0.4, 0.35, 0.6, 0.8]),
        np.array([False, False, False, False, True, True, True]),
        np.arange(7),
        "images",
    )
    by_threshold = {one.threshold: one for one in validation.rates(0.35)}
    at = by_threshold[0.35]  # positives at .35 and above are found: all; negatives below it: three of four
    assert (at.sensitivity, at.specificity) == (1.0, 0.75)
    assert at.sensitivity_interval == wilson(3, 3)
    assert at.specificity_interval[0] < 0.75 < at.specificity_interval[1]
    thresholds = list(by_threshold)
    assert thresholds == sorted(thresholds)
    assert by_threshold[0.1].specificity == 0.0


@pytest.mark.parametrize("name", ["bus-lite0", "busi-resnet18"])
def test_rates_of_a_shipped_bundle_at_its_operating_point_are_what_it_says(name: str) -> None:
    spec = read_bundle(MODELS / name, verify=False)
    validation = Validation.read(spec, MODELS / name)
    assert validation is not None
    point = spec.operating_point
    (at,) = [one for one in validation.rates(point.threshold) if one.threshold == point.threshold]
    assert (at.sensitivity, at.specificity) == (pytest.approx(point.sensitivity), pytest.approx(point.specificity))
    assert at.sensitivity_interval[0] < point.sensitivity < at.sensitivity_interval[1] or point.sensitivity > 0.96
    assert (len(validation.scores), int(validation.positive.sum())) == (point.images, point.positives)


def test_patients_are_taken_from_the_internal_table_where_it_has_the_same_predictions() -> None:
    spec = read_bundle(MODELS / "bus-lite0", verify=False)
    pooled = Validation.read(spec, MODELS / "bus-lite0")
    assert pooled is not None
    assert pooled.resampled == "patients or groups of near-duplicates"
    assert len(np.unique(pooled.clusters)) < len(pooled.scores)
    other = read_bundle(MODELS / "busi-resnet18", verify=False)  # whose internal table is of a test split
    alone = Validation.read(other, MODELS / "busi-resnet18")
    assert alone is not None
    assert len(np.unique(alone.clusters)) == len(alone.scores)


def test_bundle_without_validation_predictions_has_none(tmp_path: Path) -> None:
    spec = read_bundle(MODELS / "busi-resnet18", verify=False)
    copy = tmp_path / "bundle"
    shutil.copytree(MODELS / "busi-resnet18", copy)
    (copy / "validation.csv").unlink()
    assert Validation.read(spec, copy) is None
