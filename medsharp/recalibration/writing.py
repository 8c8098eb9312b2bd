"""The updated bundle: the files of its parent with what the update changes, checked against the parent's answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medsharp import __version__
from medsharp.bundle import (
    INTERNAL,
    METADATA,
    MODEL,
    MODELS,
    PARITY,
    SPEC,
    VALIDATION,
    BundleSpec,
    OperatingPoint,
    Update,
    write_spec,
)
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.evaluation.predictions import read_predictions
from medsharp.files import atomic_folder, sha256_file, write_text
from medsharp.inference.card import write_card
from medsharp.inference.external import evaluate_internal
from medsharp.inference.leaks import add_hashes
from medsharp.inference.predictor import Predictor
from medsharp.inference.session import Session
from medsharp.inference.table import predict_manifest
from medsharp.recalibration.graph import shift_logits
from medsharp.recalibration.log_odds import LogOddsUpdate

_CHECKED = 16
"""Images that the updated bundle predicts before it is released."""

_TOLERANCE = 1e-5
"""Largest difference of a probability from the formula: float32 logits against float64 log odds."""


def write_updated(
    out: Path,
    parent: Predictor,
    update: Update,
    point: OperatingPoint,
    manifest: Manifest,
    *,
    calibration: pd.Index,
    expected: pd.DataFrame,
) -> BundleSpec:
    """Write the bundle that an update makes of its parent.

    Args:
        out: Its folder, which must not be there.
        parent: The bundle that is updated.
        update: What is changed.
        point: The operating point from now on.
        manifest: The local data.
        calibration: Rows of its table that changed the bundle, whose hashes it carries.
        expected: Updated predictions by the formula, which the bundle's own must equal; the manifest's index.

    Raises:
        InputError: `out` exists, or the updated graph does not answer as the formula says; nothing is written then.
    """
    change = LogOddsUpdate(update.intercept, update.slope)
    before = parent.spec
    with atomic_folder(out) as folder:
        for name in before.files:
            shutil.copyfile(parent.folder / name, folder / name)
        if change.intercept:
            shift = change.shift(before.classes, before.positive, before.temperature)
            for name in before.files.keys() & set(MODELS.values()):
                (folder / name).write_bytes(shift_logits((folder / name).read_bytes(), shift))
        for name in (INTERNAL, VALIDATION):
            if name in before.files and change.changes:
                table = change.of_rounded(read_predictions(folder / name), before.classes, before.positive)
                table.to_csv(folder / name, index=False, lineterminator="\n")
        add_hashes(folder, manifest, calibration)
        spec = before.model_copy(
            update={
                "name": out.resolve().name,
                "created": update.created,
                "medsharp": __version__,
                "temperature": change.temperature(before.temperature),
                "operating_point": point,
                "updates": (*before.updates, update),
                # They are of models with the probabilities and the threshold before.
                "held_out": before.held_out if update.method == "none" else (),
                # Energy is of the logits, which an intercept moves.
                "checks": {key: one for key, one in before.checks.items() if key != "energy" or not change.intercept},
                "files": {},
            }
        )
        predictor = Predictor(
            folder,
            spec,
            Session(folder / MODEL, device=parent.session.device),
            limits=parent.limits,
            inpaint=parent.preprocessing.inpaint,
            value_range=parent.value_range,
            # Whether the graph is right is asked of its numbers: an update may move what a check refuses.
            answer_anyway=True,
        )
        apart = _largest_difference(predictor, manifest, expected)
        if PARITY in before.files:
            _add(folder / PARITY, {"update": {"images": min(_CHECKED, len(expected)), "largest_difference": apart}})
        if METADATA in before.files:
            _write_metadata(folder, spec)
        write_card(folder, spec)
        names = sorted(file.name for file in folder.iterdir() if file.name != SPEC)
        spec = spec.model_copy(update={"files": {name: sha256_file(folder / name) for name in names}})
        write_spec(folder, spec)
    return spec


def _largest_difference(predictor: Predictor, manifest: Manifest, expected: pd.DataFrame) -> float:
    """Return how far the bundle's probabilities are from the formula's on some images.

    Raises:
        InputError: Further than rounding explains.
    """
    chosen = expected.iloc[np.linspace(0, len(expected) - 1, min(_CHECKED, len(expected))).astype(int)]
    some = manifest.replace(table=manifest.table.loc[chosen.index])
    columns = [f"p_{name}" for name in predictor.spec.classes]
    answers = predict_manifest(predictor, some)[columns].to_numpy(dtype=float)
    apart = float(np.abs(answers - chosen[columns].to_numpy(dtype=float)).max())
    if not apart <= _TOLERANCE:
        raise InputError(
            f"the updated {MODEL} answers otherwise than the update says (probabilities differ by {apart:.2g}); "
            "nothing was written"
        )
    return apart


def _write_metadata(folder: Path, spec: BundleSpec) -> None:
    """Write what MONAI's tools read: the parent's, with the update and the internal figures as they are now."""
    metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
    history = {**metadata.get("changelog", {})}
    history[spec.medsharp] = spec.changelog
    figures = evaluate_internal(spec, folder)
    known: Sequence[str] = list(metadata.get("eval_metrics", {}))
    metadata |= {"name": spec.name, "version": spec.medsharp, "changelog": history}
    if figures is not None:
        values = figures.as_dict()["figures"]
        metadata["eval_metrics"] = {name: _numbers(values[name.removeprefix("internal_")]) for name in known}
    write_text(folder / METADATA, json.dumps(metadata, indent=1) + "\n")


def _numbers(figure: dict[str, Any]) -> dict[str, float]:
    """Return value, low and high, without what does not exist for these data."""
    return {key: figure[key] for key in ("value", "low", "high") if figure[key] is not None}


def _add(path: Path, values: dict[str, Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    write_text(path, json.dumps({**content, **values}, indent=1) + "\n")
