"""`medsharp bench data`: the search for near-duplicates is measured where it must find what is there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.data import open_dataset
from medsharp.data.benchmark import duplicates, measure_crops, measure_duplicates, measure_manifests
from medsharp.data.benchmark.duplicates import planted_hashes
from medsharp.data.duplicates import DISTANCE, NearPairs


def test_all_planted_pairs_are_found_and_nothing_else_than_by_all_pairs() -> None:
    section = measure_duplicates([600, 1200])
    told = [dict(zip(section.columns, row, strict=True)) for row in section.rows]
    assert [row["planted found"] for row in told] == ["30 of 30", "60 of 60"]
    assert [row["same as all pairs"] for row in told] == ["yes", "yes"]


def test_a_search_that_misses_a_pair_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    search = duplicates.near_pairs

    def lame(bits: np.ndarray, distance: int) -> NearPairs:
        return search(bits, distance).where(search(bits, distance).distance < DISTANCE)

    monkeypatch.setattr(duplicates, "near_pairs", lame)
    row = dict(zip(measure_duplicates([2000]).columns, measure_duplicates([2000]).rows[0], strict=True))
    assert row["same as all pairs"] == "NO"
    assert row["planted found"] != "100 of 100"


def test_planted_pairs_are_as_near_as_they_are_said_to_be() -> None:
    hashes = planted_hashes(1000, np.random.default_rng(3))
    words = hashes.bits.view(np.uint64)
    one, other = hashes.pairs.T
    apart = np.bitwise_count(words[one] ^ words[other]).sum(axis=-1)[:, 0]
    crossed = np.bitwise_count(words[one, 0] ^ words[other, 1]).sum(axis=-1)
    assert (np.minimum(apart, crossed) <= DISTANCE).all()
    assert (apart > DISTANCE).sum() == len(hashes.pairs) // 2
    assert np.unpackbits(hashes.bits).mean() == pytest.approx(0.47, abs=0.03)


def test_crops_are_made_and_found_again(tmp_path: Path) -> None:
    for number in range(20):
        rng = np.random.default_rng(number)
        layers = [gaussian_filter(rng.normal(size=(120, 150)), sigma) * sigma for sigma in (1.2, 2.5, 5, 12)]
        folder = tmp_path / ("benign" if number % 2 else "malignant")
        folder.mkdir(exist_ok=True)
        Image.fromarray((90 + 25 * sum(layers)).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    section = measure_crops([open_dataset(tmp_path)])
    assert [row[1] for row in section.rows] == ["4", "4", "4"]
    assert sum(int(row[2]) for row in section.rows) >= 10
    assert section.notes[0].startswith("precision 100.0%")


def test_manifests_are_read_tied_and_split_by_their_shares() -> None:
    section = measure_manifests([400, 2000])
    told = [dict(zip(section.columns, row, strict=True)) for row in section.rows]
    assert [row["images"] for row in told] == ["400", "2,000"]
    for row in told:
        assert float(row["test"].rstrip("%")) == pytest.approx(15, abs=3)
        assert float(row["malignant in test"].rstrip("%")) == pytest.approx(30, abs=8)
        assert float(row["tie, s"]) >= 0


def test_command_prints_the_table_and_writes_figures(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    result = CliRunner().invoke(app, ["bench", "data", "--part", "duplicates", "--images", "300", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "15 of 15" in result.output
    told = json.loads(file.read_text())
    assert told[0]["rows"][0]["images"] == "300"
    refused = CliRunner().invoke(app, ["bench", "data", "--json", str(tmp_path)])
    assert refused.exit_code == 2
