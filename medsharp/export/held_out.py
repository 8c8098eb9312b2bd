"""Figures at each hospital that was left out wholly, from a cross-validation by site or from bundles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medsharp.bundle import SPEC, Figure, HeldOut, digest_of, read_bundle
from medsharp.config import DataConfig
from medsharp.data.manifest import Manifest, name_of
from medsharp.errors import InputError
from medsharp.evaluation import read_predictions
from medsharp.evaluation.own_thresholds import evaluate_at_own_thresholds
from medsharp.evaluation.predictions import text_of
from medsharp.export.settings import making_of
from medsharp.inference.glance import FIGURES
from medsharp.keys import site_key

LEFT_OUT, THRESHOLD = "left_out", "threshold"


def held_out_of_all(
    folders: Sequence[str | Path], manifest: Manifest, expected: Mapping[str, Any], data: DataConfig
) -> tuple[HeldOut, ...]:
    """Return the figures at each hospital left out as cross-validations and bundles measured them, by name.

    Args:
        folders: What `medsharp crossvalidate --by site` or `medsharp export` wrote.
        manifest: The images that the bundle was made with and could have been.
        expected: What a bundle must agree in, as `making_of` gives it.
        data: The bundle's settings of classes.

    Raises:
        InputError: One is neither, is of other data or made in another way, or two measured one hospital.
    """
    found: dict[str, HeldOut] = {}
    labels: dict[str, str] = {}
    for folder in map(Path, folders):
        if (folder / SPEC).is_file():
            figures: tuple[HeldOut, ...] = (held_out_of_bundle(folder, expected),)
        else:
            if not labels:
                rows = manifest.table.to_dict("records")
                labels = {name: row["label"] for row in rows for name in (row["image"], name_of(row))}
            figures = read_held_out(folder, classes=data.classes, positive=data.positive, labels=labels)
        for site in figures:
            if site_key(site.site) in found:
                raise InputError(f"{folder} measured {site.site}, as another --held-out did; give one of them")
            found[site_key(site.site)] = site
    return tuple(found[key] for key in sorted(found))


def read_held_out(
    folder: str | Path, *, classes: Sequence[str], positive: str, labels: Mapping[str, str] | None = None
) -> tuple[HeldOut, ...]:
    """Read `predictions.csv` of a cross-validation by site and compute the figures of each site.

    Args:
        folder: What `medsharp crossvalidate --by site` wrote.
        classes: Of the bundle.
        positive: The class that is thresholded.
        labels: Of the images that the bundle was made with and could have been, by name; other images or labels are of
            other data.

    Raises:
        InputError: The table is missing or wrong, is of other data, or is not by site; the sentence names the row.
    """
    path = Path(folder) / "predictions.csv"
    if not path.is_file():
        raise InputError(
            f"{folder} has no predictions.csv; give the folder that medsharp crossvalidate --by site wrote, or a bundle"
        )
    table = read_predictions(path, classes)
    for column in (LEFT_OUT, THRESHOLD):
        if column not in table:
            raise InputError(f"{path} has no column {column}; give what medsharp crossvalidate --by site wrote")
    if labels is not None:
        known = table["image"].map(labels)
        _refuse(known.isna(), table, path, "is not among the images of the runs: it is of other data")
        _refuse(table["label"] != known, table, path, "has another label in the runs: it is of other data")
    if (text_of(table, LEFT_OUT) == "").all():
        raise InputError(f"{path} leaves no site out; give what medsharp crossvalidate --by site wrote")
    table[LEFT_OUT] = text_of(table, LEFT_OUT)
    keys = table[LEFT_OUT].map(site_key)
    _refuse((keys == "") | (keys != text_of(table, "site").map(site_key)), table, path, "is not of the site left out")
    numbers = pd.to_numeric(table[THRESHOLD], errors="coerce").astype(float)
    _refuse(~numbers.between(0, 1), table, path, "has a threshold that is no probability")
    return held_out_figures(table.assign(threshold=numbers), classes, positive)


def held_out_of_bundle(folder: str | Path, expected: Mapping[str, Any]) -> HeldOut:
    """Return the figures of a bundle at the hospital that all of its members left out, measured as it is served.

    Args:
        folder: What `medsharp export` wrote of runs with one `data.leave_site`.
        expected: What it must agree in with the bundle that shows them, as `making_of` gives it.

    Raises:
        InputError: It is no whole bundle, left no one hospital out, or was made in another way; the sentence names the
            first difference.
    """
    spec = read_bundle(folder)
    if not spec.left_out_itself:
        raise InputError(f"{folder} is no bundle of runs that left a hospital out (data.leave_site); it measures none")
    own = making_of(spec.training, spec.combination, spec.weights, spec.preprocess.size)
    for name in sorted({*own, *expected}):
        if own.get(name) != expected.get(name):
            raise InputError(
                f"{folder} was made in another way: {name} is {own.get(name)} there and {expected.get(name)} here"
            )
    return spec.held_out[0].model_copy(update={"bundle": digest_of(spec)})


def held_out_figures(table: pd.DataFrame, classes: Sequence[str], positive: str) -> tuple[HeldOut, ...]:
    """Return the figures of each site, in the order of their names, each image decided at the threshold of its row.

    Args:
        table: Predictions with `left_out` and a number `threshold`.
        classes: In the order of the columns.
        positive: The class that is thresholded.

    Raises:
        InputError: A site has images of one class only.
    """
    return tuple(
        _figures_at(str(site), rows.reset_index(drop=True), classes, positive)
        for site, rows in table.groupby(LEFT_OUT, sort=True)
    )


def _figures_at(site: str, rows: pd.DataFrame, classes: Sequence[str], positive: str) -> HeldOut:
    content = evaluate_at_own_thresholds(rows, classes=classes, positive=positive, name=site, role="external").as_dict()
    figures = {name: content["figures"][name] for name in FIGURES}
    thresholds = np.unique(rows[THRESHOLD])
    return HeldOut(
        site=site,
        images=content["counts"]["images"],
        patients=content["counts"]["clusters"],
        positives=int((rows["label"] == positive).sum()),
        threshold=float(thresholds[0]) if len(thresholds) == 1 else None,
        figures={
            name: Figure(**{key: figure.get(key) for key in Figure.model_fields}) for name, figure in figures.items()
        },
    )


def _refuse(wrong: pd.Series, table: pd.DataFrame, path: Path, reason: str) -> None:
    found = np.flatnonzero(wrong.to_numpy())
    if len(found):
        more = f" ({len(found)} such rows)" if len(found) > 1 else ""
        row = int(found[0])
        raise InputError(f"{path}, row {int(table.index[row]) + 2}: {table['image'].iloc[row]} {reason}{more}")
