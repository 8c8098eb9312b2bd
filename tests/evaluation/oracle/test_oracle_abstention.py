"""`medsharp score` of a table in which the input checks refused and marked images, against the brute force.

What it is for; these fail it: refused images are in the main figures, or failed ones among the refused; a share is of
the answered images, or of the other class; a refused image counts as right, or is left out, by intention to diagnose; a
change is answered less all, or its limits are not paired; marked images change places with the others; a check that
marks is taken for one that refuses; images that two checks refused count twice; abstention puts the refused first.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from brute_force import Images, Replicated, auroc, ratio, replicated, risk_coverage
from cohort import THRESHOLD, images_of, make_cohort
from reading import document_of, equal_value, rows_of, run
from reading import equal_figure as equal_figure_of
from reading import near_limits as near_limits_of

equal_figure = partial(equal_figure_of, drawn=1000)
near_limits = partial(near_limits_of, drawn=1000)


def checked_cohort() -> pd.DataFrame:
    """The cohort with refusals that are unequal by class and by hardness, cautions, both at once, and failures."""
    table = make_cohort()
    rng = np.random.default_rng(17)
    wrong = (table["p_malignant"] >= THRESHOLD) != (table["label"] == "malignant")
    ill = table["label"] == "malignant"
    blank = rng.random(len(table)) < np.where(wrong, 0.2, 0.04)
    doppler = rng.random(len(table)) < np.where(blank, 0.3, np.where(ill, 0.02, 0.07))
    dark = rng.random(len(table)) < np.where(wrong, 0.4, 0.15)
    rows = []
    for place in range(len(table)):
        found = [("refusal", "blank", "nothing is seen")] if blank[place] else []
        found += [("refusal", "doppler", "colour Doppler, which the model does not know")] if doppler[place] else []
        found += [("caution", "dark", "very dark")] if dark[place] else []
        status = "refused" if blank[place] or doppler[place] else "cautioned" if dark[place] else "answered"
        reasons, checks = "; ".join(one[2] for one in found), "; ".join(f"{one[0]}:{one[1]}" for one in found)
        rows.append((status, reasons, checks))
    columns = dict(zip(("status", "reasons", "checks"), map(list, zip(*rows, strict=True)), strict=True))
    failed = pd.Series(np.arange(len(table)) % 97 == 11)
    columns["error"] = np.where(failed, "cannot be read", "")
    columns["status"] = np.where(failed, "failed", columns["status"])
    return table.assign(**columns)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return checked_cohort()


@pytest.fixture(scope="module")
def known(table: pd.DataFrame) -> pd.DataFrame:
    """The images that were answered or refused."""
    return table[table["error"] == ""].reset_index(drop=True)


@pytest.fixture(scope="module")
def images(known: pd.DataFrame) -> Images:
    return images_of(known)


@pytest.fixture(scope="module")
def scored(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the command writes of the table with numbers of the refused images, and of that without."""
    folder = tmp_path_factory.mktemp("checked")
    silent = table.copy()
    silent.loc[table["status"] == "refused", ["p_benign", "p_malignant"]] = np.nan
    for name, given in (("anyway", table), ("silent", silent)):
        given.to_csv(folder / f"{name}.csv", index=False)
        options = ["--threshold", THRESHOLD, "--format", "json,csv,md,html", "--out", folder / name]
        run("score", folder / f"{name}.csv", *options)
    return {name: folder / name for name in ("anyway", "silent")}


@pytest.fixture(scope="module")
def entries(scored: dict[str, Path]) -> dict[str, dict[str, Any]]:
    return {name: document_of(folder)["datasets"][0] for name, folder in scored.items()}


@pytest.fixture(scope="module")
def found(entries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return dict(entries["anyway"]["abstention"])


def share(images: Images, which: np.ndarray, among: np.ndarray) -> Replicated:
    return replicated(images, lambda w: {"": ratio(w @ (which & among), w @ among)})[""]


def masks_of(known: pd.DataFrame) -> dict[str, np.ndarray]:
    status = known["status"].to_numpy()
    return {name: status == name for name in ("answered", "cautioned", "refused")}


def test_main_figures_are_of_the_answered_images_alone(
    entries: dict[str, dict[str, Any]], known: pd.DataFrame, images: Images
) -> None:
    answered = images.chosen(~masks_of(known)["refused"])
    right = answered.flagged == answered.y
    for entry in entries.values():
        assert entry["counts"]["images"] == len(answered.y) < len(images.y)
        assert entry["counts"]["refused"] == masks_of(known)["refused"].sum()
        assert entry["counts"]["failed"] == 3
        assert entry["counts"]["submitted"] == len(images.y) + 3
        figures = entry["figures"]
        equal_value(figures["auroc"], float(auroc(answered.y, answered.p, answered.alike)[0]))
        equal_value(figures["sensitivity"], float(right[answered.y].mean()))
        equal_value(figures["specificity"], float(right[~answered.y].mean()))
        assert f"of the {len(answered.y)} images answered" in " ".join(entry["notes"])


def test_shares_are_of_all_images_and_of_each_class(found: dict[str, Any], known: pd.DataFrame, images: Images) -> None:
    masks = masks_of(known)
    assert found["images"] == len(images.y)
    for kind in ("refused", "cautioned"):
        part, which = found[kind], masks[kind]
        assert part["images"] == which.sum()
        equal_figure(part["share"], share(images, which, np.ones_like(which)), images, name=kind)
        for label, among in (("malignant", images.y), ("benign", ~images.y)):
            assert part["labels"][label] == (which & among).sum()
            equal_figure(part["share_by_label"][label], share(images, which, among), images, among, f"{kind} {label}")


def test_each_check_has_its_share_and_how_often_the_model_errs_there(
    found: dict[str, Any], known: pd.DataFrame, images: Images
) -> None:
    wrong = images.flagged != images.y
    expected = {
        (outcome, check): known["checks"].str.contains(f"{outcome}:{check}").to_numpy()
        for outcome, check in (("refusal", "blank"), ("refusal", "doppler"), ("caution", "dark"))
    }
    written = {(check["outcome"], check["check"]): check for check in found["checks"]}
    assert list(written) == [("refusal", "blank"), ("refusal", "doppler"), ("caution", "dark")]
    # Both at once: each check counts the image, and together it is one.
    together = sum(written[key]["images"] for key in written if key[0] == "refusal")
    assert together > found["refused"]["images"]
    for key, which in expected.items():
        check = written[key]
        equal_figure(check["share"], share(images, which, np.ones_like(which)), images, name=key[1])
        equal_figure(check["share_by_label"]["malignant"], share(images, which, images.y), images, images.y, key[1])
        equal_figure(check["error_rate"], share(images, wrong, which), images, which, key[1])
    assert written["refusal", "doppler"]["sentence"] == "colour Doppler, which the model does not know"


def test_refused_images_count_as_wrong_by_intention_to_diagnose(
    entries: dict[str, dict[str, Any]], known: pd.DataFrame, images: Images
) -> None:
    right = (images.flagged == images.y) & ~masks_of(known)["refused"]
    for entry in entries.values():
        worst = entry["abstention"]["intention_to_diagnose"]
        equal_figure(worst["sensitivity"], share(images, right, images.y), images, images.y)
        equal_figure(worst["specificity"], share(images, right, ~images.y), images, ~images.y)
        assert worst["sensitivity"]["value"] < entry["figures"]["sensitivity"]["value"]


def test_figures_of_all_images_and_their_paired_change(
    found: dict[str, Any], known: pd.DataFrame, images: Images
) -> None:
    answered = ~masks_of(known)["refused"]

    def areas(w: np.ndarray) -> dict[str, np.ndarray]:
        everyone = auroc(images.y, images.p, w)
        others = auroc(images.y[answered], images.p[answered], w[:, answered])
        return {"all": everyone, "change": everyone - others}

    expected = replicated(images, areas)
    equal_figure(found["anyway"]["figures"]["auroc"], expected["all"], images)
    change = found["anyway"]["changes"]["auroc"]
    equal_value(change, expected["change"].value)
    near_limits(change, expected["change"].replicates)
    for key, among in (("sensitivity", images.y), ("specificity", ~images.y)):
        right = images.flagged == images.y

        def moved(w: np.ndarray, among: np.ndarray = among, right: np.ndarray = right) -> dict[str, np.ndarray]:
            some = among & answered
            return {"": ratio(w @ (right & among), w @ among) - ratio(w @ (right & some), w @ some)}

        expected_change = replicated(images, moved)[""]
        equal_value(found["anyway"]["changes"][key], expected_change.value)
        near_limits(found["anyway"]["changes"][key], expected_change.replicates)
        # The checks refuse what the model gets wrong, so that all images are worse than the answered ones.
        assert found["anyway"]["changes"][key]["value"] < 0


def test_marked_images_beside_the_other_answered_ones(
    found: dict[str, Any], known: pd.DataFrame, images: Images
) -> None:
    masks = masks_of(known)
    wrong = images.flagged != images.y
    marked, others = masks["cautioned"], masks["answered"]
    for name, which in (("cautioned", marked), ("others", others)):
        part = found["marked"][name]
        assert (part["images"], part["positives"]) == (which.sum(), (which & images.y).sum())
        equal_figure(part["error_rate"], share(images, wrong, which), images, which, name)
        value = float(auroc(images.y[which], images.p[which], np.ones((1, which.sum())))[0])
        equal_value(part["auroc"], value, name)

    def gap(w: np.ndarray) -> dict[str, np.ndarray]:
        areas = [auroc(images.y[m], images.p[m], w[:, m]) for m in (marked, others)]
        rates = [ratio(w @ (wrong & m), w @ m) for m in (marked, others)]
        return {"auroc": areas[0] - areas[1], "error_rate": rates[0] - rates[1]}

    for key, expected in replicated(images, gap).items():
        equal_value(found["marked"]["differences"][key], expected.value, key)
        near_limits(found["marked"]["differences"][key], expected.replicates, key)
    assert found["marked"]["differences"]["error_rate"]["value"] > 0


def test_who_is_answered_and_how_many_decisions_are_wrong(
    found: dict[str, Any], known: pd.DataFrame, images: Images
) -> None:
    masks, wrong = masks_of(known), images.flagged != images.y
    expected = {"unmarked": masks["answered"], "answered": ~masks["refused"], "all": np.ones_like(wrong)}
    assert [part["policy"] for part in found["policies"]] == list(expected)
    for part, which in zip(found["policies"], expected.values(), strict=True):
        assert part["images"] == which.sum()
        equal_value(part["coverage"], float(which.mean()))
        equal_figure(part["risk"], share(images, wrong, which), images, which)
    assert found["policies"][2]["coverage"]["low"] is None


def test_risk_coverage_leaves_out_the_refused_first_and_then_the_marked(
    found: dict[str, Any], known: pd.DataFrame, images: Images
) -> None:
    masks = masks_of(known)
    odds = np.log(images.p / (1 - images.p)) - np.log(THRESHOLD / (1 - THRESHOLD))
    sure = np.round(np.abs(odds), 12)
    tier = 2.0 * masks["answered"] + 1.0 * masks["cautioned"]
    wrong = images.flagged != images.y
    keys = {"confidence": sure, "checks": sure + 1e4 * tier}
    for name, key in keys.items():
        assert len(set(key)) < len(key)
        area = replicated(images, lambda w, key=key: {"": risk_coverage(key, wrong, w)})[""]
        equal_figure(found["risk_coverage"]["aurc"][name], area, images, name=name)
        assert found["risk_coverage"][name]["risk"][-1] == pytest.approx(wrong.mean())
    areas = found["risk_coverage"]["aurc"]
    assert areas["difference"]["value"] == pytest.approx(areas["checks"]["value"] - areas["confidence"]["value"])
    near_limits(
        areas["difference"],
        replicated(
            images,
            lambda w: {"": risk_coverage(keys["checks"], wrong, w) - risk_coverage(keys["confidence"], wrong, w)},
        )[""].replicates,
    )
    # At the coverage of those that no check marks, the curve is their share of wrong decisions.
    coverage, risk = (found["policies"][0][key]["value"] for key in ("coverage", "risk"))
    curve = found["risk_coverage"]
    assert np.interp(coverage, curve["coverage"], curve["checks"]["risk"]) == pytest.approx(risk, abs=0.02)


def test_without_numbers_of_refused_images_nothing_is_made_up(entries: dict[str, dict[str, Any]]) -> None:
    anyway, silent = (entries[name]["abstention"] for name in ("anyway", "silent"))
    assert "--answer-anyway" in silent["anyway"]["reason"]
    assert silent["risk_coverage"] is None
    by_check = {check["check"]: check["error_rate"] for check in silent["checks"]}
    assert by_check["blank"]["value"] is None
    assert by_check["blank"]["reason"]
    # What needs no numbers is the same.
    for key in ("refused", "cautioned"):
        assert silent[key]["share"]["value"] == anyway[key]["share"]["value"]


def test_reports_say_the_same_in_every_format(scored: dict[str, Path], entries: dict[str, dict[str, Any]]) -> None:
    found = entries["anyway"]["abstention"]
    rows = {(row["by"], row["group"], row["figure"]): row["value"] for row in rows_of(scored["anyway"])}
    assert float(rows["refused", "", "share"]) == found["refused"]["share"]["value"]
    assert float(rows["refused", "", "share of benign"]) == found["refused"]["share_by_label"]["benign"]["value"]
    dark = next(check for check in found["checks"] if check["check"] == "dark")
    assert float(rows["check", "caution: dark", "error_rate"]) == dark["error_rate"]["value"]
    assert (
        float(rows["intention to diagnose", "", "sensitivity"])
        == (found["intention_to_diagnose"]["sensitivity"]["value"])
    )
    assert float(rows["answered anyway", "", "change_auroc"]) == found["anyway"]["changes"]["auroc"]["value"]
    assert float(rows["marked", "differences", "auroc"]) == found["marked"]["differences"]["auroc"]["value"]
    assert float(rows["policy", "answered", "coverage"]) == found["policies"][1]["coverage"]["value"]
    page, text = ((scored["anyway"] / name).read_text() for name in ("report.html", "report.md"))
    refused, labels = found["refused"]["images"], found["refused"]["labels"]
    for written in (page, text):
        plain = " ".join(written.split())
        assert f"The input checks refused {refused} of {found['images']} images" in plain
        assert f"benign ({labels['benign']}), malignant ({labels['malignant']})" in plain
        assert "nothing is seen" in plain
        assert "Refused counted as wrong" in plain
        assert "Are marked images worse" in plain
        assert "Refused by the input checks, beside these" in plain
    assert "Risk-coverage curves with the input checks" in page
    assert "The table has no numbers" not in page


def test_cautions_make_subgroups_as_flags_do(
    entries: dict[str, dict[str, Any]], known: pd.DataFrame, images: Images
) -> None:
    groups = {group["group"]: group for group in entries["anyway"]["subgroups"] if group["by"] == "caution"}
    masks = masks_of(known)
    assert set(groups) == {"very dark", "no caution"}
    for name, which in (("very dark", masks["cautioned"]), ("no caution", masks["answered"])):
        assert groups[name]["images"] == which.sum()
        equal_value(groups[name]["auroc"], float(auroc(images.y[which], images.p[which], np.ones((1, which.sum())))[0]))
