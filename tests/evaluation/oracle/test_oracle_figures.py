"""`medsharp score`: every figure of a data set, value and limits, against the brute force.

What it is for. Formulas are pinned elsewhere; here two right functions must not meet wrongly, so that these fail it:

- images are resampled in place of patients, near-duplicates are not tied, or one identifier at two sites is one
  patient; the threshold, the prevalence or `--interval bca` does not arrive; BCa forgets the jackknife; an image at
  the threshold itself is not called;
- Wilson's or Newcombe's limits count images in place of patients; those of a ranking that is all wrong are not
  mirrored;
- DeLong's and Obuchowski's variances change places; sensitivity at a fixed specificity and its reverse do;
- the debiased calibration error is turned over about itself in place of what the data have; the error that calibrated
  probabilities would show counts images;
- specificity is said to be of positive images, or the intercept is that of the free fit;
- false alarms are listed from the least confident on; clusters of a class are counted as images;
- the fit of probabilities that are small and alike is said not to exist;
- resamples in which a likelihood ratio is over 0 are left out of its interval, though they are the greatest;
- images tied in confidence are all as risky as the last of them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from brute_force import (
    Images,
    about,
    auprc,
    auroc,
    bca_shares,
    binned,
    bins_of,
    decided,
    delong_variance,
    figures,
    newcombe,
    obuchowski_variance,
    placements,
    recalibrated,
    replicated,
    wilson,
)
from cohort import THRESHOLD, images_of, make_cohort
from reading import debiased, document_of, equal_figure, equal_value, near_limits, near_spread, rows_of, run
from scipy.stats import norm
from sklearn import metrics

from medsharp.evaluation.statistics.registry import FIGURES

PREVALENCE = 0.08
DEAR = (
    "partial_auroc",
    "sensitivity_at_specificity_90",
    "sensitivity_at_specificity_95",
    "specificity_at_sensitivity_90",
    "specificity_at_sensitivity_95",
)
WITHOUT_LIMITS = ("ece", "brier_reliability", "brier_resolution")


@pytest.fixture(scope="module")
def images(cohort: pd.DataFrame) -> Images:
    return images_of(cohort)


def test_the_brute_force_is_what_other_software_gives(images: Images) -> None:
    weights, rng = images.resampled(3), np.random.default_rng(4)
    found = figures(images, weights, prevalence=PREVALENCE)
    score = np.log(images.p / (1 - images.p))
    for row, w in enumerate(weights):
        y, p, f, kept = images.y, images.p, images.flagged, w > 0
        matrix = metrics.confusion_matrix(y, f, sample_weight=w)
        expected = {
            "auroc": metrics.roc_auc_score(y, p, sample_weight=w),
            "auprc": metrics.average_precision_score(y, p, sample_weight=w),
            "brier": metrics.brier_score_loss(y, p, sample_weight=w),
            "log_loss": metrics.log_loss(y, p, sample_weight=w),
            "sensitivity": metrics.recall_score(y, f, sample_weight=w),
            "specificity": metrics.recall_score(~y, ~f, sample_weight=w),
            "ppv": metrics.precision_score(y, f, sample_weight=w),
            "npv": metrics.precision_score(~y, ~f, sample_weight=w),
            "accuracy": metrics.accuracy_score(y, f, sample_weight=w),
            "balanced_accuracy": metrics.balanced_accuracy_score(y, f, sample_weight=w),
            "lr_positive": matrix[1, 1] / matrix[1].sum() / (matrix[0, 1] / matrix[0].sum()),
            "prevalence": np.average(y, weights=w),
        }
        large = sm.GLM(y, np.ones(len(y)), sm.families.Binomial(), offset=score, freq_weights=w).fit()
        fit = sm.GLM(y, sm.add_constant(score), sm.families.Binomial(), freq_weights=w).fit()
        expected |= {"calibration_intercept": large.params[0], "calibration_slope": fit.params[1]}
        for rate in (0.90, 0.95):
            false, true, _ = metrics.roc_curve(y, p, sample_weight=w, drop_intermediate=False)
            expected[f"sensitivity_at_specificity_{rate * 100:.0f}"] = true[1 - false >= rate - 1e-9].max()
            expected[f"specificity_at_sensitivity_{rate * 100:.0f}"] = 1 - false[true >= rate - 1e-9].min()
        for name, value in expected.items():
            assert found[name][row] == pytest.approx(value, rel=1e-6), name
        # The surest first, a resampled image as often as it was drawn; ties in random order, over and over.
        sure = np.repeat(np.abs(score - math.log(THRESHOLD / (1 - THRESHOLD)))[kept], w[kept].astype(int)).round(12)
        wrong = np.repeat((f != y)[kept], w[kept].astype(int))
        means = []
        for _ in range(2000):
            order = np.lexsort((rng.random(len(sure)), -sure))
            means.append((np.cumsum(wrong[order]) / np.arange(1, len(sure) + 1)).mean())
        assert abs(found["aurc"][row] - np.mean(means)) < 5 * np.std(means) / len(means) ** 0.5 + 1e-12


def test_every_figure_has_the_value_the_denominator_and_the_limits_of_the_brute_force(
    entry: dict[str, Any], images: Images
) -> None:
    found = replicated(images, lambda w: figures(images, w, prevalence=PREVALENCE, dear=False))
    found |= {
        name: part
        for name, part in replicated(images, lambda w: figures(images, w), count=1200).items()
        if name in DEAR
    }
    among = about(images)
    assert set(entry["figures"]) >= set(found) - {"squared_calibration_error"}
    for name, part in found.items():
        if name in WITHOUT_LIMITS:
            equal_value(entry["figures"][name], part.value, name)
            assert entry["figures"][name]["low"] is None
            assert entry["figures"][name]["reason"]
        elif name == "calibration_error":
            debiased(entry["figures"][name], found)
        elif name != "squared_calibration_error":
            equal_figure(entry["figures"][name], part, images, among.get(name), name)


def test_calibration_error_of_a_calibrated_model_is_given_by_its_bins(entry: dict[str, Any], images: Images) -> None:
    told = entry["figures"]["ece"]["expected_if_calibrated"]
    rng = np.random.default_rng(1)
    mean, errors = 0.0, np.zeros(20_000)
    for places in bins_of(images.p):
        p, witnesses = images.p[places], len(set(images.patient[places]))
        error = math.sqrt((p * (1 - p)).mean() / witnesses)
        mean += len(places) / len(images.p) * error * math.sqrt(2 / math.pi)
        errors += len(places) / len(images.p) * abs(rng.normal(0, error, size=len(errors)))
    assert told["mean"] == pytest.approx(mean)
    assert told["limit"] == pytest.approx(np.quantile(errors, 0.95), rel=0.05)


def test_debiased_error_of_a_calibrated_model_strays_about_what_its_bins_have(tmp_path: Path) -> None:
    table = make_cohort(patients=60, seed=31)
    raw = images_of(table)
    _, constant, slope = recalibrated(raw.y, raw.p, raw.alike)
    p = 1 / (1 + np.exp(-constant[0] - 1.25 * slope[0] * np.log(raw.p / (1 - raw.p))))
    table = table.assign(p_malignant=p, p_benign=1 - p)
    told = score(table, tmp_path, "--threshold", 0.3, "--resamples", 2000)["figures"]["calibration_error"]
    images = images_of(table, 0.3)
    found = replicated(images, lambda w: binned(images, w))
    square, plugged_in = found["squared_calibration_error"], found["brier_reliability"]
    # So much bias is taken off that limits about the wrong one would not pass.
    assert plugged_in.value - square.value > square.replicates.std()
    debiased(told, found)


def test_auroc_has_delongs_and_obuchowskis_errors(entry: dict[str, Any], images: Images) -> None:
    over, under = placements(images.y, images.p)
    area = over.mean()
    variances = {
        "delong": delong_variance(over, under),
        "obuchowski": obuchowski_variance(over, under, images.y, images.patient),
    }
    for name, variance in variances.items():
        part = entry["auroc_intervals"][name]
        assert part["value"] == pytest.approx(area)
        assert part["standard_error"] == pytest.approx(math.sqrt(variance)), name
        half = norm.ppf(0.975) * math.sqrt(variance) / (area * (1 - area))
        odds = math.log(area / (1 - area))
        limits = [1 / (1 + math.exp(-(odds + sign * half))) for sign in (-1, 1)]
        assert [part["low"], part["high"]] == pytest.approx(limits), name


def test_counts_and_the_operating_point_are_those_of_a_loop(entry: dict[str, Any], cohort: pd.DataFrame) -> None:
    counts = {"true_positives": 0, "false_negatives": 0, "false_positives": 0, "true_negatives": 0}
    for label, p in zip(cohort["label"], cohort["p_malignant"], strict=True):
        first = "true" if (p >= THRESHOLD) == (label == "malignant") else "false"
        counts[f"{first}_{'positives' if p >= THRESHOLD else 'negatives'}"] += 1
    assert entry["operating_point"] == {"threshold": THRESHOLD, **counts}
    images = images_of(cohort)
    told = entry["counts"]
    assert told["images"] == len(cohort)
    assert told["positives"] == images.y.sum()
    assert told["clusters"] == images.patients()
    assert told["clusters_by_label"] == {"benign": images.patients(~images.y), "malignant": images.patients(images.y)}
    both = set(images.patient[images.y]) & set(images.patient[~images.y])
    assert told["clusters_of_several_labels"] == len(both)
    assert len(both) > 5
    assert told["images_without_patient"] == (cohort["patient"] == "").sum()
    assert told["by"]["site"] == cohort["site"].value_counts().to_dict()
    flags = [flag for text in cohort["flags"] if text for flag in text.split(";")]
    assert told["flags"] == {flag: flags.count(flag) for flag in sorted(set(flags), key=flags.count, reverse=True)}


def test_failures_are_the_most_confident_mistakes_first(entry: dict[str, Any], cohort: pd.DataFrame) -> None:
    positive, called = cohort["label"] == "malignant", cohort["p_malignant"] >= THRESHOLD
    for kind, mask, ascending in (("missed", positive & ~called, True), ("false_alarms", ~positive & called, False)):
        part = cohort[mask].sort_values(["p_malignant", "image"], ascending=[ascending, True])
        told = entry["failures"][kind]
        assert told["total"] == len(part)
        assert [image["image"] for image in told["images"]] == list(part["image"][:20])
        assert [image["site"] for image in told["images"]] == list(part["site"][:20])


def score(table: pd.DataFrame, folder: Path, *options: str | float) -> dict[str, Any]:
    table.to_csv(folder / "table.csv", index=False)
    run("score", folder / "table.csv", *options, "--out", folder / "out", "--format", "json")
    (found,) = document_of(folder / "out")["datasets"]
    return dict(found)


def test_shares_of_0_and_1_are_of_the_patients_that_they_are_about(cohort: pd.DataFrame, tmp_path: Path) -> None:
    found = score(cohort, tmp_path, "--threshold", 0.0005, "--resamples", 100)["figures"]
    images = images_of(cohort, 0.0005)
    assert images.patients(images.y) != images.y.sum() != images.patients()
    ends = {"sensitivity": (1, images.patients(images.y)), "specificity": (0, images.patients(~images.y))}
    for name, (share, patients) in ends.items():
        assert (found[name]["low"], found[name]["high"]) == pytest.approx(wilson(share, patients)), name
        assert found[name]["patients"] == patients
        assert found[name]["method"] == "Wilson, patients"
    assert found["npv"]["value"] is None
    assert found["npv"]["n"] == 0
    assert found["lr_positive"]["value"] == pytest.approx(1)


def decided_table(false_alarms: int, missed: int = 9) -> pd.DataFrame:
    """48 patients with one or two benign images and 31 with one to three malignant ones, decided at 0.5.

    In `false_alarms` of the first a benign image is flagged, in `missed` of the others no malignant one.
    """
    rng = np.random.default_rng(11)
    patients = np.arange(79)
    images = np.where(patients < 48, 1 + patients % 2, 1 + patients % 3)
    flagged = np.where(patients < 48, patients < false_alarms, patients >= 48 + missed)
    who = np.repeat(patients, images)
    p = np.where(flagged, 0.7, 0.3)[who] + rng.uniform(-0.15, 0.15, size=len(who))
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(len(who))],
            "patient": [f"P{number}" for number in who],
            "site": "",
            "group": "",
            "label": np.where(who < 48, "benign", "malignant"),
            "p_benign": 1 - p,
            "p_malignant": p,
        }
    )


@pytest.mark.parametrize(
    ("key", "other", "table"),
    # Of three patients, one resample in twenty has none.
    [("lr_positive", "lr_negative", decided_table(3)), ("lr_negative", "lr_positive", decided_table(45))],
)
def test_a_likelihood_ratio_that_is_infinite_in_many_resamples_has_no_upper_limit(
    key: str, other: str, table: pd.DataFrame, tmp_path: Path
) -> None:
    images = images_of(table, 0.5)
    found = replicated(images, lambda w: decided(images, w), leave_out=True)
    assert 0.03 < np.isinf(found[key].replicates).mean() < 0.07
    for options in ((), ("--interval", "bca"), ("--stream",), ("--resamples", "400")):
        figures = score(table, tmp_path, "--threshold", 0.5, *options)["figures"]
        figure = figures[key]
        assert figure["value"] == pytest.approx(found[key].value), options
        assert (0 if "--resamples" in options else 1e-9) <= figure["low"] < figure["value"], options
        assert figures[other]["high"] > figures[other]["low"], options
        if "bca" in options:  # whose upper limit is another percentile, with infinite values above it
            equal_figure(figure, found[key], images)
            continue
        assert figure["high"] is None, options
        assert "no upper limit: it is infinite in" in figure["reason"], options
        if not options:
            equal_figure(figure, found[key], images)
    printed = run("score", tmp_path / "table.csv", "--threshold", 0.5, "--out", tmp_path / "out", "--format", "csv,md")
    assert "(at least" in printed.output
    page = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {FIGURES[key].name} ")]
    assert "[at least " in line.replace("\\", "")
    (row,) = [row for row in rows_of(tmp_path / "out") if row["figure"] == key and not row["by"]]
    assert (row["high"], float(row["low"]) > 0) == ("", True)
    assert "no upper limit" in row["reason"]


def test_infinite_ratios_of_few_resamples_count_as_the_greatest(tmp_path: Path) -> None:
    """Without the resamples that have no false alarm, 2 % of them, the upper limit was a third too low."""
    table = decided_table(4)
    images = images_of(table, 0.5)
    found = replicated(images, lambda w: decided(images, w), count=20000)["lr_positive"]
    assert 0.01 < np.isinf(found.replicates).mean() < 0.022
    figure = score(table, tmp_path, "--threshold", 0.5, "--resamples", 8000)["figures"]["lr_positive"]
    near_limits(figure, found.replicates, drawn=8000)
    with pytest.raises(AssertionError):
        near_limits(figure, found.replicates[np.isfinite(found.replicates)], drawn=8000)


def test_where_nobody_is_flagged_wrongly_there_is_no_likelihood_ratio(tmp_path: Path) -> None:
    table = decided_table(0)
    figures = score(table, tmp_path, "--threshold", 0.5, "--resamples", 200)["figures"]
    assert figures["lr_positive"] == {
        "value": None, "low": None, "high": None, "n": len(table), "reason": "the specificity is 1",
    }  # fmt: skip
    assert figures["lr_negative"]["value"] > 0


def test_a_perfect_ranking_has_newcombes_limits_and_a_reversed_one_their_mirror(tmp_path: Path) -> None:
    table = make_cohort(patients=40, seed=5)
    for turned in (False, True):
        p = np.where((table["label"] == "malignant") != turned, 0.6, 0.2) + 0.3 * table["p_malignant"] / 2
        found = score(table.assign(p_malignant=p, p_benign=1 - p), tmp_path, "--threshold", 0.5, "--resamples", 100)
        images = images_of(table)
        lower = newcombe(images.patients(images.y), images.patients(~images.y))
        expected = (0, 1 - lower) if turned else (lower, 1)
        figure = found["figures"]["auroc"]
        assert (figure["low"], figure["high"]) == pytest.approx(expected, abs=1e-6)
        parts = [wilson(0 if turned else 1, images.patients(mask)) for mask in (images.y, ~images.y)]
        both = found["figures"]["balanced_accuracy"]
        assert (both["low"], both["high"]) == pytest.approx(tuple(np.mean(parts, axis=0)))


def test_bca_limits_shift_from_the_percentiles_as_efrons_do(tmp_path: Path) -> None:
    table = make_cohort(patients=45, seed=7)
    images = images_of(table)
    options = ("--threshold", THRESHOLD)
    plain, moved = (score(table, tmp_path, *options, "--interval", kind)["figures"] for kind in ("percentile", "bca"))

    def statistic(w: np.ndarray) -> dict[str, np.ndarray]:
        areas = {"auroc": auroc(images.y, images.p, w), "auprc": auprc(images.y, images.p, w)}
        return {**areas, **decided(images, w), "brier": w @ (images.p - images.y) ** 2 / w.sum(axis=1)}

    found = replicated(images, statistic, leave_out=True)
    shifts = []
    for name in ("auroc", "auprc", "sensitivity", "specificity", "brier", "ppv", "npv", "accuracy"):
        equal_figure(moved[name], found[name], images, about(images).get(name), name)
        equal_figure(plain[name], found[name], images, about(images).get(name), name)
        part = found[name]
        assert part.left_out is not None
        own = np.quantile(part.replicates, bca_shares(part.value, part.replicates, part.left_out))
        own -= np.quantile(part.replicates, [0.025, 0.975])
        # Both intervals are of the same resamples, whose chance cancels.
        for side, expected in zip(("low", "high"), own, strict=True):
            shift = moved[name][side] - plain[name][side]
            assert shift == pytest.approx(expected, abs=0.3 * part.replicates.std()), (name, side)
            shifts.append(abs(expected) / part.replicates.std())
    assert max(shifts) > 0.6


def test_calibration_of_probabilities_that_are_all_small_and_alike_is_fitted(tmp_path: Path) -> None:
    table = make_cohort(patients=60, seed=9)
    p = 1 / (1 + np.exp(4.2 - 0.08 * np.log(table["p_malignant"] / table["p_benign"])))
    table = table.assign(p_malignant=p, p_benign=1 - p)
    found = score(table, tmp_path, "--threshold", 0.015, "--resamples", 1000)["figures"]
    images = images_of(table, 0.015)
    fit = sm.GLM(images.y, sm.add_constant(np.log(images.p / (1 - images.p))), sm.families.Binomial()).fit()
    slopes = replicated(images, lambda w: {"slope": recalibrated(images.y, images.p, w)[2]})["slope"]
    assert found["calibration_slope"]["value"] == pytest.approx(fit.params[1], rel=1e-6)
    assert fit.params[1] > 4
    near_spread(found["calibration_slope"], slopes)


def test_seed_and_order_of_the_rows_move_no_value(cohort: pd.DataFrame, entry: dict[str, Any], tmp_path: Path) -> None:
    found = score(cohort.iloc[::-1], tmp_path, "--threshold", THRESHOLD, "--seed", 5, "--resamples", 200)["figures"]
    for key in ("auroc", "aurc", "calibration_slope", "ece", "sensitivity"):
        assert found[key]["value"] == pytest.approx(entry["figures"][key]["value"], rel=1e-9), key
    assert found["auroc"]["low"] != entry["figures"]["auroc"]["low"]


def test_recalibration_that_does_not_exist_is_not_drawn(cohort: pd.DataFrame, tmp_path: Path) -> None:
    """One cancer that was given 0, or one benign lesion 1: the curve was that of 1e-7."""
    for label, wrong in (("malignant", 0.0), ("benign", 1.0)):
        for options in ((), ("--stream",)):
            table = cohort.copy()
            place = table.index[table["label"] == label][4]
            for answer in (1 - wrong, wrong):
                table.loc[place, ["p_malignant", "p_benign"]] = [answer, 1 - answer]
                found = score(table, tmp_path, "--threshold", THRESHOLD, "--resamples", 100, *options)
                curve = found["curves"]["reliability"]["curve"]
                withheld = found["figures"]["calibration_slope"]["value"] is None
                assert withheld == (answer == wrong)
                assert (curve == {"probability": [], "observed": [], "low": [], "high": []}) == withheld
                assert len(found["curves"]["reliability"]["bins"]) > 5
    run("score", tmp_path / "table.csv", "--threshold", THRESHOLD, "--resamples", 100, "--out", tmp_path / "out")
    page = " ".join((tmp_path / "out" / "report.html").read_text(encoding="utf-8").split())
    assert "Line: local regression with its 95 % band; the logistic calibration curve does not exist." in page


def test_recalibration_of_all_images_is_drawn(entry: dict[str, Any], images: Images) -> None:
    _, constant, slope = recalibrated(images.y, images.p, images.alike)
    curve = entry["curves"]["reliability"]["curve"]
    grid = np.array(curve["probability"])
    odds = constant + slope * np.log(grid / (1 - grid))
    np.testing.assert_allclose(curve["observed"], 1 / (1 + np.exp(-odds)), rtol=1e-6)
