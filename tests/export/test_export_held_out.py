"""Figures at hospitals left out: read from a cross-validation, computed, and shown beside the internal ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from medsharp.bundle import Figure, read_bundle
from medsharp.cli import app
from medsharp.data.manifest import Manifest
from medsharp.inference.glance import FIGURES, NOT_MEASURED, recorded_glances

from .runs import fold_splits, speckle_manifest, write_run

THRESHOLDS = {"A": 0.3, "B": 0.6}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return speckle_manifest(tmp_path_factory.mktemp("speckle"))


@pytest.fixture(scope="module")
def run(data: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(
        tmp_path_factory.mktemp("runs") / "only",
        data,
        fold_splits(data, 0),
        ["data.folds=3", "data.fold=0", "data.fold_role=val"],
    )


@pytest.fixture
def table(data: Manifest) -> pd.DataFrame:
    """What a cross-validation by site predicts: better at B than at A, and each with a threshold of its own."""
    rows = data.table
    rng = np.random.default_rng(2)
    signal = np.where(rows["label"] == "malignant", 1.0, -1.0) * np.where(rows["site"] == "B", 1.2, 0.4)
    share = 1 / (1 + np.exp(-(signal + rng.normal(size=len(rows)))))
    return pd.DataFrame(
        {
            **{column: rows[column] for column in ("image", "patient", "site", "label")},
            "p_benign": 1 - share,
            "p_malignant": share,
            "fold": "0",
            "left_out": rows["site"],
            "threshold": rows["site"].map(THRESHOLDS),
        }
    )


def exported(run: Path, table: pd.DataFrame, folder: Path) -> tuple[Path, str]:
    (folder / "cv").mkdir()
    table.to_csv(folder / "cv" / "predictions.csv", index=False)
    result = CliRunner().invoke(
        app, ["export", str(run), "--out", str(folder / "b"), "--held-out", str(folder / "cv"), "--overwrite"]
    )
    assert result.exit_code == 0, result.output
    return folder / "b", " ".join(result.output.split())


def test_each_site_has_its_own_figures_at_its_own_threshold(run: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    folder, said = exported(run, table, tmp_path)
    spec = read_bundle(folder)
    assert [site.site for site in spec.held_out] == ["A", "B"]
    for site in spec.held_out:
        rows = table[table["site"] == site.site]
        positive = (rows["label"] == "malignant").to_numpy()
        above = (rows["p_malignant"] >= THRESHOLDS[site.site]).to_numpy()
        figures = {name: figure.value for name, figure in site.figures.items()}
        assert figures["auroc"] == pytest.approx(roc_auc_score(positive, rows["p_malignant"]))
        assert figures["sensitivity"] == pytest.approx(above[positive].mean())
        assert figures["specificity"] == pytest.approx((~above[~positive]).mean())
        assert figures["calibration_slope"] is not None
        assert (site.images, site.patients, site.positives) == (len(rows), 15, positive.sum())
        assert site.threshold == THRESHOLDS[site.site]
        for figure in site.figures.values():
            assert figure.low is not None
            assert figure.high is not None
            assert figure.low <= figure.value <= figure.high  # type: ignore[operator]
        assert f"left out, {site.site} ({len(rows)} images): auroc {site.figures['auroc']}" in said
    card = (folder / "MODEL_CARD.md").read_text()
    for site in spec.held_out:
        line = next(line for line in card.splitlines() if line.startswith(f"| **{site.site}, left out**"))
        assert line.endswith(" | ".join(str(site.figures[name]) for name in FIGURES) + " |")
        assert card.index(line) < card.index("## Data")
    assert "--held-out CROSSVALIDATION" in card
    assert "CROSSVALIDATION is what `medsharp crossvalidate --by site` wrote" in card
    assert NOT_MEASURED not in card
    rows_shown = recorded_glances(spec, folder)
    assert [(row.name, row.left_out) for row in rows_shown] == [("A", True), ("B", True)]


def test_models_with_several_thresholds_decide_by_their_own(run: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    own = np.where(np.arange(len(table)) % 2 == 0, 0.2, 0.7)
    spec = read_bundle(exported(run, table.assign(threshold=own), tmp_path)[0])
    for site in spec.held_out:
        chosen = (table["site"] == site.site).to_numpy()
        positive = (table["label"] == "malignant").to_numpy()[chosen]
        above = (table["p_malignant"].to_numpy() >= own)[chosen]
        assert site.threshold is None
        assert site.figures["sensitivity"].value == pytest.approx(above[positive].mean())
        assert site.figures["specificity"].value == pytest.approx((~above[~positive]).mean())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop(columns="threshold"), "has no column threshold"),
        (lambda table: table.drop(columns="left_out"), "has no column left_out"),
        (lambda table: table.drop(columns="p_benign").assign(p_normal=0.5), "has no column 'p_benign'"),
        (lambda table: table.assign(left_out=""), "leaves no site out"),
        (lambda table: table.assign(left_out="A"), "row 4: images/Doe-2.png is not of the site left out (30 such"),
        (lambda table: table.assign(threshold="high"), "row 2: images/Doe-0.png has a threshold that is no"),
        (lambda table: table.assign(image="no" + table["image"]), "row 2: noimages/Doe-0.png is not among the images"),
        (
            lambda table: table.assign(label=table["label"].where(table.index != 4, "malignant")),
            "row 6: images/Doe-4.png has another label in the runs: it is of other data",
        ),
        (
            lambda table: table[(table["site"] == "A") | (table["label"] == "benign")],
            "B has images of one class only (benign)",
        ),
        (None, "has no predictions.csv; give the folder that medsharp crossvalidate --by site wrote"),
    ],
)  # fmt: skip
def test_what_is_no_cross_validation_by_site_is_one_sentence(
    run: Path, table: pd.DataFrame, tmp_path: Path, change: object, words: str
) -> None:
    (tmp_path / "cv").mkdir()
    if callable(change):
        change(table).to_csv(tmp_path / "cv" / "predictions.csv", index=False)
    result = CliRunner().invoke(
        app, ["export", str(run), "--out", str(tmp_path / "b"), "--held-out", str(tmp_path / "cv")]
    )
    assert result.exit_code == 2, result.output
    assert words.replace(" ", "") in "".join(result.output.split()), result.output
    assert [path.name for path in tmp_path.iterdir()] == ["cv"]


def test_figure_is_written_with_its_interval_or_not_at_all() -> None:
    assert str(Figure(value=0.8126, low=0.75, high=0.86)) == "0.813 (0.750 to 0.860)"
    assert str(Figure(value=0.8126)) == "0.813"
    assert str(Figure(value=None)) == "-"
