"""Mutated files end in an image or in one sentence; those that do not are noticed, counted and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from medsharp.cli.bench import app
from medsharp.images import ImageError, read_image
from medsharp.images.fuzz import FORMATS, Outcome, Trouble, case_file, run_campaign, seed_files


@pytest.mark.parametrize("kind", FORMATS)
def test_mutated_files_end_in_an_image_or_a_sentence(kind: str) -> None:
    readable, sentences = 0, []
    for case in range(300 if "dicom" not in kind else 150):
        try:
            image = read_image(case_file(kind, 1, case), name="scan")
        except ImageError as error:
            sentences.append(str(error))
            continue
        readable += 1
        assert image.pixels.dtype == np.uint8
        assert image.pixels.ndim == 2
    assert all("scan" in sentence and "\n" not in sentence for sentence in sentences)
    assert readable > 3
    assert len(sentences) > 30


@pytest.mark.parametrize("kind", FORMATS)
def test_sound_files_are_sound(kind: str) -> None:
    sentences = []
    for data in seed_files(kind):
        try:
            read_image(data)
        except ImageError as error:
            sentences.append(str(error))
    assert all("several frames" in sentence for sentence in sentences)
    assert len(sentences) <= 1


def test_same_seed_mutates_alike() -> None:
    assert case_file("png", 3, 7) == case_file("png", 3, 7)
    assert case_file("png", 3, 7) != case_file("png", 3, 8) != case_file("png", 4, 8)


def test_campaign_counts_every_file() -> None:
    outcome = run_campaign("bmp", 60, seed=2)
    assert outcome.files == 60
    assert 0 < outcome.images < 60
    assert outcome.trouble == ()
    assert outcome.peak > 2**20


def test_files_over_the_time_are_named_and_the_others_go_on() -> None:
    outcome = run_campaign("dicom", 3, seconds=1e-5)  # for which no DICOM file can be read
    assert [trouble.case for trouble in outcome.trouble] == [0, 1, 2]
    assert {trouble.what for trouble in outcome.trouble} == {"took more than 1e-05 s"}


def test_command_writes_its_figures(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    result = CliRunner().invoke(app, ["images", "--format", "gif", "--files", "50", "--json", str(figures)])
    assert result.exit_code == 0, result.output
    (entry,) = json.loads(figures.read_text())
    assert (entry["kind"], entry["files"], entry["trouble"]) == ("gif", 50, [])


def test_command_fails_and_keeps_the_files_that_ended_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Outcome("gif", 9, 8, 0.1, 2**20, (Trouble(4, "killed by signal 11"),))
    monkeypatch.setattr("medsharp.images.fuzz.run_campaign", lambda *a, **k: found)
    result = CliRunner().invoke(app, ["images", "--format", "gif", "--files", "9", "--keep", str(tmp_path)])
    assert result.exit_code == 1
    assert (tmp_path / "gif-0-4").read_bytes() == case_file("gif", 0, 4)


def test_unknown_format_is_a_sentence() -> None:
    result = CliRunner().invoke(app, ["images", "--format", "pgn"])
    assert "did you mean png" in str(result.exception)
