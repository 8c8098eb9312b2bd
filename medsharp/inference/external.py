"""A bundle measured on data: internal test images as frozen at export, and hospitals it never saw."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from medsharp.bundle import INTERNAL, VALIDATION, BundleSpec
from medsharp.data.duplicates import tie_duplicates
from medsharp.data.exclusions import count_exclusions
from medsharp.data.leaks import assert_no_leak
from medsharp.data.manifest import Manifest, name_of
from medsharp.data.sources import LabelRule, open_dataset
from medsharp.errors import InputError
from medsharp.evaluation import Conformal, Evaluation, Interval, calibrate, evaluate_predictions, read_predictions
from medsharp.evaluation.counts import patients_before
from medsharp.evaluation.grouping import Grouping
from medsharp.evaluation.thumbnails import thumbnails_of
from medsharp.files import atomic_path
from medsharp.images import DecodedImage, ImageLimits
from medsharp.inference.leaks import leaks
from medsharp.inference.predictor import BATCH, Predictor
from medsharp.inference.ready import ReadyImages
from medsharp.inference.table import predict_manifest, without_refused_answers
from medsharp.progress import Progress
from medsharp.quantities import counted


def evaluate_internal(
    spec: BundleSpec,
    bundle: str | Path,
    *,
    resamples: int = 2000,
    seed: int = 0,
    interval: Interval = "percentile",
    prevalence: float | None = None,
    by: Sequence[Grouping] = (),
) -> Evaluation | None:
    """Evaluate the predictions on the internal test split that export froze into the bundle.

    Columns of `by` that it does not have make no groups, which a note says.

    Returns:
        The evaluation, or None for a bundle that carries none.

    Raises:
        InputError: The table in the bundle cannot be scored.
    """
    path = Path(bundle) / INTERNAL
    if not path.exists():
        return None
    table = read_predictions(path)
    known, lacking = _groupings(by, table.columns)
    return evaluate_predictions(
        table,
        classes=spec.classes,
        positive=spec.positive,
        threshold=spec.operating_point.threshold,
        name=f"{spec.internal_data}, {internal_split(table)}",
        role="internal",
        resamples=resamples,
        seed=seed,
        interval=interval,
        prevalence=prevalence,
        conformal=conformal_of(spec, bundle),
        by=known,
        warnings=lacking,
    )


def internal_split(table: pd.DataFrame) -> str:
    """Return what the internal images are, in words: the test split, or those that fixed the operating point."""
    names = {"out-of-fold": "out-of-fold predictions", "val": "validation split"}
    return names.get(str(table["split"].iloc[0]) if "split" in table else "", "test split")


def open_external(
    data: str | Path,
    predictor: Predictor,
    *,
    source: str | None = None,
    rule: LabelRule | None = None,
    ready: ReadyImages | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Open a data set to evaluate a bundle on, audited as for training.

    Duplicates are tied into groups, which the bootstrap resamples together, and contradictory ones are excluded and
    counted.

    Args:
        data: Manifest, known data set folder, or folder with a sub-folder a class.
        predictor: The loaded bundle, whose classes and limits count.
        source: What the data set is, as `open_dataset` takes it; found out by default.
        rule: Makes labels from a column.
        ready: Predicts the images for `evaluate_manifest`, which need not decode them again; of a predictor that
            answers whatever the checks say.
        progress: Called with images done, images in all and what is being done.

    Raises:
        InputError: The data cannot be read.
    """
    manifest = list_external(data, predictor, source=source, rule=rule)
    return tie_external(manifest, predictor, ready=ready, progress=progress)


def list_external(
    data: str | Path,
    predictor: Predictor,
    *,
    source: str | None = None,
    rule: LabelRule | None = None,
    stored: bool = False,
) -> Manifest:
    """Return which images a data set has and what is known of them, as `open_external` does before it reads any.

    Where `stored`, they may lie in an object store; see `Manifest.at_hand`.
    """
    classes, value_range = predictor.spec.classes, predictor.value_range
    return open_dataset(data, classes=classes, source=source, rule=rule, value_range=value_range, stored=stored)


def tie_external(
    manifest: Manifest, predictor: Predictor, *, ready: ReadyImages | None = None, progress: Progress | None = None
) -> Manifest:
    """Read the images of what `list_external` gives, and audit them, as `open_external` does.

    Batches of them are predicted where `ready` is given, while the next are read.
    """
    if ready is None:
        return tie_duplicates(manifest, limits=predictor.limits, progress=progress)
    rows = manifest.included.to_dict("records")

    def read(done: int, total: int, what: str) -> None:
        """Told of every image in its order, in this thread: batches are those of a prediction without the check."""
        if done % BATCH == 0 or done == total:
            ready.predict(manifest, rows[(done - 1) // BATCH * BATCH : done])
        if progress is not None:
            progress(done, total, what)

    return tie_duplicates(manifest, limits=predictor.limits, progress=read, seen=ready.keep)


def evaluate_manifest(
    predictor: Predictor,
    data: str | Path | Manifest,
    *,
    out: Path,
    taken: Collection[str] = (),
    resamples: int = 2000,
    seed: int = 0,
    thumbnails: bool = False,
    interval: Interval = "percentile",
    prevalence: float | None = None,
    ready: ReadyImages | None = None,
    by: Sequence[Grouping] = (),
    progress: Progress | None = None,
) -> tuple[Evaluation, tuple[str, ...]]:
    """Predict every image of a data set and evaluate at the operating point frozen in the bundle.

    Args:
        predictor: The loaded bundle.
        data: What `open_external` gives or takes.
        out: `predictions-<name>.csv` is written there; refused images have no number in it, unless the predictor
            answers anyway.
        taken: Names of other data sets in the same report; this one's gets a number where it or its file's is among
            them.
        resamples: Bootstrap resamples of patients.
        seed: Of the bootstrap.
        thumbnails: Keep small pictures of the images that the model got wrong, for the page.
        interval: How intervals are made of the resamples.
        prevalence: Where the model is to be used, for predictive values there.
        ready: What `open_external` kept.
        by: Columns that make subgroups; those that the data set does not have make none, which a note says.
        progress: Called with images done, images in all and what is being done.

    Returns:
        The evaluation, and sentences on what was excluded or tied and why.

    Raises:
        InputError: The data cannot be read, has no labels, has images of one class only, or has the same patient,
            group or file in two splits.
    """
    if not isinstance(data, Manifest):
        ready = ReadyImages(predictor.answering_anyway())
    manifest = data if isinstance(data, Manifest) else open_external(data, predictor, ready=ready, progress=progress)
    assert_no_leak(manifest)
    unlabelled = int((manifest.included["label"] == "").sum())
    if unlabelled:
        raise InputError(
            f"{manifest.info.name}: {counted(unlabelled, 'image has', 'images have')} no label; use `medsharp predict` "
            "for images without labels"
        )
    # Refused images are predicted too: the figures with and without them are given, whatever the table shows.
    table = predict_manifest(predictor.answering_anyway(), manifest, ready=ready, progress=progress)
    shown = table if predictor.answer_anyway else without_refused_answers(table)
    names = (manifest.info.name if n == 1 else f"{manifest.info.name} {n}" for n in itertools.count(1))
    files = {_file_name(one).casefold() for one in taken}  # names that differ may be the same as a file's
    name = next(name for name in names if _file_name(name).casefold() not in files)
    with atomic_path(out / f"predictions-{_file_name(name)}.csv") as temporary:
        shown.to_csv(temporary, index=False, lineterminator="\n")
    evaluation = evaluate_table(
        predictor,
        manifest,
        table,
        name=name,
        resamples=resamples,
        seed=seed,
        interval=interval,
        prevalence=prevalence,
        by=by,
    )
    if thumbnails:
        pictures = thumbnails_of(evaluation.as_dict()["failures"], partial(_image_of, manifest, predictor.limits))
        evaluation = replace(evaluation, thumbnails=pictures)
    return evaluation, manifest.notes


def evaluate_table(
    predictor: Predictor,
    manifest: Manifest,
    table: pd.DataFrame,
    *,
    name: str,
    resamples: int = 2000,
    seed: int = 0,
    interval: Interval = "percentile",
    prevalence: float | None = None,
    by: Sequence[Grouping] = (),
) -> Evaluation:
    """Evaluate the predictions of a manifest's images, as `evaluate_manifest` does once it has them.

    Args:
        predictor: The bundle that made them.
        manifest: The images, with `sha256` and `dhash` as `tie_looks` fills them in.
        table: Their predictions, as `predict_manifest` or `with_rows` lays them out.
        name: How the data set is called in the report.
        resamples: As for `evaluate_manifest`.
        seed: As for `evaluate_manifest`.
        interval: As for `evaluate_manifest`.
        prevalence: As for `evaluate_manifest`.
        by: As for `evaluate_manifest`.

    Raises:
        InputError: There are images of one class only.
    """
    spec = predictor.spec
    known, lacking = _groupings(by, table.columns)
    return evaluate_predictions(
        table,
        classes=spec.classes,
        positive=spec.positive,
        threshold=spec.operating_point.threshold,
        name=name,
        role="external",
        resamples=resamples,
        seed=seed,
        interval=interval,
        prevalence=prevalence,
        conformal=conformal_of(spec, predictor.folder),
        excluded=count_exclusions(manifest.table["exclude"]),
        submitted_patients=patients_before(manifest.table),
        about={key: getattr(manifest.info, key) for key in ("source", "licence", "citation", "doi")},
        by=known,
        warnings=[*leaks(predictor.folder, manifest), *lacking],
    )


def _groupings(by: Sequence[Grouping], columns: Collection[str]) -> tuple[list[Grouping], list[str]]:
    """Return the groupings whose column there is, and a sentence for each of the others."""
    known = [grouping for grouping in by if grouping.column in columns]
    lacking = [f"There is no column '{g.column}' here, so no groups by it." for g in by if g not in known]
    return known, lacking


def _image_of(manifest: Manifest, limits: ImageLimits, name: str) -> DecodedImage:
    row = next(row for row in manifest.included.to_dict("records") if name_of(row) == name)
    with manifest.of_row(row).at_hand() as here:
        return here.read(row, limits)


def conformal_of(spec: BundleSpec, bundle: str | Path) -> Conformal | None:
    """Return prediction sets calibrated on the validation predictions that export froze into the bundle.

    Returns:
        The quantiles, or None for a bundle that carries no such predictions.

    Raises:
        InputError: The table in the bundle cannot be read.
    """
    path = Path(bundle) / VALIDATION
    if not path.exists():
        return None
    images = "out-of-fold predictions" if spec.pooled else "validation split"
    return calibrate(read_predictions(path), spec.classes, f"{spec.internal_data}, {images}")


def _file_name(name: str) -> str:
    return "".join(char if char.isalnum() or char in "-_" else "-" for char in name).strip("-") or "data"
