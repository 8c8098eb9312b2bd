"""`medsharp score --by` of a column of numbers in which some images have none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import refused, run

IMAGES = 160


def grouped(folder: Path, column: list[str], by: str = "age") -> dict[str, int]:
    """Score a table with this column; return how many images each of its groups has."""
    rng = np.random.default_rng(3)
    labels = rng.random(IMAGES) < 0.4
    scores = 1 / (1 + np.exp(-(1.5 * labels - 1 + rng.normal(size=IMAGES))))
    frame = pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(IMAGES)],
            "patient": [f"P{n // 2}" for n in range(IMAGES)],
            "label": np.where(labels, "malignant", "benign"),
            "p_benign": 1 - scores,
            "p_malignant": scores,
            "age": column,
        }
    )
    frame.to_csv(folder / "t.csv", index=False)
    options = ["--threshold", "0.4", "--resamples", "100", "--by", by, "--out", folder / "out", "--format", "json"]
    result = run("score", folder / "t.csv", *options)
    assert result.exit_code == 0, result.output
    entry = json.loads((folder / "out" / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]
    return {group["group"]: group["images"] for group in entry["subgroups"] if group["by"] == "age"}


def ages() -> np.ndarray:
    return 20 + np.random.default_rng(1).integers(0, 60, IMAGES)


@pytest.mark.parametrize("word", ["unknown", "n/a", "-", "Keine Angabe", "inf", ""])
def test_a_word_for_nothing_among_numbers_leaves_thirds(tmp_path: Path, word: str) -> None:
    numbers = ages()
    cells = list(map(str, numbers))
    cells[5] = cells[40] = cells[41] = word
    found = grouped(tmp_path, cells)
    known = np.delete(numbers, [5, 40, 41])
    low, high = np.quantile(known, [1 / 3, 2 / 3])
    middle = ((known > low) & (known <= high)).sum()
    assert list(found.values()) == [(known <= low).sum(), middle, (known > high).sum(), 3]
    assert [name.split()[0] for name in found] == ["lowest", "middle", "highest", "not"]


def test_words_for_nothing_are_not_cut(tmp_path: Path) -> None:
    numbers = ages()
    cells = [f"{value},5" for value in numbers]
    cells[7], cells[8], cells[9] = "unbekannt", "", "45"
    numbers[9] = 44.5
    found = grouped(tmp_path, cells, "age:40,50")
    known = np.delete(numbers + 0.5, [7, 8])
    known[7] = 45
    assert found == {
        "below 40": (known < 40).sum(),
        "40 to below 50": ((known >= 40) & (known < 50)).sum(),
        "50 or above": (known >= 50).sum(),
        "not recorded": 2,
    }


def test_few_numbers_are_categories_and_words_for_nothing_are_one_group(tmp_path: Path) -> None:
    cells = [("1", "2", "2", "3")[n % 4] for n in range(IMAGES)]
    cells[0], cells[1], cells[2] = "unknown", "?", ""
    assert grouped(tmp_path, cells) == {"1": 39, "2": 78, "3": 40, "not recorded": 3}
    # Among names such a word may mean what it says: calcifications are none.
    cells = [("none", "coarse", "fine", "fine")[n % 4] for n in range(IMAGES)]
    assert grouped(tmp_path, cells) == {"coarse": 40, "fine": 80, "none": 40}


def test_a_value_that_cannot_be_cut_is_named(tmp_path: Path) -> None:
    cells = list(map(str, ages()))
    grouped(tmp_path, cells)
    frame = pd.read_csv(tmp_path / "t.csv", dtype={"age": str})
    frame.loc[12, "age"] = "forty"
    frame.to_csv(tmp_path / "t.csv", index=False)
    refused(run("score", tmp_path / "t.csv", "--threshold", "0.4", "--by", "age:40"), "12.png: age is 'forty'")
