"""From a path to a manifest that can be trained on: opened, audited, split, and checked for leaks."""

from __future__ import annotations

from medsharp.config import DataConfig
from medsharp.data.duplicates import tie_duplicates
from medsharp.data.manifest import SPLITS, Manifest
from medsharp.data.pool import pool_manifests
from medsharp.data.sources import LabelRule, open_dataset
from medsharp.data.split import split_manifest
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
    return split_as(config, open_tied(config, progress=progress))


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
        InputError: As `medsharp.data.split.split_manifest`.
    """
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
