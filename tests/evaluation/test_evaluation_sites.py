"""Random effects over hospitals, against published numbers and other software."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize_scalar
from statsmodels.stats.meta_analysis import combine_effects

from medsharp.evaluation import evaluate_predictions
from medsharp.evaluation.sites import summarise_evaluations
from medsharp.evaluation.statistics.random_effects import random_effects, reml

# Thirteen trials of the BCG vaccine (Colditz et al., JAMA 271, 1994): vaccinated (ill, not) and others.
BCG = np.array(
    [
        (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
        (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232),
        (17, 1699, 65, 1600), (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
    ]
)  # fmt: skip


def risk_ratios() -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d = BCG.T
    return np.log(a / (a + b) / (c / (c + d))), 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)


def test_next_hospital_is_predicted_with_two_degrees_of_freedom_less_than_hospitals() -> None:
    # By hand: equal variances of 0.25 around 0.5, whose own variance is 5/3, so that tau^2 = 5/3 - 1/4.
    found = random_effects(np.array([-1.0, 0.0, 1.0, 2.0]), np.full(4, 0.25))
    assert found.mean == pytest.approx(0.5)
    assert found.tau2 == pytest.approx(5 / 3 - 1 / 4, rel=1e-5)
    error = math.sqrt(5 / 3 / 4)
    assert found.high - found.mean == pytest.approx(3.182446 * error, rel=1e-5)  # t of 3 degrees of freedom
    reach = 4.302653 * math.sqrt(5 / 3 - 1 / 4 + error**2)  # t of 2
    assert found.prediction_high - found.mean == pytest.approx(reach, rel=1e-5)
    assert found.mean - found.prediction_low == pytest.approx(reach, rel=1e-5)


def test_reml_gives_the_published_summary_of_the_bcg_trials() -> None:
    # Viechtbauer, Journal of Statistical Software 36 (2010), section 3: -0.7145, tau^2 0.3132, I^2 92.22 %, Q 152.2330.
    found = random_effects(*risk_ratios())
    assert found.mean == pytest.approx(-0.7145, abs=5e-5)
    assert found.tau2 == pytest.approx(0.3132, abs=5e-5)
    assert found.i2 == pytest.approx(0.9222, abs=5e-5)
    assert found.q == pytest.approx(152.2330, abs=5e-4)
    assert found.prediction_low < found.low < found.mean < found.high < found.prediction_high


def test_reml_is_the_maximum_of_the_restricted_likelihood() -> None:
    effects, variances = risk_ratios()

    def negative(tau2: float) -> float:
        weights = 1 / (variances + tau2)
        mean = (weights * effects).sum() / weights.sum()
        return float(
            0.5 * np.log(variances + tau2).sum()
            + 0.5 * np.log(weights.sum())
            + 0.5 * (weights * (effects - mean) ** 2).sum()
        )

    best = minimize_scalar(negative, bounds=(0, 2), method="bounded", options={"xatol": 1e-10}).x
    assert reml(effects, variances) == pytest.approx(best, abs=1e-6)


def test_hartung_knapp_interval_is_that_of_statsmodels_at_the_same_spread() -> None:
    effects, variances = risk_ratios()
    found = random_effects(effects, variances)
    # With the spread between studies put into the variances, statsmodels' fixed-effect HKSJ interval is the same.
    other = combine_effects(effects, variances + found.tau2, use_t=True)
    assert found.mean == pytest.approx(other.mean_effect_fe)
    half = other.sd_eff_w_fe_hksj * 2.1788128
    assert (found.low, found.high) == (pytest.approx(found.mean - half), pytest.approx(found.mean + half))


def test_equal_studies_have_no_heterogeneity_and_an_interval_not_narrower_than_the_fixed_one() -> None:
    found = random_effects(np.full(5, 1.0), np.full(5, 0.04))
    assert (found.tau2, found.i2, found.q) == (0, 0, pytest.approx(0))
    assert found.high - found.low == pytest.approx(2 * 2.776445 * np.sqrt(0.04 / 5), rel=1e-6)


def hospitals(study: Callable, table: Callable, count: int) -> pd.DataFrame:
    parts = []
    for number in range(count):
        part = table(*study(80, seed=number))
        parts.append(part.assign(site=f"hospital {number}", image=f"{number}-" + part["image"]))
    return pd.concat(parts, ignore_index=True)


def test_sites_of_one_table_are_summarised_with_a_prediction_interval(
    study: Callable, table: Callable, evaluated: Callable
) -> None:
    entry = evaluated(hospitals(study, table, 4))
    summary = entry["site_summary"]["figures"]["auroc"]
    rows = {row["name"]: row for row in summary["sites"]}
    for group in entry["subgroups"]:
        assert rows[group["group"]]["value"] == group["auroc"]["value"]
    assert sum(row["weight"] for row in rows.values()) == pytest.approx(1)
    values = [row["value"] for row in rows.values()]
    assert min(values) < summary["value"] < max(values)
    assert summary["prediction_low"] < summary["low"] < summary["high"] < summary["prediction_high"]


def test_two_sites_are_listed_without_a_summary(study: Callable, table: Callable, evaluated: Callable) -> None:
    summary = evaluated(hospitals(study, table, 2))["site_summary"]["figures"]["auroc"]
    assert summary["value"] is None
    assert "at least 3" in summary["reason"]
    assert len(summary["sites"]) == 2
    assert evaluated(hospitals(study, table, 1))["site_summary"] is None


def test_a_site_that_is_written_in_two_ways_is_one_hospital(
    study: Callable, table: Callable, evaluated: Callable
) -> None:
    rows = hospitals(study, table, 2)
    name = rows["site"].iloc[0]
    rows.loc[rows["site"] == name, "site"] = [name, f"{name.upper()} "] * (int((rows["site"] == name).sum()) // 2)
    entry = evaluated(rows)
    assert {group["group"] for group in entry["subgroups"] if group["by"] == "site"} == set(
        hospitals(study, table, 2)["site"]
    )


def test_images_without_a_site_are_a_subgroup_but_no_hospital(
    study: Callable, table: Callable, evaluated: Callable
) -> None:
    rows = hospitals(study, table, 4)
    rows.loc[rows["site"] == rows["site"].iloc[-1], "site"] = ""
    entry = evaluated(rows)
    assert "not recorded" in [group["group"] for group in entry["subgroups"]]
    names = [site["name"] for site in entry["site_summary"]["sites"]]
    assert len(names) == 3
    assert "not recorded" not in names


def test_external_data_sets_are_summarised_as_hospitals_without_the_internal_one(
    study: Callable, table: Callable
) -> None:
    evaluations = [
        evaluate_predictions(
            table(*study(80, seed=number)),
            classes=["benign", "malignant"],
            positive="malignant",
            threshold=0.4,
            name=f"hospital {number}",
            role="internal" if number == 0 else "external",
            resamples=100,
        )
        for number in range(4)
    ]
    summary = summarise_evaluations(evaluations)
    assert summary is not None
    assert [site["name"] for site in summary["sites"]] == ["hospital 1", "hospital 2", "hospital 3"]
    assert summary["figures"]["calibration_slope"]["value"] is not None


def test_subgroups_cover_histology_lesion_size_and_flags(study: Callable, table: Callable, evaluated: Callable) -> None:
    predictions = table(*study(150))
    count = len(predictions)
    rng = np.random.default_rng(0)
    predictions["histology"] = np.where(rng.random(count) < 0.5, "fibroadenoma", "cyst")
    predictions["lesion_area"] = rng.permutation(count).astype(str)
    predictions.loc[0, "lesion_area"] = ""
    predictions["flags"] = np.where(rng.random(count) < 0.3, "dark; unlike the training images", "")
    groups = evaluated(predictions)["subgroups"]
    by = {kind: [g["group"] for g in groups if g["by"] == kind] for kind in {g["by"] for g in groups}}
    assert by["histology"] == ["cyst", "fibroadenoma"]
    assert by["flag"] == ["dark", "unlike the training images", "no flag"]
    assert [name.split()[0] for name in by["lesion size"]] == ["smallest", "middle", "largest", "not"]
    sizes = [g["images"] for g in groups if g["by"] == "lesion size"]
    assert sum(sizes) == count
    assert max(sizes[:3]) - min(sizes[:3]) <= 1
    flagged = next(g for g in groups if g["group"] == "dark")
    assert flagged["images"] == int((predictions["flags"] != "").sum())


def test_lesion_size_that_is_no_number_is_a_sentence(study: Callable, table: Callable, evaluated: Callable) -> None:
    from medsharp.errors import InputError

    predictions = table(*study(50)).assign(lesion_area="12")
    predictions.loc[3, "lesion_area"] = "large"
    with pytest.raises(InputError, match=r"3\.png: lesion_area is 'large'"):
        evaluated(predictions)
