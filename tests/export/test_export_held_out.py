"""Figures at hospitals left out: read from a cross-validation, computed, and shown beside the internal ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner, Result

from medsharp.bundle import Figure, digest_of, read_bundle
from medsharp.cli import app
from medsharp.data.manifest import Manifest
from medsharp.inference.external import conformal_of
from medsharp.inference.glance import FIGURES, NOT_MEASURED, glances, recorded_glances

from .runs import SIZE, fold_splits, folds_of, speckle_manifest, write_run

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


@pytest.fixture(scope="module")
def left_out(data: Manifest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """For each site a bundle of two runs that left it out, exported with its mirror image."""
    root = tmp_path_factory.mktemp("left-out")
    bundles = {}
    for site in ("A", "B"):
        runs = []
        for fold in (0, 1):
            splits = np.where(data.table["site"] == site, "test", fold_splits(data, fold))
            settings = [f"data.leave_site={site}", "data.folds=3", f"data.fold={fold}", "data.fold_role=val"]
            runs.append(write_run(root / f"{site}{fold}", data, list(splits), settings, seed=fold))
        bundles[site] = root / f"left-{site}"
        assert typed(*runs, "--out", bundles[site], "--flip").exit_code == 0
    return bundles


@pytest.fixture(scope="module")
def folds(data: Manifest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return folds_of(tmp_path_factory.mktemp("folds"), data)[:2]


def typed(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, words)])


def test_bundles_that_left_a_hospital_out_are_measured_as_they_are_served(
    left_out: dict[str, Path], folds: list[Path], tmp_path: Path
) -> None:
    result = typed(*folds, "--out", tmp_path / "b", "--flip", "--held-out", left_out["B"], "--held-out", left_out["A"])
    assert result.exit_code == 0, result.output
    spec = read_bundle(tmp_path / "b")
    assert [site.site for site in spec.held_out] == ["A", "B"]
    for site in spec.held_out:
        own = read_bundle(left_out[site.site])
        assert own.left_out_itself
        assert site.model_copy(update={"bundle": ""}) == own.held_out[0]
        assert site.threshold == own.operating_point.threshold
        assert site.bundle == digest_of(own)
        assert own.held_out[0].bundle == ""
        assert own.learned_from == f"{own.training.dataset} without {site.site}"
        folder = left_out[site.site]
        assert own.learned_from in json.loads((folder / "metadata.json").read_text())["description"]
        conformal = conformal_of(own, folder)
        assert conformal is not None
        assert conformal.name == f"{own.learned_from}, out-of-fold predictions"
        assert glances(own, {"auroc": {"value": 0.5}})[0].name == own.learned_from
        names = [glance.name for glance in recorded_glances(own, folder)]
        assert names == [f"{own.learned_from}, out-of-fold predictions", site.site]
    assert spec.held_out[0].figures != spec.held_out[1].figures
    assert not spec.left_out_itself
    card = " ".join((tmp_path / "b/MODEL_CARD.md").read_text().split())
    assert "LEFT_OUT1 is the bundle of runs made in the same way with `data.leave_site` A, LEFT_OUT2 is" in card
    assert "medsharp export RUN0 RUN1 --held-out LEFT_OUT1 --held-out LEFT_OUT2 --flip --out b" in card
    assert "CROSSVALIDATION" not in card


def test_bundles_and_cross_validations_go_together_but_measure_a_hospital_once(
    left_out: dict[str, Path], folds: list[Path], table: pd.DataFrame, tmp_path: Path
) -> None:
    (tmp_path / "cv").mkdir()
    table[table["site"] == "A"].to_csv(tmp_path / "cv" / "predictions.csv", index=False)
    measured = ("--held-out", tmp_path / "cv", "--held-out")
    result = typed(*folds, "--out", tmp_path / "b", "--flip", *measured, left_out["B"])
    assert result.exit_code == 0, result.output
    first, second = read_bundle(tmp_path / "b").held_out
    assert (first.site, first.bundle, first.threshold) == ("A", "", THRESHOLDS["A"])
    assert second.bundle == digest_of(read_bundle(left_out["B"]))
    assert "--held-out CROSSVALIDATION --held-out LEFT_OUT1 --flip" in (tmp_path / "b/MODEL_CARD.md").read_text()
    twice = typed(*folds, "--out", tmp_path / "c", "--flip", *measured, left_out["A"])
    assert twice.exit_code == 2
    assert "measured A, as another --held-out did; give one of them" in " ".join(twice.output.split())
    assert not (tmp_path / "c").exists()


def test_what_one_answer_would_be_averaged_by_says_nothing(run: Path, data: Manifest, tmp_path: Path) -> None:
    # Two folds validate: one alone has too few cancers of site B to freeze an operating point on.
    halves = [np.array(fold_splits(data, fold)) == "val" for fold in (0, 1)]
    splits = list(np.where(data.table["site"] == "A", "test", np.where(halves[0] | halves[1], "val", "train")))
    settings = ["data.leave_site=A", "data.folds=3", "data.fold=0", "data.fold_role=val"]
    left = write_run(tmp_path / "left", data, splits, settings)
    result = typed(left, "--out", tmp_path / "a", "--average", "logits")
    assert result.exit_code == 0, result.output
    result = typed(run, "--out", tmp_path / "b", "--average", "logits", "--held-out", tmp_path / "a")
    assert result.exit_code == 0, result.output
    assert [site.site for site in read_bundle(tmp_path / "b").held_out] == ["A"]
    sizes = ("--image-size", str(SIZE), "--image-size", "40")
    result = typed(run, "--out", tmp_path / "c", "--average", "logits", "--held-out", tmp_path / "a", *sizes)
    assert result.exit_code == 2, result.output
    # Of one answer no mean is taken, so that what it would be of is of no account; of two it is.
    assert "was made in another way: average is probabilities there and logits here" in " ".join(result.output.split())
    assert typed(left, "--out", tmp_path / "d", "--image-size", "40", *sizes).exit_code == 0
    result = typed(run, "--out", tmp_path / "e", "--held-out", tmp_path / "d", *sizes)
    assert result.exit_code == 0, result.output
    assert [site.bundle for site in read_bundle(tmp_path / "e").held_out] == [digest_of(read_bundle(tmp_path / "d"))]
    result = typed(run, "--out", tmp_path / "f", "--held-out", tmp_path / "a", *sizes)
    assert result.exit_code == 2, result.output
    assert f"sizes is [{SIZE}] there and [{SIZE}, 40] here" in " ".join(result.output.split())


def test_bundle_made_in_another_way_does_not_speak_for_this_one(
    left_out: dict[str, Path], folds: list[Path], data: Manifest, tmp_path: Path
) -> None:
    settings = ["data.folds=3", "data.fold=0", "data.fold_role=val", "optimizer.lr=0.5"]
    other = [write_run(tmp_path / "lr", data, fold_splits(data, 0), settings), folds[1]]
    cases = [
        ([*folds], left_out["A"], "flip is True there and False here"),
        ([*folds, "--flip", "--weights", "fp16"], left_out["A"], "weights is fp32 there and fp16 here"),
        ([folds[0], "--flip"], left_out["A"], "members is 2 there and 1 here"),
        ([*folds, "--flip", "--image-size", "40"], left_out["A"], f"input size is {SIZE} there and 40 here"),
        (
            [*folds, "--flip", "--image-size", str(SIZE), "--image-size", "40"],
            left_out["A"],
            f"sizes is [{SIZE}] there and [{SIZE}, 40] here",
        ),
        ([*other, "--flip"], left_out["A"], "optimizer.lr is 0.001 there and 0.5 here"),
    ]
    plain = tmp_path / "plain"
    assert typed(*folds, "--flip", "--out", plain).exit_code == 0
    cases.append(([*folds, "--flip"], plain, "is no bundle of runs that left a hospital out"))
    for words, bundle, sentence in cases:
        result = typed(*words, "--out", tmp_path / "b", "--held-out", bundle)
        assert result.exit_code == 2, result.output
        assert sentence in " ".join(result.output.split()), result.output
        assert not (tmp_path / "b").exists()


def test_figure_is_written_with_its_interval_or_not_at_all() -> None:
    assert str(Figure(value=0.8126, low=0.75, high=0.86)) == "0.813 (0.750 to 0.860)"
    assert str(Figure(value=0.8126)) == "0.813"
    assert str(Figure(value=None)) == "-"
