"""Reading what is tested: each finished cell predicts it once, and the predictions are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from medsharp.config import DataConfig
from medsharp.data.manifest import Manifest, name_of
from medsharp.data.pipeline import make_dataset
from medsharp.errors import InputError
from medsharp.files import atomic_path, write_text
from medsharp.preprocess import preprocess
from medsharp.progress import Progress
from medsharp.robustness.corruptions import corrupt, fingerprint
from medsharp.runs import Run
from training.precision import full_precision
from training.study.definition import StudyDefinition
from training.study.folder import StudyFolder
from training.study.open_data import read_open
from training.study.plan import Cell, planned_cells
from training.study.sealed import unseal

READINGS = "readings"
INTERNAL, TRAIN = "internal", "train"
EXTERNAL, CORRUPTED = "external ", "corrupted "
"""How parts begin that name another hospital, or a corruption of the internal images."""

_KEPT = ["image", "patient", "site", "group", "label"]
_BATCH = 64


@dataclass(frozen=True)
class _Part:
    """Images that a cell predicts."""

    name: str
    rows: pd.DataFrame
    images: Sequence[np.ndarray]


def finished_cells(folder: StudyFolder) -> list[tuple[Cell, dict[str, Any]]]:
    """Return the cells that are trained, with what is known of each."""
    return [(cell, record) for cell in planned_cells(folder.study) if (record := folder.record(cell)) is not None]


def read_all(folder: StudyFolder, *, device: str = "cpu", progress: Progress | None = None) -> dict[str, pd.DataFrame]:
    """Return the predictions of every finished run on what it learned from, on its test fold and on other hospitals.

    Args:
        folder: The study.
        device: Where to predict what was not read before.
        progress: Called with cells done, cells in all, and what is being done.

    Returns:
        By run: `part` (`train`, `internal`, `external <hospital>`, `corrupted <name>`), what the manifest says of the
        image, and `p_<class>`. What was read once is not predicted again.

    Raises:
        InputError: An image that is tested is not there any more, or a prediction is not finite.
    """
    cells = finished_cells(folder)
    log = folder.root / READINGS / "opened.json"
    if cells and not log.is_file():
        first = {"opened": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "finished_cells": len(cells)}
        write_text(log, json.dumps(first, indent=1) + "\n")
    parts: list[_Part] = []
    parts_of: tuple[Any, ...] | None = None
    tables: dict[str, pd.DataFrame] = {}
    # Cells of a fold and a preprocessing share decoded images.
    for number, (cell, record) in enumerate(sorted(cells, key=lambda one: _place(folder, *one))):
        path = folder.root / READINGS / reading_name(record["run"], folder.study)
        if record["run"] not in tables and not path.is_file():
            run = folder.run_of(record)
            place = (cell.chain.hospital.name, cell.chain.fold, run.config.data.preprocessing())
            if place != parts_of:
                parts, parts_of = _parts(folder, cell, run.config.data), place
            _write(path, _predict(run, parts, device))
        if record["run"] not in tables:
            tables[record["run"]] = _read(path)
        if progress is not None:
            progress(number + 1, len(cells), "reading what is tested")
    return tables


def reading_name(run: str, study: StudyDefinition) -> str:
    """Return the file's name of a run's reading, which follows what the study's corruptions do today.

    So images that are corrupted otherwise are read anew, and never stand beside those read before.
    """
    severity = study.robustness.severity
    definitions = ",".join(fingerprint(name, severity) for name in study.robustness.corruptions)
    digest = hashlib.sha256(definitions.encode()).hexdigest()[:8]
    return f"{run}-{digest}.csv" if definitions else f"{run}.csv"


def first_reading(folder: StudyFolder) -> dict[str, Any] | None:
    """Return when what is tested was first read, and how many cells were finished then."""
    log = folder.root / READINGS / "opened.json"
    return json.loads(log.read_text(encoding="utf-8")) if log.is_file() else None


def _place(folder: StudyFolder, cell: Cell, record: dict[str, Any]) -> tuple[Any, ...]:
    spec = folder.run_of(record).config.data.preprocessing()
    return (cell.chain.hospital.name, cell.chain.fold, repr(spec), cell.name)


def _parts(folder: StudyFolder, cell: Cell, data: DataConfig) -> list[_Part]:
    study, name = folder.study, cell.chain.hospital.name
    learned = read_open(folder.root, f"{name}/fold-{cell.chain.fold}")
    tested = unseal(folder.root, f"{name}/fold-{cell.chain.fold}")
    parts = [_part(TRAIN, learned, learned.of_split("train"), data), _part(INTERNAL, tested, tested.included, data)]
    for other in study.hospitals:
        if other.name != name:
            external = unseal(folder.root, f"{name}/external-{other.name}")
            parts.append(_part(EXTERNAL + other.name, external, external.included, data))
    parts += [_corrupted(entry, tested, data, study) for entry in study.robustness.corruptions]
    return parts


def _part(name: str, manifest: Manifest, rows: pd.DataFrame, data: DataConfig) -> _Part:
    dataset = make_dataset(
        rows,
        manifest,
        spec=data.preprocessing(),
        classes=data.classes,
        cache=data.cache,
        limits=data.limits.limits(),
    )
    return _Part(name, dataset.table, [dataset.images[number] for number in range(len(dataset))])


def _corrupted(name: str, manifest: Manifest, data: DataConfig, study: StudyDefinition) -> _Part:
    rows = manifest.included.reset_index(drop=True)
    images = []
    for row in rows.to_dict("records"):
        # The chance of an image is its own, whichever fold and order it comes in.
        seed = int.from_bytes(hashlib.sha256(str(row["image"]).encode()).digest()[:4], "big")
        decoded = manifest.read(row, data.limits.limits())
        pixels = corrupt(decoded.pixels, name, study.robustness.severity, seed=seed)
        images.append(preprocess(pixels, data.preprocessing(), coloured=decoded.coloured))
    return _Part(CORRUPTED + name, rows, images)


def _predict(run: Run, parts: Sequence[_Part], device: str) -> pd.DataFrame:
    network = run.load_network().to(device)
    tables = []
    for part in parts:
        shares = _shares(network, part.images, device)
        if not np.isfinite(shares).all():
            raise InputError(
                f"{run.folder}: predictions of {part.name} images are not finite; this run cannot be compared"
            )
        table = part.rows[_KEPT].assign(image=[name_of(row) for row in part.rows.to_dict("records")])
        for column, label in enumerate(run.config.data.classes):
            table[f"p_{label}"] = shares[:, column]
        table.insert(0, "part", part.name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


@full_precision()
@torch.inference_mode()
def _shares(network: nn.Module, images: Sequence[np.ndarray], device: str) -> np.ndarray:
    """Return the probability of each class, float64 [N, C]."""
    found = []
    for start in range(0, len(images), _BATCH):
        batch = torch.from_numpy(np.stack(images[start : start + _BATCH]).astype(np.float32))[:, None]  # [B, 1, S, S]
        found.append(network(batch.to(device)).double().softmax(dim=1).cpu().numpy())
    return np.concatenate(found)


def _write(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.12g")


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=dict.fromkeys(_KEPT, str), keep_default_na=False)
