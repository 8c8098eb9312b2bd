"""Reading predictions, refusing wrong ones, and writing a report that needs nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsharp.errors import InputError
from medsharp.evaluation import Evaluation, evaluate_predictions, read_predictions, write_evaluation

HEADER = "image,label,p_benign,p_malignant"
GOOD = [f"{n}.png,{'malignant' if n % 3 == 0 else 'benign'},{0.9 - n / 60:.4f},{0.1 + n / 60:.4f}" for n in range(30)]


def written(folder: Path, rows: list[str], header: str = HEADER) -> Path:
    path = folder / "predictions.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def evaluation(path: Path, **options: object) -> Evaluation:
    settings = {"classes": ["benign", "malignant"], "positive": "malignant", "threshold": 0.4, "name": path.name}
    return evaluate_predictions(read_predictions(path), resamples=200, **{**settings, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("x.png,benign,0.5,0.6", "row 32.*do not sum to 1"),
        ("x.png,benign,1.5,-0.5", "row 32.*outside 0 to 1"),
        ("x.png,benign,nan,0.5", "row 32.*p_benign is 'nan', not a number"),
        ("x.png,benign,,0.5", "row 32.*missing or not finite"),
        ("x.png,benign,half,0.5", "row 32.*'half', not a number"),
        ("x.png,,0.5,0.5", "row 32.*has no label"),
        ("x.png,benin,0.5,0.5", "row 32.*not one of benign, malignant"),
        ("3.png,benign,0.5,0.5", "row 32.*3.png stands twice"),
        ("x.png,benign,0.5", "row 32: 3 values for 4 columns"),
    ],
)
def test_wrong_row_is_named(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        evaluation(written(tmp_path, [*GOOD, row]))


def test_one_class_only_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one class only"):
        evaluation(written(tmp_path, ["a.png,benign,0.5,0.5", "b.png,benign,0.4,0.6"]))


@pytest.mark.parametrize("header", ["picture,label,p_a,p_b", "image,truth,p_a,p_b", "image,label,p_a,score"])
def test_missing_column_is_a_sentence(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match=r"predictions\.csv"):
        read_predictions(written(tmp_path, ["a,b,0.5,0.5"], header))


def test_all_ties_give_chance_and_no_calibration_slope(tmp_path: Path) -> None:
    rows = [f"{n}.png,{'malignant' if n % 2 else 'benign'},0.5,0.5" for n in range(40)]
    figures = evaluation(written(tmp_path, rows)).as_dict()["figures"]
    assert figures["auroc"]["value"] == 0.5
    assert figures["npv"]["value"] is None
    assert "threshold" in figures["npv"]["reason"]


def test_one_patient_gives_figures_without_intervals(tmp_path: Path) -> None:
    table = read_predictions(written(tmp_path, GOOD)).assign(patient="P")
    entry = evaluate_predictions(
        table, classes=["benign", "malignant"], positive="malignant", threshold=0.4, name="one"
    ).as_dict()
    assert entry["figures"]["auroc"]["low"] is None
    assert any("one patient" in note for note in entry["notes"])


def test_failed_images_are_counted_and_left_out(tmp_path: Path) -> None:
    table = read_predictions(written(tmp_path, GOOD))
    table["error"] = [""] * 29 + ["29.png is empty"]
    table.loc[29, ["p_benign", "p_malignant"]] = np.nan
    entry = evaluate_predictions(
        table, classes=["benign", "malignant"], positive="malignant", threshold=0.4, name="n", resamples=100
    ).as_dict()
    assert (entry["counts"]["images"], entry["counts"]["failed"]) == (29, 1)


def test_report_needs_no_network_and_says_what_it_must(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    internal = evaluation(path, name="ours", role="internal")
    hostile = evaluation(path, name="<script>alert(1)</script>", excluded={"<b>unreadable</b>": 2})
    write_evaluation(tmp_path / "out", [internal, hostile], {})
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Not for diagnostic use" in page
    assert "<script" not in page
    assert "<b>unreadable" not in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page.replace('xmlns:xlink="http://www.w3.org', ""))
    assert page.count("<svg") == 10
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert [entry["role"] for entry in document["datasets"]] == ["internal", "external"]
    drop = document["drops"][0]
    assert drop["low"] <= drop["value"] <= drop["high"]
    assert drop["value"] == 0


def test_report_says_plainly_that_images_are_simulated(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    for name, said in (("simulated hospital B", True), ("hospital B", False)):
        write_evaluation(tmp_path / name, [evaluation(path, name=name)], {})
        page = (tmp_path / name / "report.html").read_text(encoding="utf-8")
        assert ("Simulated images" in page) is said


def test_table_of_floats_for_text_columns_is_read_as_text(tmp_path: Path) -> None:
    path = written(tmp_path, [row + ",7" for row in GOOD], HEADER + ",patient")
    assert pd.api.types.is_object_dtype(read_predictions(path)["patient"])
