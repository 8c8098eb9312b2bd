"""Splits that keep a patient, or a cluster of near-duplicates, on one side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold

from medsharp.data.leaks import assert_no_leak
from medsharp.data.manifest import SPLITS, Manifest
from medsharp.errors import InputError, nearest

_FINE = 20
"""Fractions are met by dealing the groups into this many stratified folds and joining folds."""


def split_manifest(
    manifest: Manifest,
    *,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    folds: int | None = None,
    fold: int = 0,
    official_folds: int | None = None,
    leave_site: str | None = None,
    seed: int = 0,
) -> Manifest:
    """Fill in `split` by group, stratified by label and site, and check that nothing leaks.

    Of `folds`, `official_folds` and `leave_site` one at most is given. Without any, a manifest whose included rows all
    have a split keeps it.

    Args:
        manifest: With `group` filled in; an empty group is the patient's, or else a group of its own.
        fractions: Shares of train, validation and test; with `leave_site` those of train and validation count.
        folds: k folds, of which `fold` is the test set and the next one validates.
        fold: Counts from 0.
        official_folds: The k folds that the data set's authors dealt, from its column `fold<k>`. Where they divide a
            group, as those who did not look for near-duplicates do, the images on the side of training are left out.
        leave_site: The site that is the test set; the others are split into train and validation.
        seed: Of the dealing.

    Raises:
        InputError: There are too few groups of a class for every split to have it; there are no such folds or no such
            site; or the manifest has a split of its own and another one is asked for.
    """
    rows = manifest.included
    asked = folds is not None or official_folds is not None or leave_site is not None
    if len(rows) and (rows["split"] != "").all():
        if asked:
            raise InputError(
                f"{manifest.info.name} has a split of its own; empty its column 'split' to split it in another way"
            )
        kept = manifest.replace(notes=(*manifest.notes, "the split that the manifest gives is used"))
        assert_no_leak(kept)
        return _checked(kept)
    if (rows["label"] == "").any():
        raise InputError(
            f"{manifest.info.name}: {(rows['label'] == '').sum()} images have no label; label or exclude them"
        )
    # Sorted, so that the order of the rows in the file decides nothing.
    rows = rows.sort_values("image")
    if official_folds is not None:
        names = _official(manifest, rows, official_folds, fold)
    elif leave_site is not None:
        names = _left_out(manifest, rows, leave_site, fractions, seed)
    elif folds is not None:
        dealt = _deal(manifest, rows, folds, seed, least=folds)
        names = _of_folds(dealt, fold, folds)
    else:
        dealt = _deal(manifest, rows, _FINE, seed, least=3)
        names = _join(dealt, {"test": fractions[2], "val": fractions[1]})
    table = manifest.table.copy()
    table["split"] = ""
    table.loc[rows.index, "split"] = names
    cause = "the official folds divide" if official_folds is not None else f"{leave_site} shares"
    split = _undivided(manifest.replace(table=table), cause)
    assert_no_leak(split)
    return _checked(split)


def _groups(rows: pd.DataFrame) -> pd.Series:
    alone = pd.Series([f"image:{name}" for name in rows["image"]], index=rows.index)
    patients = rows["site"] + "\x1f" + rows["patient"]
    named = rows["group"].where(rows["group"] != "", patients.where(rows["patient"] != "", ""))
    return named.where(named != "", alone)


def _deal(manifest: Manifest, rows: pd.DataFrame, count: int, seed: int, *, least: int) -> np.ndarray:
    """Deal rows into so many folds, or fewer where a class has fewer groups; return each row's fold."""
    groups = _groups(rows)
    sizes = groups.groupby(rows["label"]).nunique()
    if len(sizes) < 2:
        raise InputError(f"{manifest.info.name}: images of one class only ({', '.join(sizes.index)}) are left")
    if sizes.min() < least:
        raise InputError(
            f"{manifest.info.name}: class {sizes.idxmin()} has only {sizes.min()} patients or image groups, "
            f"too few for {least} {'folds' if least == count else 'splits'}"
        )
    count = min(count, int(sizes.min()))
    strata = _strata(rows, count)
    folds = np.empty(len(rows), dtype=int)
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for number, (_, chosen) in enumerate(splitter.split(strata, strata, groups)):
        folds[chosen] = number
    return folds


def _strata(rows: pd.DataFrame, least: int) -> pd.Series:
    """Return label and site of each row; sites with too few images of a label for every fold are taken together."""
    strata = rows["label"] + "\x1f" + rows["site"]
    strata = strata.where(strata.map(strata.value_counts()) >= least, rows["label"])
    for label in rows["label"].unique():
        few = strata == label
        others = strata[(rows["label"] == label) & ~few]
        if 0 < few.sum() < least and len(others):
            strata = strata.mask(few, others.value_counts().idxmax())
    return strata


def _join(dealt: np.ndarray, shares: Mapping[str, float]) -> np.ndarray:
    sizes = np.bincount(dealt) / len(dealt)
    names = np.full(len(dealt), "train", dtype=object)
    number = 0
    for name, share in shares.items():
        taken = 0.0
        # At least one fold each; a further one while it brings the share nearer to what was asked.
        while taken == 0.0 or abs(taken + sizes[number] - share) < abs(taken - share):
            names[dealt == number] = name
            taken += sizes[number]
            number += 1
            if number >= len(sizes) - 1:
                break
    return names


def _of_folds(dealt: np.ndarray, fold: int, folds: int) -> np.ndarray:
    return np.where(dealt == fold, "test", np.where(dealt == (fold + 1) % folds, "val", "train"))


def _official(manifest: Manifest, rows: pd.DataFrame, folds: int, fold: int) -> np.ndarray:
    column = f"fold{folds}"
    if column not in rows or (rows[column] == "").all():
        has = [name.removeprefix("fold") for name in rows if name.startswith("fold") and name[4:].isdigit()]
        known = f"it has {' and '.join(has)}" if has else "it has none; give folds instead"
        raise InputError(f"{manifest.info.name} has no {folds} official folds; {known}")
    numbers = pd.to_numeric(rows[column], errors="coerce")
    wrong = rows.index[~numbers.isin(range(1, folds + 1))]
    if len(wrong):
        given = rows.at[wrong[0], column]
        raise InputError(f"{manifest.info.name}, row {wrong[0] + 2}: {column} '{given}' is not one of 1 to {folds}")
    return _of_folds(numbers.to_numpy(dtype=int) - 1, fold, folds)


def _left_out(
    manifest: Manifest, rows: pd.DataFrame, site: str, fractions: tuple[float, float, float], seed: int
) -> np.ndarray:
    sites = sorted(set(rows["site"]) - {""})
    if site not in sites:
        raise InputError(f"{manifest.info.name} has no site '{site}'{nearest(site, sites)}")
    if len(sites) < 2:
        raise InputError(f"{manifest.info.name} has no other site than '{site}' to train on")
    left = (rows["site"] == site).to_numpy()
    names = np.full(len(rows), "test", dtype=object)
    others = rows[~left]
    # Who is at the left-out site too is left out of training; see _undivided.
    dealt = _deal(manifest, others, _FINE, seed, least=2)
    names[~left] = _join(dealt, {"val": fractions[1] / (fractions[0] + fractions[1])})
    return names


def _undivided(manifest: Manifest, cause: str) -> Manifest:
    """Leave out of training, and then of validation, what belongs to a group that is tested, or validated, too."""
    table = manifest.table.copy()
    rows = manifest.included
    groups = _groups(rows)
    left = 0
    for side, others in (("test", ("train", "val")), ("val", ("train",))):
        taken = set(groups[rows["split"] == side])
        divided = rows.index[rows["split"].isin(others) & groups.isin(taken)]
        table.loc[divided, "exclude"] = f"its group is in the {side} split already"
        table.loc[divided, "split"] = ""
        left += len(divided)
        rows, groups = rows.drop(index=divided), groups.drop(index=divided)
    if not left:
        return manifest
    images = "1 image" if left == 1 else f"{left} images"
    sentence = f"{images} left out of training or validation: {cause} their group, which is tested or validated already"
    return manifest.replace(table=table, notes=(*manifest.notes, sentence))


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
