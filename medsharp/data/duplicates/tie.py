"""Duplicates in a manifest: copies are left out, contradictions too, and near ones are tied into groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from medsharp.config import Cache
from medsharp.data.duplicates.look import Look, Seen
from medsharp.data.duplicates.looks import look_at
from medsharp.data.duplicates.matches import DISTANCE, Match, duplicate_matches
from medsharp.data.exclusions import count_exclusions
from medsharp.data.manifest import Manifest, check_unchanged, name_of
from medsharp.errors import InputError
from medsharp.images import ImageLimits
from medsharp.images.dicom import BURNED_IN, OTHER_MODALITIES, of_other_modality
from medsharp.images.values import notes_on_values
from medsharp.keys import clusters_of, groups_in, keyed_in, named, patient_key, patients_of, site_key, spellings
from medsharp.progress import Progress

KEY_EACH = (
    "prepare hospitals that number their patients each by themselves with a key each (medsharp data prepare --key)"
)
"""What to do where a keyed hash of two hospitals is of two patients: one key makes one number of one identifier."""


def tie_duplicates(
    manifest: Manifest,
    *,
    distance: int = DISTANCE,
    limits: ImageLimits = ImageLimits(),
    progress: Progress | None = None,
    cache: Cache = "memory",
    seen: Seen | None = None,
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
        cache: `disk` keeps what was seen of each image for the next time, see `medsharp.data.cache`.
        seen: Is given each image that is decoded.

    Returns:
        The manifest with `sha256`, `dhash` (the perceptual hash of the image as it is and mirrored, 2 x 64 hexadecimal
        digits), `group` and `exclude` filled in, and notes that count each of these.

    Raises:
        InputError: No image can be read, or one is not that of which the manifest has the `sha256`.
    """
    places = [(manifest, row) for row in manifest.included.to_dict("records")]
    return tie_looks(manifest, look_at(places, progress, limits, cache=cache, seen=seen), distance=distance)


def tie_looks(manifest: Manifest, looks: Sequence[Look], *, distance: int = DISTANCE) -> Manifest:
    """Tie duplicates as `tie_duplicates` does, of images that were looked at already.

    Args:
        manifest: Rows that are excluded already stay as they are.
        looks: One for each of the others, in their order.
        distance: As for `tie_duplicates`.

    Raises:
        InputError: As for `tie_duplicates`.
    """
    table = manifest.table.copy()
    rows = [int(row) for row in table.index[table["exclude"] == ""]]
    check_unchanged(manifest, rows, [one.sha256 for one in looks])
    write_looks(table, rows, looks)
    if all(one.reason for one in looks):
        first = looks[0].reason if looks else "it lists no image that is not excluded"
        raise InputError(f"{manifest.info.name}: no image can be used; {first}")
    matches = duplicate_matches(looks, distance=distance)
    near = apply_matches(table, rows, matches)
    flags = [seen.flags for seen in looks]
    tied = manifest.replace(table=table)
    notes = (
        *_notes(table.loc[rows], near),
        *_patient_notes(tied),
        *notes_on_values(flags),
        *_on_burned_in(flags, manifest.notes),
        *_on_modalities(flags),
    )
    return tied.replace(notes=(*manifest.notes, *notes))


def _on_burned_in(flags: Sequence[Sequence[str]], said: Sequence[str]) -> list[str]:
    """Warn of text in pixels, unless the folder's reader has."""
    count = sum(BURNED_IN in given for given in flags)
    if not count or any("BurnedInAnnotation" in note for note in said):
        return []
    return [
        f"{count} DICOM files say BurnedInAnnotation YES: names may stand in their pixels: look before you share them"
    ]


def _on_modalities(flags: Sequence[Sequence[str]]) -> list[str]:
    """Warn of what is no ultrasound; folders leave it out by themselves, a table may list it."""
    known = {of_other_modality(modality) for modality in OTHER_MODALITIES}
    counts = Counter(flag for given in flags for flag in given if flag in known)
    return [f"{count} DICOM files say {flag}, and are used: look at them" for flag, count in sorted(counts.items())]


def write_looks(table: pd.DataFrame, rows: Sequence[int], looks: Sequence[Look]) -> None:
    """Write `sha256`, `dhash` and what cannot be used into a table, in place; a look a row."""
    if "dhash" not in table:
        table["dhash"] = ""
    if not rows:  # pandas takes no list without a row
        return
    table.loc[list(rows), ["sha256", "dhash", "exclude"]] = [
        [seen.sha256, "" if seen.bits is None else seen.bits.tobytes().hex(), seen.reason] for seen in looks
    ]


def apply_matches(table: pd.DataFrame, rows: Sequence[int], matches: Sequence[Match]) -> list[set[int]]:
    """Write what matches mean into `group` and `exclude` of a table, in place.

    Args:
        table: A manifest's; rows that are excluded already are tied to nothing.
        rows: The row that each index of `matches` stands for.
        matches: Which images are of one picture.

    Returns:
        The clusters of near-duplicates that stay: sets of two rows or more.
    """
    labels = table["label"].to_dict()

    def name(row: int) -> str:
        return name_of(table.loc[row].to_dict())

    contradictory: dict[int, int] = {}
    copies: dict[int, int] = {}
    near = set()
    pairs = [(rows[match.first], rows[match.second]) for match in matches]
    for match, (one, other) in zip(matches, pairs, strict=True):
        if labels[one] and labels[other] and labels[one] != labels[other]:
            contradictory.setdefault(one, other)
            contradictory.setdefault(other, one)
        elif match.kind == "exact":
            copies.setdefault(other, one)
        else:
            near |= {one, other}
    usable = np.asarray(rows, dtype=np.int64)[(table.loc[list(rows), "exclude"] == "").to_numpy()]
    reasons = {row: f"exact duplicate of {name(other)}" for row, other in copies.items()} | {
        row: f"contradictory duplicate of {name(other)} ({labels[other]})" for row, other in contradictory.items()
    }
    table.loc[list(reasons), "exclude"] = list(reasons.values())
    _name_groups(table, usable, pairs)
    clusters: dict[int, set[int]] = {}
    for row, cluster in zip(usable.tolist(), _joined(usable, pairs).tolist(), strict=True):
        if row in near and row not in reasons:
            clusters.setdefault(cluster, set()).add(row)
    return [members for members in clusters.values() if len(members) > 1]


def _joined(rows: np.ndarray, pairs: Sequence[tuple[int, int]], clusters: np.ndarray | None = None) -> np.ndarray:
    """Return what hangs together by pairs of rows, and by clusters where they are given; numbered by first rows."""
    place = {row: number for number, row in enumerate(rows.tolist())}
    ties = np.array([(place[one], place[other]) for one, other in pairs], dtype=np.int64).reshape(-1, 2)
    size = len(rows)
    if clusters is not None:
        own = np.stack([np.arange(len(rows)), len(rows) + clusters], axis=1)
        ties, size = np.concatenate([ties, own]), len(rows) + int(clusters.max(initial=-1)) + 1
    graph = coo_array((np.ones(len(ties), dtype=np.int8), (ties[:, 0], ties[:, 1])), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    return pd.factorize(component[: len(rows)])[0]


def _name_groups(table: pd.DataFrame, rows: np.ndarray, pairs: Sequence[tuple[int, int]]) -> None:
    """Name what belongs together: as the manifest does where it does, else by the patient or image that comes first."""
    known = table.loc[rows, ["image", "patient", "site", "group"]]
    components = pd.Series(_joined(rows, pairs, clusters_of(known)), index=rows)
    sites = ", " + known["site"] if known["site"].nunique() > 1 else pd.Series("", index=rows)
    by_patient = "patient " + known["patient"] + sites.where(known["site"] != "", "")
    names = by_patient.where(patients_of(known) != "", known["image"]).groupby(components).first()
    given = known["group"].where(groups_in(known).codes >= 0).groupby(components).first()
    table.loc[rows, "group"] = components.map(given.fillna(names)).to_numpy()


def _notes(table: pd.DataFrame, near: Sequence[set[int]]) -> list[str]:
    kinds = count_exclusions(table["exclude"])
    notes = [f"{count} of {len(table)} images left out: {kind}" for kind, count in sorted(kinds.items())]
    if near:
        tied = sum(map(len, near))
        notes.append(f"{tied} near-duplicates tied into {len(near)} groups, which no split divides")
    return notes


def _patient_notes(manifest: Manifest) -> list[str]:
    """Say which patients were taken for one, or for none, where the table leaves it open; by rows, not by name."""
    rows = manifest.included
    written, keys = rows["patient"], patients_of(rows)
    notes = []
    several = spellings(written, keys)
    if several:
        shown = _rows(manifest, [rows.index[written == name][0] for name in several[0]])
        notes.append(f"{len(several)} patients are written in several ways, each taken as one ({shown})")
    bare = written.map({name: patient_key(name) for name in written.unique()})
    where = rows["site"].map({name: site_key(name) for name in rows["site"].unique()})
    nowhere = where == ""
    both = (set(bare[nowhere]) & set(bare[~nowhere])) - {""}
    if both:
        shown = _rows(manifest, [rows.index[bare.isin(both) & side][0] for side in (nowhere, ~nowhere)])
        notes.append(
            f"{len(both)} patients have rows with a site and rows without ({shown}): all rows of such a number count "
            "as one patient"
        )
    keyed = keyed_in(rows) & ~nowhere.to_numpy()
    sites = where[keyed].groupby(keys[keyed]).nunique()
    across = sorted(sites.index[sites > 1])
    if across:
        first = rows.index[keyed & (keys == across[0])]
        shown = _rows(manifest, list(where[first].drop_duplicates().index[:2]))
        notes.append(
            f"{len(across)} patients have a keyed number that stands at several sites ({shown}): each counts as one "
            f"patient. Where that is wrong, {KEY_EACH}"
        )
    unknown = (written != "") & (keys == "")
    if unknown.any():
        words = named(sorted(set(written[unknown])))
        notes.append(f"patient {words} in {unknown.sum()} rows is taken as not known; each such image counts by itself")
    empty = int((written == "").sum())
    if 0 < empty < len(rows):
        notes.append(f"the patient of {empty} of {len(rows)} images is not known; each of them counts by itself")
    shortened = rows.index[written.str.fullmatch(r"\d[.,]?\d*[eE]\+\d+")]
    if len(shortened):
        notes.append(
            f"the patient of {len(shortened)} images is a number that a spreadsheet shortened, such as 1.2E+11 "
            f"({_rows(manifest, list(shortened[:2]))}): several patients may be one here"
        )
    return notes


def _rows(manifest: Manifest, rows: Sequence[int]) -> str:
    lines = sorted(manifest.line(row) for row in rows)
    return f"such as row{'s' if len(lines) > 1 else ''} {' and '.join(map(str, lines[:3]))}"
