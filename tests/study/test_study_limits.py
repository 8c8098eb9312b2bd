"""What has no error, no variance or no second fold: said by a dash or a sentence, never by a figure that is none."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from medsharp.evaluation.report import plain
from medsharp.evaluation.report.html import as_html
from medsharp.evaluation.report.markdown import as_markdown
from training.study.comparisons import Grid
from training.study.estimate import Estimate, correlated_t
from training.study.figures import contrast_variance, figure_table
from training.study.flatness import correlations, generalization_gaps
from training.study.latex import as_latex
from training.study.mixed_model import fit_mixed_model
from training.study.page import make_page
from training.study.results import _budget, _lengths, _means, _resampled
from training.study.verdicts import RULE, decide

from .conftest import study_values

_PARTS = ("train", "internal", "external south")


def predicted(part: str, labels: np.ndarray, shares: np.ndarray, images: int = 1) -> pd.DataFrame:
    """Predictions of patients, each with so many images."""
    patients = np.repeat([f"{part}-{number}" for number in range(len(labels))], images)
    return pd.DataFrame(
        {
            "part": part,
            "image": [f"{patient}-{number}" for number, patient in enumerate(patients)],
            "patient": patients,
            "site": "x",
            "group": "",
            "label": np.where(np.repeat(labels, images), "malignant", "benign"),
            "p_benign": 1 - np.repeat(shares, images),
            "p_malignant": np.repeat(shares, images),
        }
    )


def grid_of(scores: Any, *, positives: int = 8, folds: int = 3, optimizers: tuple[str, ...] = ("adam", "sam")) -> Grid:
    """A grid of one hospital and network; `scores(optimizer, fold, labels)` are probabilities of each part."""
    cells, readings = [], {}
    for fold in range(folds):
        for name in optimizers:
            run = f"{name}{fold}"
            tables = []
            for part in _PARTS:
                labels = np.arange(24) < (positives if part == "internal" else 8)
                tables.append(predicted(part, labels, scores(name, fold, labels)))
            readings[run] = pd.concat(tables, ignore_index=True)
            keys = {"hospital": "north", "network": "cnn", "optimizer": name, "fold": fold, "budget": "epochs"}
            cells.append((None, {**keys, "seed": 0, "run": run}))
    return Grid(figure_table(cells, readings, "malignant"), readings, "malignant")  # type: ignore[arg-type]


def varied(name: str, fold: int, labels: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng([fold, len(name)])
    return 1 / (1 + np.exp(-(labels + rng.standard_normal(len(labels)))))


def identical(name: str, fold: int, labels: np.ndarray) -> np.ndarray:
    return varied("adam", fold, labels)


def alike(name: str, fold: int, labels: np.ndarray) -> np.ndarray:
    return varied(name, 0, labels)


def perfect(name: str, fold: int, labels: np.ndarray) -> np.ndarray:
    return np.where(labels, 0.9, 0.1)


def page_of(grid: Grid) -> tuple[dict[str, Any], str]:
    """The results of a grid, as a report has them, and its page as Markdown; all formats are made."""
    claims = [
        {"name": "it helps", "says": "improves", "optimizer": "sam"},
        {"name": "it is inconsistent", "says": "inconsistent", "optimizer": "sam"},
    ]
    from training.study.definition import validate_study

    hospitals = [{"name": "north", "site": "North"}]
    study = validate_study(study_values(("a",), hospitals=hospitals, claims=claims), "study")
    gaps = generalization_gaps(grid.figures)
    measures = {run: {"constant": 1.0, "unknown": float("nan")} for run in gaps["run"]}
    cost = {"hospital": "north", "network": "cnn", "optimizer": "sam", "seconds_an_epoch": 0.0}
    cost |= {"low": 0.0, "high": 0.0, "runs": 1}
    results = plain(
        {
            "study": study.model_dump(mode="json"),
            "study_sha256": "0" * 64,
            "registration": {
                "begun": "then",
                "codes": ["0"],
                "git_commit": None,
                "sources": {"name": "x", "citation": ""},
            },
            "first_reading": None,
            "complete": True,
            "cells": {"planned": 6, "finished": 6, "failed": {}},
            "resampled": _resampled(grid.figures, grid.readings),
            "lengths": _lengths(study),
            "runs": [{"run": "x", "git_commit": None}],
            "rule": {**study.rule.model_dump(), "budget": "epochs", "by_kind": RULE},
            "claims": [decide(study, grid, claim) for claim in study.claims],
            "budgets": {"epochs": _budget(grid, ["adam", "sam"], "adam", 0.01)},
            "sharpness": {
                "correlations": correlations(gaps, measures, 0),
                "measures": measures,
                "not_converged": {},
                "missing": {},
            },
            "gaps": _means(gaps, ["auroc_gap", "loss_gap"]),
            "costs": [{**cost, "images_a_second": float("inf")}],
            "versions": {"torch": "2"},
        }
    )
    page = make_page(results)
    html, markdown, latex = as_html(page), as_markdown(page), as_latex(page)
    for text in (re.sub(r"<svg.*?</svg>", "", html, flags=re.DOTALL), markdown, latex):
        assert not re.search(r"\b(nan|inf|None|null)\b", text)
    return results, markdown


@pytest.mark.parametrize(
    ("scores", "positives", "internal", "external"),
    [
        (varied, 8, True, True),
        (varied, 1, False, True),  # of which no variance over patients exists, and the folds' still does
        (identical, 8, False, False),
        (alike, 8, False, True),
        (perfect, 8, False, False),
    ],
    ids=["varied", "one-malignant-patient", "identical", "same-difference-in-all-folds", "perfect"],
)
def test_nothing_but_the_value_is_said_where_there_is_no_error(
    scores: Any, positives: int, internal: bool, external: bool
) -> None:
    results, page = page_of(grid_of(scores, positives=positives))
    found = results["budgets"]["epochs"]
    compared = {one["part"]: one for one in found["comparisons"]}
    # Differences on test folds are judged by their folds alone, levels by patients too.
    known = {"internal": internal or positives == 1, "external south": external}
    for part, entry in compared.items():
        assert entry["value"] is not None
        for key in ("low", "high", "p", "p_holm", "probabilities", "smallest_seen"):
            assert (entry[key] is not None) == known[part], (part, key)
    assert f"| sam, cnn, internal | {'' if known['internal'] else '0.000 |' if scores is not alike else ''}" in page
    levels = {(one["part"], one["optimizer"]): one for one in found["levels"]}
    assert (levels["internal", "adam"]["low"] is None) == (positives == 1 or scores is perfect)
    if scores is perfect:
        assert "| adam | 1.000 | 1.000 |" in page
    reasons = {one["name"]: one["reason"] for one in results["claims"]}
    assert bool(reasons["it is inconsistent"]) == (not all(known.values()))
    assert bool(reasons["it helps"]) == (not any(known.values()))
    for claim in results["claims"]:
        assert not claim["reason"] or claim["verdict"] == "undecided"


def test_one_fold_is_told_to_be_too_few() -> None:
    results, page = page_of(grid_of(varied, folds=1))
    assert results["budgets"]["epochs"]["levels"] == []
    assert "No figures yet: a mean and its interval need two finished folds." in page
    assert {one["reason"] for one in results["claims"]} == {"runs of it are missing"}


def test_rounding_is_no_error_to_judge_by() -> None:
    differences = np.array([0.1 + 0.2, 0.3, 0.3])
    assert np.ptp(differences) > 0
    found = correlated_t(differences, 0.5)
    assert (found.p, found.interval, found.masses(0.01), found.smallest_seen()) == (None, None, None, None)
    assert not Estimate(0.1, float("nan"), 1.0).known


def test_variance_is_of_patients_and_not_of_their_images() -> None:
    labels = np.arange(30) % 3 == 0
    tables = {
        images: [predicted("x", labels, varied(name, 0, labels), images) for name in ("adam", "sam")]
        for images in (1, 4)
    }
    contrast = np.array([-1.0, 1.0])
    once, fourfold = (contrast_variance(pair, contrast, "malignant") for pair in tables.values())
    assert once > 0
    assert fourfold == pytest.approx(once)  # the same picture four times tells nothing new of its patient


def test_degrees_of_freedom_are_of_patients() -> None:
    from training.study.comparisons import _patients

    grid = grid_of(varied)
    readings = {run: pd.concat([table] * 3, ignore_index=True) for run, table in grid.readings.items()}
    for table in readings.values():
        table["image"] = [f"{number}" for number in range(len(table))]
    cells = grid.select("north", ["cnn"], "sam", "internal")
    tripled = Grid(grid.figures, readings, "malignant")
    weights = np.full(len(cells), 1 / len(cells))
    for part, count in (("internal", 3 * 24), ("external south", 24)):
        assert _patients(tripled, cells, weights, part)[1] == count


def test_p_values_are_adjusted_over_all_comparisons_of_a_budget() -> None:
    names = ("adam", "sam", "crsam", "looksam")

    def apart(name: str, fold: int, labels: np.ndarray) -> np.ndarray:
        return varied(name, fold, labels) + (len(name) - 4) * labels * 0.3

    found = _budget(grid_of(apart, optimizers=names), list(names), "adam", 0.01)["comparisons"]
    assert len(found) == 6
    expected = multipletests([one["p"] for one in found], method="holm")[1]
    assert [one["p_holm"] for one in found] == pytest.approx(expected)
    assert len({round(one["p_holm"] / one["p"], 3) for one in found if one["p_holm"] < 1}) > 1


def test_the_page_tells_worse_from_better() -> None:
    def worse(name: str, fold: int, labels: np.ndarray) -> np.ndarray:
        rng = np.random.default_rng([fold, len(name)])
        return 1 / (1 + np.exp(-((3 if name == "adam" else -3) * labels + rng.standard_normal(len(labels)))))

    results, page = page_of(grid_of(worse))
    [entry] = [one for one in results["budgets"]["epochs"]["comparisons"] if one["part"] == "internal"]
    assert entry["value"] < -0.5
    row = next(line for line in page.splitlines() if line.startswith("| sam, cnn, internal"))
    assert "| 1.00 / 0.00 / 0.00 |" in row
    assert results["claims"][0]["verdict"] == "contradicted"


@pytest.mark.parametrize(
    ("auroc", "reason"),
    [
        (lambda name, fold, network: 1.0, "all cells have the same AUROC"),
        (lambda name, fold, network: 0.8 + 0.1 * (name == "sam"), "nothing varies beyond"),
    ],
)
def test_a_mixed_model_of_nothing_that_varies_is_a_reason(auroc: Any, reason: str) -> None:
    rows = [
        {"hospital": "h", "part": "internal", "network": network, "fold": fold, "seed": 0, "optimizer": name}
        | {"auroc": auroc(name, fold, network)}
        for network in ("a", "b")
        for fold in range(4)
        for name in ("adam", "sam")
    ]
    assert reason in fit_mixed_model(pd.DataFrame(rows), "adam")["reason"]


def test_a_slope_that_does_not_exist_in_a_fold_has_no_mean() -> None:
    rows = pd.DataFrame(
        {"hospital": "h", "network": "n", "optimizer": ["adam", "adam", "sam", "sam"], "slope": [1.0, np.nan, 1.0, 2.0]}
    )
    assert [plain(one["slope"]) for one in _means(rows, ["slope"])] == [None, 1.5]
