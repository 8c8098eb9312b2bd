"""Splits that keep a patient, or a cluster of near-duplicates, on one side, and the check that they did."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from medsharp.data.manifest import SPLITS, Manifest
from medsharp.errors import InputError

_FINE = 20
"""Fractions are met by dealing the groups into this many stratified folds and joining folds."""


def split_manifest(
    manifest: Manifest,
    *,
    fractions: tuple[float, float, float] | None = (0.7, 0.15, 0.15),
    folds: int | None = None,
    fold: int = 0,
    seed: int = 0,
) -> Manifest:
    """Fill in `split` by group, stratified by label and site.

    A manifest whose included rows all have a split already keeps it, checked for leaks.

    Args:
        manifest: With `group` filled in; an empty group is a group of its own.
        fractions: Shares of train, validation and test; or
        folds: k folds, of which `fold` is the test set and the next one validates.
        fold: Counts from 0.
        seed: Of the dealing.

    Raises:
        InputError: There are too few groups of a class for every split to have it.
    """
    rows = manifest.included
    if len(rows) and (rows["split"] != "").all():
        kept = manifest.replace(notes=(*manifest.notes, "the split that the manifest gives is used"))
        assert_no_leak(kept)
        return _checked(kept)
    if (rows["label"] == "").any():
        raise InputError(
            f"{manifest.info.name}: {(rows['label'] == '').sum()} images have no label; label or exclude them"
        )
    # Sorted, so that the order of the rows in the file decides nothing.
    rows = rows.sort_values("image")
    groups = _groups(rows)
    strata = rows["label"] + "\x1f" + rows["site"]
    strata = strata.where(strata.map(strata.value_counts()) >= _FINE, rows["label"])
    counts = groups.groupby(rows["label"]).nunique()
    count = folds if folds is not None else _FINE
    if fractions is None and folds is None:
        raise InputError("give either fractions or folds")
    if len(counts) < 2:
        raise InputError(f"{manifest.info.name}: images of one class only ({', '.join(counts.index)}) are left")
    if counts.min() < 3 or (folds is not None and counts.min() < folds):
        raise InputError(
            f"{manifest.info.name}: class {counts.idxmin()} has only {counts.min()} patients or image groups, "
            f"too few for {'3 splits' if folds is None else f'{folds} folds'}"
        )
    dealt = _deal(strata.to_numpy(), groups.to_numpy(), min(count, int(counts.min())), seed)
    if folds is not None:
        names = np.where(dealt == fold, "test", np.where(dealt == (fold + 1) % folds, "val", "train"))
    else:
        assert fractions is not None
        names = _join(dealt, fractions)
    table = manifest.table.copy()
    table["split"] = ""
    table.loc[rows.index, "split"] = names
    split = manifest.replace(table=table)
    assert_no_leak(split)
    return _checked(split)


def assert_no_leak(*manifests: Manifest) -> None:
    """Check that no group, patient or identical file is on two sides.

    Raises:
        InputError: The sentence names two images that show the leak.
    """
    for manifest in manifests:
        rows = manifest.included
        rows = rows[rows["split"] != ""]
        for column in ("group", "patient", "sha256"):
            known = rows[rows[column] != ""]
            key = known[column] + ("\x1f" + known["site"] if column == "patient" else "")
            sides = known.groupby(key)["split"].nunique()
            if (sides > 1).any():
                value = sides.index[sides > 1][0]
                shown = known[key == value].drop_duplicates("split")
                first, second = shown.iloc[0], shown.iloc[1]
                raise InputError(
                    f"{manifest.info.name}: the same {column} is on two sides: row {shown.index[0] + 2} "
                    f"({first['image']}) in {first['split']} and row {shown.index[1] + 2} ({second['image']}) in "
                    f"{second['split']}"
                )
    for one, other in itertools.combinations(manifests, 2):
        shared = set(one.included["sha256"]) & set(other.included["sha256"]) - {""}
        if shared:
            digest = min(shared)
            names = [m.included.loc[m.included["sha256"] == digest, "image"].iloc[0] for m in (one, other)]
            raise InputError(
                f"{len(shared)} images of {one.info.name} are in {other.info.name} too, such as {names[0]} and "
                f"{names[1]}"
            )


def _groups(rows: pd.DataFrame) -> pd.Series:
    alone = pd.Series([f"image:{name}" for name in rows["image"]], index=rows.index)
    patients = rows["site"] + "\x1f" + rows["patient"]
    named = rows["group"].where(rows["group"] != "", patients.where(rows["patient"] != "", ""))
    return named.where(named != "", alone)


def _deal(strata: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    folds = np.empty(len(strata), dtype=int)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for number, (_, chosen) in enumerate(splitter.split(strata, strata, groups)):
        folds[chosen] = number
    return folds


def _join(dealt: np.ndarray, fractions: tuple[float, float, float]) -> np.ndarray:
    sizes = np.bincount(dealt) / len(dealt)
    names = np.empty(len(dealt), dtype=object)
    names[:] = "train"
    number = 0
    for name, fraction in (("test", fractions[2]), ("val", fractions[1])):
        taken = 0.0
        # At least one fold each; a further one while it brings the share nearer to what was asked.
        while taken == 0.0 or abs(taken + sizes[number] - fraction) < abs(taken - fraction):
            names[dealt == number] = name
            taken += sizes[number]
            number += 1
            if number >= len(sizes) - 1:
                break
    return names


def _checked(manifest: Manifest) -> Manifest:
    rows = manifest.included
    labels = set(rows["label"])
    for split in SPLITS:
        lacking = labels - set(rows.loc[rows["split"] == split, "label"])
        if lacking:
            raise InputError(
                f"{manifest.info.name}: the {split} split has no image of class {', '.join(sorted(lacking))}; "
                "more images or other fractions are needed"
            )
    return manifest
