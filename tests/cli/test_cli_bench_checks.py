"""`medsharp bench checks`: rates of what is made, a fit, and wrong folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from command_line import refused, run
from PIL import Image

from medsharp.data.phantom import write_phantom
from medsharp.inference.checks.statistics import NAMES
from medsharp.inference.checks.ultrasound import Likeness


def test_rates_count_refused_pictures_by_kind_and_check(tmp_path: Path) -> None:
    unseen = tmp_path / "unseen"
    (unseen / "white").mkdir(parents=True)
    Image.fromarray(np.full((80, 80), 255, np.uint8)).save(unseen / "white" / "a.png")
    result = run("bench", "checks", "--count", "2", "--unseen", unseen, "--json", tmp_path / "rates.json", "--markdown")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "rates.json").read_text())
    rates = {rate["name"]: rate for rate in found["rates"]}
    assert rates["white"] == {
        "name": "white",
        "sort": "other, unseen",
        "images": 1,
        "refused": 1,
        "cautioned": 0,
        "by_check": {"blank": 1},
    }
    assert rates["simulated"]["images"] == 12
    assert rates["page"]["refused"] == rates["page"]["images"] == 2
    assert found["left_out"] == []
    assert "| white | other, unseen | 1 | 100.0% (20.7% to 100.0%) | 0 | blank 1 |" in result.output


def test_fit_is_one_that_tells_pictures_apart_and_hospitals_are_left_out(tmp_path: Path) -> None:
    options: list[str | Path] = []
    for seed, name in enumerate("AB"):
        write_phantom(tmp_path / name, hospital=name, patients=8, seed=seed, size=96)
        options += ["--data", tmp_path / name]
    result = run("bench", "checks", "--count", "2", *options, "--fit", tmp_path / "fit.json")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "fit.json").read_text())
    assert list(content["statistics"]) == list(NAMES)
    assert np.isfinite(Likeness.of(content).weight).all()
    result = run("bench", "checks", "--count", "2", *options, "--json", tmp_path / "rates.json")
    assert result.exit_code == 0, result.output
    left = json.loads((tmp_path / "rates.json").read_text())["left_out"]
    assert len(left) == 2
    assert all(one["others_refused"] >= 0.8 * one["others"] > 0 for one in left)
    assert all(one["refused"] <= one["images"] / 2 for one in left)


def test_organs_and_pictures_of_packages_are_measured_and_what_is_missing_is_said(tmp_path: Path) -> None:
    result = run("bench", "checks", "--count", "2", "--from-packages", "--json", tmp_path / "rates.json")
    assert result.exit_code == 0, result.output
    rates = {(rate["name"], rate["sort"]): rate for rate in json.loads((tmp_path / "rates.json").read_text())["rates"]}
    for organ in ("kidney", "thyroid", "carotid"):
        assert rates[organ, "other organ"]["images"] == 2
    photographs = rates["photographs", "other, packages"]
    assert photographs["images"] >= 2  # scikit-learn's two at least, which evaluation needs
    assert photographs["refused"] == photographs["images"]
    assert "sklearn: 2 photographs" in result.output
    for package in ("gnome-backgrounds", "tuxpaint-stamps-default"):
        assert f"{package}: " in result.output


def test_wrong_folders_and_a_fit_of_nothing_are_refused(tmp_path: Path) -> None:
    refused(run("bench", "checks", "--others", tmp_path / "gone"), "gone is not a folder")
    (tmp_path / "file").write_text("x")
    refused(run("bench", "checks", "--unseen", tmp_path / "file"), "file is not a folder")
    (tmp_path / "empty").mkdir()
    refused(run("bench", "checks", "--count", "1", "--unseen", tmp_path / "empty"), "has no folder with pictures")
    refused(run("bench", "checks", "--count", "1", "--fit", tmp_path / "fit.json"), "give --data")
    assert not (tmp_path / "fit.json").exists()
