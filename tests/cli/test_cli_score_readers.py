"""`medsharp score` beside readers: which class their suspicion is of, and how their numbers are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import run


def table(classes: tuple[str, ...] = ("benign", "malignant"), images: int = 150) -> pd.DataFrame:
    """One to three images a patient; a third is of the last class, which readers find more suspicious."""
    rng = np.random.default_rng(7)
    who = np.repeat(np.arange(images), rng.integers(1, 4, images))[:images]
    place = rng.choice(len(classes), images, p=[*[0.65 / (len(classes) - 1)] * (len(classes) - 1), 0.35])
    odds = rng.normal(size=(images, len(classes)))
    odds[np.arange(images), place] += 1.3
    shares = np.exp(odds) / np.exp(odds).sum(axis=1, keepdims=True)
    suspicion = np.clip(np.round(3.2 + 0.8 * rng.normal(size=images) + (place == len(classes) - 1)), 2, 5)
    return pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(images)],
            "patient": [f"P{n}" for n in who],
            "label": np.array(classes)[place],
            **{f"p_{name}": shares[:, number] for number, name in enumerate(classes)},
            "birads": suspicion.astype(int).astype(str),
            "reader_1": np.round(20 * suspicion + rng.normal(size=images), 1),
        }
    )


def scored(folder: Path, frame: pd.DataFrame, *options: str) -> tuple[dict[str, Any], str, str]:
    frame.to_csv(folder / "t.csv", index=False)
    result = run(
        "score", folder / "t.csv", "--threshold", "0.4", "--resamples", "100", "--out", folder / "out",
        "--format", "json,md", *options,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    document = json.loads((folder / "out" / "evaluation.json").read_text(encoding="utf-8"))
    return document["datasets"][0], (folder / "out" / "report.md").read_text(encoding="utf-8"), result.output


def area(positive: np.ndarray, scores: np.ndarray) -> float:
    pairs = scores[positive][:, None] - scores[~positive][None, :]
    return float(np.mean((pairs > 0) + 0.5 * (pairs == 0)))


@pytest.mark.parametrize(
    ("classes", "positive"),
    [
        (("benign", "malignant"), "benign"),
        (("normal", "cyst", "malignant"), "cyst"),
        (("no cancer", "cancer"), "no cancer"),
        (("non-malignant", "breast_cancer"), "non-malignant"),
        (("0", "1"), "0"),
    ],
)
def test_suspicion_of_cancer_is_no_score_of_another_class(
    tmp_path: Path, classes: tuple[str, ...], positive: str
) -> None:
    found, report, printed = scored(tmp_path, table(classes), "--positive", positive)
    readers = found["readers"]
    reason = f"readers say how suspicious of cancer an image is, not how surely it is {positive}"
    assert [reader["reason"] for reader in readers["readers"]] == [reason, reason]
    assert not any({"auroc", "cutoffs"} & set(reader) for reader in readers["readers"])
    assert readers["mrmc"] is None
    for text in (report, printed):
        assert "BI-RADS is not compared: readers say how suspicious of cancer" in " ".join(text.split())
        assert "worse than chance" not in text
    assert "sensible" not in found["curves"]["net_benefit"]


@pytest.mark.parametrize(
    "classes", [("benign", "malignant"), ("benign", "normal", "Malignant"), ("no cancer", "cancer"), ("0", "1")]
)
def test_suspicion_is_a_score_of_the_suspicious_class(tmp_path: Path, classes: tuple[str, ...]) -> None:
    frame = table(classes)
    found, *_ = scored(tmp_path, frame, "--positive", classes[-1])
    birads = found["readers"]["readers"][0]
    truth = (frame["label"] == classes[-1]).to_numpy()
    assert birads["auroc"]["value"] == pytest.approx(area(truth, frame["birads"].astype(float).to_numpy()))
    assert birads["auroc"]["value"] > 0.6
    assert found["readers"]["mrmc"]["readers"] == ["BI-RADS", "reader 1"]
    assert found["curves"]["net_benefit"]["sensible"] == [0.02, 0.1]


def test_decimal_commas_of_readers_are_read_as_those_of_the_model(tmp_path: Path) -> None:
    """A cell that is no number, a whole number and an empty cell stand among them."""
    frame = table()
    expected = frame["reader_1"].to_numpy(dtype=float, copy=True)
    expected[[5, 9]] = np.nan
    expected[11] = 60
    cells = frame["reader_1"].map(lambda value: f"{value:.1f}".replace(".", ","))
    cells[[5, 9, 11]] = ["?", "", "60"]
    found, *_ = scored(tmp_path, frame.assign(reader_1=cells, p_malignant=comma(frame), p_benign=comma(frame, True)))
    reader = found["readers"]["readers"][1]
    read = np.isfinite(expected)
    truth = (frame["label"] == "malignant").to_numpy()
    assert reader["images"] == 148
    assert reader["left_out"] == {"not read": 1, "no number: '?'": 1}
    assert reader["auroc"]["value"] == pytest.approx(area(truth[read], expected[read]))


def comma(frame: pd.DataFrame, other: bool = False) -> pd.Series:
    return frame["p_malignant"].map(lambda value: f"{1 - value if other else value:.6f}".replace(".", ","))
