"""What is not updated, and how that is said: one sentence, exit code 2, no bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import run

from medsharp.bundle import read_bundle, write_spec
from medsharp.data.manifest import read_manifest
from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.recalibration import choose_update, draw_parts


def refused(tmp_path: Path, bundle: Path, data: Path, *options: str) -> str:
    """Update, and return the error; neither bundle nor anything half done may be left."""
    out = tmp_path / "new"
    result = run("recalibrate", bundle, "--data", data, "--out", out, *options)
    assert result.exit_code == 2, result.output
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1
    return lines[0]


def part_of(hospital: Path, folder: Path, keep: Callable[[pd.DataFrame], pd.DataFrame]) -> Path:
    """A copy of a hospital with other rows; its files are where they were."""
    shutil.copytree(hospital, folder)
    for file in folder.glob("*.y*ml"):
        file.unlink()
    table = pd.read_csv(hospital / "manifest.csv", dtype=str, keep_default_na=False)
    keep(table).to_csv(folder / "manifest.csv", index=False)
    return folder


def test_existing_folder(parent: Path, hospital: Path, tmp_path: Path) -> None:
    result = run("recalibrate", parent, "--data", hospital, "--out", parent)
    assert result.exit_code == 2
    assert "exists already; an update is a new bundle" in result.output


def test_too_few_patients_of_a_class_names_the_least(parent: Path, hospital: Path, tmp_path: Path) -> None:
    def few(table: pd.DataFrame) -> pd.DataFrame:
        positive = table[table["label"] == "malignant"]
        kept = positive["patient"].drop_duplicates().iloc[:39]
        return table[(table["label"] != "malignant") | table["patient"].isin(kept)]

    data = part_of(hospital, tmp_path / "few", few)
    sentence = refused(tmp_path, parent, data)
    assert "39 patients or groups with a malignant image" in sentence
    assert "at least 40 of each are needed, 20 in each part" in sentence
    assert not (tmp_path / "new-record").exists()


def test_one_class(parent: Path, hospital: Path, tmp_path: Path) -> None:
    data = part_of(hospital, tmp_path / "one", lambda table: table[table["label"] == "benign"])
    assert "has no images of class 'malignant'" in refused(tmp_path, parent, data)
    with pytest.raises(InputError, match=r"of one class only \(other than malignant\)"):
        draw_parts(read_manifest(data), "malignant", share=0.5, seed=0)


def test_missing_label_names_the_row(parent: Path, hospital: Path, tmp_path: Path) -> None:
    def unlabelled(table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(label=np.where(np.arange(len(table)) == 4, "", table["label"]))

    data = part_of(hospital, tmp_path / "unlabelled", unlabelled)
    assert "row 6: " in refused(tmp_path, parent, data)


def test_images_that_it_was_trained_on(parent: Path, trained_on: Path, tmp_path: Path) -> None:
    sentence = refused(tmp_path, parent, trained_on)
    assert "the model was trained on" in sentence
    assert "not updated on images that it was made with" in sentence


def test_images_that_it_was_updated_on(parent: Path, hospital: Path, tmp_path: Path) -> None:
    first = tmp_path / "first" / "bundle"
    assert run("recalibrate", parent, "--data", hospital, "--out", first, "--resamples", "100").exit_code == 0
    assert "the model was updated on" in refused(tmp_path, first, hospital)


def test_more_than_two_classes_have_no_slope(
    make_bundle: Callable[..., Path], hospital: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path / "three", classes=("benign", "malignant", "normal"))
    monkeypatch.setattr("medsharp.inference.predictor.Session", lambda *_, **__: None)
    for update in ("auto", "intercept", "slope"):
        assert "3 classes (benign, malignant, normal)" in refused(tmp_path, bundle, hospital, "--update", update)


def test_bundle_without_hashes_of_its_training_images(
    make_bundle: Callable[..., Path], hospital: Path, tmp_path: Path
) -> None:
    bundle = make_bundle(tmp_path / "bare", hashes=False)
    assert "carries no hashes of its training images" in refused(tmp_path, bundle, hospital)


@pytest.mark.parametrize("command", ["recalibrate", "checks"])
def test_bundle_that_lists_a_file_outside_of_it_is_not_copied(
    parent: Path, hospital: Path, tmp_path: Path, command: str
) -> None:
    bundle = tmp_path / "theirs" / "bundle"
    shutil.copytree(parent, bundle)
    payload = tmp_path / "theirs" / "payload.txt"
    payload.write_text("anything")
    spec = read_bundle(parent)
    write_spec(bundle, spec.model_copy(update={"files": {**spec.files, "../payload.txt": sha256_file(payload)}}))
    result = run(command, bundle, "--data", hospital, "--out", tmp_path / "mine" / "new")
    assert result.exit_code == 2, result.output
    assert "it lists '../payload.txt', which is no file of a bundle" in " ".join(result.output.split())
    assert not (tmp_path / "mine" / "payload.txt").exists()


def test_rule_without_a_sensitivity_needs_one(make_bundle: Callable[..., Path], hospital: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "other", rule="Youden's index")
    assert "give --sensitivity" in refused(tmp_path, bundle, hospital)
    out = tmp_path / "given"
    options = ["--update", "threshold", "--sensitivity", "0.8", "--resamples", "100"]
    assert run("recalibrate", bundle, "--data", hospital, "--out", out, *options).exit_code == 0
    point = read_bundle(out).operating_point
    assert point.sensitivity == pytest.approx(np.ceil(0.8 * point.positives) / point.positives)


def test_scores_that_rank_the_wrong_way_round(make_bundle: Callable[..., Path], hospital: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "wrong", scale=-0.25)
    sentence = refused(tmp_path, bundle, hospital, "--update", "slope")
    assert "a higher probability goes with fewer positives" in sentence


@pytest.mark.parametrize("share", ["0", "1", "-0.5", "0.05"])
def test_share_that_leaves_a_part_empty_or_too_small(parent: Path, hospital: Path, tmp_path: Path, share: str) -> None:
    sentence = refused(tmp_path, parent, hospital, "--share", share)
    assert "must lie between 0 and 1" in sentence or "at least 20 of each are needed" in sentence


@pytest.mark.parametrize("options", [("--seed", "1"), ("--share", "0.45")])
def test_second_draw_into_the_same_record(
    parent: Path, hospital: Path, tmp_path: Path, options: tuple[str, str]
) -> None:
    record = tmp_path / "record"
    given = ["--record", str(record), "--resamples", "100", "--update", "threshold"]
    assert run("recalibrate", parent, "--data", hospital, "--out", tmp_path / "first", *given).exit_code == 0
    before = (record / "parts.csv").read_bytes()
    assert "drawn otherwise" in refused(tmp_path, parent, hospital, *given, *options)
    assert (record / "parts.csv").read_bytes() == before
    assert run("recalibrate", parent, "--data", hospital, "--out", tmp_path / "again", *given).exit_code == 0


def test_separated_classes_have_no_slope() -> None:
    labels, odds = np.repeat([False, True], 30), np.r_[np.linspace(-2.2, -0.4, 30), np.linspace(0.4, 2.2, 30)]
    for wish in ("auto", "slope"):
        with pytest.raises(InputError, match="separate the classes or are all equal"):
            choose_update(wish, labels, odds, np.arange(60), "here")  # type: ignore[arg-type]
    method, update, _ = choose_update("intercept", labels, odds, np.arange(60), "here")
    assert (method, update.slope) == ("intercept", 1.0)
