"""`medsharp bench evaluation --bundle --data`: the whole of an evaluation beside a loop over the same images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import refused, run
from PIL import Image

from medsharp.data.phantom import simulate_image

COMMAND = ("bench", "evaluation")


def test_both_are_timed_on_the_same_images(speckle_bundle: Path, tmp_path: Path) -> None:
    rng, folder = np.random.default_rng(7), tmp_path / "hospital"
    for label, count in (("benign", 9), ("malignant", 6)):
        (folder / label).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(simulate_image("A", label, rng, size=96).pixels).save(folder / label / f"{number}.png")
    options = ["--bundle", speckle_bundle, "--data", folder, "--resamples", "50", "--json", tmp_path / "t.json"]
    result = run(*COMMAND, *options, "--markdown")
    assert result.exit_code == 0, result.output
    assert "| 15 images | seconds | ratio |" in result.output
    loop, whole = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert (loop["what"], whole["what"]) == ("decode and predict, one after the other", "medsharp evaluate")
    assert loop["images"] == whole["images"] == 15
    assert loop["ratio"] == 1
    assert whole["ratio"] == pytest.approx(whole["seconds"] / loop["seconds"])


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    for alone in ("--bundle", "--data"):
        refused(run(*COMMAND, alone, tmp_path), "--bundle and --data are given together")
    both = ("--bundle", tmp_path, "--data", tmp_path, "--coverage")
    refused(run(*COMMAND, *both), "different measurements; give one of them")


def test_a_made_table_is_scored_in_passes_and_removed(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "disk").mkdir()
    result = run(
        *COMMAND,
        "--streamed",
        "10000",
        "--disk",
        tmp_path / "disk",
        "--resamples",
        "100",
        "--json",
        tmp_path / "t.json",
    )
    assert result.exit_code == 0, result.output
    written, scored = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"))
    assert written["what"] == "writing the table of 10,000 images"
    assert scored["what"] == "medsharp score --stream: 10,000 images of 1,000 patients, 100 resamples"
    assert "of memory at most" in scored["note"]
    assert float(scored["note"].partition(" s of cores")[0]) > 0
    assert list((tmp_path / "disk").iterdir()) == []
    refused(run(*COMMAND, "--disk", tmp_path), "--disk is of --streamed")
