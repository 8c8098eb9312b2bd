"""What a hospital exported goes through prepare, audit, predict and evaluate, and nothing is lost without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from command_line import run
from typer.testing import Result

from medsharp.data import read_manifest

Save = Callable[..., Any]
BUNDLE = Path(__file__).parents[2] / "models" / "busi-resnet18"
CLASSES = ("benign", "malignant")


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def export(tmp_path: Path, save_dicom: Save) -> Path:
    """Six patients with two images each in folders that are their names, and a list by accession number."""
    lines = ["AccessionNumber,BI-RADS,Pathology"]
    for number in range(6):
        for view in (1, 2):
            save_dicom(
                tmp_path / "export" / f"PATIENT{number:03d}" / f"IM{view}",
                f"PATIENT{number:03d}",
                AccessionNumber=f"A{number}",
                StudyInstanceUID=f"1.2.{number}",
                StudyDate=f"202{number % 2}0304",
            )
        lines.append(f"A{number},{('3', 'IVc')[number % 2]},{('cyst', 'DCIS')[number % 2]}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "export"


def test_notes_that_are_stored_do_not_name_the_home_folder(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "anna"))
    monkeypatch.delenv("XDG_CONFIG_HOME")
    options = ("--label-from", "birads", "--malignant", "4b,4c,5", "--benign", "2,3")
    result = run("data", "prepare", export, "--labels", tmp_path / "list.csv", "--out", tmp_path / "ours", *options)
    assert result.exit_code == 0, result.output
    notes = " ".join(yaml.safe_load((tmp_path / "ours" / "manifest.yaml").read_text(encoding="utf-8"))["notes"])
    assert "by the key ~/.config/medsharp/patients.key (" in notes
    assert "anna" not in notes


def test_prepare_labels_numbers_and_says_what_it_did(export: Path, tmp_path: Path) -> None:
    result = run(
        *("data", "prepare", export, "--labels", tmp_path / "list.csv", "--out", tmp_path / "ours"),
        *("--label-from", "birads", "--malignant", "4b,4c,5", "--benign", "2,3"),
        *("--site", "St. Mary", "--name", "Mary 2021", "--study-date", "month"),
    )
    assert result.exit_code == 0, result.output
    for words in (
        "labels are made from birads: benign: 3 (3); malignant: 4c (3)",
        "no row has '4b'; they have 3, 4c",
        "12 paths hold the patient's name or number",
        "patients are numbered by the key",
        "next: medsharp data audit",
    ):
        assert words in said(result)
    assert "PATIENT0" not in result.output
    manifest = read_manifest(tmp_path / "ours")
    assert (manifest.info.name, manifest.info.source) == ("Mary 2021", "St. Mary")
    table = manifest.table
    assert table["label"].value_counts().to_dict() == {"benign": 6, "malignant": 6}
    assert table["patient"].nunique() == 6
    assert not table["patient"].str.contains("PATIENT").any()
    assert set(table["site"]) == {"St. Mary"}
    assert list(table["birads"].unique()) == ["3", "IVc"]
    assert set(table["study_date"]) == {"2020-03", "2021-03"}
    again = run("data", "prepare", export, "--out", tmp_path / "ours")
    assert again.exit_code == 2
    assert "exists already" in said(again)


def test_prepare_by_words_of_pathology(export: Path, tmp_path: Path) -> None:
    result = run(
        *("data", "prepare", export, "--labels", tmp_path / "list.csv", "--out", tmp_path / "ours"),
        *("--label-from", "pathology", "--malignant", "invasive ductal carcinoma,dcis", "--benign", "*"),
    )
    assert result.exit_code == 0, result.output
    table = read_manifest(tmp_path / "ours").table
    assert table["label"].value_counts().to_dict() == {"benign": 6, "malignant": 6}


@pytest.mark.parametrize(
    ("column", "values", "benign", "excluded"),
    [
        ("birads", "5 2 0 2-3 6 n/a 4a", "2 (1), 4a (1)", "0 (1), 2-3 (1), 6 (1), n/a (1)"),
        (
            "histology",
            "DCIS cyst n/a unknown ? #N/A scar",
            "cyst (1), scar (1)",
            "#n/a (1), ? (1), n/a (1), unknown (1)",
        ),
    ],
)
def test_every_other_value_that_is_stated_is_benign_and_no_other(
    column: str, values: str, benign: str, excluded: str, tmp_path: Path, save_picture: Save
) -> None:
    lines = [f"image,{column}"]
    for number, value in enumerate(values.split()):
        save_picture(tmp_path / "d" / f"{number}.png")
        lines.append(f"{number}.png,{value}")
    (tmp_path / "d" / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rule = ("--label-from", column, "--malignant", values.split()[0], "--benign", "*")
    result = run("data", "prepare", tmp_path / "d", "--out", tmp_path / "out", *rule)
    assert result.exit_code == 0, result.output
    assert f"labels are made from {column}: " in said(result)
    assert f"benign: {benign};" in said(result)
    assert f"excluded: {excluded};" in said(result)
    table = read_manifest(tmp_path / "out").table
    assert list(table["label"]) == ["malignant", "benign", "", "", "", "", "benign"]
    assert (table["exclude"] != "").tolist() == [False, False, True, True, True, True, False]


def test_patients_that_are_not_known_are_so_after_an_audit_too(tmp_path: Path, save_picture: Save) -> None:
    lines = ["image,label,patient"]
    for number in range(8):
        save_picture(tmp_path / "d" / f"{number}.png")
        who = f"Anna {number}" if number % 2 == 0 else ("unknown", "-")[number % 4 == 3]
        lines.append(f"{number}.png,{CLASSES[number % 2]},{who}")
    (tmp_path / "d" / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    prepared = run("data", "prepare", tmp_path / "d", "--out", tmp_path / "ours")
    assert "the patient of 4 of 8 images is not known" in said(prepared)
    audited = run("data", "audit", tmp_path / "ours", "--out", tmp_path / "audit")
    assert audited.exit_code == 0, audited.output
    before = pd.read_csv(tmp_path / "ours" / "manifest.csv", dtype=str, keep_default_na=False)
    after = pd.read_csv(tmp_path / "audit" / "manifest.csv", dtype=str, keep_default_na=False)
    assert list(after["patient"]) == list(before["patient"])
    assert (before["patient"] == "").tolist() == [False, True] * 4
    assert "merged" not in said(audited)


def test_copies_have_no_name_in_their_paths(export: Path, tmp_path: Path) -> None:
    arguments = ("data", "prepare", export, "--labels", tmp_path / "list.csv", "--label-from", "birads")
    rule = ("--malignant", "4c", "--copy")
    for out in ("one", "two"):
        result = run(*arguments, *rule, "--out", tmp_path / out)
        assert result.exit_code == 0, result.output
    one, two = (read_manifest(tmp_path / out) for out in ("one", "two"))
    assert len(one.table) == 6
    assert one.table.equals(two.table)
    assert "PATIENT" not in one.table.to_csv()
    assert all(one.path(image).is_file() for image in one.table["image"])
    assert "root" not in yaml.safe_load((tmp_path / "one" / "manifest.yaml").read_text())


def test_what_prepare_wrote_is_audited_and_evaluated(export: Path, tmp_path: Path) -> None:
    rule = ("--label-from", "birads", "--malignant", "4c", "--benign", "3")
    made = run("data", "prepare", export, "--labels", tmp_path / "list.csv", "--out", tmp_path / "ours", *rule)
    assert made.exit_code == 0, made.output
    audited = run("data", "audit", tmp_path / "ours", "--out", tmp_path / "audit")
    assert audited.exit_code == 0, audited.output
    evaluated = run(*("evaluate", BUNDLE, "--data", tmp_path / "audit", "--out", tmp_path / "e", "--resamples", "100"))
    assert evaluated.exit_code == 0, evaluated.output
    external = json.loads((tmp_path / "e" / "evaluation.json").read_text())["datasets"][-1]
    assert external["counts"]["patients"] == 6


def test_evaluate_makes_labels_from_a_column_too(export: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").rename(export / "labels.csv")
    command = ("evaluate", BUNDLE, "--data", export, "--out", tmp_path / "e", "--resamples", "100")
    result = run(*command, "--label-from", "pathology", "--malignant", "DCIS", "--benign", "cyst")
    assert result.exit_code == 0, result.output
    assert "labels are made from pathology" in said(result)
    lone = run(*command, "--malignant", "DCIS")
    assert lone.exit_code == 2
    assert "say of which column with --label-from" in said(lone)


def test_predict_of_a_folder_takes_every_image_and_names_the_rest(
    tmp_path: Path, save_dicom: Save, save_picture: Save
) -> None:
    folder = tmp_path / "scans"
    save_dicom(folder / "IM0001")
    save_dicom(folder / "SR0001", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33", pixels=False)
    save_picture(folder / "a.WEBP")
    save_picture(folder / "b.gif")
    save_picture(folder / "mask" / "b.png")
    (folder / "notes.txt").write_text("x")
    result = run("predict", BUNDLE, folder, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    names = [Path(name).name for name in pd.read_csv(tmp_path / "p.csv")["image"]]
    assert names == ["IM0001", "a.WEBP", "b.gif"]
    assert "1 file not images: notes.txt" in said(result)
    assert "1 file left out: DICOM, but no image: structured report" in said(result)
    assert "1 files are masks by their names" in said(result)
    empty = tmp_path / "empty"
    empty.mkdir()
    nothing = run("predict", BUNDLE, empty)
    assert nothing.exit_code == 2
    assert "holds no images" in said(nothing)


def test_predict_with_a_source_opens_a_data_set(tmp_path: Path, save_dicom: Save) -> None:
    for label in CLASSES:
        save_dicom(tmp_path / "scans" / label / "IM1", label)
    result = run("predict", BUNDLE, tmp_path / "scans", "--source", "folder", "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "p.csv")
    assert list(table["label"]) == list(CLASSES)
    assert table["patient"].str.startswith("P").all()


@pytest.mark.parametrize(
    "command",
    [
        ("train", "--data", "{data}", "--out", "{out}", "--source", "bussi"),
        ("evaluate", "{bundle}", "--data", "{data}", "--out", "{out}", "--source", "bussi"),
        ("robustness", "{bundle}", "--data", "{data}", "--out", "{out}", "--source", "bussi"),
        ("predict", "{bundle}", "{data}", "--source", "bussi"),
        ("data", "audit", "{data}", "--out", "{out}", "--source", "bussi"),
        ("data", "split", "{data}", "--out", "{out}", "--source", "bussi"),
        ("data", "prepare", "{data}", "--out", "{out}", "--source", "bussi"),
    ],
)
def test_every_command_that_opens_data_takes_a_source(
    command: tuple[str, ...], tmp_path: Path, save_picture: Save
) -> None:
    for label in CLASSES:
        save_picture(tmp_path / "d" / label / "1.png")
    places = {"data": str(tmp_path / "d"), "out": str(tmp_path / "out"), "bundle": str(BUNDLE)}
    result = run(*(part.format(**places) for part in command))
    assert result.exit_code == 2
    assert "no data set is called 'bussi'; did you mean busi" in said(result)
    assert not (tmp_path / "out").exists()


def test_a_source_each_or_one_for_all(tmp_path: Path, save_picture: Save) -> None:
    for label in CLASSES:
        for number in (1, 2):
            save_picture(tmp_path / "a" / label / f"{label} ({number}).png")
            save_picture(tmp_path / "b" / label / f"{number}.png")
    command = ("data", "audit", tmp_path / "a", tmp_path / "b")
    made = run(*command, "--source", "busi", "--source", "auto", "--out", tmp_path / "one")
    assert made.exit_code == 0, made.output
    assert {path.parent.name for path in (tmp_path / "one").glob("*/manifest.csv")} == {"BUSI", "b"}
    wrong = run(*command, *("--source", "busi") * 3, "--out", tmp_path / "two")
    assert wrong.exit_code == 2
    assert "3 times --source for 2 data sets" in said(wrong)


def test_configuration_makes_labels_and_says_what_a_folder_is(tmp_path: Path, save_picture: Save) -> None:
    from medsharp.config import load_config
    from medsharp.data.prepare import prepare_manifest

    lines = ["image,birads"]
    for number in range(24):
        save_picture(tmp_path / "d" / f"{number}.png")
        lines.append(f"{number}.png,{(2, '4c')[number % 2]}")
    (tmp_path / "d" / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = (
        "data: {label_from: birads, label_values: {benign: [2, 3], malignant: [4c, 5]}, source: folder, cache: memory}"
    )
    (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
    config = load_config(tmp_path / "c.yaml", [f"data.path={tmp_path / 'd'}"])
    manifest = prepare_manifest(config.data)
    assert manifest.included["label"].value_counts().to_dict() == {"benign": 12, "malignant": 12}
