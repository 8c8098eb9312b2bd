"""The models that are compared: their predictions read, and laid side by side image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.errors import InputError
from medsharp.evaluation.frozen import frozen_threshold
from medsharp.evaluation.headings import THRESHOLD
from medsharp.evaluation.predictions import check_predictions, read_predictions
from medsharp.keys import clusters_of, group_key, patient_key, patients_of, resampled, site_key, text_of
from medsharp.quantities import counted

_BELONGS: dict[str, Callable[[str], str]] = {
    "patient": patient_key,
    "site": site_key,
    "group": group_key,
    "sha256": str,
}
"""Columns that tie images together, and what is compared of their cells."""


@dataclass(frozen=True)
class Model:
    """One trained network's predictions.

    Attributes:
        name: For errors and reports.
        table: As `read_predictions` gives it.
        threshold: Its own operating point; None where each row has its own, as number in the table's `threshold`.
        threshold_from: Where the threshold comes from, in words.
    """

    name: str
    table: pd.DataFrame = field(repr=False)
    threshold: float | None
    threshold_from: str


@dataclass(frozen=True)
class Group:
    """What is compared: one network, or several that differ in nothing but the seed of their training."""

    name: str
    models: tuple[Model, ...]


@dataclass(frozen=True)
class Aligned:
    """The same images under every model.

    Attributes:
        labels: Whether the image is positive, bool [N].
        clusters: The patient of each image, int [N].
        scores: Probability of the positive class by model, in the order of the groups' models [K, N].
        thresholds: What each model decides each image at [K, N].
        patients_known: Whether every image has a patient.
        unit: What is resampled, in words.
        deciding: How many images helped to choose the models: those of the validation split.
        refused: How many images each model's checks refused, by its name; what any of them refused is left out.
        left_out: How many images that are.
    """

    labels: np.ndarray
    clusters: np.ndarray
    scores: np.ndarray
    thresholds: np.ndarray
    patients_known: bool
    unit: str
    deciding: int
    refused: dict[str, int]
    left_out: int

    @property
    def patients(self) -> int:
        """How many patients there are, or groups of images where patients are unknown."""
        return int(self.clusters.max()) + 1

    @property
    def called(self) -> np.ndarray:
        """Whether each model calls an image positive, bool [K, N]."""
        return np.asarray(self.scores >= self.thresholds)


def read_models(paths: Sequence[str | Path], thresholds: Sequence[float] = (), *, positive: str) -> list[Model]:
    """Read predictions of several models, each with its threshold (`medsharp.evaluation.frozen`).

    Args:
        paths: Tables of predictions.
        thresholds: None, one for all, or one for each.
        positive: The class whose probability is compared with them.

    Raises:
        InputError: A table is wrong, is given twice or has no threshold, or the number of thresholds does not fit.
    """
    files = [Path(path) for path in paths]
    if len({file.resolve() for file in files}) < len(files):
        twice = next(
            file for number, file in enumerate(files) if file.resolve() in {f.resolve() for f in files[:number]}
        )
        raise InputError(f"{twice} is given twice; compare different predictions")
    if len(thresholds) not in (0, 1, len(files)):
        raise InputError(f"{len(thresholds)} thresholds for {len(files)} tables; give one for all, or one for each")
    given = list(thresholds) * len(files) if len(thresholds) == 1 else list(thresholds)
    models = []
    for number, (file, name) in enumerate(zip(files, model_names(files), strict=True)):
        table = read_predictions(file, positive=positive)
        if f"p_{positive}" not in table:
            raise InputError(f"{file} has no column p_{positive}; name the positive class with --positive")
        frozen = frozen_threshold(table, file, positive, given[number] if given else None)
        models.append(Model(name, table.assign(**{THRESHOLD: frozen.values}), frozen.single, frozen.origin))
    return models


def model_names(files: Sequence[Path]) -> list[str]:
    """Name tables by their file, or by their folder where they are all called alike; never two alike."""
    stems = [file.stem for file in files]
    if len(set(stems)) < len(stems):
        stems = [file.resolve().parent.name if stems.count(file.stem) > 1 else file.stem for file in files]
    if len(set(stems)) < len(stems):
        return [str(file) for file in files]
    return stems


def group_name(text: str) -> tuple[str, str]:
    """Split `name=glob`.

    Raises:
        InputError: It is not of that form.
    """
    name, separator, pattern = text.partition("=")
    if not separator or not name.strip() or not pattern.strip():
        raise InputError(f"--group '{text}' is not of the form name=glob, such as sam='runs/sam-*/predictions.csv'")
    return name.strip(), pattern.strip()


def align(groups: Sequence[Group], classes: Sequence[str], positive: str) -> Aligned:
    """Lay the predictions of all models side by side: of the images that all of them answered.

    Raises:
        InputError: The models were not given the same images with the same labels, their tables say different things of
            an image's patient, site, group or file, or those that all of them answered are of one class.
    """
    models = [model for group in groups for model in group.models]
    tables, refused = [], {}
    for model in models:
        found = {str(name).removeprefix("p_") for name in model.table.columns if str(name).startswith("p_")}
        if found != set(classes):
            raise InputError(
                f"{model.name} has classes {', '.join(sorted(found))}, but {models[0].name} has "
                f"{', '.join(sorted(classes))}; compare models of the same classes"
            )
        checked = check_predictions(model.table, classes, model.name)
        tables.append(pd.concat([checked.rows, checked.refused], ignore_index=True))
        refused[model.name] = set(checked.refused["image"])
    # In an order that is the same whichever table comes first, so that the same patients are drawn.
    first = tables[0].sort_values("image", kind="stable", ignore_index=True)
    answered = ~first["image"].isin(set().union(*refused.values())).to_numpy()
    scores, thresholds = [], []
    for model, rows in zip(models, tables, strict=True):
        place = pd.Index(rows["image"]).get_indexer(pd.Index(first["image"]))
        _refuse(first["image"][place < 0], f"{model.name} lacks", models[0].name)
        _refuse(rows["image"][~rows["image"].isin(first["image"])], f"{models[0].name} lacks", model.name)
        other = rows["label"].to_numpy()[place]
        differing = np.flatnonzero(other != first["label"].to_numpy())
        if len(differing):
            row = int(differing[0])
            raise InputError(
                f"{first['image'].iloc[row]} is {first['label'].iloc[row]} in {models[0].name}, but {other[row]} in "
                f"{model.name} ({len(differing)} such images); compare models on the same labels"
            )
        scores.append(rows[f"p_{positive}"].to_numpy(dtype=float)[place])
        own = rows[THRESHOLD].to_numpy(dtype=float)[place] if model.threshold is None else model.threshold
        thresholds.append(np.broadcast_to(own, len(place)))
    first = _belonging(first, tables, [model.name for model in models])[answered].reset_index(drop=True)
    labels = (first["label"] == positive).to_numpy(dtype=bool)
    if labels.all() or not labels.any():
        out = f" ({(~answered).sum()} were refused)" if not answered.all() else ""
        raise InputError(
            f"{models[0].name} has images of one class only{out}; a comparison needs {positive} and others"
        )
    clusters = clusters_of(first)
    return Aligned(
        labels,
        clusters,
        np.stack(scores)[:, answered],
        np.stack(thresholds)[:, answered],
        bool((patients_of(first) != "").all()),
        resampled(first, clusters),
        max(int((text_of(rows, "split") == "val").sum()) for rows in tables),
        {name: len(images) for name, images in refused.items() if images},
        int((~answered).sum()),
    )


def _belonging(first: pd.DataFrame, tables: Sequence[pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    """Return the images with what any of the tables says of their patient, site, group and file.

    Raises:
        InputError: Two tables say different things of an image.
    """
    images = pd.Index(first["image"])
    for column, key in _BELONGS.items():
        cells = np.full(len(first), "", dtype=object)
        keys, said_by = cells.copy(), cells.copy()
        for name, rows in zip(names, tables, strict=True):
            if column not in rows:
                continue
            texts = text_of(rows, column).to_numpy()[pd.Index(rows["image"]).get_indexer(images)]
            found = np.array([key(text) for text in texts], dtype=object)
            differing = np.flatnonzero((keys != "") & (found != "") & (keys != found))
            if len(differing):
                row = int(differing[0])
                raise InputError(
                    f"{images[row]} has {column} '{cells[row]}' in {said_by[row]}, but '{texts[row]}' in {name} "
                    f"({counted(len(differing), 'such image')}); compare models on the same patients"
                )
            new = (keys == "") & (found != "")
            cells[new], keys[new], said_by[new] = texts[new], found[new], name
        first = first.assign(**{column: cells})
    return first


def _refuse(missing: pd.Series, who: str, other: str) -> None:
    if len(missing):
        more = f" ({len(missing)} such images)" if len(missing) > 1 else ""
        raise InputError(
            f"{who} a prediction of {missing.iloc[0]}, which {other} has{more}; compare models on the same images"
        )
