"""Tables of predictions whose columns are called as people call them, and of which cells were merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from medsharp.evaluation import read_predictions

from .command_line import refused, run


def table_of(patients: int = 20, images: int = 3) -> pd.DataFrame:
    """Images of a patient are alike: an interval that takes them for independent is too narrow."""
    rng = np.random.default_rng(3)
    rows = []
    for patient in range(patients):
        malignant = patient % 3 == 0
        score = 1 / (1 + np.exp(-(1.2 * malignant - 0.4 + rng.standard_normal())))
        for image in range(images):
            rows.append(
                {
                    "image": f"{patient}-{image}.png",
                    "label": "malignant" if malignant else "benign",
                    "probability": f"{score:.5f}",
                    "patient": f"P{patient}",
                    "site": "North" if patient % 2 else "South",
                    "status": "Refused" if patient % 5 == 4 and image == 0 else "answered",
                    "exclude": "blurred" if patient == 1 else "",
                    "error": "no file" if patient == 2 and image == 1 else "",
                    "threshold": "0.4",
                }
            )
    return pd.DataFrame(rows)


def score(table: pd.DataFrame, folder: Path, *more: str) -> dict[str, Any]:
    folder.mkdir()
    table.to_csv(folder / "table.csv", index=False)
    result = run(
        "score", folder / "table.csv", "--positive", "malignant", "--resamples", "100", "--out", folder / "out",
        "--format", "json", *more,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads((folder / "out/evaluation.json").read_text())["datasets"][0]
    assert f"{content['counts']['clusters']} patients" in " ".join(result.output.split())
    return content


OTHERWISE = {
    "patient": "Patient ID", "site": "SITE", "status": "Status", "exclude": "Exclude", "error": "Error",
    "threshold": "Threshold", "image": "Image", "label": "LABEL", "probability": "Probability",
}  # fmt: skip


@pytest.mark.parametrize("way", [(), ("--stream",)], ids=["in memory", "streamed"])
def test_headings_in_other_case_and_words_mean_what_they_mean(way: tuple[str, ...], tmp_path: Path) -> None:
    table = table_of()
    plain = score(table, tmp_path / "plain", *way)
    assert plain["counts"]["clusters"] == 19
    assert plain["counts"]["images"] == 52  # of 60, three excluded, four refused and one failed
    for number, names in enumerate(({**OTHERWISE}, {**OTHERWISE, "patient": "MRN"}, {"patient": "PATIENT_NO."[:-1]})):
        found = score(table.rename(columns=names), tmp_path / str(number), *way)
        assert found["counts"] == plain["counts"]
        assert found["counts"]["excluded"] == {"blurred": 3}
        assert found["figures"] == plain["figures"]


@pytest.mark.parametrize("way", [(), ("--stream",)], ids=["in memory", "streamed"])
def test_two_columns_of_one_meaning_must_agree(way: tuple[str, ...], tmp_path: Path) -> None:
    table = table_of()
    both = table.assign(MRN=table["patient"])
    agreed = score(both, tmp_path / "agreed", *way)
    assert agreed["counts"]["clusters"] == 19
    both.loc[7, "MRN"] = "P19"
    both.to_csv(tmp_path / "both.csv", index=False)
    refused(
        run("score", tmp_path / "both.csv", "--positive", "malignant", *way),
        "columns 'patient' and 'MRN' both mean patient and differ, first in row 9; keep one of them",
    )


def test_a_column_of_scores_is_what_the_user_says_whatever_it_is_called(tmp_path: Path) -> None:
    table = table_of().drop(columns=["probability", "threshold", "status"])
    table["Status"] = table_of()["probability"]
    table.to_csv(tmp_path / "table.csv", index=False)
    found = read_predictions(tmp_path / "table.csv", score="Status", scores=True)
    assert len(found) == 60
    assert found["score"].astype(float).tolist() == table["Status"].astype(float).tolist()


def test_merged_cells_of_other_peoples_tables_are_filled_and_empty_ones_of_ours_are_not(tmp_path: Path) -> None:
    table = table_of().drop(columns=["status", "threshold"])
    merged = table.assign(patient=table["patient"].where(~table["patient"].duplicated(), ""))
    found = score(merged, tmp_path / "theirs", "--threshold", "0.4")
    assert found["counts"]["clusters"] == 19
    assert found["counts"] == score(table, tmp_path / "whole", "--threshold", "0.4")["counts"]
    ours = merged.assign(split="test")
    ours.to_csv(tmp_path / "ours.csv", index=False)
    assert (read_predictions(tmp_path / "ours.csv", positive="malignant")["patient"] == "").sum() == 40
    nobody = table.assign(patient="")
    nobody.to_csv(tmp_path / "nobody.csv", index=False)
    assert (read_predictions(tmp_path / "nobody.csv", positive="malignant")["patient"] == "").all()


def test_limits_of_a_difference_keep_within_what_can_be(tmp_path: Path) -> None:
    table = table_of(30, 2).drop(columns=["status", "exclude", "error"])
    worse = table.assign(probability=[f"{float(one) / 4:.5f}" for one in table["probability"]])
    for name, each in (("a", table), ("b", worse)):
        each.to_csv(tmp_path / f"{name}.csv", index=False)
    arguments = [tmp_path / "a.csv", tmp_path / "b.csv", "--threshold", "0.3", "--positive", "malignant"]
    result = run("compare", *arguments, "--resamples", "100", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "out/comparison.json").read_text())["pairs"][0]["figures"]
    found = figures["sensitivity"]
    assert found["value"] < -0.8
    assert found["low"] == -1
    assert -0.8 < found["high"] < 0
    assert figures["brier"]["low"] > -1
    assert figures["calibration_slope"]["low"] < -1  # which has no ends
