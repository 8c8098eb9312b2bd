"""`medsharp plan` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import refused, run

from medsharp.evaluation.planning import binormal, make_plan
from medsharp.evaluation.planning.simulation import WIDTHS
from medsharp.evaluation.statistics.intervals import Z

STATED = ("--auroc", "0.85", "--prevalence", "0.3")
EVERY = (
    "--auroc-width=0.1", "--sensitivity-width=0.08", "--specificity-width=0.12", "--oe-width=0.3",
    "--intercept-width=0.6", "--slope-width=0.4", "--net-benefit-width=0.25", "--net-benefit-gain-width=0.05",
)  # fmt: skip


def planned(folder: Path, *arguments: str | Path) -> dict[str, Any]:
    result = run("plan", *arguments, "--out", folder)
    assert result.exit_code == 0, result.output
    document = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    return document | {row["key"]: row for row in document["criteria"]}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """150 patients of one to three images, alike within a patient, 30 % with cancer, decided at 0.4."""
    rng = np.random.default_rng(5)
    who = np.repeat(np.arange(150), rng.integers(1, 4, 150))
    positive = (np.arange(150) % 10 < 3)[who]
    odds = -1 + 1.6 * positive + 0.9 * rng.normal(size=150)[who] + 0.5 * rng.normal(size=len(who))
    scores = 1 / (1 + np.exp(-odds))
    path = tmp_path / "predictions.csv"
    pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(len(who))],
            "patient": [f"P{n}" for n in who],
            "label": np.where(positive, "malignant", "benign"),
            "p_benign": 1 - scores,
            "p_malignant": scores,
            "threshold": 0.4,
        }
    ).to_csv(path, index=False)
    return path


def test_the_numbers_are_those_of_the_variances(tmp_path: Path) -> None:
    plan = planned(tmp_path / "out", *STATED, "--sensitivity", "0.9", *EVERY)
    assert [row["key"] for row in plan["criteria"]] == [
        "auroc", "sensitivity", "specificity", "oe", "intercept", "slope", "net_benefit",
        "net_benefit_gain",
    ]  # fmt: skip
    # One image a patient: a share of cancers, and one of the others, are those of the textbook.
    assert plan["sensitivity"]["patients"] == pytest.approx(0.09 / 0.3 / (0.08 / 2 / Z) ** 2, rel=0.005)
    value = plan["specificity"]["anticipated"]
    assert plan["specificity"]["patients"] == pytest.approx(value * (1 - value) / 0.7 / (0.12 / 2 / Z) ** 2, rel=0.005)
    for row in plan["criteria"]:
        assert row["with_positive"] == int(np.ceil(row["patients"] * 0.3 - 1e-6))
        assert row["images"] == row["patients"]
        assert row["design_effect"] == pytest.approx(1, abs=1e-9)
    for key in ("sensitivity", "specificity", "slope", "net_benefit"):  # where the closed form is exact
        assert plan[key]["independent_images"] == pytest.approx(plan[key]["patients"], rel=0.005)
    largest = max(plan["criteria"], key=lambda row: row["patients"])
    assert (plan["patients"], plan["images"], plan["decided_by"]) == (
        largest["patients"], largest["images"], largest["key"],
    )  # fmt: skip


def test_the_number_is_the_smallest_that_will_do() -> None:
    anticipated = binormal(0.85, 0.3, threshold=0.2)
    for row in make_plan(anticipated, WIDTHS).criteria:
        enough, short = (
            make_plan(anticipated, {row.key: row.width}, available=number).criteria[0].width_available
            for number in (row.patients, row.patients - 1)
        )
        assert enough is not None
        assert short is not None
        assert enough <= row.width * (1 + 1e-6) < short * (1 + 1e-6)


def test_images_that_are_alike_are_worth_less(tmp_path: Path) -> None:
    plans = [
        planned(tmp_path / "out", *STATED, "--sensitivity", "0.9", *EVERY, *several)
        for several in (
            (),
            ("--images-per-patient", "2", "--icc", "0"),
            ("--images-per-patient", "2", "--icc", "0.5"),
            ("--images-per-patient", "2", "--icc", "1"),
            ("--images-per-patient", "2", "--design-effect", "1.5"),
        )
    ]
    single, unlike, half, alike, stated = plans
    for key in ("auroc", "sensitivity", "slope"):
        assert alike[key]["patients"] == pytest.approx(single[key]["patients"], rel=0.01)
        assert alike[key]["images"] == 2 * alike[key]["patients"]
        assert unlike[key]["patients"] == pytest.approx(single[key]["patients"] / 2, rel=0.02)
        assert unlike[key]["patients"] < half[key]["patients"] < alike[key]["patients"]
        assert stated[key]["patients"] == pytest.approx(0.75 * single[key]["patients"], rel=0.02)
    # A stated one is of all figures, those too whose images of a patient share the label.
    for row in stated["criteria"]:
        assert row["design_effect"] == pytest.approx(1.5, rel=1e-3), row["key"]
        assert row["patients"] == pytest.approx(0.75 * single[row["key"]]["patients"], rel=0.02), row["key"]
    # The label is the patient's: what is observed, less what is expected, is alike however different images look.
    assert unlike["oe"]["design_effect"] > 1.4


def test_a_stated_design_effect_of_1_is_of_independent_images(tmp_path: Path) -> None:
    options = (*STATED, "--sensitivity", "0.9", *EVERY, "--images-per-patient", "2.5")
    plan = planned(tmp_path, *options, "--design-effect", "1")
    assert [row["design_effect"] for row in plan["criteria"]] == pytest.approx([1] * 8)
    assert (plan["assumptions"]["design_effect"], plan["assumptions"]["icc"]) == (1, None)
    assert "2.5 images a patient, with a stated design effect of 1." in (tmp_path / "plan.md").read_text()
    unlike = planned(tmp_path, *options, "--icc", "0")
    assert (unlike["assumptions"]["design_effect"], unlike["assumptions"]["icc"]) == (None, 0)
    assert unlike["oe"]["patients"] > 1.3 * plan["oe"]["patients"]


def test_a_table_plans_an_evaluation_like_itself(tmp_path: Path, table: Path) -> None:
    plan = planned(tmp_path / "out", "--from", table, *EVERY, "--patients", "150")
    rows = pd.read_csv(table)
    cancers = rows[rows["label"] == "malignant"]
    right = (cancers["p_malignant"] >= 0.4).to_numpy()
    assert plan["sensitivity"]["anticipated"] == pytest.approx(right.mean())
    # The variance of a ratio of patients' sums, written out.
    sums = pd.Series(right - right.mean()).groupby(cancers["patient"].to_numpy()).sum()
    error = np.sqrt((sums**2).sum()) / len(cancers)
    assert plan["sensitivity"]["width_available"] == pytest.approx(2 * Z * error)
    assert plan["sensitivity"]["patients"] == int(np.ceil(150 * (2 * Z * error / 0.08) ** 2))
    assert plan["sensitivity"]["with_positive"] == int(np.ceil(plan["sensitivity"]["patients"] * 0.3 - 1e-9))
    assert plan["sensitivity"]["images"] == int(np.ceil(plan["sensitivity"]["patients"] * len(rows) / 150))
    assert plan["sensitivity"]["design_effect"] > 1.2
    assert plan["assumptions"]["threshold"] == 0.4
    assert plan["assumptions"]["icc"] == pytest.approx(0.81 / (0.81 + 0.25), abs=0.12)
    assert any("45 patients" in sentence for sentence in plan["warnings"])


def test_a_table_is_moved_to_another_prevalence_and_number_of_images(tmp_path: Path, table: Path) -> None:
    own = planned(tmp_path / "out", "--from", table, *EVERY)
    rare = planned(tmp_path / "out", "--from", table, *EVERY, "--prevalence", "0.1")
    assert rare["assumptions"]["prevalence"] == pytest.approx(0.1)
    assert rare["sensitivity"]["anticipated"] == pytest.approx(own["sensitivity"]["anticipated"])
    assert rare["sensitivity"]["patients"] > 2.5 * own["sensitivity"]["patients"]
    assert rare["sensitivity"]["with_positive"] == pytest.approx(own["sensitivity"]["with_positive"], rel=0.02)
    assert rare["oe"]["anticipated"] < 0.6 * own["oe"]["anticipated"]
    single = planned(tmp_path / "out", "--from", table, *EVERY, "--images-per-patient", "1")
    assert single["auroc"]["design_effect"] == pytest.approx(1)
    three = planned(tmp_path / "out", "--from", table, *EVERY, "--images-per-patient", "3")
    assert single["auroc"]["images"] == single["auroc"]["patients"]
    assert three["auroc"]["images"] == 3 * three["auroc"]["patients"]
    # Log odds are correlated by .76: three images of a patient are worth a little more than one.
    assert 0.7 < three["auroc"]["patients"] / single["auroc"]["patients"] < 0.95
    moved = planned(tmp_path / "out", "--from", table, *EVERY, "--threshold", "0.6")
    assert moved["sensitivity"]["anticipated"] < own["sensitivity"]["anticipated"]


def cancers_beside_benign_lesions(path: Path) -> pd.DataFrame:
    """200 patients with two benign images, and 200 with one malignant and one benign image."""
    rng = np.random.default_rng(8)
    who = np.repeat(np.arange(400), 2)
    positive = (who >= 200) & (np.arange(800) % 2 == 0)
    scores = 1 / (1 + np.exp(-(-1 + 1.6 * positive + 0.8 * rng.normal(size=400)[who] + 0.6 * rng.normal(size=800))))
    rows = pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(800)],
            "patient": [f"P{n}" for n in who],
            "label": np.where(positive, "malignant", "benign"),
            "p_benign": 1 - scores,
            "p_malignant": scores,
        }
    )
    rows.to_csv(path, index=False)
    return rows


def test_of_patients_with_one_image_as_many_have_cancer_as_images_do(tmp_path: Path) -> None:
    """A quarter of the images, and half of the patients as they are in the table."""
    mixed = tmp_path / "mixed.csv"
    cancers_beside_benign_lesions(mixed)
    options = ("--from", mixed, "--auroc-width", "0.12", "--slope-width", "0.6")
    own = planned(tmp_path / "out", *options)
    single = planned(tmp_path / "out", *options, "--images-per-patient", "1")
    for row in own["criteria"]:
        assert row["with_positive"] == int(np.ceil(row["patients"] / 2))
    for row in single["criteria"]:
        assert row["with_positive"] == int(np.ceil(row["patients"] / 4))
    rare = planned(tmp_path / "out", *options, "--images-per-patient", "1", "--prevalence", "0.125")
    assert rare["auroc"]["with_positive"] == int(np.ceil(rare["auroc"]["patients"] / 8))
    # Ten of those with cancer are the least; of patients as in the table there would be twice as many.
    refused(run("plan", "--from", mixed, "--auroc-width=0.28", "--images-per-patient=1"), "9 patients with a")
    refused(
        run("plan", *options, "--images-per-patient", "3", "--out", tmp_path / "none"),
        "mixed.csv has 200 patients with images of malignant and of no malignant",
        "leave --images-per-patient out, or give 1",
    )
    assert not (tmp_path / "none").exists()


def test_of_patients_with_equally_many_images_as_many_have_cancer_as_images_do(tmp_path: Path, table: Path) -> None:
    """Patients with cancer have three images here, and the others one to three."""
    rows = pd.read_csv(table)
    cancers = rows[rows["label"] == "malignant"].drop_duplicates("patient")
    three = [cancers.assign(image=[f"{name}-{n}" for name in cancers["image"]]) for n in range(3)]
    rows = pd.concat([rows[rows["label"] == "benign"], *three])
    rows.to_csv(table, index=False)
    share = float((rows["label"] == "malignant").mean())
    assert share > 0.35
    for images in ("1", "2"):
        plan = planned(tmp_path / "out", "--from", table, "--auroc-width=0.1", "--images-per-patient", images)
        assert plan["auroc"]["with_positive"] == int(np.ceil(plan["auroc"]["patients"] * share))


def test_patients_that_are_tied_or_unknown_are_said_to_be(tmp_path: Path, table: Path) -> None:
    rows = pd.read_csv(table)
    rows.assign(group=np.where(rows["patient"].isin(["P3", "P4"]), "copies", "")).to_csv(table, index=False)
    page = " ".join(run("plan", "--from", table).output.split())
    assert "149 patients (150 by name; those of one group count as one), 45 of them with cancer" in page
    rows.drop(columns="patient").to_csv(table, index=False)
    plan = planned(tmp_path / "out", "--from", table)
    assert plan["assumptions"]["table_patients"] == len(rows)
    assert plan["warnings"][-2].startswith(f"{len(rows)} images of the table name no patient")


def test_another_class_may_be_the_positive_one(tmp_path: Path, table: Path) -> None:
    rows = pd.read_csv(table).drop(columns="threshold")
    rows.to_csv(table, index=False)
    plan = planned(tmp_path / "out", "--from", table, "--positive", "benign", "--threshold", "0.7")
    benign = (rows["label"] == "benign").to_numpy()
    assert plan["sensitivity"]["anticipated"] == pytest.approx((rows["p_benign"].to_numpy() >= 0.7)[benign].mean())
    assert plan["assumptions"]["prevalence"] == pytest.approx(benign.mean())
    assert f"{plan['with_positive']:,} of them with benign" in (tmp_path / "out" / "plan.md").read_text(
        encoding="utf-8"
    )


def test_rows_are_decided_at_their_own_thresholds(tmp_path: Path, table: Path) -> None:
    rows = pd.read_csv(table)
    own = np.where(np.arange(len(rows)) % 2, 0.3, 0.6)
    rows.assign(threshold=own).to_csv(tmp_path / "own.csv", index=False)
    plan = planned(tmp_path / "out", "--from", tmp_path / "own.csv")
    cancers = (rows["label"] == "malignant").to_numpy()
    expected = (rows["p_malignant"].to_numpy() >= own)[cancers].mean()
    assert plan["sensitivity"]["anticipated"] == pytest.approx(expected)
    assert "net_benefit" not in plan


def test_without_a_width_the_usual_ones_are_planned_as_far_as_they_fit(tmp_path: Path) -> None:
    plan = planned(tmp_path / "a", *STATED)
    assert {row["key"]: row["width"] for row in plan["criteria"]} == {"auroc": 0.1, "oe": 0.2, "slope": 0.2}
    near = planned(tmp_path / "b", "--auroc", "0.97", "--prevalence", "0.3", "--threshold", "0.1")
    assert near["auroc"]["width"] == pytest.approx(0.06, abs=1e-4)
    assert near["net_benefit"]["width"] == pytest.approx(min(0.2, 2 * (1 - near["net_benefit"]["anticipated"])))
    assert "no width was given" in " ".join(run("plan", *STATED).output.split())


def test_a_threshold_near_the_prevalence_is_said_to_leave_the_gain_uncertain(tmp_path: Path) -> None:
    near, far = (
        planned(tmp_path / "out", *STATED, "--threshold", threshold, "--net-benefit-gain-width", "0.05")["warnings"]
        for threshold in ("0.31", "0.15")
    )
    assert len(near) == 1
    assert "the threshold is so near the prevalence" in near[0]
    assert far == []


def test_the_page_says_what_the_file_says(tmp_path: Path) -> None:
    plan = planned(tmp_path, *STATED, "--slope-width", "0.4", "--auroc-width", "0.1", "--patients", "300")
    page = (tmp_path / "plan.md").read_text(encoding="utf-8")
    slope = plan["slope"]
    assert f"**{slope['patients']:,} patients, {slope['with_positive']:,} of them with cancer" in page
    assert f"| calibration slope | 1.00 | 0.4 | {slope['patients']} |" in page
    assert f"| {slope['width_available']:.3g} |" in page
    assert (
        "what the calibration slope needs"
        in run("plan", *STATED, "--slope-width", "0.4", "--auroc-width", "0.1").output
    )


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ("--prevalence must lie between 0 and 1, without either, not 0", ("--auroc", "0.8", "--prevalence", "0")),
        ("--auroc must lie between 0.5 and 1", ("--auroc", "0.5", "--prevalence", "0.3")),
        ("--auroc must lie between 0.5 and 1", ("--auroc", "nan", "--prevalence", "0.3")),
        ("needs --auroc and --prevalence, or --from", ("--auroc", "0.8")),
        ("wish for at most 0.3", (*STATED, "--auroc-width", "0.5")),
        ("--slope-width must be above 0, not nan", (*STATED, "--slope-width", "nan")),
        ("no evaluation is that large", (*STATED, "--slope-width", "0.001")),
        ("too few for the formulas", (*STATED, "--slope-width", "2.5")),
        ("too few for the formulas", (*STATED, "--oe-width", "5")),
        ("--sensitivity-width needs --threshold", (*STATED, "--sensitivity-width", "0.1")),
        ("--net-benefit-width needs one --threshold",
         (*STATED, "--sensitivity", "0.9", "--specificity", "0.6", "--net-benefit-width", "0.1")),
        ("--images-per-patient 2 needs --icc", (*STATED, "--images-per-patient", "2")),
        ("give --images-per-patient above 1", (*STATED, "--icc", "0.5")),
        ("--icc must lie in 0 to 1", (*STATED, "--images-per-patient", "2", "--icc", "1.5")),
        ("--design-effect must be at least 1", (*STATED, "--images-per-patient", "2", "--design-effect", "0.5")),
        ("give one of them", (*STATED, "--images-per-patient", "2", "--design-effect", "1.5", "--icc", "0.2")),
        ("--images-per-patient must be at least 1", (*STATED, "--images-per-patient", "0.5", "--icc", "0.2")),
        ("--sensitivity must lie between 0 and 1", (*STATED, "--sensitivity", "1")),
        ("cannot read nowhere.csv", ("--from", "nowhere.csv")),
        ("--auroc and --from both say", (*STATED, "--from", "nowhere.csv")),
    ],
)  # fmt: skip
def test_nonsense_is_refused_in_one_sentence_and_leaves_nothing(
    tmp_path: Path, words: str, arguments: tuple[str, ...]
) -> None:
    refused(run("plan", *arguments, "--out", tmp_path / "out"), words)
    assert not (tmp_path / "out").exists()


def test_tables_that_do_not_tell_enough_are_refused(tmp_path: Path, table: Path) -> None:
    rows = pd.read_csv(table)
    few, single, mixed, sure = (tmp_path / f"{name}.csv" for name in ("few", "single", "mixed", "sure"))
    rows[(rows["label"] == "benign") | rows["patient"].isin(["P0", "P1", "P2"])].to_csv(few, index=False)
    refused(run("plan", "--from", few), "few.csv has 3 patients with malignant images")
    rows.drop_duplicates("patient").to_csv(single, index=False)
    refused(run("plan", "--from", single, "--images-per-patient", "2"), "does not say how alike several are")
    rows.assign(threshold=np.linspace(0.3, 0.4, len(rows))).to_csv(mixed, index=False)
    refused(run("plan", "--from", mixed, "--net-benefit-width=0.2"), "--net-benefit-width needs one --threshold")
    rows.assign(threshold=1e-6).to_csv(sure, index=False)
    words = "--sensitivity-width cannot be planned where the sensitivity is 1"
    refused(run("plan", "--from", sure, "--sensitivity-width=0.1"), words)
    usual = planned(tmp_path / "out", "--from", sure)
    assert "sensitivity" not in usual
    assert words in usual["warnings"][0]
    rows.assign(p_malignant=0.4, p_benign=0.6, threshold=0.5).to_csv(sure, index=False)
    refused(run("plan", "--from", sure, "--auroc-width=0.1"), "--auroc-width cannot be planned where the AUROC is 0.5")
    refused(
        run("plan", "--from", sure, "--slope-width=0.1"),
        "--slope-width cannot be planned from this table: the calibration slope does not exist",
    )
    refused(run("plan", "--from", table, "--positive", "cyst"), "no column p_cyst")
    refused(
        run("plan", "--from", _without_threshold(table), "--sensitivity-width=0.1"),
        "--sensitivity-width needs --threshold",
    )


def test_calibration_that_does_not_exist_is_not_planned(tmp_path: Path, table: Path) -> None:
    """A benign lesion that was given 1 has no finite recalibration; the plan was for that of 1 - 1e-7."""
    rows = pd.read_csv(table)
    place = rows.index[rows["label"] == "benign"][2]
    rows.loc[place, ["p_benign", "p_malignant"]] = [0.0, 1.0]
    rows.to_csv(table, index=False)
    for name in ("slope", "intercept"):
        said = f"--{name}-width cannot be planned from this table: the calibration {name} does not exist where a"
        refused(run("plan", "--from", table, f"--{name}-width=0.6"), said)
    plan = planned(tmp_path / "out", "--from", table)
    assert "slope" not in plan
    assert any("calibration slope is not planned" in sentence for sentence in plan["warnings"])
    assert plan["oe"]["patients"] > 10


def _without_threshold(table: Path) -> Path:
    path = table.parent / "bare.csv"
    pd.read_csv(table).drop(columns="threshold").to_csv(path, index=False)
    return path


def test_a_threshold_beside_one_rate_is_refused(tmp_path: Path) -> None:
    """From each alone another sensitivity follows: 0.9, and 0.63 from 0.5 on."""
    for rate, other in (("sensitivity", "specificity"), ("specificity", "sensitivity")):
        options = (*STATED, f"--{rate}", "0.9", "--threshold", "0.5", "--out", tmp_path / "out")
        refused(run("plan", *options), f"--threshold and --{rate} each say where the model decides", f"--{other} too")
        assert not (tmp_path / "out").exists()
