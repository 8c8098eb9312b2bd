"""What is learned of features, where limits are set, and that they arrive at the answers."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from medsharp.export.checks import FALSE_ALARMS, LEAST, answer_limits, measured, picture_limits
from medsharp.images import DecodedImage
from medsharp.inference.checks.answers import ANSWER_CHECKS, Answers
from medsharp.inference.checks.judge import Judge
from medsharp.inference.checks.learned import Learned, learn
from medsharp.inference.checks.registry import IMAGE_CHECKS


def features(count: int, at: float, seed: int) -> np.ndarray:
    """Ten correlated features around (at, 0, 0, ...)."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(1).normal(size=(10, 10))
    return rng.normal(size=(count, 10)) @ mixing * 0.3 + np.r_[at, np.zeros(9)]


@pytest.fixture
def cases() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Features, logits, labels, patients and features of images without a lesion: 2 to 1, two images a patient."""
    lesions = np.concatenate([features(400, 0, 2), features(200, 5, 3)])
    labels = np.repeat([0, 1], [400, 200])
    logits = np.stack([3.0 - lesions[:, 0], lesions[:, 0] - 1], axis=1)
    without = features(80, 0, 4) + np.r_[0, 6, np.zeros(8)]
    return lesions, logits, labels, np.arange(600) // 2, without


def test_distance_is_mahalanobis_to_the_nearest_class_whatever_the_units(cases: tuple) -> None:
    lesions, _, labels, _, without = cases
    units = np.logspace(-3, 3, 10)
    for scale in (1.0, units):
        learned = learn(lesions * scale, labels, without[:0])
        own = learned.distance(lesions * scale)
        assert np.sqrt((own**2).mean()) == pytest.approx(1, abs=0.1)
        within = np.concatenate([lesions[labels == kind] - lesions[labels == kind].mean(axis=0) for kind in (0, 1)])
        inverse = np.linalg.inv(within.T @ within / len(within))
        gaps = [lesions[:5] - lesions[labels == kind].mean(axis=0) for kind in (0, 1)]
        brute = np.min([np.einsum("bi,ij,bj->b", gap, inverse, gap) for gap in gaps], axis=0)
        assert own[:5] == pytest.approx(np.sqrt(brute / 10), rel=0.05)  # covariance is shrunk a little
    middle = np.r_[2.5, np.zeros(9)][None]
    assert learn(lesions, labels, without).distance(middle)[0] > own.mean()


def test_what_is_learned_is_read_as_it_was_written(cases: tuple, tmp_path: Path) -> None:
    lesions, _, labels, _, without = cases
    learned = learn(lesions, labels, without)
    learned.write(tmp_path / "checks.npz")
    again = Learned.read(tmp_path / "checks.npz")
    assert again.distance(without) == pytest.approx(learned.distance(without), rel=1e-5)
    assert again.no_lesion_odds(lesions) == pytest.approx(learned.no_lesion_odds(lesions), abs=1e-4)
    assert (again.no_lesion_odds(without) > again.no_lesion_odds(lesions).mean()).all()


def test_limits_let_a_stated_share_of_other_patients_be_found(cases: tuple) -> None:
    lesions, logits, labels, patients, without = cases
    limits, learned = answer_limits(lesions, logits, labels, patients, without)
    assert learned is not None
    assert list(limits) == ["no_lesion", "distance", "energy"]
    for key, limit in limits.items():
        assert limit.images == 300
        assert limit.false_alarms == pytest.approx(FALSE_ALARMS[key], abs=0.004)
    assert (limits["no_lesion"].found, limits["no_lesion"].without) == (1.0, 80)
    energy = np.logaddexp(logits[:, 0], logits[:, 1])
    assert (energy < limits["energy"].limit).mean() == pytest.approx(0.01, abs=0.01)
    found = Judge({key: one.limit for key, one in limits.items()}, learned).of_answers(without, logits[:80])
    assert all("no_lesion" in [finding.check for finding in one] for one in found)
    far = Judge({key: one.limit for key, one in limits.items()}, learned).of_answers(
        lesions[:1] + 30, np.full((1, 2), -9.0)
    )
    assert {finding.check for finding in far[0]} >= {"distance", "energy"}
    assert all(finding.outcome == "caution" for finding in far[0])
    assert Judge({}, learned).of_answers(without[:2], logits[:2]) == [(), ()]
    assert Judge({"distance": 0.0}, None).of_answers(without[:2], logits[:2]) == [(), ()]


def test_no_lesion_is_learned_of_images_without_one_alone(cases: tuple) -> None:
    lesions, logits, labels, patients, without = cases
    limits, learned = answer_limits(lesions, logits, labels, patients, without[:0])
    assert list(limits) == ["distance", "energy"]
    assert learned is not None
    # Images that are like those with a lesion are not found by a fit that left them out.
    hidden, _ = answer_limits(lesions, logits, labels, patients, features(80, 0, 9))
    assert hidden["no_lesion"].found == pytest.approx(0.05, abs=0.06)


def test_limits_are_of_patients_that_nothing_was_learned_of(cases: tuple) -> None:
    lesions, logits, labels, _, without = cases
    patients = np.r_[0, 0, 0, np.arange(597) // 3 + 1]  # 200 patients of three images
    patients[-1] = 500  # and one with one image: the halves differ
    limits, learned = answer_limits(lesions, logits, labels, patients, without)
    assert learned is not None
    known = np.isin(patients, np.random.default_rng(0).permutation(np.unique(patients))[:100])
    assert limits["distance"].images == (~known).sum() != known.sum()
    assert limits["distance"].limit == pytest.approx(np.quantile(learned.distance(lesions[~known]), 0.99))
    assert learned.mean == pytest.approx(np.concatenate([lesions[known], without]).mean(axis=0))


def test_energy_of_a_mean_of_probabilities_says_nothing_and_has_no_limit(cases: tuple) -> None:
    lesions, logits, labels, patients, without = cases
    shares = np.log(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    limits, _ = answer_limits(lesions, shares, labels, patients, without)
    assert list(limits) == ["no_lesion", "distance"]


def test_few_images_or_one_class_in_a_half_have_no_such_limits(cases: tuple) -> None:
    lesions, logits, labels, patients, without = cases
    few = slice(0, LEAST - 1)
    assert answer_limits(lesions[few], logits[few], labels[few], patients[few], without) == ({}, None)
    one_patient = np.zeros(600, dtype=int)
    assert answer_limits(lesions, logits, labels, one_patient, without) == ({}, None)


def test_limits_of_the_picture_are_loosened_and_never_tightened() -> None:
    rng = np.random.default_rng(0)
    # What lies within the limits of the other checks.
    inside = {one.key: np.full(1000, one.limit) for one in IMAGE_CHECKS if one.limit is not None}
    values = inside | {
        "not_ultrasound": rng.normal(8, 1, 1000),
        "dark": rng.normal(60, 5, 1000),
        "bright": rng.normal(60, 5, 1000),
    }
    limits = picture_limits(values)
    assert limits["not_ultrasound"].limit == 0.0
    assert limits["not_ultrasound"].false_alarms == 0.0
    assert limits["dark"].limit == pytest.approx(np.quantile(values["dark"], 0.005))
    assert limits["bright"].limit == pytest.approx(np.quantile(values["bright"], 0.995))
    assert limits["bright"].false_alarms == pytest.approx(0.005)
    other = picture_limits(values | {"not_ultrasound": rng.normal(-8, 1, 1000)})
    assert other["not_ultrasound"].limit < -10
    assert other["not_ultrasound"].false_alarms == pytest.approx(0.005)
    few = picture_limits({key: value[:20] for key, value in values.items()})
    assert few["dark"].limit < values["dark"][:20].min()
    assert few["bright"].limit > values["bright"][:20].max()
    assert few["dark"].false_alarms == 0.0
    # A caution may speak of few images, a refusal not: it keeps its limit only where such images stay clear of it.
    sample = values["dark"][:20]
    assert few["dark"].limit == pytest.approx(min(sample.mean() - NormalDist().inv_cdf(0.995) * sample.std(), *sample))
    assert few["not_ultrasound"].limit == 0.0
    near = np.linspace(0.5, 3.5, 20)
    limit = picture_limits({key: value[:20] for key, value in values.items()} | {"not_ultrasound": near})
    assert limit["not_ultrasound"].limit == pytest.approx(near.mean() - 4 * near.std())


def test_share_beyond_a_limit_of_every_bundle_is_counted_on_its_side() -> None:
    values = {one.key: np.full(10, one.limit or 100.0) for one in IMAGE_CHECKS}
    beyond = {"too_small": np.r_[31.0, np.full(9, 33.0)], "clipped": np.r_[np.full(3, 0.13), np.full(7, 0.11)]}
    limits = picture_limits(values | beyond)
    assert {one.key for one in IMAGE_CHECKS} == limits.keys()
    shares = {key: one.false_alarms for key, one in limits.items() if one.false_alarms}
    assert shares == {"too_small": 0.1, "clipped": 0.3}
    assert all(limits[one.key].limit == one.limit for one in IMAGE_CHECKS if not one.fitted)


def test_measured_gives_a_value_an_image_of_each_check() -> None:
    images = [DecodedImage(np.full((70, 70), level, np.uint8), "x") for level in (10, 200)]
    values = measured(images)
    assert list(values) == [check.key for check in IMAGE_CHECKS]
    assert values["dark"] == pytest.approx([10, 200])
    assert all(value.shape == (0,) for value in measured([]).values())


def test_energy_is_the_logarithm_of_the_sum_of_powers() -> None:
    (energy,) = (check for check in ANSWER_CHECKS if check.key == "energy")
    learned = Learned(np.zeros(1), np.ones((1, 1)), np.zeros((1, 1)), np.eye(1), np.empty(0))
    logits = np.array([[1.0, 3.0], [-800.0, -900.0]])
    expected = [np.log(np.exp(1) + np.exp(3)), -800.0]
    assert energy.measure(Answers(np.zeros((2, 1)), logits, learned)) == pytest.approx(expected)
    assert not energy.above
