"""The check that nothing is on two sides: neither of a split, nor of two data sets."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from medsharp.data.duplicates import DISTANCE, duplicate_matches, look_at, near_pairs
from medsharp.data.duplicates.tie import KEY_EACH
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.keys import groups_in, keyed_in, patients_in, patients_of, values_in

HASH_DIGITS = 128
"""Of the column `dhash`: 256 bits as the image is and 256 mirrored, in hexadecimal digits."""


def assert_no_leak(*manifests: Manifest) -> None:
    """Check that no group, patient or image is on two sides.

    Within a manifest: a group, a patient of a site, or a file that is in two splits, compared as `medsharp.keys`
    does. Between manifests: the same file; the same patient, where the number is a keyed hash, as others may be given
    twice; and near-duplicates by the perceptual hash where both have the column `dhash`; those are looked at again and
    count when their pixels agree too.

    Raises:
        InputError: The sentence names data set, row (the header is row 1) and image of both sides.
    """
    for manifest in manifests:
        _assert_undivided(manifest)
    for one, other in itertools.combinations(manifests, 2):
        _assert_apart(one, other)


def hash_bits(manifest: Manifest) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the included rows whose perceptual hash is known, and the hashes.

    Returns:
        Rows of the table, and uint8 [n, 2, 32]: each image as it is and mirrored.

    Raises:
        InputError: A hash is not one; the sentence names the row.
    """
    rows = manifest.included
    if "dhash" not in rows:
        return rows.iloc[:0], np.empty((0, 2, 32), dtype=np.uint8)
    rows = rows[rows["dhash"] != ""]
    wrong = rows.index[~rows["dhash"].str.fullmatch(f"[0-9a-f]{{{HASH_DIGITS}}}")]
    if len(wrong):
        raise InputError(
            f"{manifest.info.name}, row {manifest.line(wrong[0])}: dhash must be {HASH_DIGITS} hexadecimal digits; "
            "empty the column, and it is computed again"
        )
    return rows, np.frombuffer(bytes.fromhex("".join(rows["dhash"])), dtype=np.uint8).reshape(-1, 2, 32)


def near_between(one: np.ndarray, other: np.ndarray, distance: int = DISTANCE) -> list[tuple[int, int]]:
    """Return index pairs of near hashes, one of each array, as they are or one of them mirrored.

    Args:
        one: uint8 [n, 2, 32].
        other: uint8 [m, 2, 32].
        distance: Bits of 256 that may differ.
    """
    pairs = near_pairs(np.concatenate([one, other]), distance)
    crossing = (pairs.first < len(one)) & (pairs.second >= len(one))
    return list(zip(pairs.first[crossing].tolist(), (pairs.second[crossing] - len(one)).tolist(), strict=True))


def _assert_undivided(manifest: Manifest) -> None:
    rows = manifest.included
    rows = rows[rows["split"] != ""]
    part = pd.factorize(rows["split"])[0]
    checked = {
        "group": groups_in(rows),
        "patient": patients_in(rows),
        "sha256": values_in(rows, "sha256"),
        "image": values_in(rows, "image"),  # of a clip, whose frames are rows
    }
    for what, keys in checked.items():
        known = keys.codes >= 0
        first = np.full(len(keys.names) + 1, -1)
        first[keys.codes[known][::-1]] = part[known][::-1]  # the part of each key's first row
        divided = np.unique(keys.codes[known & (first[keys.codes] != part)])
        if len(divided):
            shown = rows[keys.codes == divided[0]].drop_duplicates("split")
            places = [
                f"row {manifest.line(row)} ({image}) in {split}"
                for row, image, split in zip(shown.index, shown["image"], shown["split"], strict=True)
            ]
            raise InputError(
                f"{manifest.info.name}: the same {what} is on two sides: {' and '.join(places[:2])}"
                f"{_and_more(len(divided), what)}; split the data set again, or exclude one side"
            )


def _assert_apart(one: Manifest, other: Manifest) -> None:
    ours, theirs = (rows[rows["sha256"] != ""] for rows in (one.included, other.included))
    shared = set(ours["sha256"]) & set(theirs["sha256"])
    if shared:
        digest = min(shared)
        places = [(m, int(rows.index[rows["sha256"] == digest][0])) for m, rows in ((one, ours), (other, theirs))]
        _refuse("the same file is in two data sets", places, len(shared))
    _assert_patients_apart(one, other)
    known_ours, bits_ours = hash_bits(one)
    known_theirs, bits_theirs = hash_bits(other)
    found = []
    for first, second in near_between(bits_ours, bits_theirs):
        places = [(one, int(known_ours.index[first])), (other, int(known_theirs.index[second]))]
        # Hashes of different pictures may collide; both files are at hand, so that their pixels decide.
        if duplicate_matches(look_at([(m, m.table.loc[row]) for m, row in places])):
            found.append(places)
    if found:
        _refuse("near-duplicates are in two data sets", found[0], len(found))


def _assert_patients_apart(one: Manifest, other: Manifest) -> None:
    sides = []
    for manifest in (one, other):
        rows = manifest.included
        rows = rows[keyed_in(rows)]
        sides.append((manifest, pd.Series(rows.index, index=patients_of(rows))))
    shared = set(sides[0][1].index) & set(sides[1][1].index)
    if shared:
        places = [(manifest, min(rows[rows.index == min(shared)])) for manifest, rows in sides]
        _refuse("the same patient is in two data sets", places, len(shared), "patient", f" from one, or {KEY_EACH}")


def _refuse(
    what: str,
    places: list[tuple[Manifest, int]],
    count: int,
    unit: str = "pair",
    remedy: str = " from one of the two",
) -> None:
    # Two parts of one data set have one name; their folders tell them apart.
    alike = len({manifest.info.name for manifest, _ in places}) == 1
    named = [f"{m.root if alike else m.info.name}, row {m.line(row)} ({m.table.at[row, 'image']})" for m, row in places]
    raise InputError(f"{what}: {' and '.join(named)}{_and_more(count, unit)}; exclude them{remedy}")


def _and_more(count: int, what: str) -> str:
    return f", and {count - 1} more {what}{'s' if count > 2 else ''} so" if count > 1 else ""
