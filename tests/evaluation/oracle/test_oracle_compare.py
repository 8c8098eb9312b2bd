"""`medsharp compare`: differences, limits and tests of two models and of three, against the brute force.

What it is for; these fail it: a difference, or its limits, is the first less the second; each model has draws of its
own, so that nothing is paired; McNemar's sides are swapped, its units are images, or the classes change places; p is
DeLong's in place of Obuchowski's; the variances of two areas add as if they were of a sum; Holm's correction is left
out; the margin has the other sign; all models are decided at the threshold of the first; rows of the second table are
taken in their own order; patients are not sorted along with the scores; the clustered covariance of two areas has the
wrong sign; a page swaps models, or limits, or says that the worse is better.
"""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from brute_force import Images, Replicated, delong_variance, figures, obuchowski_variance, placements
from cohort import THRESHOLD, images_of, make_cohort, make_second_model
from reading import document_of, equal_value, near_limits, near_spread, run
from scipy.stats import chi2, norm
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels
from statsmodels.stats.multitest import multipletests

THRESHOLDS = {"first": THRESHOLD, "second": 0.61, "third": 0.5}
PAIRED = (
    "auroc", "auprc", "sensitivity", "specificity", "balanced_accuracy", "brier", "log_loss", "calibration_intercept",
    "calibration_slope",
)  # fmt: skip


@pytest.fixture(scope="module")
def tables(cohort: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {
        "first": cohort,
        "second": make_second_model(cohort, seed=8, noise=1.3),
        "third": make_second_model(cohort, seed=9, noise=0.5),
    }


@pytest.fixture(scope="module")
def models(tables: dict[str, pd.DataFrame]) -> dict[str, Images]:
    """The models' answers, each image in the same place."""
    order = tables["first"]["image"]
    return {
        name: images_of(table.set_index("image").loc[order].reset_index(), THRESHOLDS[name])
        for name, table in tables.items()
    }


def compared(folder: Path, tables: dict[str, pd.DataFrame], *options: str | float) -> dict[str, Any]:
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    limits = [text for name in tables for text in ("--threshold", THRESHOLDS[name])]
    run("compare", *(folder / f"{name}.csv" for name in tables), *limits, *options, "--out", folder / "out")
    return document_of(folder / "out", "comparison.json")


@pytest.fixture(scope="module")
def document(tables: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return compared(tmp_path_factory.mktemp("compared"), tables, "--margin", 0.03)


@pytest.fixture(scope="module")
def replicates(models: dict[str, Images]) -> dict[str, dict[str, np.ndarray]]:
    """Every figure of each model on the same resampled patients."""
    weights = models["first"].resampled()
    return {name: figures(images, weights, dear=False) for name, images in models.items()}


def test_each_model_has_its_own_figures_at_its_own_threshold(
    document: dict[str, Any], models: dict[str, Images], replicates: dict[str, Any]
) -> None:
    assert [group["name"] for group in document["groups"]] == list(models)
    for group in document["groups"]:
        images = models[group["name"]]
        assert [model["threshold"] for model in group["models"]] == [images.threshold]
        value = figures(images, images.alike, dear=False)
        for name in PAIRED:
            figure, found = group["figures"][name], replicates[group["name"]][name]
            equal_value(figure, float(value[name][0]), name)
            if name == "calibration_slope":
                assert figure["method"] == "patient bootstrap, normal on the log scale"
                near_spread(figure, Replicated(figure["value"], found), name)
            else:
                near_limits(figure, found, name)


def test_differences_are_second_less_first_on_the_same_resampled_patients(
    document: dict[str, Any], models: dict[str, Images], replicates: dict[str, Any]
) -> None:
    pairs = list(itertools.combinations(models, 2))
    assert [(pair["first"], pair["second"]) for pair in document["pairs"]] == pairs
    paired, independent = [], []
    for pair in document["pairs"]:
        one, other = models[pair["first"]], models[pair["second"]]
        before, after = (figures(images, images.alike, dear=False) for images in (one, other))
        for name in PAIRED:
            figure = pair["figures"][name]
            found = replicates[pair["second"]][name] - replicates[pair["first"]][name]
            equal_value(figure, float(after[name][0] - before[name][0]), name)
            assert figure["first"] == pytest.approx(before[name][0])
            assert figure["second"] == pytest.approx(after[name][0])
            near_limits(figure, found, name)
            if name == "auroc":
                paired.append(found.std())
                independent.append(
                    math.hypot(*(replicates[side][name].std() for side in (pair["first"], pair["second"])))
                )
    # So far from independent that an unpaired interval would not pass.
    assert max(np.divide(paired, independent)) < 0.8


def test_net_benefit_is_compared_at_one_threshold_only(
    tables: dict[str, pd.DataFrame], models: dict[str, Images], tmp_path: Path
) -> None:
    two = {name: tables[name] for name in ("first", "second")}
    for name, table in two.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    run("compare", *(tmp_path / f"{name}.csv" for name in two), "--threshold", THRESHOLD, "--out", tmp_path / "out")
    figure = document_of(tmp_path / "out", "comparison.json")["pairs"][0]["figures"]["net_benefit_at_threshold"]
    odds = THRESHOLD / (1 - THRESHOLD)
    weights = models["first"].resampled()
    gains, values = [], []
    for name in two:
        called, y = models[name].p >= THRESHOLD, models[name].y
        price = np.where(y, 1, -odds) * called
        values.append(price.mean())
        gains.append(weights @ price / weights.sum(axis=1))
    found = gains[1] - gains[0]
    equal_value(figure, values[1] - values[0])
    near_limits(figure, found)


def test_paired_variances_of_the_areas_are_delongs_and_obuchowskis(
    document: dict[str, Any], models: dict[str, Images]
) -> None:
    for pair in document["pairs"]:
        one, other = models[pair["first"]], models[pair["second"]]
        figure = pair["figures"]["auroc"]
        before, after = placements(one.y, one.p), placements(other.y, other.p)
        over, under = (second - first for first, second in zip(before, after, strict=True))
        value = over.mean()
        variances = {
            "delong": delong_variance(over, under),
            "obuchowski": obuchowski_variance(over, under, one.y, one.patient),
        }
        for name, variance in variances.items():
            part, error = figure[name], math.sqrt(variance)
            assert part["standard_error"] == pytest.approx(error), name
            assert part["low"] == pytest.approx(value - norm.ppf(0.975) * error), name
            assert part["high"] == pytest.approx(value + norm.ppf(0.975) * error), name
            assert part["p"] == pytest.approx(2 * norm.sf(abs(value) / error)), name
        assert figure["p"] == figure["obuchowski"]["p"] != figure["delong"]["p"]


def signs(first: np.ndarray, second: np.ndarray, who: np.ndarray) -> list[int]:
    """Of each patient the images that only the second gets right, less those that only the first does, where not 0."""
    sums = [int((second & ~first)[who == one].sum() - (first & ~second)[who == one].sum()) for one in sorted(set(who))]
    return [one for one in sums if one]


def test_mcnemar_counts_images_and_tests_patients(document: dict[str, Any], models: dict[str, Images]) -> None:
    kinds = set()
    for pair in document["pairs"]:
        one, other = models[pair["first"]], models[pair["second"]]
        for name, among in (("sensitivity", one.y), ("specificity", ~one.y)):
            first, second = ((images.flagged == images.y)[among] for images in (one, other))
            test, sums = pair["figures"][name]["mcnemar"], signs(first, second, one.patient[among])
            assert test["only_first"] == (first & ~second).sum()
            assert test["only_second"] == (second & ~first).sum()
            assert test["only_first"] != test["only_second"]
            if len(sums) < 25:
                # Every sign of every patient, all as likely.
                totals = np.zeros(1)
                for size in sums:
                    totals = np.concatenate([totals - size, totals + size])
                expected = (abs(totals) >= abs(sum(sums))).mean()
                kind = "exact"
            else:
                statistic = sum(sums) ** 2 / sum(one**2 for one in sums)
                assert test["statistic"] == pytest.approx(statistic)
                expected = chi2.sf(statistic, 1)
                kind = "clustered"
            assert test["p"] == pytest.approx(expected), name
            assert pair["figures"][name]["p"] == test["p"]
            assert kind in test["method"]
            kinds.add(kind)
    assert kinds == {"exact", "clustered"}


def test_mcnemar_of_single_images_is_statsmodels(tmp_path: Path) -> None:
    table = make_cohort(patients=90, seed=11).drop_duplicates("patient").assign(group="")
    other = make_second_model(table, seed=3, noise=1.5)
    pair = compared(tmp_path, {"first": table, "second": other}, "--resamples", 100)["pairs"][0]
    joined = table.merge(other, on="image", suffixes=("", "_other"))
    y = (joined["label"] == "malignant").to_numpy()
    first = ((joined["p_malignant"] >= THRESHOLDS["first"]) == y).to_numpy()
    second = ((joined["p_malignant_other"] >= THRESHOLDS["second"]) == y).to_numpy()
    for name, among in (("sensitivity", y), ("specificity", ~y)):
        a, b = first[among], second[among]
        cells = [[(a & b).sum(), (a & ~b).sum()], [(~a & b).sum(), (~a & ~b).sum()]]
        few = (a != b).sum() < 25
        expected = mcnemar_of_statsmodels(np.array(cells), exact=bool(few), correction=False).pvalue
        assert pair["figures"][name]["p"] == pytest.approx(expected), name


def test_p_values_are_holms_over_the_pairs_of_each_figure(document: dict[str, Any]) -> None:
    for name in ("auroc", "sensitivity", "specificity"):
        parts = [pair["figures"][name] for pair in document["pairs"]]
        expected = multipletests([part["p"] for part in parts], method="holm")[1]
        assert [part["p_holm"] for part in parts] == pytest.approx(list(expected))
        assert [part["p_holm"] for part in parts] != [part["p"] for part in parts]


def test_non_inferiority_looks_at_what_the_later_model_loses(document: dict[str, Any]) -> None:
    verdicts = set()
    for pair in document["pairs"]:
        figure, test = pair["figures"]["auroc"], pair["non_inferiority"]
        if figure["low"] > -0.03:
            expected = "non-inferior"
        elif figure["high"] < -0.03:
            expected = "inferior"
        else:
            expected = "not shown"
        assert (test["verdict"], test["margin"], test["low"]) == (expected, 0.03, figure["low"])
        verdicts.add(expected)
    assert len(verdicts) > 1


def test_turning_the_order_turns_every_sign(
    document: dict[str, Any], tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    turned = compared(tmp_path, {name: tables[name] for name in ("third", "second", "first")}, "--resamples", 200)
    here, there = document["pairs"][0]["figures"], turned["pairs"][2]["figures"]
    assert (turned["pairs"][2]["first"], turned["pairs"][2]["second"]) == ("second", "first")
    for name in PAIRED:
        assert there[name]["value"] == pytest.approx(-here[name]["value"]), name
    for name in ("sensitivity", "specificity"):
        one, other = here[name]["mcnemar"], there[name]["mcnemar"]
        assert (one["only_first"], one["only_second"]) == (other["only_second"], other["only_first"])
        assert one["p"] == pytest.approx(other["p"])


def test_pages_say_who_is_better(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    noisy = make_second_model(tables["first"], seed=4, noise=3.5)
    output = compared(tmp_path, {"first": tables["first"], "second": noisy})
    figure = output["pairs"][0]["figures"]["auroc"]
    assert figure["high"] < 0, "so much noise is told"
    text = {
        name: (tmp_path / "out" / name).read_text(encoding="utf-8") for name in ("comparison.md", "comparison.html")
    }
    signed = [f"{figure[key]:+.3f}".replace("-", "\N{MINUS SIGN}") for key in ("value", "low", "high")]
    decided = output["pairs"][0]["figures"]["specificity"]
    sides = [f"{decided[side]:.3f}" for side in ("first", "second")]
    change = re.escape(f"{decided['value']:+.3f}".replace("-", "\N{MINUS SIGN}"))
    assert sides[0] != sides[1]
    for name, page in text.items():
        assert f"{signed[0]} ({signed[1]} to {signed[2]})" in page, name
        pattern = rf"Specificity\W[^A-Z]*?{sides[0]}\W[^A-Z]*?{sides[1]}\W[^A-Z]*?{change}"
        assert re.search(pattern, re.sub(r"</?t[^>]*>|\|", " ", page)), name
        assert "first ranks these patients' images better than second" in page.replace("&#39;", "'"), name
    turned = compared(tmp_path, {"second": noisy, "first": tables["first"]}, "--resamples", 100)
    assert "first ranks these patients' images better than second" in turned["pairs"][0]["conclusions"][0]
