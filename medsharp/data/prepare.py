"""From a path to a manifest that can be trained on: opened, audited, split, and checked for leaks."""

from __future__ import annotations

from medsharp.config import DataConfig
from medsharp.data.duplicates import tie_duplicates
from medsharp.data.manifest import SPLITS, Manifest
from medsharp.data.pool import pool_manifests
from medsharp.data.sources import LabelRule, open_dataset
from medsharp.data.split import split_manifest
from medsharp.errors import InputError
from medsharp.progress import Progress


def prepare_manifest(config: DataConfig, *, progress: Progress | None = None) -> Manifest:
    """Open data, tie duplicates into groups, split by group and check that nothing leaks.

    Args:
        config: Where the data is, its classes and how it is split.
        progress: Called with images done, images in all and what is being done.

    Returns:
        The manifest with `group`, `exclude`, `sha256` and `split` filled in; its notes say what was done and why, and
        count the images of each split.

    Raises:
        InputError: The data cannot be read, a class is missing, or there are too few groups to split.
    """
    check_folds(config)
    return split_as(config, open_tied(config, progress=progress))


def check_folds(config: DataConfig) -> None:
    """Check that folds leave something to train on, before anything is read; a cross-validation may settle them later.

    Raises:
        InputError: There are too few folds, or a fold is given a role and there are none.
    """
    folds = config.folds or config.official_folds
    if config.leave_site is not None:
        return
    if folds is None and config.fold_role == "val":
        raise InputError("data.fold_role = val is of a fold; give data.folds or data.official_folds too")
    if folds == 2 and config.fold_role == "test":
        raise InputError(
            "data.folds = 2: one fold is tested and the other validates, which leaves none to train on; give 3 or more "
            "or data.fold_role = val"
        )


def open_tied(config: DataConfig, *, progress: Progress | None = None) -> Manifest:
    """Open data, of several hospitals as one, and tie its duplicates into groups, those between hospitals too.

    Raises:
        InputError: The data cannot be read, or a class is missing; two data sets have one name or a file in common.
    """
    rule = None
    if config.label_from is not None:
        values = {label: tuple(map(str, found)) for label, found in config.label_values.items()}
        rule = LabelRule(config.label_from, values)
    opened = [
        open_dataset(path, classes=config.classes, source=source, rule=rule, value_range=config.value_range())
        for path, source in zip(config.paths, config.sources, strict=True)
    ]
    pooled = pool_manifests(opened)
    return tie_duplicates(pooled, limits=config.limits.limits(), progress=progress, cache=config.cache)


def split_as(config: DataConfig, manifest: Manifest) -> Manifest:
    """Split a tied manifest as configured; its notes count the images of each split.

    Raises:
        InputError: As `check_folds` and `medsharp.data.split.split_manifest`.
    """
    check_folds(config)
    manifest = split_manifest(
        manifest,
        fractions=config.fractions,
        folds=config.folds,
        fold=config.fold,
        fold_role=config.fold_role,
        official_folds=config.official_folds,
        leave_site=config.leave_site,
        seed=config.split_seed,
    )
    return manifest.replace(notes=(*manifest.notes, *_counts(manifest)))


def _counts(manifest: Manifest) -> list[str]:
    """Say how many images and groups each split has, by class."""
    sentences = []
    for split in SPLITS:
        rows = manifest.of_split(split)
        if split == "test" and not len(rows):
            sentences.append("test: no images; the run is validated, and not tested")
            continue
        labels = ", ".join(f"{label} {(rows['label'] == label).sum()}" for label in sorted(set(rows["label"])))
        sentences.append(f"{split}: {len(rows)} images of {rows['group'].nunique()} groups ({labels})")
    return sentences
