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


def collapsed(folder: Path, name: str) -> Path:
    """Predictions of a model that gives every image the same probability."""
    frame = pd.read_csv(folder / "sgd-0" / "predictions.csv").assign(p_benign=0.75, p_malignant=0.25)
    (folder / name).mkdir()
    frame.to_csv(folder / name / "predictions.csv", index=False)
    return folder / name / "predictions.csv"


def test_a_model_that_does_not_rank_is_told_and_not_tested(folder: Path) -> None:
    good, same = folder / "sam-0" / "predictions.csv", collapsed(folder, "collapsed")
    options = ["--margin", "0.02", "--out", folder / "out", "--resamples", "100"]
    for files in ((good, same), (same, good)):
        result = run("compare", *files, *options)
        assert result.exit_code == 0, result.output
        pair = json.loads((folder / "out" / "comparison.json").read_text(encoding="utf-8"))["pairs"][0]
        area = pair["figures"]["auroc"]
        nothing = {"standard_error": None, "low": None, "high": None, "p": None}
        assert area["delong"] == area["obuchowski"] == nothing
        assert [area[key] for key in ("value", "low", "high", "p", "p_holm")] == [None] * 5
        assert (
            "cannot be compared: it does not exist for 'collapsed': every image has the same" in pair["conclusions"][0]
        )
        assert pair["non_inferiority"]["verdict"] == "not tested"
        # Decisions are there, and are compared.
        found = pair["figures"]["sensitivity"]
        assert 0 in (found["first"], found["second"])
        assert found["p_holm"] < 0.05


def test_one_collapsed_seed_leaves_its_group_without_a_mean_area(folder: Path) -> None:
    collapsed(folder, "sam-2")
    options = [f"--group={name}={folder}/{name}-*/predictions.csv" for name in ("sgd", "sam")]
    result = run("compare", *options, "--out", folder / "out", "--resamples", "200")
    assert result.exit_code == 0, result.output
    document = json.loads((folder / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert "cannot be compared: it does not exist for 'sam-2'" in document["pairs"][0]["conclusions"][0]
    assert document["pairs"][0]["figures"]["sensitivity"]["value"] is not None
    assert document["groups"][0]["figures"]["auroc"]["value"] > 0.5
    assert document["groups"][1]["figures"]["auroc"]["value"] is None


def rewritten(file: Path, **columns: object) -> pd.DataFrame:
    frame = pd.read_csv(file).drop(columns="patient").assign(**columns)
    frame.to_csv(file, index=False)
    return frame


def compared(out: Path, *files: Path) -> dict:
    result = run("compare", *files, "--out", out, "--resamples", "1000")
    assert result.exit_code == 0, result.output
    return json.loads((out / "comparison.json").read_text(encoding="utf-8"))


def test_what_belongs_together_is_taken_from_every_table_whichever_comes_first(folder: Path) -> None:
    """One table has no patients, one those of the first half and a few sites, one those of the second half."""
    a, b, c = (folder / name / "predictions.csv" for name in ("sgd-0", "sam-0", "sgd-1"))
    number = np.arange(120)
    patients, sites = np.array([f"P{n // 7 % 11}" for n in number]), np.where(number < 50, "north", "south")
    rewritten(a)
    half = rewritten(b, patient=np.where(number < 60, patients, ""), site=np.where(number % 2 == 0, sites, "n/a"))
    half.iloc[::-1].to_csv(b, index=False)
    # Spelled otherwise, and the same.
    rewritten(
        c, patient=np.where(number < 55, "unknown", np.char.lower(patients)), site=np.where(number % 2, sites, "")
    )
    forth, back = compared(folder / "forth", a, b, c), compared(folder / "back", c, b, a)
    assert forth["counts"]["clusters"] == back["counts"]["clusters"] == len(set(zip(patients, sites, strict=True)))
    assert forth["counts"]["patients_known"]
    for key in ("auroc", "sensitivity", "brier"):
        one, other = forth["pairs"][0]["figures"][key], back["pairs"][2]["figures"][key]
        assert (one["first"], one["second"]) == (other["second"], other["first"])
        assert one["low"] == pytest.approx(-other["high"])
        assert one["high"] == pytest.approx(-other["low"])
        assert one["p"] == other["p"] or one["p"] == pytest.approx(other["p"])


@pytest.mark.parametrize("column", ["patient", "site", "group", "sha256"])
def test_tables_that_disagree_on_what_belongs_together_are_refused(folder: Path, column: str) -> None:
    a, b = (folder / name / "predictions.csv" for name in ("sgd-0", "sam-0"))
    cells = np.array([f"k{n // 5}" for n in range(120)], dtype=object)
    rewritten(a, **{column: cells})
    cells[[33, 47]] = "other"
    rewritten(b, **{column: cells})
    words = f"33.png has {column} 'k6' in sgd-0, but 'other' in sam-0 (2 such images)"
    refused(run("compare", a, b, "--out", folder / "out"), words)
    assert not (folder / "out").exists()
