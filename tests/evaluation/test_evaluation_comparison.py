"""Paired comparisons against other software, their definitions, and what they must not claim."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_ind
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_of_statsmodels
from statsmodels.stats.multitest import multipletests

from medsharp.errors import InputError
from medsharp.evaluation.comparison import Group, Model, compare_models, read_models, write_comparison
from medsharp.evaluation.comparison.mcnemar import mcnemar
from medsharp.evaluation.comparison.seeds import Networks, mixed_interval
from medsharp.evaluation.statistics.delong import delong_covariance, obuchowski_covariance, placements
from medsharp.evaluation.statistics.holm import holm

CLASSES = ["benign", "malignant"]


@pytest.fixture(scope="module")
def pair(study: Callable, table: Callable) -> tuple[pd.DataFrame, pd.DataFrame]:
    labels, scores, patients = study(250)
    odds = np.log(scores / (1 - scores)) + np.random.default_rng(5).normal(size=len(scores)) * 4
    return table(labels, scores, patients), table(labels, 1 / (1 + np.exp(-odds)), patients)


def group(name: str, *tables: pd.DataFrame, threshold: float = 0.4) -> Group:
    return Group(name, tuple(Model(f"{name} {n}", t, threshold, "given") for n, t in enumerate(tables)))


def compared(*groups: Group, **options: object) -> dict:
    settings: dict = {"classes": CLASSES, "positive": "malignant", "resamples": 300}
    return compare_models(groups, **{**settings, **options}).as_dict()


def test_auroc_difference_has_delongs_and_obuchowskis_paired_variance(pair: tuple) -> None:
    figure = compared(group("good", pair[0]), group("worse", pair[1]))["pairs"][0]["figures"]["auroc"]
    labels = (pair[0]["label"] == "malignant").to_numpy()
    found = placements(labels, np.stack([t["p_malignant"] for t in pair]))
    clusters = pd.factorize(pair[0]["patient"])[0]
    contrast = np.array([-1, 1])
    for name, covariance in (
        ("delong", delong_covariance(found)),
        ("obuchowski", obuchowski_covariance(found, labels, clusters)),
    ):
        assert figure[name]["standard_error"] == pytest.approx((contrast @ covariance @ contrast) ** 0.5)
    assert figure["value"] == pytest.approx(found.areas[1] - found.areas[0])
    assert figure["p"] == figure["obuchowski"]["p"]
    width = figure["high"] - figure["low"]
    assert width == pytest.approx(2 * 1.96 * figure["obuchowski"]["standard_error"], rel=0.15)


@pytest.mark.parametrize(
    ("unknown", "unit"),
    [(0, "patients"), (1, "patients or groups of near-duplicates"), (60, "images, as patients are unknown")],
)
def test_what_is_resampled_is_called_what_it_is(pair: tuple, tmp_path: Path, unknown: int, unit: str) -> None:
    rows = [t.iloc[:60].assign(patient=[f"p{n}" if n >= unknown else "" for n in range(60)]) for t in pair]
    comparison = compare_models(
        [group("a", rows[0]), group("b", rows[1])], classes=CLASSES, positive="malignant", resamples=100
    )
    assert comparison.as_dict()["intervals"]["unit"] == unit
    write_comparison(tmp_path, comparison)
    assert f"95 % intervals resample 60 {unit}." in (tmp_path / "comparison.md").read_text(encoding="utf-8")
    limits = " ".join(comparison.as_dict()["limits"])
    assert ("patients of some images are unknown" in limits) == (unknown > 0)


def test_order_of_the_rows_does_not_matter(pair: tuple) -> None:
    one = compared(group("a", pair[0]), group("b", pair[1]))
    other = compared(group("a", pair[0]), group("b", pair[1].sample(frac=1, random_state=1)))
    assert one["pairs"][0]["figures"] == other["pairs"][0]["figures"]


def test_a_model_against_itself_shows_nothing(pair: tuple) -> None:
    entry = compared(group("a", pair[0]), group("b", pair[0].copy()), margin=0.02)["pairs"][0]
    figure = entry["figures"]["auroc"]
    assert (figure["value"], figure["low"], figure["p"]) == (0, None, 1)
    assert entry["figures"]["sensitivity"]["mcnemar"]["method"] == "no image is decided differently"
    assert entry["non_inferiority"]["verdict"] == "not tested"


def test_mcnemar_equals_statsmodels_where_every_patient_has_one_image() -> None:
    rng = np.random.default_rng(0)
    for size in (60, 600):
        first, second = rng.random(size) < 0.7, rng.random(size) < 0.8
        cells = [[(first & second).sum(), (first & ~second).sum()], [(~first & second).sum(), (~first & ~second).sum()]]
        few = (first != second).sum() < 25
        expected = mcnemar_of_statsmodels(np.array(cells), exact=bool(few), correction=False).pvalue
        assert mcnemar(first, second, np.arange(size))["p"] == pytest.approx(expected)


def test_clustered_mcnemar_of_copies_equals_that_of_the_originals() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random(200) < 0.7, rng.random(200) < 0.8
    once = mcnemar(first, second, np.arange(200))
    copies = mcnemar(np.repeat(first, 3), np.repeat(second, 3), np.repeat(np.arange(200), 3))
    assert copies["statistic"] == pytest.approx(once["statistic"])
    naive = mcnemar(np.repeat(first, 3), np.repeat(second, 3), np.arange(600))
    assert naive["statistic"] == pytest.approx(3 * once["statistic"])


def test_clustered_mcnemar_holds_its_level_where_images_of_a_patient_agree() -> None:
    rejected = []
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        clusters = np.repeat(np.arange(60), 3)
        quality = rng.normal(size=(2, 60))[:, clusters]
        first, second = (quality[k] + 0.5 * rng.normal(size=180) < 0.5 for k in (0, 1))
        rejected.append(mcnemar(first, second, clusters)["p"] < 0.05)
    assert 0.03 < np.mean(rejected) < 0.07


def test_mcnemar_of_few_patients_with_several_images_counts_every_sign() -> None:
    rng = np.random.default_rng(3)
    clusters = np.repeat(np.arange(8), 3)
    first, second = rng.random(24) < 0.4, rng.random(24) < 0.8
    sums = np.bincount(clusters, second.astype(int) - first.astype(int))
    flipped = [abs(np.dot(signs, sums)) for signs in itertools.product((-1, 1), repeat=8)]
    found = mcnemar(first, second, clusters)
    assert found["p"] == pytest.approx(np.mean(np.array(flipped) >= abs(sums.sum())))
    assert found["method"] == "McNemar, exact over patients"


def test_mcnemar_of_patients_whose_differences_cancel_is_no_evidence() -> None:
    first, second = np.array([True, False, True, False]), np.array([False, True, False, True])
    assert mcnemar(first, second, np.array([0, 0, 1, 1]))["p"] == 1.0


def test_holm_equals_statsmodels_and_skips_what_is_missing() -> None:
    values = [0.01, 0.04, 0.03, 0.5]
    expected = multipletests(values, method="holm")[1]
    assert holm(values) == pytest.approx(list(expected))
    with_gap = holm([0.01, None, 0.04, 0.03, 0.5])
    assert with_gap[1] is None
    assert [value for value in with_gap if value is not None] == pytest.approx(list(expected))


def test_three_models_give_three_pairs_with_adjusted_p_values(pair: tuple) -> None:
    third = pair[1].assign(p_malignant=pair[1]["p_malignant"] ** 2)
    third["p_benign"] = 1 - third["p_malignant"]
    entry = compared(group("a", pair[0]), group("b", pair[1]), group("c", third))
    assert [(p["first"], p["second"]) for p in entry["pairs"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    raw = [p["figures"]["auroc"]["p"] for p in entry["pairs"]]
    assert [p["figures"]["auroc"]["p_holm"] for p in entry["pairs"]] == holm(raw)


def test_seeds_without_patients_variance_are_a_t_test_with_its_degrees_of_freedom() -> None:
    first, second = np.array([0.80, 0.83, 0.81, 0.82]), np.array([0.84, 0.86, 0.82])
    value = second.mean() - first.mean()
    groups = [Networks(sign, values, np.zeros((50, len(values)))) for sign, values in ((-1, first), (1, second))]
    mixed = mixed_interval(value, groups, 10_000)
    welch = ttest_ind(second, first, equal_var=False)
    assert mixed["p"] == pytest.approx(welch.pvalue)
    assert (mixed["low"], mixed["high"]) == pytest.approx(tuple(welch.confidence_interval()))
    assert mixed["seed_share"] == 1


def test_variance_of_seeds_is_told_from_that_of_patients(pair: tuple) -> None:
    rng = np.random.default_rng(0)

    def trained(spread: float) -> list[pd.DataFrame]:
        odds = np.log(pair[0]["p_malignant"] / pair[0]["p_benign"])
        positive = pair[0]["label"] == "malignant"
        tables = []
        for _ in range(4):
            score = 1 / (1 + np.exp(-(odds + spread * rng.normal() * positive)))
            tables.append(pair[0].assign(p_malignant=score, p_benign=1 - score))
        return tables

    entry = compared(group("steady", *trained(0.02)), group("erratic", *trained(0.8)))
    steady, erratic = (part["figures"]["auroc"] for part in entry["groups"])
    assert steady["seed_share"] < 0.1 < erratic["seed_share"]
    assert erratic["seed_sd"] == pytest.approx(np.std(erratic["networks"], ddof=1) / 2)
    figure = entry["pairs"][0]["figures"]["auroc"]
    assert figure["covers"] == "new patients and new seeds"
    assert figure["high"] - figure["low"] > erratic["seed_sd"] * 2
    assert "mcnemar" not in entry["pairs"][0]["figures"]["sensitivity"]


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.01, 0.03, "non-inferior"), (-0.03, 0.03, "not shown"), (-0.09, -0.04, "inferior"), (None, None, "not tested")],
)
def test_non_inferiority_follows_from_the_limits(low: float | None, high: float | None, verdict: str) -> None:
    from medsharp.evaluation.comparison.compare import non_inferiority

    assert non_inferiority({"low": low, "high": high}, 0.02)["verdict"] == verdict


def test_words_claim_no_more_than_the_interval(pair: tuple) -> None:
    clear = compared(group("good", pair[0]), group("worse", pair[1]))
    assert "good ranks these patients' images better than worse" in clear["pairs"][0]["conclusions"][0]
    assert any("another seed" in sentence for sentence in clear["limits"])
    odds = (
        np.log(pair[0]["p_malignant"] / pair[0]["p_benign"]) + np.random.default_rng(1).normal(size=len(pair[0])) * 0.1
    )
    near = pair[0].assign(p_malignant=1 / (1 + np.exp(-odds)), p_benign=1 / (1 + np.exp(odds)))
    unclear = compared(group("a", pair[0]), group("b", near))
    assert "neither may be called better, nor the two equal" in unclear["pairs"][0]["conclusions"][0]


def test_different_images_labels_or_classes_are_sentences(pair: tuple) -> None:
    good = group("a", pair[0])
    with pytest.raises(InputError, match=r"b 0 lacks a prediction of 0\.png, which a 0 has; compare"):
        compared(good, group("b", pair[1].iloc[1:]))
    more = pd.concat([pair[1], pair[1].iloc[:2].assign(image=["x.png", "y.png"])], ignore_index=True)
    with pytest.raises(InputError, match=r"a 0 lacks a prediction of x\.png, which b 0 has \(2 such images\)"):
        compared(good, group("b", more))
    turned = pair[1].copy()
    turned.loc[4, "label"] = "benign" if turned.loc[4, "label"] == "malignant" else "malignant"
    with pytest.raises(InputError, match=r"4\.png is .* in a 0, but .* in b 0 \(1 such images\)"):
        compared(good, group("b", turned))
    with pytest.raises(InputError, match="b 0 has classes benign, malignant, normal, but a 0 has"):
        compared(good, group("b", pair[1].assign(p_normal=0.0)))


def test_wrong_choices_are_sentences(pair: tuple) -> None:
    one, two = group("a", pair[0]), group("b", pair[1])
    for groups, options, words in (
        ((one,), {}, "at least two models"),
        ((one, group("a", pair[1])), {}, "two groups have the name 'a'"),
        ((one, two), {"positive": "malign"}, "malign"),
        ((one, two), {"margin": 0.0}, "margin is 0"),
    ):
        with pytest.raises(InputError, match=words):
            compared(*groups, **options)


def test_one_patient_has_differences_without_intervals(pair: tuple) -> None:
    alone = [table.assign(patient="P") for table in pair]
    entry = compared(group("a", alone[0]), group("b", alone[1]))["pairs"][0]
    assert entry["figures"]["auroc"]["low"] is None
    assert "one patient" in entry["figures"]["auroc"]["reason"]
    assert "one patient" in entry["conclusions"][0]


def test_tables_are_named_by_what_tells_them_apart(pair: tuple, tmp_path: Path) -> None:
    for name, table in zip(("sgd", "sam"), pair, strict=True):
        (tmp_path / name).mkdir()
        table.to_csv(tmp_path / name / "predictions.csv", index=False)
    files = [tmp_path / name / "predictions.csv" for name in ("sgd", "sam")]
    models = read_models(files, [0.3], positive="malignant")
    assert [(m.name, m.threshold) for m in models] == [("sgd", 0.3), ("sam", 0.3)]
    with pytest.raises(InputError, match="given twice"):
        read_models([files[0], files[0]], positive="malignant")
    with pytest.raises(InputError, match="3 thresholds for 2 tables"):
        read_models(files, [0.1, 0.2, 0.3], positive="malignant")


def test_files_hold_the_same_and_escape_names(pair: tuple, tmp_path: Path) -> None:
    comparison = compare_models(
        [group("<b>a|b</b>", pair[0]), group("sam", pair[1])], classes=CLASSES, positive="malignant", resamples=100
    )
    page, text = (tmp_path / name for name in ("comparison.html", "comparison.md"))
    write_comparison(tmp_path, comparison)
    document = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    sentence = document["pairs"][0]["conclusions"][0]
    markdown = text.read_text(encoding="utf-8")
    assert sentence.replace("<b>a|b</b>", r"&lt;b&gt;a\|b&lt;/b&gt;") in markdown
    assert "<b>" not in markdown
    html = page.read_text(encoding="utf-8")
    assert "<b>a|b" not in html
    assert "Not for diagnostic use" in html
    assert "<script" not in html
    assert r"| Figure | &lt;b&gt;a\|b&lt;/b&gt; | sam |" in markdown
