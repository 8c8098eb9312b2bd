"""Groups by any column, and tests of whether they differ: against brute force, Cochran's Q and statsmodels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner, Result

from medsharp.cli import app
from medsharp.errors import InputError
from medsharp.evaluation.grouping import Grouping, groups_by, parse_groupings
from medsharp.evaluation.interactions import interactions_of, wald
from medsharp.evaluation.statistics.figures import Cases
from medsharp.evaluation.subgroups import groups_of

FIGURES = ("auroc", "sensitivity", "specificity", "calibration_intercept", "calibration_slope")


def images(patients: int = 400, seed: int = 2) -> pd.DataFrame:
    """One to three images a patient; the dense are found less well, sides of a patient are alike."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    y = (rng.random(patients) < 0.4)[who]
    dense = (rng.random(patients) < 0.35)[who]
    odds = np.where(dense, 0.3, 2.4) * y - 1 + rng.normal(size=patients)[who] + 0.3 * rng.normal(size=len(who))
    p = 1 / (1 + np.exp(-odds))
    followed = np.zeros(len(who), dtype=bool)
    followed[np.r_[np.flatnonzero(y)[:8], np.flatnonzero(~y)[:22]]] = True
    return pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(len(who))],
            "patient": [f"P{number}" for number in who],
            "label": np.where(y, "malignant", "benign"),
            "p_benign": 1 - p,
            "p_malignant": p,
            "tissue": np.where(dense, "dense", "fatty"),
            "device": np.where(dense, "A", "B"),  # makes groups of itself, and is not asked for
            "side": rng.choice(["left", "right"], len(who)),
            "age": [str(30 + number % 50) if number % 11 else "" for number in who],
            "verification": np.where(followed, "follow-up", "biopsy"),
        }
    )


def interactions_by(rows: pd.DataFrame, cases: Cases, resamples: int, rng: np.random.Generator) -> dict[str, Any]:
    """The tests of the one column of a table."""
    by = (Grouping(str(rows.columns[0])),)
    return dict(interactions_of(groups_of(rows, cases, resamples=resamples, rng=rng, by=by), by)[0]["figures"])


def command(path: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["score", str(path), "--threshold", "0.4", *options])


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return images()


@pytest.fixture(scope="module")
def path(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grouped") / "table.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def entry(path: Path) -> dict[str, Any]:
    options = ("--by", "age:40,50,60,tissue", "--by", "side,verification", "--format", "json,md,html")
    result = command(path, *options, "--out", str(path.parent / "out"))
    assert result.exit_code == 0, result.output
    (entry,) = json.loads((path.parent / "out" / "evaluation.json").read_text())["datasets"]
    return dict(entry)


def test_numbers_are_cut_and_categories_are_as_they_are(entry: dict[str, Any], table: pd.DataFrame) -> None:
    told = {(group["by"], group["group"]): group["images"] for group in entry["subgroups"]}
    age = pd.to_numeric(table["age"])
    expected = {
        ("age", "below 40"): (age < 40).sum(),
        ("age", "40 to below 50"): ((age >= 40) & (age < 50)).sum(),
        ("age", "50 to below 60"): ((age >= 50) & (age < 60)).sum(),
        ("age", "60 or above"): (age >= 60).sum(),
        ("age", "not recorded"): age.isna().sum(),
    }
    for column in ("tissue", "side", "verification", "device"):
        expected |= {(column, name): (table[column] == name).sum() for name in set(table[column])}
    assert told == expected


def test_the_test_is_cochrans_q_where_groups_share_no_patient(entry: dict[str, Any], table: pd.DataFrame) -> None:
    found = {column["by"]: column["figures"] for column in entry["interactions"]}
    y, called = (table["label"] == "malignant").to_numpy(), (table["p_malignant"] >= 0.4).to_numpy()
    effects, variances = [], []
    rng = np.random.default_rng(0)
    for name in ("dense", "fatty"):
        mask = y & (table["tissue"] == name).to_numpy()
        parts = pd.DataFrame({"who": table["patient"][mask], "n": 1, "found": called[mask]}).groupby("who").sum()
        draws = rng.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), size=4000)
        shares = (draws @ parts["found"].to_numpy()) / (draws @ parts["n"].to_numpy())
        effects.append(np.log(called[mask].mean() / (1 - called[mask].mean())))
        variances.append(np.var(np.log(shares / (1 - shares))))
    weights = 1 / np.array(variances)
    mean = np.average(effects, weights=weights)
    q = (weights * (effects - mean) ** 2).sum()
    test = found["tissue"]["sensitivity"]
    assert test["q"] == pytest.approx(q, rel=0.15)
    assert (test["df"], test["groups"]) == (1, ["dense", "fatty"])
    assert test["p"] == pytest.approx(chi2.sf(test["q"], 1))
    assert test["p"] < 1e-6
    assert found["tissue"]["auroc"]["p"] < 1e-6
    assert found["tissue"]["specificity"]["p"] > 0.01
    assert found["tissue"]["calibration_slope"]["p"] < 1e-4
    assert found["age"]["auroc"]["df"] == 4


def test_wald_weighs_groups_by_their_covariance() -> None:
    values, variances = np.array([0.2, 1.1, 0.7]), np.array([0.04, 0.09, 0.01])
    q, df, p = wald(values, np.diag(variances))
    mean = np.average(values, weights=1 / variances)
    assert q == pytest.approx((((values - mean) ** 2) / variances).sum())
    assert (df, p) == (2, pytest.approx(chi2.sf(q, 2)))
    shared = np.array([[0.04, 0.03], [0.03, 0.05]])
    assert wald(values[:2], shared)[0] == pytest.approx(0.9**2 / (0.04 + 0.05 - 2 * 0.03))


def test_p_values_are_adjusted_over_the_columns_of_a_figure(entry: dict[str, Any]) -> None:
    assert [column["by"] for column in entry["interactions"]] == ["age", "tissue", "side", "verification"]
    for name in FIGURES:
        tests = [column["figures"][name] for column in entry["interactions"]]
        raw = [test["p"] for test in tests if test["p"] is not None]
        adjusted = [test["p_holm"] for test in tests if test["p"] is not None]
        assert adjusted == pytest.approx(multipletests(raw, method="holm")[1])


def test_groups_of_few_events_take_no_part_and_are_named(entry: dict[str, Any]) -> None:
    (column,) = [column for column in entry["interactions"] if column["by"] == "verification"]
    for name in ("sensitivity", "auroc", "calibration_slope"):
        test = column["figures"][name]
        assert (test["p"], test["p_holm"], test["groups"]) == (None, None, ["biopsy"])
        assert "8 " in test["left_out"]["follow-up"]
        assert test["reason"] == "fewer than two groups have this figure"
    assert column["figures"]["specificity"]["groups"] == ["biopsy", "follow-up"]


def test_reports_have_one_sentence_a_column(entry: dict[str, Any], path: Path) -> None:
    for name in ("report.md", "report.html"):
        text = (path.parent / "out" / name).read_text()
        for column in ("age", "tissue", "side", "verification"):
            assert text.count(f"By {column}: ") == 1
        assert "By tissue: groups differ in AUROC (2 groups, p" in text.replace("&lt;", "<")
        assert "By side: no difference is shown in AUROC (2 groups, p = " in text


def test_patients_in_two_groups_are_paired() -> None:
    # Both images of each patient have the same answer, so that the groups cannot but agree: no covariance is left.
    rng = np.random.default_rng(5)
    y = np.repeat(rng.random(200) < 0.4, 2)
    noise = np.repeat(rng.normal(size=200), 2)
    scores = 1 / (1 + np.exp(-(1.5 * y - 1 + noise + 0.15 * rng.normal(size=400))))
    rows = pd.DataFrame({"side": ["left", "right"] * 200})
    cases = Cases(y, scores, np.repeat(np.arange(200), 2), 0.4)
    alone = Cases(y, scores, np.arange(400), 0.4)
    paired, apart = (interactions_by(rows, one, 1000, np.random.default_rng(0))["auroc"]["q"] for one in (cases, alone))
    assert paired > 5 * apart


def test_more_groups_than_half_the_resamples_are_not_compared() -> None:
    rng = np.random.default_rng(3)
    y = rng.random(1500) < 0.5
    rows = pd.DataFrame({"site": [f"S{number % 30}" for number in range(1500)]})
    cases = Cases(y, 1 / (1 + np.exp(-(y + rng.normal(size=1500)))), np.arange(1500), 0.5)
    few, enough = (interactions_by(rows, cases, resamples, rng) for resamples in (60, 100))
    for test in few.values():
        assert (test["p"], test["p_holm"], len(test["groups"])) == (None, None, 30)
        assert test["reason"] == "the groups' covariance cannot be told from these resamples"
    assert all(test["df"] == 29 and test["p"] is not None for test in enough.values())


def test_the_test_errs_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    p_values = []
    for _ in range(60):
        who = np.repeat(np.arange(150), 2)
        y = (rng.random(150) < 0.4)[who]
        odds = 1.5 * y - 0.7 + rng.normal(size=150)[who] + 0.5 * rng.normal(size=300)
        rows = pd.DataFrame({"kind": rng.choice(["a", "b", "c"], 150)[who]})
        cases = Cases(y, 1 / (1 + np.exp(-odds)), who, 0.4)
        found = interactions_by(rows, cases, 200, rng)
        p_values.append([found[name]["p"] for name in FIGURES])
    rejected = (np.array(p_values) < 0.05).mean(axis=0)
    assert (rejected <= 0.15).all(), rejected
    assert np.median(p_values) == pytest.approx(0.5, abs=0.12)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("tisue", "table has no column 'tisue'; did you mean tissue?"),
        ("label", "--by label: images are not grouped by this column"),
        ("caution", "--by caution: the report has groups of this name of its own; give the column another name"),
        ("age:x", "--by age: cut point 'x' is not a number"),
        ("age:50,40", "--by age: cut points must ascend, as age:40,50,60"),
        ("age,age", "--by names age twice"),
        ("tissue:3", "0.png: tissue is 'fatty'; only numbers can be cut"),
    ],
)
def test_wrong_columns_end_in_one_sentence(path: Path, tmp_path: Path, given: str, sentence: str) -> None:
    result = command(path, "--by", given, "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert sentence.replace("0.png", "") in " ".join(result.output.split())
    assert not (tmp_path / "out").exists()


def test_columns_are_read_with_their_cut_points() -> None:
    assert parse_groupings(["age:40,50.5,tissue", "size: -1"]) == (
        Grouping("age", (40, 50.5)), Grouping("tissue"), Grouping("size", (-1,)),
    )  # fmt: skip
    with pytest.raises(InputError, match="names no column"):
        parse_groupings(["tissue,"])


def test_many_numbers_without_cut_points_are_thirds() -> None:
    rows = pd.DataFrame({"image": [str(n) for n in range(30)], "age": [str(n) for n in range(30)]})
    groups = groups_by(rows, Grouping("age"))
    assert [name.split(" (")[0] for name, _ in groups] == ["lowest third", "middle third", "highest third"]
    assert [len(places) for _, places in groups] == [10, 10, 10]
    few = rows.assign(age=[str(n % 3) for n in range(30)])
    assert [name for name, _ in groups_by(few, Grouping("age"))] == ["0", "1", "2"]
