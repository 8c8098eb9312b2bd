"""Figures by patient and by lesion: labels, scores and limits against brute force, through `medsharp score`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint
from typer.testing import CliRunner

from medsharp.cli import app

THRESHOLD = 0.4


def images(patients: int = 150, seed: int = 4) -> pd.DataFrame:
    """Patients of one to five images, some of both kinds, with one to two lesions; some images name no patient."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.choice([1, 2, 5], patients, p=[0.5, 0.3, 0.2]))
    ill = (rng.random(patients) < 0.35)[who]
    y = np.where(rng.random(len(who)) < 0.1, ~ill, ill)
    odds = 1.6 * y - 0.8 + rng.normal(size=patients)[who] + 0.7 * rng.normal(size=len(who))
    p = np.round(1 / (1 + np.exp(-odds)), 3)
    table = pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(len(who))],
            "patient": [f"P{number}" for number in who],
            "lesion": rng.choice(["1", "2"], len(who)),
            "label": np.where(y, "malignant", "benign"),
            "p_benign": 1 - p,
            "p_malignant": p,
        }
    )
    table.loc[[3, 40], "patient"] = ""
    table.loc[[7, 8, 9], "lesion"] = ""
    return table.sample(frac=1, random_state=1).reset_index(drop=True)


def scored(table: pd.DataFrame, folder: Path, *options: str) -> dict[str, Any]:
    table.to_csv(folder / "table.csv", index=False)
    arguments = ["score", folder / "table.csv", "--threshold", THRESHOLD, "--out", folder / "out", *options]
    result = CliRunner().invoke(app, [str(argument) for argument in [*arguments, "--format", "json,csv,md,html"]])
    assert result.exit_code == 0, result.output
    (entry,) = json.loads((folder / "out" / "evaluation.json").read_text())["datasets"]
    return dict(entry)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return images()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("by_patient")


@pytest.fixture(scope="module")
def entry(table: pd.DataFrame, folder: Path) -> dict[str, Any]:
    return scored(table, folder)


def united(table: pd.DataFrame, keys: list[str], how: str) -> tuple[np.ndarray, np.ndarray]:
    """Label and score of each patient or lesion."""
    kept = table[(table[keys] != "").all(axis=1)]
    groups = kept.assign(y=kept["label"] == "malignant").groupby(keys)
    return groups["y"].any().to_numpy(), groups["p_malignant"].agg(how).to_numpy()


@pytest.mark.parametrize(("rule", "how"), [("mean", "mean"), ("maximum", "max")])
def test_patients_have_the_mean_or_the_highest_score_and_ordinary_limits(
    entry: dict[str, Any], table: pd.DataFrame, rule: str, how: str
) -> None:
    y, p = united(table, ["patient"], how)
    found = entry["by_patient"]["rules"][rule]
    area = roc_auc_score(y, p)
    assert found["auroc"]["value"] == pytest.approx(area)
    wins = (p[y][:, None] > p[~y]) + 0.5 * (p[y][:, None] == p[~y])
    variance = wins.mean(axis=1).var(ddof=1) / y.sum() + wins.mean(axis=0).var(ddof=1) / (~y).sum()
    half = 1.959964 * np.sqrt(variance) / (area * (1 - area))
    limits = 1 / (1 + np.exp(-(np.log(area / (1 - area)) + np.array([-half, half]))))
    assert (found["auroc"]["low"], found["auroc"]["high"]) == pytest.approx(tuple(limits), abs=1e-6)
    assert found["auroc"]["n"] == len(y)
    for name, among, right in (("sensitivity", y, p >= THRESHOLD), ("specificity", ~y, p < THRESHOLD)):
        share, count = right[among].mean(), int(among.sum())
        assert found[name]["value"] == pytest.approx(share)
        limits = proportion_confint(right[among].sum(), count, method="wilson")
        assert (found[name]["low"], found[name]["high"]) == pytest.approx(limits)
        assert found[name]["n"] == count
    assert found["oe_ratio"]["value"] == pytest.approx(y.sum() / p.sum())
    assert found["brier"]["value"] == pytest.approx(((p - y) ** 2).mean())
    assert entry["figures"]["auroc"]["value"] != pytest.approx(area, abs=1e-3)


def test_a_patient_is_called_where_any_image_is(entry: dict[str, Any], table: pd.DataFrame) -> None:
    kept = table[table["patient"] != ""]
    called = (kept["p_malignant"] >= THRESHOLD).groupby(kept["patient"]).any()
    ill = (kept["label"] == "malignant").groupby(kept["patient"]).any()
    found = entry["by_patient"]["rules"]["any"]
    assert found["sensitivity"]["value"] == pytest.approx(called[ill].mean())
    assert found["specificity"]["value"] == pytest.approx((~called[~ill]).mean())
    assert set(found) == {"sensitivity", "specificity"}


def test_patients_of_both_kinds_and_images_without_a_patient_are_counted(
    entry: dict[str, Any], table: pd.DataFrame, folder: Path
) -> None:
    found = entry["by_patient"]
    kept = table[table["patient"] != ""]
    kinds = kept.groupby("patient")["label"].nunique()
    assert (found["units"], found["of_several_labels"], found["images_left_out"]) == (len(kinds), (kinds > 1).sum(), 2)
    assert found["of_several_labels"] > 5
    assert found["with_several_images"] == (kept["patient"].value_counts() > 1).sum()
    assert found["positives"] == (kept["label"] == "malignant").groupby(kept["patient"]).any().sum()
    text = (folder / "out" / "report.md").read_text()
    sentence = f"{found['of_several_labels']} of them of both kinds. Left out: 2 images that name no patient."
    assert sentence in text
    assert sentence in (folder / "out" / "report.html").read_text()


def test_lesions_are_those_of_a_patient_who_is_resampled_whole(entry: dict[str, Any], table: pd.DataFrame) -> None:
    y, p = united(table, ["patient", "lesion"], "mean")
    found = entry["by_lesion"]
    assert (found["units"], found["positives"]) == (len(y), y.sum())
    assert found["units"] > entry["by_patient"]["units"] == found["clusters"] + len(lost(table))
    rule = found["rules"]["mean"]
    assert rule["auroc"]["value"] == pytest.approx(roc_auc_score(y, p))
    assert rule["auroc"]["method"] == "Obuchowski, clusters of patients, on the logit scale"
    assert rule["sensitivity"]["method"] == "patient bootstrap, percentile"
    assert rule["sensitivity"]["patients"] < rule["sensitivity"]["n"]


def lost(table: pd.DataFrame) -> set[str]:
    """Patients none of whose images names a lesion."""
    return set(table["patient"]) - set(table.loc[table["lesion"] != "", "patient"]) - {""}


def test_csv_has_the_figures_by_patient_and_by_lesion(entry: dict[str, Any], folder: Path) -> None:
    with (folder / "out" / "figures.csv").open(newline="") as stream:
        rows = {(row["by"], row["group"], row["figure"]): row for row in csv.DictReader(stream)}
    for unit in ("patient", "lesion"):
        for rule, figures in entry[f"by_{unit}"]["rules"].items():
            for name, figure in figures.items():
                row = rows[unit, rule, name]
                assert (float(row["value"]), int(row["images"])) == (figure["value"], figure["n"])


def test_one_image_a_patient_is_told_once(tmp_path: Path) -> None:
    table = images().drop_duplicates("patient").drop(columns="lesion")
    entry = scored(table, tmp_path)
    assert entry["by_patient"] is None
    assert entry["by_lesion"] is None
    assert "# By patient" not in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(("rule", "how"), [("mean", "mean"), ("maximum", "max")])
def test_scores_are_taken_as_they_are_and_not_by_rank(tmp_path: Path, table: pd.DataFrame, rule: str, how: str) -> None:
    # Many patients have negative log odds alone, whose highest is none the less below 0.
    odds = np.log(table["p_malignant"] / table["p_benign"])
    ranked = table.drop(columns=["p_benign", "p_malignant"]).assign(score=odds)
    path = tmp_path / "scores.csv"
    ranked.to_csv(path, index=False)
    arguments = ["score", str(path), "--score", "score", "--threshold", "-0.3", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    (entry,) = json.loads((tmp_path / "out" / "evaluation.json").read_text())["datasets"]
    y, scores = united(ranked.assign(p_malignant=odds), ["patient"], how)
    found = entry["by_patient"]["rules"][rule]
    assert found["auroc"]["value"] == pytest.approx(roc_auc_score(y, scores))
    assert found["specificity"]["value"] == pytest.approx((scores[~y] < -0.3).mean())
    assert set(found) == {"auroc", "sensitivity", "specificity"}
