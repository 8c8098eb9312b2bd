"""Duplicates in a manifest: copies are left out, contradictions too, and near ones are tied into groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd

from medsharp.data.duplicates.look import Look, look
from medsharp.data.duplicates.matches import DISTANCE, Match, duplicate_matches
from medsharp.data.exclusions import count_exclusions
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.images import ImageLimits
from medsharp.progress import Progress


def tie_duplicates(
    manifest: Manifest,
    *,
    distance: int = DISTANCE,
    limits: ImageLimits = ImageLimits(),
    progress: Progress | None = None,
) -> Manifest:
    """Read every image once; exclude what cannot be used and tie what must not be split.

    - Unreadable and constant images are excluded with the reason.
    - The same picture again under the same label: the later copy is excluded.
    - Near-duplicates under the same label (Hamming distance of the 256-bit dHash at most `distance`, also mirrored,
      and confirmed by pixels) stay and share a group; so do the images of a patient, and those of a group that the
      manifest gives.
    - Near-duplicates under different labels contradict each other: all of them are excluded, as nobody can tell which
      label is right.

    Args:
        manifest: Rows that are excluded already stay as they are.
        distance: 0 ties only identical hashes.
        limits: Images beyond them count as unreadable.
        progress: Called with images done, images in all and what is being done.

    Returns:
        The manifest with `sha256`, `dhash` (the perceptual hash of the image as it is and mirrored, 2 x 64 hexadecimal
        digits), `group` and `exclude` filled in, and notes that count each of these.

    Raises:
        InputError: No image can be read.
    """
    table = manifest.table.copy()
    rows = [int(row) for row in table.index[table["exclude"] == ""]]
    looks = look_at([manifest.path(table.at[row, "image"]) for row in rows], progress, limits)
    write_looks(table, rows, looks)
    if all(seen.reason for seen in looks):
        first = looks[0].reason if looks else "it lists no image that is not excluded"
        raise InputError(f"{manifest.info.name}: no image can be used; {first}")
    matches = duplicate_matches(looks, distance=distance)
    near = apply_matches(table, rows, matches)
    return manifest.replace(table=table, notes=(*manifest.notes, *_notes(table.loc[rows, "exclude"], near)))


def look_at(files: Sequence[Path], progress: Progress | None = None, limits: ImageLimits = ImageLimits()) -> list[Look]:
    """Look at files, several at once, in their order."""
    looks: list[Look] = []
    with ThreadPoolExecutor() as pool:
        for seen in pool.map(partial(look, limits=limits), files):
            looks.append(seen)
            if progress is not None:
                progress(len(looks), len(files), "reading and hashing images")
    return looks


def write_looks(table: pd.DataFrame, rows: Sequence[int], looks: Sequence[Look]) -> None:
    """Write `sha256`, `dhash` and what cannot be used into a table, in place; a look a row."""
    if "dhash" not in table:
        table["dhash"] = ""
    for row, seen in zip(rows, looks, strict=True):
        table.at[row, "sha256"] = seen.sha256
        table.at[row, "dhash"] = "" if seen.bits is None else seen.bits.tobytes().hex()
        table.at[row, "exclude"] = seen.reason


def apply_matches(table: pd.DataFrame, rows: Sequence[int], matches: Sequence[Match]) -> list[set[int]]:
    """Write what matches mean into `group` and `exclude` of a table, in place.

    Args:
        table: A manifest's; rows that are excluded already are tied to nothing.
        rows: The row that each index of `matches` stands for.
        matches: Which images are of one picture.

    Returns:
        The clusters of near-duplicates that stay: sets of two rows or more.
    """
    labels, images = table["label"].to_dict(), table["image"].to_dict()
    usable = [row for row in rows if not table.at[row, "exclude"]]
    ties = Ties(usable)
    contradictory: dict[int, int] = {}
    copies: dict[int, int] = {}
    near = set()
    for match in matches:
        one, other = rows[match.first], rows[match.second]
        ties.join(one, other)
        if labels[one] and labels[other] and labels[one] != labels[other]:
            contradictory.setdefault(one, other)
            contradictory.setdefault(other, one)
        elif match.kind == "exact":
            copies.setdefault(other, one)
        else:
            near |= {one, other}
    clusters: dict[int, set[int]] = {}
    for row in near - contradictory.keys() - copies.keys():
        clusters.setdefault(ties.root(row), set()).add(row)
    for row, other in contradictory.items():
        table.at[row, "exclude"] = f"contradictory duplicate of {images[other]} ({labels[other]})"
    for row, other in copies.items():
        if row not in contradictory:
            table.at[row, "exclude"] = f"exact duplicate of {images[other]}"
    _name_groups(table, usable, ties)
    return [members for _, members in sorted(clusters.items()) if len(members) > 1]


class Ties:
    """Rows that belong together, joined pair by pair (union-find); the earliest row of a cluster leads it."""

    def __init__(self, rows: Iterable[int]) -> None:
        self._parents = {row: row for row in rows}

    def root(self, row: int) -> int:
        """Return the earliest row that `row` is tied to, by whatever number of steps."""
        parents = self._parents
        while parents[row] != row:
            parents[row] = parents[parents[row]]
            row = parents[row]
        return row

    def join(self, one: int, other: int) -> None:
        """Tie two rows, and what each is tied to."""
        # The earliest row leads, so that group names do not depend on the order of pairs.
        low, high = sorted((self.root(one), self.root(other)))
        self._parents[high] = low


def _name_groups(table: pd.DataFrame, rows: Sequence[int], ties: Ties) -> None:
    several_sites = table.loc[list(rows), "site"].nunique() > 1
    leaders: dict[tuple[str, ...], int] = {}
    known = table.loc[list(rows), ["image", "patient", "site", "group"]].to_dict("index")
    for row, about in known.items():
        if about["group"]:
            ties.join(leaders.setdefault(("group", about["group"]), row), row)
        if about["patient"]:
            ties.join(leaders.setdefault(("patient", about["site"], about["patient"]), row), row)
    names: dict[int, str] = {}
    for row, about in known.items():
        if about["group"]:
            names.setdefault(ties.root(row), about["group"])
    for row in rows:
        root = ties.root(row)
        if root not in names:
            leader = known[root]
            site = f", {leader['site']}" if several_sites and leader["site"] else ""
            names[root] = f"patient {leader['patient']}{site}" if leader["patient"] else leader["image"]
        table.at[row, "group"] = names[root]


def _notes(reasons: pd.Series, near: Sequence[set[int]]) -> list[str]:
    kinds = count_exclusions(reasons)
    notes = [f"{count} of {len(reasons)} images left out: {kind}" for kind, count in sorted(kinds.items())]
    if near:
        tied = sum(map(len, near))
        notes.append(f"{tied} near-duplicates tied into {len(near)} groups, which no split divides")
    return notes
