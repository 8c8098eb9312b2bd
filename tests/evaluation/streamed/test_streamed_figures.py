"""Tables read in passes have the figures of those in memory, to rounding, and intervals that are near theirs.

Mutants that must die: ties divided between ranges, placements of the wrong class, a patient divided between partitions,
an identifier at two sites taken for one patient, groups that do not tie, bins that divide equal scores, the product of
both classes' placements left out, the recalibration of the first piece, weights that depend on the order of the rows.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cohort import THRESHOLD, make_cohort

from medsharp.evaluation import read_predictions
from medsharp.evaluation.answers import has_scores_only
from medsharp.evaluation.own_thresholds import evaluate_at_own_thresholds
from medsharp.evaluation.scores import evaluate_scores
from medsharp.evaluation.streamed import evaluate_streamed

ABSENT = {
    "partial_auroc",
    "sensitivity_at_specificity_90",
    "sensitivity_at_specificity_95",
    "specificity_at_sensitivity_90",
    "specificity_at_sensitivity_95",
    "aurc",
    "ici",
    "e50",
    "e90",
}
"""Figures that need every image in memory."""


def in_memory(path: Path, classes: list[str], threshold: float = THRESHOLD, **options: Any) -> dict[str, Any]:
    table = read_predictions(path, positive="malignant", scores=True)
    given: dict[str, Any] = {"classes": classes, "positive": "malignant", "name": path.stem, "resamples": 1000}
    if has_scores_only(table):
        return evaluate_scores(table, threshold=threshold, **given, **options).content
    return evaluate_at_own_thresholds(table.assign(threshold=threshold), **given, **options).content


def streamed(path: Path, folder: Path, **options: Any) -> dict[str, Any]:
    given = {"threshold": THRESHOLD, "resamples": 1000, "rows": 64, "piece": 37}
    return evaluate_streamed(path, folder=folder, positive="malignant", **(given | options)).content


def written(table: pd.DataFrame, path: Path, parts: int) -> Path:
    """Write a table as a folder of Parquet files of unequal length."""
    pytest.importorskip("pyarrow")
    path.mkdir()
    borders = np.unique(np.r_[0, (len(table) * np.linspace(0, 1, parts + 1)[1:-1] ** 1.5).astype(int), len(table)])
    for number, (first, end) in enumerate(itertools.pairwise(borders)):
        table.iloc[first:end].to_parquet(path / f"part-{number:05d}.parquet", index=False)
    return path


def assert_same(one: dict[str, Any], whole: dict[str, Any]) -> None:
    """The values, counts and curves of a streamed table are those of one in memory."""
    assert set(whole["figures"]) - set(one["figures"]) <= ABSENT
    for key, figure in one["figures"].items():
        expected = whole["figures"][key]
        assert figure["value"] == pytest.approx(expected["value"], rel=1e-12, abs=1e-12), key
        assert figure["n"] == expected["n"], key
        assert figure.get("patients") == expected.get("patients"), key
    counts = dict(one["counts"])
    counts.pop("status")
    assert counts | {"submitted_patients": None} == whole["counts"] | {"submitted_patients": None}
    assert one["operating_point"] == whole["operating_point"]
    for method, found in whole["auroc_intervals"].items():
        assert one["auroc_intervals"][method] == pytest.approx(found, rel=1e-12, abs=1e-12), method
    assert one["confusion"] == whole["confusion"]
    for part in ("positive", "negative"):
        assert one["curves"]["histogram"][part] == whole["curves"]["histogram"][part]
    if "reliability" not in whole["curves"]:
        assert "reliability" not in one["curves"]
        return
    bins = zip(one["curves"]["reliability"]["bins"], whole["curves"]["reliability"]["bins"], strict=True)
    for point, expected in bins:
        assert point == pytest.approx(expected, abs=1e-12)
    logistic, expected = (content["curves"]["reliability"]["curve"] for content in (one, whole))
    for key in ("probability", "observed"):
        np.testing.assert_allclose(logistic[key], expected[key], atol=1e-9)
    for content in (one, whole):
        content["gain"] = content["curves"]["net_benefit"]["gain"]["value"]
    np.testing.assert_allclose(one["gain"], whole["gain"], atol=1e-12)


@pytest.fixture(scope="module")
def cohort() -> pd.DataFrame:
    """Unsorted rows of clustered patients, two alike at two sites, some without one or a site, one group of two."""
    table = make_cohort(240)
    rng = np.random.default_rng(4)
    table["status"] = np.where(rng.random(len(table)) < 0.1, "cautioned", "answered")
    table.loc[[3, 77, 300], "status"] = "refused"
    table.loc[3, ["p_benign", "p_malignant"]] = np.nan
    table.loc[[11, 200], "status"] = "failed"
    table["exclude"] = ""
    table.loc[[40, 41, 260], "exclude"] = ["doppler", "1", "doppler"]
    twins = table.index[(table["patient"] == "P017")]
    table.loc[twins[0], "site"] = ""  # of any of its sites, so that those are one patient
    table["sha256"] = [f"{n:064x}" for n in range(len(table))]
    table.loc[[50, 400], "sha256"] = "e" * 64
    return table


def test_a_table_in_parts_has_the_figures_of_one_in_memory(cohort: pd.DataFrame, tmp_path: Path) -> None:
    path = written(cohort, tmp_path / "a.parquet", 5)
    one = streamed(path, tmp_path, prevalence=0.08)
    whole = in_memory(path, ["benign", "malignant"], prevalence=0.08)
    assert_same(one, whole)
    assert one["figures"]["ece"]["expected_if_calibrated"]["mean"] == pytest.approx(
        whole["figures"]["ece"]["expected_if_calibrated"]["mean"], rel=1e-12
    )
    fates = {"answered", "cautioned", "refused", "failed", "excluded"}
    status = one["counts"]["status"]
    assert (set(status), sum(status.values())) == (fates, len(cohort))
    assert (status["refused"], status["failed"], status["excluded"]) == (3, 2, 3)
    assert status["answered"] + status["cautioned"] == one["counts"]["images"]


def test_a_keyed_hash_at_two_sites_is_one_patient_on_either_way(tmp_path: Path) -> None:
    table = make_cohort(60)
    keyed = {name: f"P{number:016x}" for number, name in enumerate(table["patient"].unique(), start=1)}
    table["patient"] = table["patient"].map(keyed)
    table["site"] = np.where(np.arange(len(table)) % 2, "A", "B")
    path = tmp_path / "a.csv"
    table.to_csv(path, index=False)
    counts = [part["counts"] for part in (streamed(path, tmp_path), in_memory(path, ["benign", "malignant"]))]
    assert counts[0]["patients"] == counts[1]["patients"] == len(keyed)


def test_the_cohort_has_what_makes_patients_hard_to_count(cohort: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    cohort.to_csv(path, index=False)
    counts = streamed(path, tmp_path)["counts"]
    assert counts["clusters"] < counts["patients"] + counts["images_without_patient"]
    assert counts["clusters_of_several_labels"] > 5


def test_intervals_are_near_those_of_the_multinomial_bootstrap(cohort: pd.DataFrame, tmp_path: Path) -> None:
    path = written(cohort, tmp_path / "a.parquet", 3)
    one, whole = (
        part["figures"] for part in (streamed(path, tmp_path, resamples=4000), in_memory(path, ["benign", "malignant"]))
    )
    near = 0
    for key, figure in one.items():
        expected = whole[key]
        if figure["low"] is None:
            assert expected["low"] is None or key == "auprc"
            continue
        width = expected["high"] - expected["low"]
        # Obuchowski's limits are no percentiles.
        share = 0.2 if key == "auroc" else 0.12
        assert abs(figure["low"] - expected["low"]) < share * width, key
        assert abs(figure["high"] - expected["high"]) < share * width, key
        near += 1
    assert near >= 18
    assert one["sensitivity"]["method"] == "Poisson patient bootstrap, percentile"
    assert one["auroc"]["method"].startswith("Obuchowski")


def test_intervals_do_not_depend_on_the_order_of_rows_nor_on_parts(cohort: pd.DataFrame, tmp_path: Path) -> None:
    path, turned = tmp_path / "a.csv", written(cohort.iloc[::-1], tmp_path / "b.parquet", 4)
    cohort.to_csv(path, index=False)
    one, other = streamed(path, tmp_path)["figures"], streamed(turned, tmp_path, rows=200, piece=64)["figures"]
    for key, figure in one.items():
        numbers = {name: figure[name] for name in ("value", "low", "high") if figure[name] is not None}
        assert {name: other[key][name] for name in numbers} == pytest.approx(numbers, rel=1e-9, abs=1e-12), key
    third = streamed(path, tmp_path, seed=1)["figures"]["sensitivity"]
    assert third["value"] == one["sensitivity"]["value"]
    assert third["low"] != one["sensitivity"]["low"]


@pytest.mark.parametrize("rows", [16, 50, 1000])
def test_scores_and_patients_of_more_rows_than_are_held(tmp_path: Path, rows: int) -> None:
    rng = np.random.default_rng(9)
    who = np.where(rng.random(400) < 0.35, 0, rng.integers(1, 60, 400))
    labels = rng.random(400) < np.where(who % 3 == 0, 0.5, 0.2)
    scores = np.where(labels, rng.choice([0.2, 0.5, 0.8], 400), rng.choice([0.2, 0.5, 0.7], 400, p=[0.7, 0.25, 0.05]))
    table = pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(400)],
            "patient": who,
            "label": np.where(labels, "malignant", "benign"),
            "p_benign": np.round(1 - scores, 4),
            "p_malignant": scores,
        }
    )
    path = tmp_path / "a.csv"
    table.to_csv(path, index=False)
    assert_same(
        streamed(path, tmp_path, rows=rows, piece=29, threshold=0.5), in_memory(path, ["benign", "malignant"], 0.5)
    )


@pytest.mark.parametrize("shape", ["no patient", "groups alone", "files alone"])
def test_tables_without_patients(cohort: pd.DataFrame, tmp_path: Path, shape: str) -> None:
    table = cohort.drop(columns=["patient", "group", "sha256"])
    if shape != "no patient":
        column = {"groups alone": "group", "files alone": "sha256"}[shape]
        numbers = np.random.default_rng(2).integers(150, size=len(table))
        table[column] = [f"g{n}" if n > 40 else "" for n in numbers]
    path = written(table, tmp_path / "a.parquet", 4)
    assert_same(streamed(path, tmp_path), in_memory(path, ["benign", "malignant"]))


def test_groups_tie_images_without_a_patient_to_patients(cohort: pd.DataFrame, tmp_path: Path) -> None:
    table = cohort.copy()
    rng = np.random.default_rng(3)
    table.loc[rng.random(len(table)) < 0.5, "patient"] = ""
    table["group"] = [f"g{n}" if n < 90 else "" for n in rng.integers(300, size=len(table))]
    path = tmp_path / "a.csv"
    table.to_csv(path, index=False)
    assert_same(streamed(path, tmp_path), in_memory(path, ["benign", "malignant"]))


@pytest.mark.parametrize("shape", ["logits", "logit", "probability", "one of two"])
def test_shapes_of_answers(cohort: pd.DataFrame, tmp_path: Path, shape: str) -> None:
    table = cohort[cohort["status"] != "refused"].copy()
    odds = np.log(table["p_malignant"] / table["p_benign"]).round(6)
    plain = table.drop(columns=["p_benign", "p_malignant"])
    made = {
        "logits": {"logit_benign": 0.3 - odds / 2, "logit_malignant": 0.3 + odds / 2},
        "logit": {"logit": odds},
        "probability": {"Probability": table["p_malignant"]},
        "one of two": {"p_malignant": table["p_malignant"]},
    }
    path = written(plain.assign(**made[shape]), tmp_path / "a.parquet", 3)
    assert_same(streamed(path, tmp_path), in_memory(path, ["benign", "malignant"]))


def test_scores_that_are_no_probabilities_are_ranked_alone(cohort: pd.DataFrame, tmp_path: Path) -> None:
    table = cohort.assign(score=(cohort["p_malignant"] * 40 - 7).round(2)).drop(columns=["p_benign", "p_malignant"])
    path = written(table, tmp_path / "a.parquet", 3)
    one, whole = streamed(path, tmp_path, threshold=9.0), in_memory(path, ["benign", "malignant"], 9.0)
    assert one["figures"]["auroc"]["value"] == pytest.approx(whole["figures"]["auroc"]["value"], rel=1e-12)
    assert one["operating_point"] == whole["operating_point"]
    assert one["auroc_intervals"]["obuchowski"] == pytest.approx(whole["auroc_intervals"]["obuchowski"], rel=1e-12)
    assert one["curves"]["histogram"]["positive"] == whole["curves"]["histogram"]["positive"]
    assert one["figures"]["sensitivity"]["value"] == whole["figures"]["sensitivity"]["value"]
    assert "brier" not in one["figures"]
    assert one["figures"]["net_benefit_gain_at_threshold"]["reason"] == "the table has scores, no probabilities"
    assert "reliability" not in one["curves"]


def test_three_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(500, 3)) * [1, 1.4, 0.8]
    labels = (logits + rng.gumbel(size=(500, 3))).argmax(axis=1)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = np.array(["benign", "malignant", "normal"])
    table = pd.DataFrame({"image": [f"{n}.png" for n in range(500)], "patient": rng.integers(120, size=500)})
    table["label"] = names[labels]
    for place, name in enumerate(names):
        table[f"p_{name}"] = shares[:, place]
    path = written(table, tmp_path / "a.parquet", 3)
    whole = in_memory(path, list(names))
    one = streamed(path, tmp_path)
    assert sum(sum(row.values()) for row in one["confusion"].values()) == 500
    assert_same(one, whole)


@pytest.mark.parametrize("perfect", [True, False])
def test_closed_forms_at_the_ends(tmp_path: Path, perfect: bool) -> None:
    labels = np.arange(90) % 3 == 0
    scores = np.where(labels == perfect, 0.9, 0.1)
    table = pd.DataFrame({"image": [f"{n}.png" for n in range(90)], "patient": np.arange(90) // 2})
    table = table.assign(label=np.where(labels, "malignant", "benign"), p_benign=1 - scores, p_malignant=scores)
    path = tmp_path / "a.csv"
    table.to_csv(path, index=False)
    one, whole = streamed(path, tmp_path)["figures"], in_memory(path, ["benign", "malignant"])["figures"]
    for key in ("auroc", "sensitivity", "specificity", "balanced_accuracy"):
        for part in ("value", "low", "high", "method"):
            assert one[key][part] == whole[key][part], key
    for key in ("calibration_slope", "calibration_intercept"):
        assert one[key]["value"] == pytest.approx(whole[key]["value"])
        assert (one[key]["low"] is None) == (whole[key]["low"] is None)


def test_every_probability_the_same(tmp_path: Path) -> None:
    table = pd.DataFrame({"image": [f"{n}.png" for n in range(60)], "patient": np.arange(60) // 2})
    table = table.assign(label=np.where(np.arange(60) % 4 == 0, "malignant", "benign"), p_benign=0.7, p_malignant=0.3)
    path = tmp_path / "a.csv"
    table.to_csv(path, index=False)
    one, whole = streamed(path, tmp_path, rows=16), in_memory(path, ["benign", "malignant"])
    assert {key: figure["value"] for key, figure in one["figures"].items()} == pytest.approx(
        {key: whole["figures"][key]["value"] for key in one["figures"]}
    )
    assert one["figures"]["auroc"]["reason"] == whole["figures"]["auroc"]["reason"]
    assert [note for note in whole["notes"] if note not in one["notes"]] == []


def test_one_patient_has_no_intervals(tmp_path: Path) -> None:
    table = pd.DataFrame({"image": [f"{n}.png" for n in range(40)], "patient": "one"})
    scores = np.linspace(0.05, 0.95, 40)
    table = table.assign(
        label=np.where(np.arange(40) % 3 == 0, "malignant", "benign"), p_benign=1 - scores, p_malignant=scores
    )
    path = tmp_path / "a.csv"
    table.to_csv(path, index=False)
    figures = streamed(path, tmp_path)["figures"]
    assert all(figure["low"] is None for figure in figures.values())
    assert figures["auroc"]["reason"] == "one patient only: no interval can be given"
