"""One reader beside the model: values and limits, against R and against brute force written apart.

Mutants that must die: the scale of the reader turned, model and reader swapped in a difference, 4A ranked behind 4C,
unpaired instead of paired, images instead of patients, sensitivity and specificity exchanged at the same rate.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medsharp.evaluation import evaluate_predictions

RANK = {"2": 2, "3": 3, "4A": 4, "4B": 5, "4C": 6, "5": 7}
THRESHOLD = 0.35


def evaluated(table: pd.DataFrame, **options: Any) -> dict[str, Any]:
    settings = {"threshold": THRESHOLD, "name": "here", "resamples": 300}
    found = evaluate_predictions(
        table, classes=["benign", "malignant"], positive="malignant", **{**settings, **options}
    )
    return found.as_dict()


def predictions(label: list[int], model: list[float], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(len(label))],
            "label": np.where(np.array(label) == 1, "malignant", "benign"),
            "p_benign": 1 - np.array(model),
            "p_malignant": model,
            **columns,
        }
    )


def area(labels: np.ndarray, scores: np.ndarray) -> float:
    """The share of pairs won, ties half."""
    pairs = scores[labels][:, None] - scores[~labels][None, :]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


def test_birads_of_busbra_has_the_area_that_r_gives(recorded: dict[str, Any]) -> None:
    counts = recorded["birads"]
    label = [0] * sum(counts["negative"]) + [1] * sum(counts["positive"])
    birads = np.repeat(counts["categories"] * 2, counts["negative"] + counts["positive"])
    rng = np.random.default_rng(0)
    table = predictions(label, list(np.round(rng.random(len(label)), 3)), birads=birads)
    reader = evaluated(table, resamples=100)["readers"]["readers"][0]
    assert reader["auroc"]["value"] == pytest.approx(counts["auroc"], abs=1e-12)
    # Images without patients are patients each, so that Obuchowski's variance is DeLong's; limits on the logit scale.
    error = counts["delong_variance"] ** 0.5 / (counts["auroc"] * (1 - counts["auroc"]))
    odds = np.log(counts["auroc"] / (1 - counts["auroc"])) + 1.959963984540054 * error * np.array([-1, 1])
    assert (reader["auroc"]["low"], reader["auroc"]["high"]) == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-7)
    assert [row["from"] for row in reader["cutoffs"]] == ["3", "4", "5"]
    four = reader["cutoffs"][1]
    assert four["sensitivity"]["value"] == pytest.approx(566 / 607)
    assert four["specificity"]["value"] == pytest.approx(984 / 1268)


@pytest.mark.skipif("MEDSHARP_DATA" not in os.environ, reason="BUS-BRA is not here")
def test_the_recorded_counts_are_those_of_the_table(recorded: dict[str, Any]) -> None:
    file = Path(os.environ["MEDSHARP_DATA"]) / "BUSBRA" / "bus_data.csv"
    if not file.is_file():
        pytest.skip("BUS-BRA is not here")
    table = pd.read_csv(file, dtype=str)
    counts = pd.crosstab(table["Pathology"], table["BIRADS"])
    assert counts.loc["benign"].to_list() == recorded["birads"]["negative"]
    assert counts.loc["malignant"].to_list() == recorded["birads"]["positive"]


def test_the_paired_difference_is_that_of_r(recorded: dict[str, Any]) -> None:
    known = recorded["paired"]
    table = predictions(known["label"], known["model"], reader_1=known["reader"])
    reader = evaluated(table)["readers"]["readers"][0]
    assert reader["name"] == "reader 1"
    assert reader["model_auroc"]["value"] == pytest.approx(known["model_auroc"], abs=1e-12)
    assert reader["auroc"]["value"] == pytest.approx(known["reader_auroc"], abs=1e-12)
    difference = reader["auroc_difference"]
    assert difference["value"] == pytest.approx(known["model_auroc"] - known["reader_auroc"], abs=1e-12)
    assert (difference["low"], difference["high"]) == pytest.approx((known["low"], known["high"]), abs=1e-9)
    assert difference["p"] == pytest.approx(known["p"], abs=1e-9)
    assert abs(known["p"] - known["unpaired_p"]) > 0.1, "the pairs matter here"


def test_letters_rank_a_before_b_before_c(study: Callable[..., pd.DataFrame]) -> None:
    table = study(readers=1)
    reader = evaluated(table)["readers"]["readers"][0]
    labels = (table["label"] == "malignant").to_numpy()
    ratings = table["birads"].map(RANK).to_numpy(dtype=float)
    assert reader["auroc"]["value"] == pytest.approx(area(labels, ratings), abs=1e-12)
    assert reader["auroc"]["value"] > 0.7, "higher is more suspicious"
    assert [row["from"] for row in reader["cutoffs"]] == ["3", "4A", "4B", "4C", "5"]
    assert [row["category"] for row in reader["categories"]] == list(RANK)
    for row in reader["cutoffs"]:
        called = ratings >= RANK[row["from"]]
        assert row["sensitivity"]["value"] == pytest.approx(called[labels].mean())
        assert row["specificity"]["value"] == pytest.approx((~called[~labels]).mean())
        assert (row["sensitivity"]["n"], row["specificity"]["n"]) == (labels.sum(), (~labels).sum())


def brute(table: pd.DataFrame, category: str) -> dict[str, float]:
    """Rates of both, written apart from the product: a loop over every threshold."""
    labels = (table["label"] == "malignant").to_numpy()
    scores = table["p_malignant"].to_numpy(dtype=float)
    called = table["birads"].map(RANK).to_numpy(dtype=float) >= RANK[category]
    sensitivity, specificity = called[labels].mean(), (~called[~labels]).mean()
    cuts = [*np.unique(scores), 2.0]
    points = [((scores[labels] >= cut).mean(), (scores[~labels] < cut).mean()) for cut in cuts]
    matched = max(spec for sens, spec in points if sens >= sensitivity - 1e-12)
    found = max(sens for sens, spec in points if spec >= specificity - 1e-12)
    return {
        "sensitivity_difference": (scores[labels] >= THRESHOLD).mean() - sensitivity,
        "specificity_difference": (scores[~labels] < THRESHOLD).mean() - specificity,
        "model_specificity_at_same_sensitivity": matched,
        "specificity_difference_at_same_sensitivity": matched - specificity,
        "model_sensitivity_at_same_specificity": found,
        "sensitivity_difference_at_same_specificity": found - sensitivity,
    }


def test_rates_and_their_limits_are_those_of_brute_force(study: Callable[..., pd.DataFrame]) -> None:
    table = study(patients=90, readers=1)
    rows = evaluated(table, resamples=2000)["readers"]["readers"][0]["cutoffs"]
    row = next(row for row in rows if row["from"] == "4A")
    for key, value in brute(table, "4A").items():
        assert row[key]["value"] == pytest.approx(value, abs=1e-12), key
    rng = np.random.default_rng(5)
    patients = table["patient"].unique()
    parts = {patient: table[table["patient"] == patient] for patient in patients}
    drawn = pd.DataFrame(
        brute(pd.concat([parts[patient] for patient in rng.choice(patients, len(patients))]), "4A") for _ in range(300)
    )
    for key in drawn:
        low, high = np.percentile(drawn[key], [2.5, 97.5])
        tolerance = 0.2 * (high - low) + 1e-9
        assert row[key]["low"] == pytest.approx(low, abs=tolerance), key
        assert row[key]["high"] == pytest.approx(high, abs=tolerance), key


def test_patients_are_the_clusters_and_pairs_are_kept(study: Callable[..., pd.DataFrame]) -> None:
    table = study(readers=1)
    reader = evaluated(table)["readers"]["readers"][0]
    alone = evaluated(table.assign(patient=table["image"]))["readers"]["readers"][0]

    def width(figure: dict[str, Any]) -> float:
        return figure["high"] - figure["low"]

    assert width(reader["auroc"]) > 1.1 * width(alone["auroc"])
    unpaired = np.hypot(width(reader["auroc"]), width(reader["model_auroc"]))
    assert width(reader["auroc_difference"]) < 0.85 * unpaired
    doubled = pd.concat([table, table.assign(image="copy of " + table["image"])], ignore_index=True)
    copied = evaluated(doubled)["readers"]["readers"][0]
    assert copied["auroc_difference"]["p"] == pytest.approx(reader["auroc_difference"]["p"], rel=0.02)


def test_only_images_that_the_reader_judged_are_compared(study: Callable[..., pd.DataFrame]) -> None:
    table = study(readers=1)
    kept = np.arange(len(table)) % 3 != 0
    partly = table.assign(birads=np.where(kept, table["birads"], ""))
    reader = evaluated(partly)["readers"]["readers"][0]
    whole = evaluated(table[kept])["readers"]["readers"][0]
    assert reader["images"] == kept.sum()
    assert reader["left_out"] == {"not read": int((~kept).sum())}
    for key in ("auroc", "model_auroc", "auroc_difference"):
        assert reader[key] == pytest.approx(whole[key])


def test_no_column_no_comparison(study: Callable[..., pd.DataFrame]) -> None:
    assert evaluated(study(readers=0))["readers"] is None
