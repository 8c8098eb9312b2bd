"""`medsharp score` takes the tables that other tools write, and says in one sentence what is wrong with one.

Mutants that must die: logits of the wrong class, the rest given to the wrong class, scores turned, a threshold on
another scale, calibration of scores given after all, readers of a long table exchanged.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import command_line
import numpy as np
import pandas as pd
import pytest
from typer.testing import Result

NEEDS_A_PROBABILITY = (
    "net_benefit_at_threshold",
    "net_benefit_gain_at_threshold",
    "aurc",
    "brier",
    "log_loss",
    "calibration_intercept",
    "calibration_slope",
    "ece",
    "calibration_error",
)


def run(table: Path, *arguments: str) -> Result:
    return command_line.run("score", table, "--resamples", "100", *arguments)


def scored(table: pd.DataFrame, folder: Path, name: str, *arguments: str) -> dict[str, Any]:
    path = folder / name
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
        table.to_parquet(path)
    else:
        {".csv": table.to_csv, ".xlsx": table.to_excel}[path.suffix](path, index=False)
    out = folder / f"{path.stem}-out"
    result = run(path, "--out", str(out), "--format", "html,md,json,csv", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads((out / "evaluation.json").read_text(encoding="utf-8"))["datasets"][0]


def sentence(table: pd.DataFrame, folder: Path, *arguments: str) -> str:
    table.to_csv(folder / "wrong.csv", index=False)
    out = folder / "out"
    result = run(folder / "wrong.csv", "--out", str(out), *arguments)
    assert result.exit_code == 2, result.output
    assert not out.exists()
    return " ".join(result.output.split())


@pytest.fixture(scope="module")
def images() -> pd.DataFrame:
    """Images of two sites with logits; one to two a patient, a third positive."""
    rng = np.random.default_rng(2)
    who = np.repeat(np.arange(70), rng.integers(1, 3, 70))
    labels = (rng.random(70) < 0.35)[who]
    logit = np.round(1.6 * labels - 1 + rng.normal(size=len(who)), 2)
    return pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(len(who))],
            "patient": who,
            "site": np.where(who % 2 == 0, "north", "south"),
            "label": np.where(labels, "malignant", "benign"),
            "logit": logit,
        }
    )


@pytest.fixture(scope="module")
def plain(images: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the table of probabilities gives."""
    p = 1 / (1 + np.exp(-images["logit"]))
    table = images.drop(columns="logit").assign(p_benign=1 - p, p_malignant=p)
    return scored(table, tmp_path_factory.mktemp("plain"), "t.csv", "--threshold", "0.4")


SHAPES: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "logit": lambda t: t,
    "both logits": lambda t: t.assign(logit_malignant=t["logit"] + 1.5, logit_benign=1.5).drop(columns="logit"),
    "one logit": lambda t: t.rename(columns={"logit": "logit_malignant"}),
    "logit of the other": lambda t: t.assign(logit_benign=-t["logit"]).drop(columns="logit"),
    "one probability": lambda t: t.assign(p_malignant=1 / (1 + np.exp(-t["logit"]))).drop(columns="logit"),
    "of the other": lambda t: t.assign(p_benign=1 / (1 + np.exp(t["logit"]))).drop(columns="logit"),
    "probability": lambda t: t.assign(Probability=1 / (1 + np.exp(-t["logit"]))).drop(columns="logit"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_probabilities_and_logits_of_every_shape_give_the_same_figures(
    shape: str, images: pd.DataFrame, plain: dict[str, Any], tmp_path: Path
) -> None:
    found = scored(SHAPES[shape](images), tmp_path, "t.csv", "--threshold", "0.4")
    for name, figure in plain["figures"].items():
        for key in ("value", "low", "high"):
            assert found["figures"][name][key] == (
                None if figure[key] is None else pytest.approx(figure[key], abs=1e-6)
            )
    assert found["operating_point"] == plain["operating_point"]


@pytest.mark.parametrize("shape", SHAPES)
def test_compare_and_plan_take_the_same_shapes(shape: str, images: pd.DataFrame, tmp_path: Path) -> None:
    tables = {"other": images.assign(logit=0.5 * images["logit"] - 0.3), "shaped": images, "plain": images}
    tables = {name: table.assign(threshold=0.4) for name, table in tables.items()}
    for name, table in tables.items():
        written = SHAPES["one probability" if name == "plain" else shape](table)
        written.to_csv(tmp_path / f"{name}.csv", index=False)
    found = []
    for name in ("shaped", "plain"):
        (tmp_path / name).mkdir()
        pair = [tmp_path / f"{one}.csv" for one in ("other", name)]
        for command in (
            ["compare", *pair, "--resamples", "100", "--out", tmp_path / name],
            ["plan", "--from", tmp_path / f"{name}.csv", "--out", tmp_path / name],
        ):
            result = command_line.run(*command)
            assert result.exit_code == 0, result.output
        compared, planned = (
            json.loads((tmp_path / name / f"{what}.json").read_text()) for what in ("comparison", "plan")
        )
        figures = compared["pairs"][0]["figures"]
        found.append(
            [figures["auroc"]["value"], figures["brier"]["low"], figures["sensitivity"]["second"]]
            + [one["patients"] for one in planned["criteria"]]
        )
    assert found[0] == pytest.approx(found[1], abs=1e-9)


def test_tables_of_scores_are_ranked_by_score_alone(images: pd.DataFrame, tmp_path: Path) -> None:
    p = 1 / (1 + np.exp(-images["logit"]))
    probabilities = images.assign(probability=p, threshold=0.4).drop(columns="logit")
    probabilities.to_csv(tmp_path / "p.csv", index=False)
    images.rename(columns={"logit": "score"}).assign(threshold=0.4).to_csv(tmp_path / "s.csv", index=False)
    words = "s.csv has scores, no probabilities; `medsharp score` ranks such tables"
    command_line.refused(command_line.run("compare", tmp_path / "p.csv", tmp_path / "s.csv"), words)
    command_line.refused(command_line.run("plan", "--from", tmp_path / "s.csv"), words)
    calibrated = command_line.run("score", tmp_path / "p.csv", "--calibration", tmp_path / "s.csv")
    command_line.refused(calibrated, words)


@pytest.mark.parametrize("name", ["t.xlsx", "t.parquet"])
def test_excel_and_parquet_give_what_the_csv_gives(
    name: str, images: pd.DataFrame, plain: dict[str, Any], tmp_path: Path
) -> None:
    found = scored(images, tmp_path, name, "--threshold", "0.4")
    assert found["figures"]["brier"]["low"] == pytest.approx(plain["figures"]["brier"]["low"], abs=1e-9)
    assert found["counts"]["patients"] == 70


def test_scores_are_ranked_and_thresholded_and_nothing_is_said_of_probabilities(
    images: pd.DataFrame, plain: dict[str, Any], tmp_path: Path
) -> None:
    cut = 100 + 7 * np.log(0.4 / 0.6)
    table = images.assign(score=100 + 7 * images["logit"]).drop(columns="logit")
    found = scored(table, tmp_path, "t.csv", "--threshold", str(cut))
    for name in ("auroc", "auprc", "partial_auroc", "sensitivity", "specificity", "ppv", "npv", "lr_positive"):
        for key in ("value", "low", "high", "n"):
            assert found["figures"][name][key] == pytest.approx(plain["figures"][name][key], abs=1e-9), name
    assert found["auroc_intervals"]["obuchowski"] == pytest.approx(plain["auroc_intervals"]["obuchowski"])
    assert found["scale"] == "score"
    assert found["threshold"] == found["operating_point"]["threshold"] == pytest.approx(cut)
    counts = {key: value for key, value in plain["operating_point"].items() if key != "threshold"}
    assert {key: found["operating_point"][key] for key in counts} == counts
    groups = [found["figures"], *(group for group in found["subgroups"] if "brier" in group)]
    assert len(groups) == 3
    for figures in groups:
        for name in NEEDS_A_PROBABILITY:
            assert figures[name]["value"] is None
            assert figures[name]["reason"] == "the table has scores, no probabilities"
    assert set(found["curves"]) == {"roc", "precision_recall", "histogram"}
    histogram = found["curves"]["histogram"]
    assert (histogram["edges"][0], histogram["edges"][-1]) == (table["score"].min(), table["score"].max())
    assert sum(histogram["positive"]) == (table["label"] == "malignant").sum()
    assert found["curves"]["roc"]["threshold"][1] == table["score"].max()
    missed = found["failures"]["missed"]["images"][0]
    assert missed["score"] == table.loc[table["label"] == "malignant", "score"].min()
    for name in ("report.html", "report.md"):
        text = (tmp_path / "t-out" / name).read_text(encoding="utf-8")
        assert "the table has scores, no probabilities" in text
        assert "Decision curve" not in text
        assert "score" in text


def test_any_column_may_be_named_as_the_score_even_beside_probabilities(
    images: pd.DataFrame, plain: dict[str, Any], tmp_path: Path
) -> None:
    table = images.assign(p_benign=0.5, p_malignant=0.5, margin=images["logit"] ** 3)
    found = scored(table, tmp_path, "t.csv", "--score", "margin", "--threshold", "0")
    assert found["figures"]["auroc"]["value"] == pytest.approx(plain["figures"]["auroc"]["value"])


def test_a_score_that_equals_the_threshold_reaches_it(images: pd.DataFrame, tmp_path: Path) -> None:
    table = images.rename(columns={"logit": "score"})
    cut = table["score"][table["label"] == "malignant"].iloc[0]
    found = scored(table, tmp_path, "t.csv", "--threshold", str(cut))
    called = table["score"] >= cut
    assert found["operating_point"]["true_positives"] == (called & (table["label"] == "malignant")).sum()
    assert found["operating_point"]["false_positives"] == (called & (table["label"] == "benign")).sum()


def test_scores_that_none_reaches_call_nobody(images: pd.DataFrame, tmp_path: Path) -> None:
    table = images.rename(columns={"logit": "score"})
    found = scored(table, tmp_path, "t.csv", "--threshold", "99")
    assert found["operating_point"]["true_positives"] == found["operating_point"]["false_positives"] == 0
    assert found["figures"]["ppv"]["reason"] == "no image reaches the threshold"


def long(images: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(8)
    rows = []
    for place, reader in enumerate(("Ann", "Bob")):
        judged = images["logit"] * (1 - place / 2) + rng.normal(size=len(images)) * (0.4 + place)
        said = np.array(["2", "3", "4A", "4C"])[np.digitize(judged, [-1, 0, 1])]
        rows.append(images.assign(radiologist=reader, **{"BI-RADS": said}, remark=f"by {reader}"))
    return pd.concat(rows).sort_values("image", kind="stable").iloc[:-1]


def test_a_row_for_each_reader_is_what_a_column_for_each_is(images: pd.DataFrame, tmp_path: Path) -> None:
    rows = long(images)
    found = scored(rows, tmp_path, "long.csv", "--threshold", "0.4")
    wide = images.copy()
    for reader in ("Ann", "Bob"):
        said = rows[rows["radiologist"] == reader].set_index("image")["BI-RADS"]
        wide[f"birads_{reader}"] = said.reindex(wide["image"]).fillna("").to_numpy()
    other = scored(wide, tmp_path, "wide.csv", "--threshold", "0.4")
    assert found["readers"]["mrmc"] == other["readers"]["mrmc"]
    assert [reader["name"] for reader in found["readers"]["readers"]] == ["BI-RADS, Ann", "BI-RADS, Bob"]
    first, second = found["readers"]["readers"]
    assert first["auroc"]["value"] > second["auroc"]["value"] + 0.05, "readers are told apart"
    assert (first["left_out"], second["left_out"]) == ({}, {"not read": 1})
    assert found["counts"]["images"] == len(images)


def test_readers_are_compared_at_each_rows_own_threshold(images: pd.DataFrame, tmp_path: Path) -> None:
    table = images.assign(
        threshold=np.where(images["site"] == "north", 0.3, 0.6), reader_1=np.round(images["logit"]).astype(int)
    )
    reader = scored(table, tmp_path, "t.csv")["readers"]["readers"][0]
    positive = table["label"] == "malignant"
    called = 1 / (1 + np.exp(-table["logit"])) >= table["threshold"]
    row = next(row for row in reader["cutoffs"] if row["from"] == "1")
    assert row["model_sensitivity"]["value"] == pytest.approx(called[positive].mean())
    assert row["sensitivity_difference"]["value"] == pytest.approx(
        called[positive].mean() - (table["reader_1"] >= 1)[positive].mean()
    )
    assert row["specificity_difference"]["value"] == pytest.approx(
        (~called)[~positive].mean() - (table["reader_1"] < 1)[~positive].mean()
    )
    logit = table["logit"].to_numpy()
    pairs = logit[positive][:, None] - logit[~positive]
    assert reader["model_auroc"]["value"] == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)), abs=1e-9)


def test_what_is_wrong_is_one_sentence(images: pd.DataFrame, tmp_path: Path) -> None:
    score = images.rename(columns={"logit": "score"})
    rows = long(images)
    wrong = [
        (score, [], "has no column threshold with numbers"),
        (score, ["--threshold", "nan"], "is no number on the scale of the scores"),
        (images, ["--threshold", "1.5"], "--threshold 1.5 is no probability between 0 and 1"),
        (score.astype({"score": object}).replace({"score": {score["score"][3]: "high"}}), ["--threshold", "0"],
         "score is 'high', not a number"),
        (score.assign(score=score["score"].mask(score.index == 4)), ["--threshold", "0"],
         "row 6: 4.png has a score that is missing or not finite"),
        (score, ["--threshold", "0", "--positive", "cancer"], "'cancer' is not among benign, malignant"),
        (score, ["--threshold", "0", "--score", "scores"], "has no column 'scores'; did you mean score?"),
        (images.rename(columns={"logit": "margin"}), ["--threshold", "0"],
         "or another column of scores that --score names"),
        (images.assign(label=["normal", *images["label"][1:]]), ["--threshold", "0.4"],
         "has 'logit' of malignant alone, which says what is left for one other class"),
        (score.assign(threshold=np.arange(len(score))), [], "thresholds; scores of one scale have one"),
        (rows.assign(radiologist="Ann"), ["--threshold", "0.4"], "stands twice for radiologist 'Ann'"),
        (rows.assign(radiologist=["", *rows["radiologist"][1:]]), ["--threshold", "0.4"],
         "row 2: the radiologist is not named"),
        (rows.assign(logit=[9, *rows["logit"][1:]]), ["--threshold", "0.4"],
         "rows of one image may differ in radiologist and BI-RADS alone"),
        (rows.drop(columns="BI-RADS"), ["--threshold", "0.4"], "needs one column birads or rating with what they said"),
    ]  # fmt: skip
    for table, arguments, part in wrong:
        assert part in sentence(table, tmp_path, *arguments)


def test_prediction_sets_need_probabilities(images: pd.DataFrame, tmp_path: Path) -> None:
    images.to_csv(tmp_path / "other.csv", index=False)
    said = sentence(
        images.rename(columns={"logit": "score"}), tmp_path, "--threshold", "0", "--calibration",
        str(tmp_path / "other.csv"),
    )  # fmt: skip
    assert "--calibration needs probabilities" in said
