"""Names of files that are not UTF-8, as disks of old systems have them: a row or a sentence, never a traceback."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import refused, run

from medsharp.inference import Predictor, predictions_table

FILE, FOLDER = os.fsdecode(b"gr\xf6\xdfe.png"), os.fsdecode(b"D\xe4ten")
SHOWN = "gr\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}e.png"
SENTENCE = f"the name of file '{SHOWN}' is not in UTF-8; rename it"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_picture: Callable[..., Path]) -> Path:
    """The working folder, with two images, one of them of such a name, and a hospital in a folder of such a name."""
    monkeypatch.chdir(tmp_path)
    save_picture(Path("ok.png"))
    try:
        shutil.copy("ok.png", FILE)
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    for number in range(6):
        save_picture(Path(FOLDER) / ("benign" if number % 2 else "malignant") / f"{number}.png")
    Path(FOLDER, "manifest.csv").write_text("image,label\nbenign/1.png,benign\nmalignant/0.png,malignant\n")
    Path("link").symlink_to(FOLDER)
    shutil.copy(Path("link", "manifest.csv"), f"{FOLDER}.csv")
    return tmp_path


def test_one_image_among_others_fails_with_its_reason_and_the_others_are_predicted(
    here: Path, speckle_bundle: Path
) -> None:
    images = ["ok.png", FILE, Path(FOLDER, "benign", "1.png"), here / "ok.png"]
    result = run("predict", speckle_bundle, *images, "--out", "p.csv", "--heatmaps", "maps", "--answer-anyway")
    assert result.exit_code == 1
    assert f"failed: {SENTENCE}" in result.stderr
    with open("p.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image"] for row in rows] == ["ok.png", SHOWN, "D\ufffdten/benign/1.png", str(here / "ok.png")]
    assert [row["status"] == "failed" for row in rows] == [False, True, True, False]
    assert [bool(row["p_malignant"]) for row in rows] == [True, False, False, True]
    assert rows[1]["error"] == SENTENCE
    assert sorted(os.listdir("maps")) == ["00001-ok.png", "00004-ok.png"]
    printed = run("predict", speckle_bundle, *images)
    assert printed.exit_code == 1
    assert f"failed: {SENTENCE}" in printed.stderr


def test_one_such_image_alone_is_one_that_cannot_be_read(here: Path, speckle_bundle: Path) -> None:
    result = run("predict", speckle_bundle, FILE, "--out", "p.csv")
    assert result.exit_code == 2
    assert SENTENCE in Path("p.csv").read_text(encoding="utf-8")


def test_the_predictor_says_so_too_unless_it_is_given_a_name(here: Path, speckle_bundle: Path) -> None:
    predictor = Predictor.load(speckle_bundle)
    assert predictor.predict([FILE, Path(FILE)])[1].error == SENTENCE
    predictions = predictor.predict([FILE, "ok.png"], names=["a", "b"])
    assert predictions[0].error is None
    assert predictions[0].probabilities == predictions[1].probabilities
    predictions_table(predictor.predict([FILE])).to_csv("p.csv")


@pytest.mark.parametrize("folder", [FOLDER, "link"], ids=["itself", "linked"])
@pytest.mark.parametrize(
    "command",
    [
        ("predict", "BUNDLE", "FOLDER/manifest.csv", "--out", "out"),
        ("predict", "BUNDLE", "FOLDER/manifest.csv", "--out", "out", "--shard", "1/2"),
        ("predict", "BUNDLE", "FOLDER/manifest.csv", "--out", "out", "--ray"),
        ("predict", "BUNDLE", "FOLDER", "--source", "folder", "--out", "out"),
        ("evaluate", "BUNDLE", "--data", "FOLDER", "--out", "out"),
        ("robustness", "BUNDLE", "--data", "FOLDER", "--out", "out"),
        ("data", "audit", "FOLDER", "--out", "out"),
        ("data", "split", "FOLDER", "--out", "out"),
        ("data", "prepare", "FOLDER", "--out", "out"),
        ("train", "--data", "FOLDER", "--out", "out"),
        ("train", "--set", "data.path=FOLDER", "--out", "out"),
    ],
    ids=" ".join,
)
def test_a_folder_of_such_a_name_is_refused_before_anything_is_made(
    here: Path, speckle_bundle: Path, command: tuple[str, ...], folder: str
) -> None:
    words = [word.replace("FOLDER", folder).replace("BUNDLE", str(speckle_bundle)) for word in command]
    refused(run(*words), "D\ufffdten", "is not in UTF-8; rename it")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "command",
    [
        ("predict", "BUNDLE", "FOLDER"),
        ("predict", "BUNDLE", "ok.png", "--out", "FOLDER.out.csv"),
        ("predict", "BUNDLE", "ok.png", "--heatmaps", "FOLDER/maps"),
        ("predict", "FOLDER", "ok.png"),
        ("score", "FOLDER.csv", "--out", "out"),
        ("score", "ok.csv", "--json", "FOLDER.json"),
        ("compare", "FOLDER.csv", "FOLDER.csv"),
        ("compare", "ok.csv", "ok.csv", "--json=FOLDER.json"),
        ("serve", "FOLDER"),
        ("study", "FOLDER.yaml"),
    ],
    ids=" ".join,
)
def test_an_argument_that_cannot_be_written_down_is_refused(
    here: Path, speckle_bundle: Path, command: tuple[str, ...]
) -> None:
    before = sorted(here.rglob("*"))
    words = [word.replace("FOLDER", FOLDER).replace("BUNDLE", str(speckle_bundle)) for word in command]
    refused(run(*words), "error: the name of", "D\ufffdten", "is not in UTF-8; rename it")
    assert sorted(here.rglob("*")) == before


def test_a_working_folder_of_such_a_name_is_refused_where_data_are_in_it(
    here: Path, speckle_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER)
    refused(run("evaluate", speckle_bundle, "--data", ".", "--out", "../out"), "D\ufffdten' is not in UTF-8; rename it")
    assert not (here / "out").exists()
    result = run("predict", speckle_bundle, "benign/1.png", "--out", "p.csv", "--answer-anyway")
    assert result.exit_code == 0


def test_what_is_left_of_such_names_is_a_sentence_as_well(here: Path) -> None:
    Path("train.yaml").write_text('data: {path: "D\\udce4ten"}\n')
    said = refused(run("train", "--config", "train.yaml"), "D\ufffdten", "is not in UTF-8; rename it")
    assert len(said) < 200
    assert run("data", "list").exit_code == 0  # and what was not written is not tried again
