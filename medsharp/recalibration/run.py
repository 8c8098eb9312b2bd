"""A bundle updated on local data, from the drawing of parts to the bundle with its lineage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medsharp import __version__
from medsharp.bundle import (
    TRAINING_HASHES,
    TRAINING_LOOKS,
    BundleSpec,
    Figure,
    NestedTest,
    OperatingPoint,
    Update,
    digest_of,
)
from medsharp.bundle.prediction_sets import PREDICTION_SET, read_prediction_sets
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.evaluation.comparison.compare import compare_models
from medsharp.evaluation.comparison.models import Group, Model
from medsharp.evaluation.findings import REFUSED, fate_of, is_answered
from medsharp.evaluation.frozen import MARGIN, SIDE
from medsharp.evaluation.statistics.operating_point import asked_sensitivity, choose_operating_point
from medsharp.files import atomic_path, write_text
from medsharp.inference.leaks import leaks
from medsharp.inference.prediction import log_odds
from medsharp.inference.predictor import Predictor
from medsharp.inference.table import frozen_columns, predict_manifest
from medsharp.keys import clusters_of
from medsharp.progress import Progress
from medsharp.quantities import counted
from medsharp.recalibration.log_odds import Wish, choose_update, log_odds_of
from medsharp.recalibration.parts import (
    CALIBRATION,
    EVALUATION,
    FEW,
    PARTS,
    check_part,
    describe_part,
    draw_parts,
    write_parts,
)
from medsharp.recalibration.writing import write_updated

FIGURES = ("auroc", "sensitivity", "specificity", "brier", "log_loss", "calibration_intercept", "calibration_slope")
"""What is compared before and after, each bundle at its own operating point."""

RECORD = "recalibration.json"


@dataclass(frozen=True)
class Recalibrated:
    """The bundle that was written, and what is to be said of it.

    Attributes:
        spec: Its description; the last of its `updates` is this one.
        notes: Sentences that must be read beside the figures.
    """

    spec: BundleSpec
    notes: tuple[str, ...]

    @property
    def update(self) -> Update:
        """What was done."""
        return self.spec.updates[-1]


def recalibrate_bundle(
    parent: Predictor,
    manifest: Manifest,
    out: Path,
    record: Path,
    *,
    wish: Wish = "auto",
    share: float = 0.5,
    seed: int = 0,
    sensitivity: float | None = None,
    resamples: int = 2000,
    progress: Progress | None = None,
) -> Recalibrated:
    """Update a bundle on one part of local data, measure it on the other, and write it as a new bundle.

    The parts are drawn by patients, written to `record` and hashed before any image is predicted. With `intercept` and
    `slope` the threshold is chosen anew, by the rule of the parent, on the calibration part: a threshold of the old
    scale means nothing on the new one. With `none`, asked for or chosen, the parent's answers and threshold stay.

    Args:
        parent: The bundle.
        manifest: As `open_external` gives it, with labels.
        out: Folder of the new bundle, which must not be there.
        record: Folder for `parts.csv`, `predictions-before.csv`, `predictions-after.csv` and `recalibration.json`.
        wish: What to update; `auto` lets a closed test choose between none, intercept, and intercept and slope.
        share: Of the images for the calibration part.
        seed: Of the parts and the resamples.
        sensitivity: What the new threshold reaches on the calibration part; by default what the parent's rule asks.
        resamples: Of patients.
        progress: Called with images done, images in all and what is being done.

    Raises:
        InputError: `out` exists, the data are unlabelled, of one class, too few or of the parent's own training, the
            bundle has more than two classes and other than its threshold was to be updated, or there is no such update.
    """
    spec, name = parent.spec, manifest.info.name
    if out.exists():
        raise InputError(f"{out} exists already; an update is a new bundle: choose another --out")
    target = check_parent(spec, wish, sensitivity)
    _check_data(parent, manifest)
    parts = draw_parts(manifest, spec.positive, share=share, seed=seed)
    digest = write_parts(record, manifest, parts)
    rows, refusals = _predicted(parent, manifest, progress)
    local = {part: rows[parts.loc[rows.index] == part] for part in (CALIBRATION, EVALUATION)}
    notes = [f"{name}: {sentence}" for sentence in refusals]
    for part, chosen in local.items():
        least = min(check_part(chosen, spec.positive, f"{name}, predicted images of the {part} part"))
        if least < FEW:
            notes.append(f"the {part} part has {least} patients of the rarer class; below {FEW}, expect much of chance")

    labels, clusters = _columns(local[CALIBRATION], spec.positive)
    odds = log_odds_of(local[CALIBRATION], spec.classes, spec.positive)
    where = f"the calibration part of {name}"
    method, change, test = choose_update(wish, labels, odds, clusters, where)
    updated = change.applied(rows, spec.classes, spec.positive)
    point = spec.operating_point
    if method != "none":
        after = updated.loc[local[CALIBRATION].index, f"p_{spec.positive}"].to_numpy(dtype=float)
        point = choose_operating_point(after, labels, target, clusters=clusters, where=where)
    measured = local[EVALUATION].index
    compared = _compared(rows.loc[measured], updated.loc[measured], spec, point, resamples=resamples, seed=seed)
    update = Update(
        parent=spec.name,
        parent_digest=digest_of(spec),
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
        medsharp=__version__,
        method=method,
        chosen_by="asked" if test is None else "closed test",
        tests=() if test is None else tuple(NestedTest(**vars(one)) for one in test.tests),
        intercept=change.intercept,
        slope=change.slope,
        parent_point=spec.operating_point,
        dataset=name,
        calibration=describe_part(local[CALIBRATION], spec.positive),
        evaluation=describe_part(local[EVALUATION], spec.positive),
        share=share,
        seed=seed,
        parts=digest,
        **_figures(compared),
    )
    new = write_updated(
        out,
        parent,
        update,
        point,
        manifest,
        calibration=parts.index[parts == CALIBRATION],
        expected=updated.loc[measured],
    )
    _write_record(
        record,
        update,
        point,
        _decided(rows.assign(part=parts), spec, parent.folder),
        _decided(updated.assign(part=parts), new, out),
        notes,
    )
    return Recalibrated(new, tuple(notes))


def check_parent(spec: BundleSpec, wish: Wish, sensitivity: float | None = None) -> float:
    """Refuse a bundle that cannot be updated so, before any data are read.

    Returns:
        The sensitivity that a new threshold reaches: the one given, or what the bundle's rule asks.

    Raises:
        InputError: It has more than two classes and other than its threshold is to be updated, was trained elsewhere,
            carries no hashes of its training images, or its rule asks for no sensitivity and none is given.
    """
    if len(spec.classes) > 2 and wish not in ("none", "threshold"):
        raise InputError(
            f"{spec.name} has {len(spec.classes)} classes ({', '.join(spec.classes)}); intercept and slope are of two: "
            "use --update threshold"
        )
    if spec.training.elsewhere is not None:
        raise InputError(
            f"{spec.name} was trained elsewhere, and nobody gave the hashes of its training images, so that nobody can "
            "tell whether local images are among them; to fix its temperature and threshold on local images, export "
            "its weights with them: medsharp export DESCRIPTION.yaml --data LOCAL"
        )
    if not {TRAINING_HASHES, TRAINING_LOOKS} <= spec.files.keys():
        raise InputError(
            f"{spec.name} carries no hashes of its training images, so that nobody can tell whether local images are "
            "among them; export it again from its run"
        )
    asked = asked_sensitivity(spec.operating_point) if sensitivity is None else sensitivity
    if asked is None:
        raise InputError(
            f"{spec.name}: its threshold's rule ('{spec.operating_point.rule}') asks for no sensitivity that a new one "
            "could be chosen by; give --sensitivity"
        )
    if not 0 < asked <= 1:
        raise InputError(f"sensitivity {asked:g} must be above 0 and at most 1")
    return asked


def _check_data(parent: Predictor, manifest: Manifest) -> None:
    """Refuse data that cannot update a bundle, before anything is predicted."""
    name = manifest.info.name
    unlabelled = manifest.included.index[manifest.included["label"] == ""]
    if len(unlabelled):
        raise InputError(
            f"{name}, row {manifest.line(unlabelled[0])}: {manifest.table.at[unlabelled[0], 'image']} has no label "
            f"({len(unlabelled)} such images); an update needs the label of each"
        )
    found = leaks(parent.folder, manifest)
    if found:
        raise InputError(
            f"{name}: {found[0].split('; ')[0]}; a model is not updated on images that it was made with: exclude them "
            "(column exclude), or take others"
        )


def _predicted(parent: Predictor, manifest: Manifest, progress: Progress | None) -> tuple[pd.DataFrame, list[str]]:
    """Return the predictions of images that were answered, indexed as the manifest's table; and who was refused."""
    table = predict_manifest(parent, manifest, progress=progress)
    table.index = manifest.included.index
    refused = int((fate_of(table) == REFUSED).sum())
    were = counted(refused, "image was", "images were")
    said = [f"{were} refused by the checks; neither the update nor its figures are of them"] if refused else []
    return table[is_answered(table)], said


def _columns(rows: pd.DataFrame, positive: str) -> tuple[np.ndarray, np.ndarray]:
    """Return labels bool [N] and clusters int [N]."""
    return (rows["label"] == positive).to_numpy(dtype=bool), clusters_of(rows)


def _compared(
    before: pd.DataFrame, after: pd.DataFrame, spec: BundleSpec, point: OperatingPoint, *, resamples: int, seed: int
) -> dict[str, Any]:
    models = (
        Model("before", before, spec.operating_point.threshold, "the parent's"),
        Model("after", after, point.threshold, "the updated bundle's"),
    )
    comparison = compare_models(
        [Group(model.name, (model,)) for model in models],
        classes=spec.classes,
        positive=spec.positive,
        resamples=resamples,
        seed=seed,
    )
    return comparison.as_dict()


def _figures(compared: Mapping[str, Any]) -> dict[str, dict[str, Figure]]:
    """Return the figures before and after, and after minus before."""
    before, after = (group["figures"] for group in compared["groups"])
    (pair,) = compared["pairs"]
    found = {"before": before, "after": after, "change": pair["figures"]}
    return {
        kind: {name: Figure(**{key: figures[name][key] for key in ("value", "low", "high")}) for name in FIGURES}
        for kind, figures in found.items()
    }


def _decided(rows: pd.DataFrame, spec: BundleSpec, bundle: Path) -> pd.DataFrame:
    """Return predictions with side, distance, set, threshold and origin as a bundle gives them."""
    threshold, shares = spec.operating_point.threshold, rows[f"p_{spec.positive}"]
    sides = np.where(shares.isna(), "", np.where(shares >= threshold, "above", "below"))
    margins = shares.map(log_odds) - log_odds(threshold)
    made = read_prediction_sets(bundle, spec.classes)
    probabilities = rows[[f"p_{name}" for name in spec.classes]].to_numpy(dtype=float)
    sets = ["" if made is None else made.written(each) for each in probabilities]
    return rows.assign(**{SIDE: sides, MARGIN: margins, PREDICTION_SET: sets}, **frozen_columns(spec))


def _write_record(
    folder: Path, update: Update, point: OperatingPoint, before: pd.DataFrame, after: pd.DataFrame, notes: list[str]
) -> None:
    for name, table in (("before", before), ("after", after)):
        with atomic_path(folder / f"predictions-{name}.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    content = {
        "format": 1,
        "parts": PARTS,
        "update": update.model_dump(mode="json"),
        "operating_point": point.model_dump(mode="json"),
        "notes": notes,
    }
    write_text(folder / RECORD, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
