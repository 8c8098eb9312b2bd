"""Fitting the input checks of a bundle that is there already, on images that it was made of."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.bundle import CHECKS, METADATA, TRAINING_HASHES, TRAINING_LOOKS, BundleSpec, OperatingPoint, write_spec
from medsharp.cores import usable_cores
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.export.checks import LEAST, answer_limits, measured, picture_limits
from medsharp.export.metadata import monai_metadata
from medsharp.files import atomic_folder, sha256_file, write_text
from medsharp.inference.card import write_card
from medsharp.inference.external import evaluate_internal
from medsharp.inference.predictor import Predictor
from medsharp.inference.validation import Validation
from medsharp.keys import clusters_of, text_of
from medsharp.preprocess import preprocess
from medsharp.progress import Progress

_BATCH = 32

Row = tuple[Manifest, dict[str, str]]


def refit_checks(
    bundle: str | Path,
    out: str | Path,
    manifests: Sequence[Manifest],
    *,
    no_lesion: str = "normal",
    progress: Progress | None = None,
) -> BundleSpec:
    """Write a copy of a bundle whose input checks have limits of their own.

    The network, the temperature and the threshold stay as they are; an older bundle gets the intervals of its
    sensitivity and specificity. Only images that the bundle was made of
    count: those whose file or perceptual hash it carries.

    Args:
        bundle: Folder of the bundle; it must not crop to the lesion.
        out: Folder of the copy, which must not be there.
        manifests: Audited data sets that it was made of.
        no_lesion: Label of images that show no lesion; those of the data sets teach `no_lesion`, unless the bundle
            has it as a class.
        progress: Called with images done, images in all and what is being done.

    Raises:
        InputError: `out` exists, the bundle crops to the lesion, or fewer than `LEAST` images are of its own.
    """
    predictor = Predictor.load(bundle)
    spec = predictor.spec
    if predictor.preprocessing.crop == "lesion":
        raise InputError(f"{bundle} looks at the lesion alone; an image without one has nothing to look at")
    known = _known(predictor.folder)
    own: list[Row] = []
    without: list[Row] = []
    clusters = np.empty(0, dtype=int)
    for manifest in manifests:
        rows = manifest.included
        mine = rows[rows["label"].isin(spec.classes) & _are_known(rows, known)]
        own += [(manifest, row) for row in mine.to_dict("records")]
        # Patients of two data sets are never the same.
        clusters = np.append(clusters, clusters_of(mine) + clusters.max(initial=-1) + 1)
        if no_lesion not in spec.classes:  # which the model can answer itself
            without += [(manifest, row) for row in rows[rows["label"] == no_lesion].to_dict("records")]
    if len(own) < LEAST:
        raise InputError(
            f"{len(own)} images of the data are among those that {bundle} was made of; {LEAST} are needed, "
            "audited as they were then"
        )
    features, logits, pictures = _answers(predictor, own, "images of the bundle", progress)
    lesionless = _answers(predictor, without, f"images labelled {no_lesion}", progress)[0] if without else features[:0]
    labels = np.array([spec.classes.index(row["label"]) for _, row in own])
    limits, learned = answer_limits(features, logits, labels, clusters, lesionless)
    with atomic_folder(Path(out)) as folder:
        for name in spec.files:
            shutil.copyfile(predictor.folder / name, folder / name)
        if learned is not None:
            learned.write(folder / CHECKS)
        spec = spec.model_copy(
            update={
                "name": Path(out).resolve().name,
                "checks": picture_limits(pictures) | limits,
                "input_check": None,
                "operating_point": _with_intervals(spec, folder),
            }
        )
        before = json.loads((predictor.folder / METADATA).read_text(encoding="utf-8")) if METADATA in spec.files else {}
        # Whose the weights are stays as it was said.
        kept = {key: before[key] for key in ("authors", "copyright") if key in before}
        metadata = monai_metadata(spec, evaluate_internal(spec, folder)) | kept
        write_text(folder / METADATA, json.dumps(metadata, indent=1) + "\n")
        write_card(folder, spec)
        spec = spec.model_copy(update={"files": {file.name: sha256_file(file) for file in sorted(folder.iterdir())}})
        write_spec(folder, spec)
    return spec


def _with_intervals(spec: BundleSpec, folder: Path) -> OperatingPoint:
    """Return the operating point with the intervals of what it reached, where an older bundle lacks them.

    They are of its validation predictions, as far as it was chosen on these: an update's are not in the bundle.
    """
    point = spec.operating_point
    validation = Validation.read(spec, folder)
    if validation is None or spec.updates or point.sensitivity_interval is not None:
        return point
    reached = next((one for one in validation.rates(point.threshold) if one.threshold == point.threshold), None)
    if reached is None or (reached.sensitivity, reached.specificity) != (point.sensitivity, point.specificity):
        return point  # weights from elsewhere, or a table that somebody replaced: not what the point was chosen on
    intervals = ("sensitivity_interval", "specificity_interval")
    return point.model_copy(update={name: getattr(reached, name) for name in intervals})


def _known(folder: Path) -> set[str]:
    """Return the hashes that a bundle carries: SHA-256 of files, and perceptual ones."""
    names = (TRAINING_HASHES, TRAINING_LOOKS)
    lines = [(folder / name).read_text(encoding="ascii").splitlines() for name in names if (folder / name).is_file()]
    return {line.split()[0] for line in itertools.chain.from_iterable(lines) if line}


def _are_known(rows: pd.DataFrame, known: set[str]) -> pd.Series:
    # A table that was not audited has neither column.
    return text_of(rows, "sha256").isin(known) | text_of(rows, "dhash").isin(known)


def _answers(
    predictor: Predictor, rows: Sequence[Row], what: str, progress: Progress | None
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return features [N, D], logits [N, C], and what the checks of the picture measure."""

    def load(one: Row) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        image = one[0].read(one[1], predictor.limits)
        return preprocess(image.pixels, predictor.preprocessing, coloured=image.coloured), measured([image])

    outputs, values = [], []
    with ThreadPoolExecutor(usable_cores()) as pool:
        for batch in _batches(rows):
            inputs, found = zip(*pool.map(load, batch), strict=True)
            outputs.append(predictor.session.run(np.stack(inputs)))
            values += found
            if progress is not None:
                progress(len(values), len(rows), what)
    features, logits = (np.concatenate([part[name] for part in outputs]) for name in ("features", "logits"))
    return features, logits, {key: np.concatenate([value[key] for value in values]) for key in values[0]}


def _batches(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
