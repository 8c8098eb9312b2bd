"""Summaries over hospitals of `medsharp score`: which enter, and what they come to, against metafor and by hand.

The models themselves are pinned elsewhere (`test_evaluation_pooling`); here it is that every hospital's own counts,
areas and patients reach them. What it is for; these fail it: the summary is over the hospitals that are shown; four
are shown in place of forty; the variance of a share, or of an area, is halved; images count as patients; weights
stand in the rows of other hospitals; a slope that is withheld as it does not exist enters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from brute_force import obuchowski_variance, placements
from cohort import THRESHOLD, images_of, make_cohort
from reading import document_of, run
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit, logsumexp
from scipy.stats import t as student

from medsharp.evaluation import evaluate_predictions
from medsharp.evaluation.sites import summarise_evaluations

R: dict[str, Any] = json.loads((Path(__file__).parent / "r_values.json").read_text(encoding="utf-8"))
MOST_SHOWN = 40


def table_of(sites: Iterable[tuple[str, int, int, int, int]]) -> pd.DataFrame:
    """A patient an image; of each site the cancers and how many are found, the others and how many are spared."""
    rows = []
    for site, cancers, found, others, spared in sites:
        rows += [(site, "malignant", 0.8 if number < found else 0.2) for number in range(cancers)]
        rows += [(site, "benign", 0.1 if number < spared else 0.7) for number in range(others)]
    table = pd.DataFrame(rows, columns=["site", "label", "p_malignant"])
    names = [str(number) for number in range(len(table))]
    return table.assign(p_benign=1 - table["p_malignant"], image=[f"{n}.png" for n in names], patient=names, group="")


def score(table: pd.DataFrame, folder: Path, threshold: float = 0.5) -> dict[str, Any]:
    table.to_csv(folder / "table.csv", index=False)
    options = ("--threshold", threshold, "--resamples", 100, "--format", "json")
    run("score", folder / "table.csv", *options, "--out", folder / "out")
    (entry,) = document_of(folder / "out")["datasets"]
    return dict(entry)


def summary(effects: np.ndarray, variances: np.ndarray) -> dict[str, float]:
    """Random effects by maximising the restricted likelihood, with Hartung and Knapp's interval."""

    def fitted(tau2: float) -> tuple[np.ndarray, float]:
        weights = 1 / (variances + tau2)
        return weights, float((weights * effects).sum() / weights.sum())

    def loss(tau2: float) -> float:
        weights, mean = fitted(tau2)
        return float(-np.log(weights).sum() + np.log(weights.sum()) + (weights * (effects - mean) ** 2).sum())

    tau2 = float(minimize_scalar(loss, bounds=(0, 10), method="bounded", options={"xatol": 1e-11}).x)
    weights, mean = fitted(tau2)
    count = len(effects)
    error2 = float((weights * (effects - mean) ** 2).sum()) / (count - 1) / weights.sum()
    half = student.ppf(0.975, count - 1) * math.sqrt(error2)
    reach = student.ppf(0.975, count - 2) * math.sqrt(error2 + tau2)
    return {
        "value": mean, "low": mean - half, "high": mean + half, "prediction_low": mean - reach,
        "prediction_high": mean + reach, "tau2": tau2,
    }  # fmt: skip


def equal_summary(told: dict[str, Any], effects: np.ndarray, variances: np.ndarray) -> None:
    assert told["method"] == "random effects, normal-normal, REML, Hartung-Knapp"
    expected = summary(effects, variances)
    for name, value in expected.items():
        assert told[name] == pytest.approx(value if name == "tau2" else expit(value), abs=2e-6), name


def equal_counts(told: dict[str, Any], part: np.ndarray, whole: np.ndarray) -> None:
    """The summary of shares: of their log odds, or of the counts themselves with that of log odds beside it."""
    effects, variances = logit(part / whole), 1 / part + 1 / (whole - part)
    if "normal_normal" not in told:
        equal_summary(told, effects, variances)
        return
    expected = summary(effects, variances)
    for name in ("value", "low", "high"):
        assert told["normal_normal"][name] == pytest.approx(expit(expected[name]), abs=2e-6), name
    nodes, heights = np.polynomial.hermite_e.hermegauss(120)

    def loss(parameters: np.ndarray) -> float:
        odds = parameters[0] + math.exp(parameters[1]) * nodes[:, None]
        chance = part * np.log(expit(odds)) + (whole - part) * np.log(expit(-odds))
        return -float(logsumexp(chance + np.log(heights)[:, None], axis=0).sum())

    best = minimize(loss, [expected["value"], math.log(expected["tau2"]) / 2], method="Nelder-Mead").x
    assert logit(told["value"]) == pytest.approx(best[0], abs=2e-3)
    assert told["tau2"] == pytest.approx(math.exp(2 * best[1]), rel=0.01)


def test_sensitivity_of_hospitals_is_pooled_as_metafor_does(tmp_path: Path) -> None:
    sites = pd.DataFrame(R["sites"])
    rows = [(s, int(c), int(f), int(c) // 2 + 5, int(c) // 3 + 4) for s, f, c in sites.itertuples(index=False)]
    entry, expected = score(table_of(rows), tmp_path), R["metafor"]["knha"]
    told = entry["site_summary"]["figures"]["sensitivity"]
    for name in ("value", "low", "high", "tau2", "q"):
        assert told[name] == pytest.approx(expected[name], rel=1e-6), name
    assert told["q_p"] == pytest.approx(expected["q_p"], rel=1e-5)
    assert [row["name"] for row in told["sites"]] == list(sites["site"])
    assert [row["weight"] for row in told["sites"]] == pytest.approx(expected["weights"], rel=1e-6)
    assert [row["value"] for row in told["sites"]] == pytest.approx(list(sites["found"] / sites["cancers"]))


def four_hospitals() -> pd.DataFrame:
    """Four hospitals of unequal size and calibration, two images a patient; one answer at West is 1, and wrong."""
    rng, rows = np.random.default_rng(21), []
    for site, patients, shift, slope in (("North", 40, -0.4, 0.8), ("South", 55, 0.3, 1.1), ("East", 35, 0.1, 0.6),
                                         ("West", 45, 0.8, 1.3)):  # fmt: skip
        ill = np.repeat(rng.random(patients) < 0.4, 2)
        odds = 1.8 * ill - 1 + rng.normal(size=2 * patients)
        rows.append(
            pd.DataFrame(
                {
                    "site": site,
                    "patient": [f"{site} {number // 2}" for number in range(2 * patients)],
                    "label": np.where(ill, "malignant", "benign"),
                    "p_malignant": 1 / (1 + np.exp(-(shift + odds) * slope)),
                }
            )
        )
    table = pd.concat(rows, ignore_index=True)
    table.loc[table.index[(table["site"] == "West") & (table["label"] == "benign")][3], "p_malignant"] = 1.0
    return table.assign(
        p_benign=1 - table["p_malignant"], image=[f"{number}.png" for number in range(len(table))], group=""
    )


def test_a_hospital_whose_calibration_does_not_exist_is_not_in_the_summary_of_it(tmp_path: Path) -> None:
    """Its slope, where the clip of the probability puts it, counted like any other."""
    table = four_hospitals()
    found = score(table, tmp_path)
    assert found["figures"]["calibration_slope"]["reason"].startswith("1 probability is 0 or 1 and was wrong")
    others = score(table[table["site"] != "West"], tmp_path)["site_summary"]["figures"]
    for name, told in found["site_summary"]["figures"].items():
        rows = {row["name"]: row for row in told["sites"]}
        assert set(rows) == {"North", "South", "East", "West"}
        assert sum(row["weight"] or 0 for row in rows.values()) == pytest.approx(1)
        if name in ("calibration_slope", "calibration_intercept"):
            assert (rows["West"]["value"], rows["West"]["weight"]) == (None, None)
            for key in ("value", "low", "high", "prediction_low", "tau2"):
                assert told[key] == pytest.approx(others[name][key], rel=1e-9), (name, key)
        else:
            assert rows["West"]["weight"] > 0
            assert told["value"] != others[name]["value"], name


def test_data_sets_that_each_are_a_hospital_are_left_out_likewise() -> None:
    table = four_hospitals()
    evaluations = [
        evaluate_predictions(
            part, classes=["benign", "malignant"], positive="malignant", threshold=0.5, name=str(site), resamples=50
        )
        for site, part in table.groupby("site", sort=False)
    ]
    found = summarise_evaluations(evaluations)
    assert found is not None
    weights = {name: {row["name"]: row["weight"] for row in told["sites"]} for name, told in found["figures"].items()}
    for name in ("calibration_slope", "calibration_intercept"):
        assert weights[name]["West"] is None
        assert all(weights[name][site] > 0 for site in ("North", "South", "East"))
    assert weights["brier"]["West"] > 0
    assert weights["auroc"]["West"] > 0


def test_every_hospital_enters_however_many_are_shown(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = []
    for number in range(60):
        cancers, others = int(rng.integers(25, 60)), int(rng.integers(40, 110))
        # The small ones, which no list of the largest shows, find less.
        share = 0.9 if cancers + others > 100 else 0.65
        found = int(np.clip(rng.binomial(cancers, share), 1, cancers - 1))
        spared = int(np.clip(rng.binomial(others, 0.7), 1, others - 1))
        rows.append((f"S{number:02d}", cancers, found, others, spared))
    entry = score(table_of(rows), tmp_path)
    assert sum(group["by"] == "site" for group in entry["subgroups"]) == MOST_SHOWN < len(rows)
    assert {site["name"]: site["images"] for site in entry["site_summary"]["sites"]} == {
        name: cancers + others for name, cancers, _, others, _ in rows
    }
    _, cancers, found, others, spared = (np.array(column) for column in zip(*rows, strict=True))
    flagged, called_well = found + others - spared, spared + cancers - found
    for name, part, whole in (
        ("sensitivity", found, cancers),
        ("specificity", spared, others),
        ("ppv", found, flagged),
        ("npv", spared, called_well),
    ):
        told = entry["site_summary"]["figures"][name]
        equal_counts(told, part, whole)
        weights = [row["weight"] for row in told["sites"]]
        assert len(weights) == len(rows)
        assert sum(weights) == pytest.approx(1)


def test_areas_of_hospitals_have_the_variance_of_their_own_patients(tmp_path: Path) -> None:
    table = make_cohort(patients=150, seed=17, quality=1.6)
    entry = score(table, tmp_path, THRESHOLD)
    effects, variances, names = [], [], []
    for site in sorted(set(table["site"])):
        part = images_of(table[table["site"] == site].reset_index(drop=True))
        if len(part.y) >= 20 and part.y.any():
            over, under = placements(part.y, part.p)
            area = over.mean()
            effects.append(logit(area))
            variances.append(obuchowski_variance(over, under, part.y, part.patient) / (area * (1 - area)) ** 2)
            names.append(site)
    told = entry["site_summary"]["figures"]["auroc"]
    equal_summary(told, np.array(effects), np.array(variances))
    assert [row["name"] for row in told["sites"] if row["weight"] is not None] == names


def test_copies_of_images_of_the_same_patients_say_no_more(tmp_path: Path) -> None:
    single = make_cohort(patients=400, seed=19, quality=1.4).drop_duplicates("patient")
    single = single[(single["patient"] != "") & (single["site"] != "Mill")].assign(group="")
    copies = [single.assign(image=f"{number}-" + single["image"]) for number in range(3)]
    once, thrice = (
        score(table, tmp_path, THRESHOLD)["site_summary"] for table in (single, pd.concat(copies, ignore_index=True))
    )
    for name in ("auroc", "sensitivity", "specificity", "ppv", "npv", "brier", "calibration_slope"):
        one, other = once["figures"][name], thrice["figures"][name]
        for key in ("value", "low", "high", "tau2", "q"):
            assert other[key] == pytest.approx(one[key], rel=1e-4, abs=1e-6), (name, key)
