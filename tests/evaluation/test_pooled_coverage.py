"""Simulated sites are what they say, and the summaries of a few hold the truth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.evaluation.statistics import pooled_coverage
from medsharp.evaluation.statistics.pooled_coverage import Cell, draw, measure_pooling, table


def test_sites_have_the_share_and_the_spread_they_say() -> None:
    rng = np.random.default_rng(0)
    successes, totals = draw(Cell(400, 400, 0.8, 0.5), rng)
    assert (totals.min() >= 200, totals.max() <= 600) == (True, True)
    odds = np.log(successes / (totals - successes))
    assert expit(np.median(odds)) == pytest.approx(0.8, abs=0.02)
    assert odds.std() == pytest.approx(np.hypot(0.5, (0.8 * 0.2 * 400) ** -0.5), rel=0.1)


def test_images_of_a_patient_count_less_than_patients() -> None:
    _, totals = draw(Cell(60, 100, 0.8, 0.0, images=3), np.random.default_rng(0))
    # Two images a patient, pairs that correlate with 0.5: 1 + 0.5 x (0 + 2 + 6) / 6 as design effect.
    assert totals.mean() == pytest.approx(100 * 2 / (1 + 0.5 * 8 / 6), rel=0.1)


def test_summaries_cover_where_the_plain_ones_do_not() -> None:
    cells = (Cell(60, 10, 0.95, 0.0), Cell(4, 100, 0.8, 0.5), Cell(6, 80, 0.85, 0.2, figure="auroc"))
    sparse, usual, area = measure_pooling(studies=40, cells=cells)
    assert (sparse.covered > 0.85, sparse.normal < 0.2, sparse.used) == (True, True, 0)
    assert min(usual.covered, area.covered, usual.predicted) > 0.8
    header, rows = table([sparse, usual])
    assert header == ("share", "patients", "images", "0.95, tau 0", "0.8, tau 0.5")
    assert [row[:3] for row in rows] == [("60 sites", "10", "1"), ("4 sites", "100", "1")]


def test_bench_prints_a_table_of_each_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooled_coverage, "SHARES", (Cell(3, 50, 0.8, 0.0),))
    monkeypatch.setattr(pooled_coverage, "AREAS", (Cell(3, 50, 0.8, 0.0, figure="auroc"),))
    arguments = [
        "bench",
        "evaluation",
        "--pooling",
        "--studies",
        "10",
        "--markdown",
        "--json",
        str(tmp_path / "x.json"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "| share | patients | images | 0.8, tau 0 |" in result.output
    assert "| auroc | patients" in result.output
    assert [entry["studies"] for entry in json.loads((tmp_path / "x.json").read_text())] == [10, 10]


def test_two_measurements_at_once_are_refused() -> None:
    result = CliRunner().invoke(app, ["bench", "evaluation", "--pooling", "--coverage"])
    assert result.exit_code == 2
    assert "are different measurements" in result.output
