"""Runs of which nothing is tested, and which rows of a run stand for images that it did not learn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medsharp.config import TrainConfig, dump_config
from medsharp.data.manifest import Manifest, write_manifest
from medsharp.errors import InputError
from medsharp.export import export_run
from training import Run, train


@pytest.fixture
def untested(many_squares: Manifest) -> Manifest:
    """Images that train and images that validate, and none besides."""
    return many_squares.replace(table=many_squares.table[many_squares.table["split"] != "test"])


def test_run_without_a_test_set_is_finished_and_exported(
    untested: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    run = train(configure(), untested, out=tmp_path / "run")
    assert Run.load(run.folder).finished
    table = run.predictions()
    assert set(table["split"]) == {"val"}
    assert len(table) == 24
    assert run.out_of_fold()["image"].tolist() == untested.of_split("val")["image"].tolist()
    before = (run.folder / "predictions.csv").read_bytes()
    train(run.config, run.manifest, out=run.folder, resume=True)
    assert (run.folder / "predictions.csv").read_bytes() == before
    spec = export_run(run.folder, tmp_path / "bundle")
    assert spec.training.images == {"train": 48, "val": 24, "test": 0}
    assert spec.operating_point.images == 24
    assert "without an internal test split" in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()


def test_validation_images_are_still_needed(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    table = squares.table[squares.table["split"] != "val"]
    with pytest.raises(InputError, match="squares has no images in split 'val'"):
        train(configure(), squares.replace(table=table), out=tmp_path / "run")


def finished(folder: Path, manifest: Manifest, config: TrainConfig) -> Run:
    """A run folder as training leaves it, of a table that nobody trained."""
    folder.mkdir()
    write_manifest(manifest, folder)
    (folder / "config.yaml").write_text(dump_config(config))
    rows = [
        {"image": f"{split}.png", "label": "benign", "split": split, "p_benign": 0.7, "p_malignant": 0.3}
        | {"logit_benign": -0.25, "logit_malignant": 0.5}
        for split in ("val", "test")
    ]
    pd.DataFrame(rows).to_csv(folder / "predictions.csv", index=False)
    return Run.load(folder)


@pytest.mark.parametrize(
    ("data", "split"),
    [
        ({"folds": 5}, "test"),
        ({"official_folds": 5}, "test"),
        ({"folds": 5, "fold_role": "val"}, "val"),
        ({"folds": 5, "leave_site": "A"}, "val"),
        ({"leave_site": "A"}, "val"),
        ({}, "val"),
    ],
)
def test_left_out_hospital_and_training_never_decide(
    data: dict[str, Any], split: str, squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    run = finished(tmp_path / "run", squares, configure(data=data))
    table = run.out_of_fold()
    assert table["split"].tolist() == [split]
    assert table[["p_malignant", "logit_benign", "logit_malignant"]].to_numpy().tolist() == [[0.3, -0.25, 0.5]]


def test_damaged_or_missing_predictions_are_a_sentence(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    run = finished(tmp_path / "run", squares, configure())
    path = run.folder / "predictions.csv"
    path.write_text(path.read_text().replace("-0.25", "much"))
    with pytest.raises(InputError, match="value in logit_benign that is no finite number"):
        run.predictions()
    path.unlink()
    with pytest.raises(InputError, match="not trained to its end; medsharp train --resume"):
        run.out_of_fold()
