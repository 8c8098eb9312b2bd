"""Several readers: the joints from the table through the command to the report."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.evaluation.readers import CAVEATS

RANK = {"2": 2, "3": 3, "4A": 4, "4B": 5, "4C": 6, "5": 7}


@pytest.fixture(scope="module")
def scored(study: Callable[..., pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("scored")
    table = study()
    table.loc[:4, "birads_b"] = ["0", "", "2/3", "6", ""]
    table.to_csv(folder / "reads.csv", index=False)
    arguments = ["--threshold", "0.35", "--resamples", "200", "--format", "html,md,json,csv", "--out", folder / "out"]
    result = CliRunner().invoke(app, ["score", str(folder / "reads.csv"), *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert "Against the mean of 3 readers" in result.output
    return folder / "out", table


def brute_covariance(labels: np.ndarray, scores: np.ndarray, who: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas and Obuchowski's covariance by loops over pairs and patients."""
    count = len(scores)
    wins = [(row[labels][:, None] > row[~labels]) + 0.5 * (row[labels][:, None] == row[~labels]) for row in scores]
    areas = np.array([win.mean() for win in wins])
    patients = np.unique(who)
    over = np.array([[win.mean(axis=1)[who[labels] == p].sum() for p in patients] for win in wins])
    under = np.array([[win.mean(axis=0)[who[~labels] == p].sum() for p in patients] for win in wins])
    of = np.array([[(who[labels] == p).sum(), (who[~labels] == p).sum()] for p in patients]).T
    over, under = over - areas[:, None] * of[0], under - areas[:, None] * of[1]
    positives, negatives = labels.sum(), (~labels).sum()
    found = np.empty((count, count))
    for j in range(count):
        for k in range(count):
            some, others, both = (of[0] > 0).sum(), (of[1] > 0).sum(), len(patients)
            found[j, k] = (
                some / (some - 1) * (over[j] @ over[k]) / positives**2
                + others / (others - 1) * (under[j] @ under[k]) / negatives**2
                + both / (both - 1) * (over[j] @ under[k] + over[k] @ under[j]) / (positives * negatives)
            )
    return areas, found


def test_the_mean_of_readers_is_that_of_brute_force(scored: tuple[Path, pd.DataFrame]) -> None:
    out, table = scored
    found = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]["readers"]
    mrmc = found["mrmc"]
    common = table.iloc[5:]
    assert (mrmc["images"], mrmc["left_out"]) == (len(common), 5)
    assert mrmc["readers"] == ["BI-RADS", "BI-RADS, b", "reader c"]
    ratings = [common[name].map(RANK).to_numpy(dtype=float) for name in ("birads", "birads_b", "reader_c")]
    scores = np.stack([common["p_malignant"].to_numpy(dtype=float), *ratings])
    labels, who = (common["label"] == "malignant").to_numpy(), common["patient"].to_numpy()
    areas, covariance = brute_covariance(labels, scores, who)
    assert list(mrmc["areas"].values()) == pytest.approx(areas[1:], abs=1e-12)
    differences = areas[0] - areas[1:]
    assert differences.mean() < -0.01 or differences.mean() > 0.01, "a sign can be told"
    covered = np.mean(
        [
            covariance[0, 0] - covariance[0, j] - covariance[0, k] + covariance[j, k]
            for j in (1, 2, 3)
            for k in (1, 2, 3)
            if j != k
        ]
    )
    square = np.var(differences, ddof=1)
    total = square + max(3 * covered, 0)
    freedom = total**2 / (square**2 / 2)
    half = stats.t.ppf(0.975, freedom) * np.sqrt(total / 3)
    figure = mrmc["auroc_difference"]
    assert figure["value"] == pytest.approx(differences.mean(), abs=1e-12)
    assert (figure["low"], figure["high"]) == pytest.approx(
        (differences.mean() - half, differences.mean() + half), abs=1e-9
    )
    assert figure["p"] == pytest.approx(2 * stats.t.sf(abs(differences.mean()) / np.sqrt(total / 3), freedom))
    contrast = np.array([1, -1 / 3, -1 / 3, -1 / 3])
    error = np.sqrt(contrast @ covariance @ contrast)
    these = mrmc["auroc_difference_these_readers"]
    assert these["high"] - these["value"] == pytest.approx(1.959963984540054 * error)
    assert these["p"] == pytest.approx(2 * stats.norm.sf(abs(differences.mean()) / error))
    covered = (covariance[1:, 1:].sum() - np.trace(covariance[1:, 1:])) / 6
    square = np.var(areas[1:], ddof=1)
    total = square + max(3 * covered, 0)
    half = stats.t.ppf(0.975, total**2 / (square**2 / 2)) * np.sqrt(total / 3)
    assert mrmc["mean_auroc"]["low"] == pytest.approx(areas[1:].mean() - half)


def test_the_report_says_what_readers_saw_and_who_was_left_out(scored: tuple[Path, pd.DataFrame]) -> None:
    out, _ = scored
    found = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]["readers"]
    assert found["direction"] == "model minus reader"
    assert found["caveats"] == list(CAVEATS)
    for name in ("report.html", "report.md"):
        text = (out / name).read_text(encoding="utf-8").replace("&#39;", "'")
        assert "Compared with the readers" in text
        assert CAVEATS[0] in text
        assert "category 0, incomplete (1)" in text
        assert "no BI-RADS category: '2/3' (1)" in text
        assert "not read (2)" in text
        assert "Against the mean of 3 readers" in text


def test_the_table_of_figures_has_every_reader(scored: tuple[Path, pd.DataFrame]) -> None:
    out, _ = scored
    found = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]["readers"]
    with (out / "figures.csv").open(encoding="utf-8") as file:
        rows = {(row["group"], row["figure"]): row for row in csv.DictReader(file) if row["by"] == "reader"}
    reader = found["readers"][1]
    assert float(rows["BI-RADS, b", "auroc"]["value"]) == reader["auroc"]["value"]
    cutoff = next(row for row in reader["cutoffs"] if row["from"] == "4B")
    row = rows["BI-RADS, b from 4B", "specificity_difference_at_same_sensitivity"]
    assert float(row["low"]) == cutoff["specificity_difference_at_same_sensitivity"]["low"]
    assert float(rows["mean of 3 readers", "auroc_difference"]["high"]) == found["mrmc"]["auroc_difference"]["high"]


def test_readers_of_no_common_image_are_not_averaged(study: Callable[..., pd.DataFrame], tmp_path: Path) -> None:
    table = study(readers=2)
    first = np.arange(len(table)) % 2 == 0
    table["birads"] = np.where(first, table["birads"], "")
    table["birads_b"] = np.where(first, "", table["birads_b"])
    table.to_csv(tmp_path / "reads.csv", index=False)
    arguments = [
        "score",
        str(tmp_path / "reads.csv"),
        "--threshold",
        "0.3",
        "--resamples",
        "100",
        "--out",
        str(tmp_path / "out"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "No comparison with the mean of the readers: there is no image that all readers judged" in result.output


def test_a_reader_from_whom_the_labels_were_made_is_told(study: Callable[..., pd.DataFrame], tmp_path: Path) -> None:
    table = study(readers=1)
    table["birads"] = np.where(table["label"] == "malignant", "5", "2")
    table.to_csv(tmp_path / "reads.csv", index=False)
    result = CliRunner().invoke(app, ["score", str(tmp_path / "reads.csv"), "--threshold", "0.3", "--resamples", "100"])
    assert result.exit_code == 0, result.output
    assert "see whether the labels were made from it" in result.output
