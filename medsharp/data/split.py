"""Splits that keep a patient, or a cluster of near-duplicates, on one side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from medsharp.data.dealing import deal, imbalances
from medsharp.data.leaks import assert_no_leak
from medsharp.data.manifest import SPLITS, Manifest
from medsharp.errors import InputError, nearest
from medsharp.keys import clusters_of, site_key

FoldRole = Literal["test", "val"]

FEW = 10
"""Patients or groups of a class in a part, below which a warning says that its figures mean little."""


def split_manifest(
    manifest: Manifest,
    *,
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    folds: int | None = None,
    fold: int = 0,
    fold_role: FoldRole = "test",
    official_folds: int | None = None,
    leave_site: str | None = None,
    seed: int = 0,
) -> Manifest:
    """Fill in `split`, balanced by image, group, label and site, and check that nothing leaks.

    What `medsharp.keys.clusters_of` holds together is on one side: patients, groups and files. Each part has its share
    of the images within a fifth of it, of the groups within a third, and each label within 5 points of its share of
    all; the notes say where that cannot be met, and where a part has fewer than 10 patients or groups of a class.

    `official_folds` goes with neither `folds` nor `leave_site`. Without any of them, a manifest whose included rows all
    have a split keeps it, be it one without a test set.

    Args:
        manifest: With `group` filled in, as `tie_duplicates` does; patients count besides.
        fractions: Shares of train, validation and test; with `leave_site` those of train and validation count.
        folds: k folds instead; with `leave_site`, of the other sites.
        fold: Which of them, from 0.
        fold_role: What the fold is. `test`: it is the test set and the next one validates. `val`: it validates, all
            others train, and there is no test set. With `leave_site` it validates.
        official_folds: The k folds that the data set's authors dealt, from its column `fold<k>`. Where they divide a
            group, as those who did not look for near-duplicates do, the images on the side of training are left out.
        leave_site: The site that is the test set, in any spelling that `medsharp.keys.site_key` takes for its own; the
            others are split into train and validation.
        seed: Of the dealing; another one gives another split. The order of the rows decides nothing.

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
    notes = []
    if (rows["split"] != "").any():
        given = int((rows["split"] != "").sum())
        notes.append(f"the split that the manifest gives for {given} of {len(rows)} images is not used")
    # Sorted, so that the order of the rows in the file decides nothing.
    rows = rows.sort_values(["image", "frame"])
    clusters = pd.Series(clusters_of(rows), index=rows.index)
    shares: Sequence[float] | None = fractions
    if official_folds is not None:
        names, shares = _of_folds(_official(manifest, rows, official_folds), fold, official_folds, fold_role), None
    elif leave_site is not None:
        place = None if folds is None else (fold, folds)
        names, shares = _left_out(manifest, rows, clusters, leave_site, fractions, place, seed), None
    elif folds is not None:
        dealt = _deal_folds(manifest, rows, clusters, folds, seed)
        names = _of_folds(dealt, fold, folds, fold_role)
        shares = (1 - 2 / folds, 1 / folds, 1 / folds) if fold_role == "test" else (1 - 1 / folds, 1 / folds)
    else:
        names = np.array(SPLITS, dtype=object)[_deal(manifest, rows, clusters, fractions, seed)]
    table = manifest.table.copy()
    table["split"] = ""
    table.loc[rows.index, "split"] = names
    nowhere = rows.index[names == ""]
    if len(nowhere):
        table.loc[nowhere, "exclude"] = f"its site is not known, and {leave_site} is left out"
        notes.append(f"{len(nowhere)} images left out: their site is not known, and may be {leave_site}")
    cause = "the official folds divide" if official_folds is not None else f"{leave_site} shares"
    split = _undivided(manifest.replace(table=table, notes=(*manifest.notes, *notes)), clusters, cause)
    assert_no_leak(split)
    split = _checked(split)
    return split.replace(notes=(*split.notes, *_balance_notes(split, clusters, shares)))


def _deal(
    manifest: Manifest,
    rows: pd.DataFrame,
    clusters: pd.Series,
    shares: Sequence[float],
    seed: int,
    *,
    parts: str = "splits",
) -> np.ndarray:
    """Deal rows by their clusters; return each row's part."""
    sizes = clusters.groupby(rows["label"]).nunique()
    if len(sizes) < 2:
        raise InputError(f"{manifest.info.name}: images of one class only ({', '.join(sizes.index)}) are left")
    if sizes.min() < len(shares):
        raise InputError(
            f"{manifest.info.name}: class {sizes.idxmin()} has only {sizes.min()} patients or image groups, "
            f"too few for {len(shares)} {parts}"
        )
    dense = pd.factorize(clusters.to_numpy())[0]
    return deal(dense, rows["label"].to_numpy(dtype=object), _site_keys(rows).to_numpy(), shares, seed)


def _deal_folds(manifest: Manifest, rows: pd.DataFrame, clusters: pd.Series, folds: int, seed: int) -> np.ndarray:
    return _deal(manifest, rows, clusters, [1 / folds] * folds, seed, parts="folds")


def _of_folds(dealt: np.ndarray, fold: int, folds: int, role: FoldRole) -> np.ndarray:
    """Return the split of each row, by its fold from 0."""
    if role == "val":
        return np.where(dealt == fold, "val", "train")
    return np.where(dealt == fold, "test", np.where(dealt == (fold + 1) % folds, "val", "train"))


def _official(manifest: Manifest, rows: pd.DataFrame, folds: int) -> np.ndarray:
    """Return the fold of each row, from 0, that the data set's authors dealt it to."""
    column = f"fold{folds}"
    if column not in rows or (rows[column] == "").all():
        has = [name.removeprefix("fold") for name in rows if name.startswith("fold") and name[4:].isdigit()]
        known = f"it has {' and '.join(has)}" if has else "it has none; give folds instead"
        raise InputError(f"{manifest.info.name} has no {folds} official folds; {known}")
    numbers = pd.to_numeric(rows[column], errors="coerce")
    wrong = rows.index[~numbers.isin(range(1, folds + 1))]
    if len(wrong):
        given = rows.at[wrong[0], column]
        raise InputError(
            f"{manifest.info.name}, row {manifest.line(wrong[0])}: {column} '{given}' is not one of 1 to {folds}"
        )
    return numbers.to_numpy(dtype=int) - 1


def _left_out(
    manifest: Manifest,
    rows: pd.DataFrame,
    clusters: pd.Series,
    site: str,
    fractions: tuple[float, float, float],
    place: tuple[int, int] | None,
    seed: int,
) -> np.ndarray:
    """Return the split of each row: the site is tested; of others, `place` (fold, folds) or the fractions decide."""
    sites = sorted(set(rows["site"]) - {""})
    keys = _site_keys(rows)
    if not site_key(site) or site_key(site) not in set(keys):
        raise InputError(f"{manifest.info.name} has no site '{site}'{nearest(site, sites)}")
    labels = sorted(set(rows.loc[keys == site_key(site), "label"]))
    if len(labels) < 2:
        raise InputError(
            f"{manifest.info.name}: the left-out site '{site}' has images of class {labels[0]} only; nothing can be "
            "told apart there: leave out another one, or exclude its images"
        )
    if set(keys) <= {site_key(site), ""}:
        raise InputError(f"{manifest.info.name} has no other site than '{site}' to train on")
    left, others = (keys == site_key(site)).to_numpy(), (~keys.isin([site_key(site), ""])).to_numpy()
    names = np.full(len(rows), "", dtype=object)  # where the site is not known, it may be the one that is left out
    names[left] = "test"
    # Who is at the left-out site too is left out of training; see _undivided.
    if place is not None:
        fold, folds = place
        dealt = _deal_folds(manifest, rows[others], clusters[others], folds, seed)
        names[others] = _of_folds(dealt, fold, folds, "val")
        return names
    within = fractions[0] + fractions[1]
    dealt = _deal(manifest, rows[others], clusters[others], (fractions[0] / within, fractions[1] / within), seed)
    names[others] = np.array(["train", "val"], dtype=object)[dealt]
    return names


def _balance_notes(manifest: Manifest, clusters: pd.Series, shares: Sequence[float] | None) -> list[str]:
    """Say where a split is out of the tolerances, and where a part has few patients of a class."""
    rows = manifest.included
    groups = clusters[rows.index]
    parts = rows["split"].map({name: number for number, name in enumerate(SPLITS)}).to_numpy()
    notes = []
    if shares is not None:
        missed = imbalances(parts, groups.to_numpy(), rows["label"].to_numpy(dtype=object), shares)
        notes = [
            f"{SPLITS[part]} has {', '.join(phrases)}: its patients or groups are too few or too large to be dealt "
            "otherwise"
            for part, phrases in missed.items()
        ]
    counts = groups.groupby([rows["split"], rows["label"]]).nunique()
    for split in SPLITS:
        if split not in counts:
            continue
        few = {label: int(count) for label, count in counts.get(split, pd.Series()).items() if count < FEW}
        if few:
            classes = " and ".join(f"{count} of class {label}" for label, count in sorted(few.items()))
            notes.append(
                f"WARNING: {split} has only {classes} (patients or groups); below {FEW} its figures mean little"
            )
    return notes


def _site_keys(rows: pd.DataFrame) -> pd.Series:
    return rows["site"].map({site: site_key(site) for site in rows["site"].unique()})


def _undivided(manifest: Manifest, clusters: pd.Series, cause: str) -> Manifest:
    """Leave out of training, and then of validation, what belongs to a group that is tested, or validated, too."""
    table = manifest.table.copy()
    rows = manifest.included
    groups = clusters[rows.index]
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
    tested = (rows["split"] == "test").any()
    for split in SPLITS if tested else SPLITS[:2]:
        lacking = labels - set(rows.loc[rows["split"] == split, "label"])
        if lacking:
            raise InputError(
                f"{manifest.info.name}: the {split} split has no image of class {', '.join(sorted(lacking))}; "
                "more images or other fractions are needed"
            )
    return manifest
