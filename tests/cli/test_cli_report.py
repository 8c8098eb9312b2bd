"""`medsharp evaluate` and `score` write the report that was asked for, and nothing where something is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from command_line import run
from markupsafe import escape

from medsharp.data.phantom import write_phantom

BUNDLE = Path(__file__).parents[2] / "models" / "busi-resnet18"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "B"
    write_phantom(folder, hospital="B", patients=24, seed=0, size=96)
    return folder


@pytest.fixture(scope="module")
def evaluated(hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluated")
    options = ["--format", "html,md", "--format", "csv", "--format", "json", "--thumbnails", "--resamples", "100"]
    options += ["--by", "size_mm:10,halo"]
    result = run("evaluate", BUNDLE, "--data", hospital, "--out", out, *options)
    assert result.exit_code == 0, result.output
    for name in ("report.html", "report.md", "figures.csv", "evaluation.json"):
        assert name in result.output
    return out


def test_evaluate_writes_every_format_and_shows_failures_only_in_the_page(evaluated: Path) -> None:
    page = (evaluated / "report.html").read_text(encoding="utf-8")
    document = json.loads((evaluated / "evaluation.json").read_text(encoding="utf-8"))
    external = document["datasets"][-1]
    listed = [image["image"] for kind in external["failures"].values() for image in kind["images"]]
    assert listed
    assert len(re.findall(r'<img src="data:image/jpeg;base64,', page)) == len(listed)
    assert "images of patients" not in page, "simulated images show no patient"
    assert "Simulated images" in page
    assert external["counts"]["submitted_patients"] == 24
    for name in ("report.md", "figures.csv", "evaluation.json"):
        assert "data:image" not in (evaluated / name).read_text(encoding="utf-8")


def test_evaluate_groups_by_the_columns_asked_for(evaluated: Path, hospital: Path) -> None:
    internal, external = json.loads((evaluated / "evaluation.json").read_text(encoding="utf-8"))["datasets"]
    sizes = pd.read_csv(hospital / "manifest.csv")["size_mm"]
    found = {group["group"]: group["images"] for group in external["subgroups"] if group["by"] == "size_mm"}
    assert found == {"below 10": (sizes < 10).sum(), "10 or above": (sizes >= 10).sum()}
    assert [column["by"] for column in external["interactions"]] == ["size_mm", "halo"]
    assert "There is no column 'halo' here, so no groups by it." in internal["notes"]
    page = (evaluated / "report.md").read_text(encoding="utf-8")
    assert "Of every evaluation AUROC, Net benefit, Net benefit gained, the calibration plot" in page


def test_robustness_is_summarised_beside_the_figures(hospital: Path, tmp_path: Path) -> None:
    options = ["--resamples", "100", "--corruptions", "calipers", "--corruptions", "gain_down"]
    result = run("robustness", BUNDLE, "--data", hospital, "--out", tmp_path / "robustness", *options)
    assert result.exit_code == 0, result.output
    file = tmp_path / "robustness" / "robustness.json"
    more = ["--robustness", file, "--format", "html,md", "--resamples", "100"]
    result = run("evaluate", BUNDLE, "--data", hospital, "--out", tmp_path / "out", *more)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert '<section id="robustness">' in page
    written = json.loads(file.read_text(encoding="utf-8"))
    sentences = [case["sentence"] for case in written["datasets"][0]["models"][0]["annotations"]]
    assert sentences
    assert all(escape(sentence) in page for sentence in sentences)
    assert "These figures are of" not in page
    (change,) = {
        model["summary"]["auroc_change"]["value"]
        for entry in json.loads(file.read_text(encoding="utf-8"))["datasets"]
        for model in entry["models"]
    }
    assert f"{abs(change):.3f}" in page
    assert f"{abs(change):.3f}" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_score_writes_the_formats_asked_for(evaluated: Path, tmp_path: Path) -> None:
    (table,) = evaluated.glob("predictions-*.csv")
    result = run("score", table, "--out", tmp_path, "--format", "md", "--resamples", "100")
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "pdf"], "'pdf' is not one of html, md, json, csv"),
        (["--robustness", "gone.json"], "cannot read gone.json"),
    ],
)
def test_wrong_option_ends_before_anything_is_predicted(
    hospital: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    result = run("evaluate", BUNDLE, "--data", hospital, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_formats_of_score_need_a_folder(evaluated: Path) -> None:
    (table,) = evaluated.glob("predictions-*.csv")
    result = run("score", table, "--format", "md")
    assert result.exit_code == 2
    assert "--out" in result.stderr
