"""The curves of `medsharp score` and their bands, and the same figures in every format that it writes.

What it is for; these fail it: reliability counts images in place of patients; the gain is over the worse of treating
all and none; a curve has the band of another one, or of resampled images; the histogram of a class is that of the
other; a row of the CSV counts patients as images, or gives the coverage of the other kind of prediction sets.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from brute_force import Images, bins_of, recalibrated, wilson
from cohort import images_of
from reading import document_of, near_limits, rows_of
from scipy.special import expit, logit
from sklearn import metrics
from statsmodels.nonparametric.smoothers_lowess import lowess


@pytest.fixture(scope="module")
def images(cohort: pd.DataFrame) -> Images:
    return images_of(cohort)


@pytest.fixture(scope="module")
def weights(images: Images) -> np.ndarray:
    return images.resampled(1200)


def near_band(band: dict[str, list[float]], place: int, replicates: np.ndarray, name: str) -> None:
    figure = {"low": band["low"][place], "high": band["high"][place]}
    near_limits(figure, replicates, f"{name} at {place}")


def test_roc_is_scikit_learns_and_its_band_that_of_resampled_patients(
    entry: dict[str, Any], images: Images, weights: np.ndarray
) -> None:
    false, true, thresholds = metrics.roc_curve(images.y, images.p, drop_intermediate=False)
    roc = entry["curves"]["roc"]
    np.testing.assert_allclose(roc["false_positive_rate"], false, atol=1e-12)
    np.testing.assert_allclose(roc["true_positive_rate"], true, atol=1e-12)
    np.testing.assert_allclose(roc["threshold"][1:], thresholds[1:])
    curves = [metrics.roc_curve(images.y, images.p, sample_weight=w, drop_intermediate=False)[:2] for w in weights]
    for place in (5, 20, 60):
        rate = roc["band"]["false_positive_rate"][place]
        reached = np.array([np.interp(rate, *_rightmost(x, y)) for x, y in curves])
        near_band(roc["band"], place, reached, "ROC")


def _rightmost(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of points above each other the highest counts."""
    last = np.r_[x[1:] != x[:-1], True]
    return x[last], y[last]


def test_precision_recall_is_scikit_learns(entry: dict[str, Any], images: Images, weights: np.ndarray) -> None:
    precision, recall, _ = metrics.precision_recall_curve(images.y, images.p)
    curve = entry["curves"]["precision_recall"]
    np.testing.assert_allclose(curve["recall"], recall[-2::-1])
    np.testing.assert_allclose(curve["precision"], precision[-2::-1])
    for place in (30, 70):
        least = curve["band"]["recall"][place]
        found = []
        for w in weights:
            precision, recall, _ = metrics.precision_recall_curve(images.y, images.p, sample_weight=w)
            found.append(precision[:-1][recall[:-1] >= least - 1e-9][-1])
        near_band(curve["band"], place, np.array(found), "precision")


def test_net_benefit_is_that_of_a_loop_over_thresholds(
    entry: dict[str, Any], images: Images, weights: np.ndarray
) -> None:
    curve = entry["curves"]["net_benefit"]
    n = weights.sum(axis=1)
    for place, cut in enumerate(curve["threshold"]):
        called, odds = images.p >= cut, cut / (1 - cut)
        model = ((images.y & called).sum() - (~images.y & called).sum() * odds) / len(images.y)
        everyone = (images.y.sum() - (~images.y).sum() * odds) / len(images.y)
        assert curve["model"][place] == pytest.approx(model)
        assert curve["treat_all"][place] == pytest.approx(everyone)
        assert curve["gain"]["value"][place] == pytest.approx(model - max(0, everyone))
        if place in (9, 36, 55):
            benefit = (weights @ (images.y & called) - weights @ (~images.y & called) * odds) / n
            near_band(curve, place, benefit, "net benefit")
            gain = benefit - np.maximum(0, (weights @ images.y - weights @ ~images.y * odds) / n)
            near_band(curve["gain"], place, gain, "gain")


def test_risk_grows_with_the_share_that_is_decided(entry: dict[str, Any], images: Images, weights: np.ndarray) -> None:
    curve = entry["curves"]["risk_coverage"]
    sure = np.round(np.abs(logit(images.p) - logit(images.threshold)), 12)
    wrong = (images.flagged != images.y).astype(float)
    levels = np.unique(sure)[::-1]
    surer = (sure[None] >= levels[:, None]).astype(float)
    decided, failed = weights @ surer.T, weights @ (surer * wrong).T
    for place, share in enumerate(curve["coverage"]):
        whole = share * len(sure)
        at = np.interp(whole, np.r_[0, surer.sum(axis=1)], np.r_[0, (surer * wrong).sum(axis=1)])
        assert curve["risk"][place] == pytest.approx(at / whole)
        if place in (9, 17):
            goal = share * decided[:, -1]
            risks = [np.interp(g, np.r_[0, d], np.r_[0, f]) / g for g, d, f in zip(goal, decided, failed, strict=True)]
            near_band(curve, place, np.array(risks), "risk")


def test_calibration_is_drawn_bin_by_bin_and_as_curves(
    entry: dict[str, Any], images: Images, weights: np.ndarray
) -> None:
    reliability = entry["curves"]["reliability"]
    bins = bins_of(images.p)
    assert len(reliability["bins"]) == len(bins)
    for told, places in zip(reliability["bins"], bins, strict=True):
        share, patients = images.y[places].mean(), len(set(images.patient[places]))
        assert told["probability"] == pytest.approx(images.p[places].mean())
        assert told["observed"] == pytest.approx(share)
        assert (told["images"], told["patients"]) == (len(places), patients)
        assert (told["low"], told["high"]) == pytest.approx(wilson(share, patients))
    _, constant, slope = recalibrated(images.y, images.p, images.alike)
    curve = reliability["curve"]
    odds = logit(np.array(curve["probability"]))
    np.testing.assert_allclose(curve["observed"], expit(constant + slope * odds), rtol=1e-6)
    _, constant, slope = recalibrated(images.y, images.p, weights)
    for place in (10, 45):
        near_band(curve, place, expit(constant + slope * odds[place]), "logistic calibration")
    smooth = reliability["smooth"]
    grid = np.array(smooth["probability"])
    fitted = lowess(images.y.astype(float), images.p, frac=0.75, it=0, xvals=grid)
    np.testing.assert_allclose(smooth["observed"], np.clip(fitted, 0, 1), atol=1e-6)
    assert all(
        low <= value <= high for low, value, high in zip(*(smooth[k] for k in ("low", "observed", "high")), strict=True)
    )


def test_histogram_counts_each_class_on_its_own(entry: dict[str, Any], images: Images) -> None:
    histogram = entry["curves"]["histogram"]
    edges = histogram["edges"]
    assert edges == pytest.approx([number / 20 for number in range(21)])
    for name, mask in (("positive", images.y), ("negative", ~images.y)):
        counts = [sum(low <= p < high for p in images.p[mask]) for low, high in itertools.pairwise(edges)]
        assert histogram[name] == counts


def test_csv_has_every_figure_of_the_document_and_nothing_else(scored: Path, entry: dict[str, Any]) -> None:
    expected: dict[tuple[str, str, str], dict[str, Any]] = {
        ("", "", name): figure for name, figure in entry["figures"].items()
    }
    for group in entry["subgroups"]:
        for name, figure in group.items():
            if isinstance(figure, dict):
                expected[group["by"], group["group"], name] = figure
    for kind in ("marginal", "label_conditional"):
        part = entry["conformal"][kind]
        place = ("prediction sets", kind)
        for name in ("coverage", "set_size", "single", "empty", "right_when_single"):
            expected[(*place, name)] = part[name]
        for label, figure in part["coverage_by_label"].items():
            expected[(*place, f"coverage of {label}")] = figure
        for site in part["by_site"]:
            expected[(*place, f"coverage at {site['site']}")] = site
    for rule, figures in entry["by_patient"]["rules"].items():
        expected |= {("patient", rule, name): figure for name, figure in figures.items()}
    # Readers have tests of their own.
    rows = {(row["by"], row["group"], row["figure"]): row for row in rows_of(scored) if row["by"] != "reader"}
    assert set(rows) == set(expected)
    for key, figure in expected.items():
        row = rows[key]
        for name in ("value", "low", "high"):
            assert (float(row[name]) if row[name] else None) == figure[name], key
        assert int(row["images"]) == figure["n"], key
        assert (row["dataset"], row["role"]) == ("cohort", "unstated")


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_reports_say_the_figures_beside_their_names(scored: Path, name: str) -> None:
    (entry,) = document_of(scored)["datasets"]
    text = (scored / name).read_text(encoding="utf-8")
    text = re.sub(r"<(style|svg|script)\b.*?</\1>", " ", text, flags=re.DOTALL)
    text = re.sub(r"&[a-z]+;|<[^>]+>|[\\|\[\]()\s\u00a0%]+", " ", text).replace("\N{MINUS SIGN}", "-")
    text = re.sub(r"\s+", " ", text)
    for label, key, digits, scale in (
        ("AUROC", "auroc", 3, 1),
        ("Sensitivity", "sensitivity", 1, 100),
        ("Specificity", "specificity", 1, 100),
        ("Brier score", "brier", 3, 1),
        ("Calibration slope", "calibration_slope", 2, 1),
    ):
        figure = entry["figures"][key]
        value, low, high = (f"{figure[part] * scale:.{digits}f}" for part in ("value", "low", "high"))
        assert re.search(rf"{label} (\S+ ){{0,40}}?{value} {low} to {high}\b", text), (label, value, low, high)
    point = entry["operating_point"]
    called = point["true_positives"] + point["false_positives"]
    assert re.search(rf"probability from 0\.3700 on : {called}\b|\b{called} called malignant", text)
