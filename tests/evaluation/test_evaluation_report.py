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
from medsharp.evaluation.plots import drawings_of

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
        ("x.png,benign,0.5", "row 32.*missing or not finite"),
        ("x.png", "row 32: 1 values for 4 columns"),
        ("x.png,benign,inf,0.5", "row 32.*missing or not finite"),
        (",benign,0.5,0.5", "row 32.*does not name its image"),
    ],
)
def test_wrong_row_is_named(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_predictions(written(tmp_path, [*GOOD, row]))


def test_wrong_row_of_a_table_in_memory_is_named(tmp_path: Path) -> None:
    table = read_predictions(written(tmp_path, GOOD))
    table.loc[7, "p_malignant"] = 0.99
    with pytest.raises(InputError, match=r"here, row 9: 7\.png has probabilities that do not sum to 1"):
        evaluate_predictions(
            table, classes=["benign", "malignant"], positive="malignant", threshold=0.4, name="here", resamples=10
        )


def test_table_of_a_spreadsheet_with_decimal_commas_is_read(tmp_path: Path) -> None:
    rows = [";".join(row.split(",")).replace(".", ",") for row in GOOD]
    path = written(tmp_path, rows, HEADER.replace(",", ";"))
    assert read_predictions(path)["p_malignant"].iloc[3] == pytest.approx(0.15)


def test_row_whose_exclude_says_no_is_counted(tmp_path: Path) -> None:
    path = written(
        tmp_path, [f"{row},{'FALSE' if n else 'blurred'}" for n, row in enumerate(GOOD)], f"{HEADER},exclude"
    )
    assert (read_predictions(path)["exclude"] == "").sum() == len(GOOD) - 1


def test_blank_lines_do_not_shift_the_row_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="row 34"):
        read_predictions(written(tmp_path, [*GOOD, "", "", "x.png,benign,0.5,0.6"]))


def test_table_in_a_code_page_that_is_not_known_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b"image,label,p_a,p_b\n\xea\xe8\xf1\xf2\xe0,a,0,1\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_predictions(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("options", "words"),
    [({"threshold": 1.2}, "threshold 1.2"), ({"positive": "malignent"}, "malignant"), ({"resamples": 0}, "resamples")],
)
def test_wrong_choice_is_a_sentence(tmp_path: Path, options: dict[str, object], words: str) -> None:
    settings = {"classes": ["benign", "malignant"], "positive": "malignant", "threshold": 0.4, "name": "n"}
    with pytest.raises(InputError, match=words):
        evaluate_predictions(read_predictions(written(tmp_path, GOOD)), **{**settings, **options})  # type: ignore[arg-type]


def test_one_class_only_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one class only"):
        evaluation(written(tmp_path, ["a.png,benign,0.5,0.5", "b.png,benign,0.4,0.6"]))


@pytest.mark.parametrize("header", ["picture,label,p_a,p_b", "image,truth,p_a,p_b", "image,label,p_a,score"])
def test_missing_column_is_a_sentence(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match=r"predictions\.csv"):
        read_predictions(written(tmp_path, ["a,b,0.5,0.5"], header))


def test_all_ties_give_a_reason_instead_of_a_ranking(tmp_path: Path) -> None:
    rows = [f"{n}.png,{'malignant' if n % 2 else 'benign'},0.5,0.5" for n in range(40)]
    tied = evaluation(written(tmp_path, rows))
    figures = tied.as_dict()["figures"]
    assert figures["auroc"]["value"] is None
    assert "same probability" in figures["auroc"]["reason"]
    assert figures["calibration_slope"]["value"] is None
    assert "threshold" in figures["npv"]["reason"]
    write_evaluation(tmp_path / "out", [tied], {})
    assert "does not rank" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_one_patient_gives_figures_without_intervals(tmp_path: Path) -> None:
    table = read_predictions(written(tmp_path, GOOD)).assign(patient="P")
    entry = evaluate_predictions(
        table, classes=["benign", "malignant"], positive="malignant", threshold=0.4, name="one"
    ).as_dict()
    assert entry["figures"]["auroc"]["low"] is None
    assert "one patient" in entry["figures"]["auroc"]["reason"]
    assert any("one patient" in note for note in entry["notes"])


def test_failed_images_are_counted_and_left_out(tmp_path: Path) -> None:
    table = read_predictions(written(tmp_path, GOOD))
    table["error"] = [""] * 29 + ["29.png is empty"]
    table.loc[29, ["p_benign", "p_malignant"]] = np.nan
    entry = evaluate_predictions(
        table, classes=["benign", "malignant"], positive="malignant", threshold=0.4, name="n", resamples=100
    ).as_dict()
    assert (entry["counts"]["images"], entry["counts"]["failed"]) == (29, 1)


def test_excluded_rows_are_counted_by_reason_beside_those_left_out_before(tmp_path: Path) -> None:
    table = read_predictions(written(tmp_path, GOOD))
    table["exclude"] = ["Doppler", "Doppler"] + [""] * 28
    table.loc[[0, 1], ["p_benign", "label"]] = [np.nan, ""]
    counts = evaluate_predictions(
        table,
        classes=["benign", "malignant"],
        positive="malignant",
        threshold=0.4,
        name="n",
        resamples=50,
        excluded={"Doppler": 1, "unreadable": 3},
    ).as_dict()["counts"]
    assert counts["excluded"] == {"Doppler": 3, "unreadable": 3}
    assert counts["submitted"] == counts["images"] + 6 == 34


def test_report_shows_the_model_and_survives_a_bundle_that_says_little(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    bundle = {
        "name": "a & b",
        "positive": "malignant",
        "temperature": 1.5,
        "operating_point": {"threshold": 0.25, "rule": "sensitivity >= 0.95"},
        "training": {"network": "resnet18", "optimizer": {"name": "wsam", "rho": 0.05}, "images": {"train": 3}},
        "files": {"model.onnx": "ab" * 32},
        "input_check": {"feature_mean": [0.0] * 9},
    }
    for number, given in enumerate((bundle, {"name": "a & b"}, {"network": "resnet18", "optimizer": "sam"}, {})):
        folder = tmp_path / str(number)
        write_evaluation(folder, [evaluation(path)], given)
        page = (folder / "report.html").read_text(encoding="utf-8")
        assert ("a &amp; b" in page) == ("name" in given)
        assert "a & b" not in page
        assert ("ab" * 32 in page) == ("files" in given)
        assert "feature_mean" not in (folder / "evaluation.json").read_text(encoding="utf-8")


def test_warnings_stand_first_in_the_notes_and_on_the_page(tmp_path: Path) -> None:
    warned = evaluation(written(tmp_path, GOOD), warnings=["These are the training images."])
    assert warned.as_dict()["notes"][0] == "These are the training images."
    write_evaluation(tmp_path / "out", [warned], {})
    assert "These are the training images." in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_evaluation_json_has_no_replicates_and_no_nan(tmp_path: Path) -> None:
    write_evaluation(tmp_path, [evaluation(written(tmp_path, GOOD))], {})
    text = (tmp_path / "evaluation.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    assert "replicates" not in text
    document = json.loads(text)
    assert document["format"] == 1
    assert {"name", "role", "counts", "figures", "curves", "subgroups", "notes"} <= document["datasets"][0].keys()


def test_report_is_the_same_for_the_same_figures(tmp_path: Path) -> None:
    entry = evaluation(written(tmp_path, GOOD)).as_dict()
    first, second = ({key: draw() for key, draw in drawings_of(entry, "a").items()} for _ in range(2))
    assert first == second


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
    assert page.count("<svg") == 16, "six plots for each data set, and four that compare them"
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(names)
    document = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    assert [entry["role"] for entry in document["datasets"]] == ["internal", "external"]
    change = document["changes"][0]["figures"]["auroc"]
    assert change["low"] <= change["value"] <= change["high"]
    assert change["value"] == 0


def test_report_says_plainly_that_images_are_simulated(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    for name, said in (("simulated hospital B", True), ("hospital B", False)):
        write_evaluation(tmp_path / name, [evaluation(path, name=name)], {})
        page = (tmp_path / name / "report.html").read_text(encoding="utf-8")
        assert ("Simulated images" in page) is said


def test_table_of_floats_for_text_columns_is_read_as_text(tmp_path: Path) -> None:
    path = written(tmp_path, [row + ",7" for row in GOOD], HEADER + ",patient")
    assert pd.api.types.is_object_dtype(read_predictions(path)["patient"])
