"""`medsharp compare` and `medsharp score` as their user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import refused, run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = rng.random(120) < 0.4
    for name, noise in (("sgd-0", 1.5), ("sgd-1", 1.4), ("sam-0", 0.8), ("sam-1", 0.9)):
        scores = 1 / (1 + np.exp(-(2 * labels - 1 + noise * rng.normal(size=120))))
        (tmp_path / name).mkdir()
        pd.DataFrame(
            {
                "image": [f"{n}.png" for n in range(120)],
                "patient": [f"P{n // 2}" for n in range(120)],
                "label": np.where(labels, "malignant", "benign"),
                "p_benign": 1 - scores,
                "p_malignant": scores,
                "threshold": 0.4,
            }
        ).to_csv(tmp_path / name / "predictions.csv", index=False)
    return tmp_path


def test_two_tables_are_compared_and_written(folder: Path) -> None:
    files = [folder / name / "predictions.csv" for name in ("sgd-0", "sam-0")]
    result = run("compare", *files, "--margin", "0.02", "--out", folder / "out", "--resamples", "200")
    assert result.exit_code == 0, result.output
    assert "sam-0 is non-inferior to sgd-0" in result.output
    document = json.loads((folder / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert document["pairs"][0]["non_inferiority"]["verdict"] == "non-inferior"
    assert (folder / "out" / "comparison.md").exists()
    assert (folder / "out" / "comparison.html").exists()


def test_groups_of_seeds_are_compared(folder: Path) -> None:
    options = [f"--group={name}={folder}/{name}-*/predictions.csv" for name in ("sgd", "sam")]
    result = run("compare", *options, "--out", folder / "out", "--resamples", "200")
    assert result.exit_code == 0, result.output
    document = json.loads((folder / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert [len(group["models"]) for group in document["groups"]] == [2, 2]
    assert document["pairs"][0]["figures"]["auroc"]["p_method"] == "t test over patients and seeds"


def test_compare_refuses_with_a_sentence_and_writes_nothing(folder: Path) -> None:
    file, other = (folder / name / "predictions.csv" for name in ("sgd-0", "sam-0"))
    out = ["--out", folder / "out"]
    refused(run("compare", file, *out), "at least two models")
    refused(run("compare", file, folder / "no.csv", *out), "no.csv")
    refused(run("compare", file, file, *out), "given twice")
    refused(run("compare", file, other, "--margin", "2", *out), "margin is 2")
    refused(run("compare", file, "--group", "sam", *out), "name=glob")
    refused(run("compare", file, "--group", "sam=nowhere/*.csv", *out), "no file matches")
    refused(run("compare", file, other, "--positive", "cancer", *out), "cancer")
    table = pd.read_csv(other)
    table.iloc[5:].to_csv(other, index=False)
    refused(run("compare", file, other, *out), "sam-0 lacks a prediction of 0.png, which sgd-0 has (5 such images)")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"p_malignant": 1.5}, "outside 0 to 1"),
        ({"p_malignant": 0.9, "p_benign": 0.9}, "do not sum to 1"),
        ({"p_malignant": np.nan}, "missing or not finite"),
        ({"label": ""}, "has no label"),
        ({"label": "cyst"}, "not one of"),
        ({"image": "1.png"}, "stands twice"),
    ],
)
def test_score_and_compare_refuse_the_same_wrong_rows(folder: Path, change: dict[str, object], words: str) -> None:
    file, other = (folder / name / "predictions.csv" for name in ("sgd-0", "sam-0"))
    table = pd.read_csv(file)
    for column, value in change.items():
        table.loc[7, column] = value
    table.to_csv(file, index=False)
    refused(run("score", file, "--out", folder / "out"), words)
    refused(run("compare", other, file, "--out", folder / "out"), words)
    assert not (folder / "out").exists()


def test_few_resamples_give_a_spread_and_not_limits_from_their_thin_tails(folder: Path) -> None:
    file = folder / "sgd-0" / "predictions.csv"
    for count, made in ((999, "normal"), (1000, "BCa")):
        result = run("score", file, "--interval", "bca", "--resamples", count, "--out", folder / "out")
        assert result.exit_code == 0, result.output
        entry = json.loads((folder / "out" / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]
        assert entry["figures"]["auroc"]["method"] == f"patient bootstrap, {made}"


def test_score_refuses_one_class(folder: Path) -> None:
    file = folder / "sgd-0" / "predictions.csv"
    pd.read_csv(file).assign(label="benign").to_csv(file, index=False)
    refused(run("score", file), "one class only")
    refused(run("compare", file, folder / "sam-0" / "predictions.csv"), "benign")


def test_score_gives_bca_a_stated_prevalence_and_prediction_sets(folder: Path) -> None:
    file, other = (folder / name / "predictions.csv" for name in ("sgd-0", "sgd-1"))
    pd.read_csv(file).assign(site=["Cairo", "Rio"] * 60).to_csv(file, index=False)
    result = run(
        *("score", file, "--interval", "bca", "--prevalence", "0.02", "--calibration", other, "--alpha", "0.2"),
        *("--resamples", "1000", "--out", folder / "out"),
    )
    assert result.exit_code == 0, result.output
    entry = json.loads((folder / "out" / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]
    groups = [group for group in entry["subgroups"] if group["by"] == "site"]
    assert groups
    sets = entry["conformal"]["marginal"]
    for part in (entry["figures"]["auroc"], sets["set_size"], *(group["auroc"] for group in groups)):
        assert part["method"] == "patient bootstrap, BCa"
    assert entry["stated_prevalence"] == 0.02
    assert entry["conformal"]["alpha"] == 0.2
    refused(run("score", file, "--calibration", other, "--alpha", "1"), "alpha is 1")
    refused(run("score", file, "--prevalence", "0"), "prevalence 0")
