"""The statistics of robustness, against hand calculations and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, brier_score_loss, roc_auc_score

from medsharp.robustness import ALEXNET, ALEXNET_CLEAN, FIGURES, Cell, Judge, Resamples, compare, describe
from medsharp.robustness.corruptions import SEVERITIES
from medsharp.robustness.summary import answers_moved, idle

LABELS = np.array([True, True, True, True, False, False, False, False, False, False])
CLEAN = np.array([0.9, 0.8, 0.7, 0.3, 0.6, 0.4, 0.2, 0.2, 0.1, 0.1])
DIRTY = np.array([0.9, 0.4, 0.3, 0.6, 0.7, 0.6, 0.2, 0.1, 0.1, 0.1])


def make_judge(threshold: float = 0.5, seed: int = 0, resamples: int = 400) -> Judge:
    return Judge(LABELS, threshold, Resamples(np.arange(10), resamples, seed))


def random_cells(judge: Judge, seed: int, names: tuple[str, ...] = tuple(ALEXNET)) -> tuple[Cell, dict]:
    rng = np.random.default_rng(seed)
    clean = rng.random(len(judge.labels))
    cells = {(n, s): judge.judge(rng.random(len(judge.labels)), clean) for n in names for s in SEVERITIES}
    return judge.judge(clean, clean), cells


def test_figures_equal_scikit_learns() -> None:
    figures = make_judge().judge(DIRTY, CLEAN).figures
    assert set(figures) == set(FIGURES)
    assert figures["auroc"].value == pytest.approx(roc_auc_score(LABELS, DIRTY))
    assert figures["brier"].value == pytest.approx(brier_score_loss(LABELS, DIRTY))
    assert figures["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(LABELS, DIRTY >= 0.5))
    assert figures["sensitivity"].value == 2 / 4
    assert figures["specificity"].value == pytest.approx(4 / 6)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.65])
def test_net_benefit_is_that_of_its_definition(threshold: float) -> None:
    flagged = threshold <= DIRTY
    expected = (flagged & LABELS).sum() / 10 - (flagged & ~LABELS).sum() / 10 * threshold / (1 - threshold)
    assert make_judge(threshold).judge(DIRTY, CLEAN).figures["net_benefit_at_threshold"].value == pytest.approx(
        expected
    )


def test_flips_are_counted_by_class_and_direction() -> None:
    flips = {name: part.value for name, part in make_judge().judge(DIRTY, CLEAN).flips.items()}
    # Images 1 and 2 fall below the threshold; 3 and 5 rise above it.
    assert flips == pytest.approx(
        {"all": 4 / 10, "positive": 3 / 4, "negative": 1 / 6, "to_positive": 2 / 10, "to_negative": 2 / 10}
    )


def test_the_same_answers_flip_nothing_and_change_nothing() -> None:
    judge = make_judge()
    cell = judge.judge(CLEAN, CLEAN)
    assert cell.flips["all"].figure()["value"] == 0
    assert cell.flips["all"].figure()["method"] == "Wilson, patients"
    again = judge.judge(CLEAN.copy(), CLEAN)
    change = (again.figures["auroc"] - cell.figures["auroc"]).figure()
    assert change == {"value": 0, "low": None, "high": None, "reason": "it is the same in every resample"}


def test_changes_are_paired_and_so_narrower_than_independent_ones() -> None:
    rng = np.random.default_rng(1)
    labels = np.arange(200) % 2 == 0
    clean = np.clip(0.5 + 0.2 * labels + rng.normal(0, 0.15, 200), 0.01, 0.99)
    dirty = np.clip(clean + rng.normal(0, 0.02, 200), 0.01, 0.99)
    one, other = (Judge(labels, 0.5, Resamples(np.arange(200), 500, seed)) for seed in (0, 1))
    paired = (one.judge(dirty, clean).figures["auroc"] - one.judge(clean, clean).figures["auroc"]).figure()
    independent = (one.judge(dirty, clean).figures["auroc"] - other.judge(clean, clean).figures["auroc"]).figure()
    assert paired["value"] == independent["value"]
    assert paired["high"] - paired["low"] < 0.4 * (independent["high"] - independent["low"])


def test_images_of_a_patient_are_drawn_together() -> None:
    labels, clean = np.tile(LABELS, 4), np.tile(CLEAN, 4)
    alone = Judge(labels, 0.5, Resamples(np.arange(40), 800, 0)).judge(clean, clean)
    together = Judge(labels, 0.5, Resamples(np.tile(np.arange(10), 4), 800, 0)).judge(clean, clean)
    widths = [
        cell.figures["brier"].figure()["high"] - cell.figures["brier"].figure()["low"] for cell in (alone, together)
    ]
    assert widths[1] > 1.6 * widths[0]


def test_one_patient_gets_values_and_a_reason_in_place_of_intervals() -> None:
    judge = Judge(LABELS, 0.5, Resamples(np.zeros(10, dtype=int), 100, 0))
    part = judge.judge(DIRTY, CLEAN).figures["auroc"].figure()
    assert part["value"] == pytest.approx(roc_auc_score(LABELS, DIRTY))
    assert part["low"] is None
    assert "one patient" in part["reason"]


def test_a_fit_that_does_not_exist_is_said_so() -> None:
    separated = np.where(LABELS, 0.9, 0.1)
    part = make_judge().judge(separated, CLEAN).figures
    assert part["calibration_slope"].figure()["value"] is None
    assert part["auroc"].figure()["method"] == "Newcombe, patients"


def test_be_and_rbe_follow_their_definition() -> None:
    judge = make_judge()
    clean, cells = random_cells(judge, 2)
    found = describe(judge, clean, cells)["medmnist_c"]
    error_clean = 1 - clean.figures["balanced_accuracy"].value
    be, rbe = [], []
    for name, alexnet in ALEXNET.items():
        error = np.mean([1 - cells[name, severity].figures["balanced_accuracy"].value for severity in SEVERITIES])
        be.append(error / alexnet)
        rbe.append((error - error_clean) / (alexnet - ALEXNET_CLEAN))
        assert found["corruptions"][name]["error"]["value"] == pytest.approx(error)
    assert found["be"]["value"] == pytest.approx(np.mean(be))
    assert found["rbe"]["value"] == pytest.approx(np.mean(rbe))


def test_alexnet_itself_has_be_and_rbe_of_one() -> None:
    assert np.mean(list(ALEXNET.values())) == pytest.approx(0.2994, abs=1e-4)
    assert ALEXNET["contrast_down"] - ALEXNET_CLEAN == pytest.approx(0.0133, abs=1e-4)


def test_without_all_seven_there_is_no_be() -> None:
    judge = make_judge()
    clean, cells = random_cells(judge, 2, ("pixelate", "motion_blur"))
    assert describe(judge, clean, cells)["medmnist_c"] is None


def test_worst_cases_are_those_of_lowest_auroc_in_order() -> None:
    judge = make_judge()
    clean, cells = random_cells(judge, 3)
    worst = [case["auroc"]["value"] for case in describe(judge, clean, cells)["summary"]["worst"]]
    assert worst == sorted(cell.figures["auroc"].value for cell in cells.values())[:10]


def test_right_under_every_corruption_needs_all_of_them_and_the_clean_image() -> None:
    judge = make_judge()
    clean = judge.judge(CLEAN, CLEAN)
    cells = {("gain_up", severity): judge.judge(CLEAN, CLEAN) for severity in SEVERITIES}
    cells |= {("gain_down", severity): judge.judge(DIRTY, CLEAN) for severity in SEVERITIES}
    every = describe(judge, clean, cells)["summary"]["every"]
    # Of the positive images only the first is found twice; of the negative ones 4 of 6 are spared twice.
    assert every[2]["kept_positive"]["value"] == 1 / 4
    assert every[2]["kept_negative"]["value"] == pytest.approx(4 / 6)


def test_comparison_is_second_minus_first_and_paired() -> None:
    judge = make_judge()
    (_, ours), (_, theirs) = random_cells(judge, 4), random_cells(judge, 5)
    found = compare(("one", ours), ("two", theirs))
    means = [np.mean([cell.figures["auroc"].value for cell in cells.values()]) for cells in (ours, theirs)]
    assert found["auroc"]["value"] == pytest.approx(means[1] - means[0])
    turned = compare(("two", theirs), ("one", ours))
    assert turned["auroc"]["low"] == pytest.approx(-found["auroc"]["high"])


def test_what_moves_few_answers_even_at_the_last_severity_is_named_and_controls_are_not() -> None:
    clean = np.full(100, 0.5)
    assert answers_moved(clean + np.where(np.arange(100) < 7, 0.02, 0.009), clean) == pytest.approx(0.07)
    assert answers_moved(clean - 0.02, clean) == 1.0
    moved = {(name, s): 0.01 for name in ("gain_up", "gain_down", "body_marker_patch") for s in SEVERITIES}
    assert idle(moved | {("gain_down", 5): 0.06}) == ["gain_up"]
