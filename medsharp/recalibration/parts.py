"""The local data dealt into a part that updates the model and a part that measures it, before anything is predicted."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.bundle import LocalPart
from medsharp.data.dealing import deal
from medsharp.data.manifest import Manifest, name_of
from medsharp.errors import InputError
from medsharp.files import sha256_file, write_text
from medsharp.keys import clusters_of, site_key

PARTS = "parts.csv"
CALIBRATION, EVALUATION = "calibration", "evaluation"

LEAST = 20
"""Patients of either class that a part needs. With fewer positive ones, a sensitivity of 0.95 means finding all."""

FEW = 100
"""Patients of either class below which calibration is known poorly (Vergouwe et al., J Clin Epidemiol 58, 2005)."""

_COLUMNS = ("patient", "site", "group", "label", "sha256")


def draw_parts(manifest: Manifest, positive: str, *, share: float, seed: int) -> pd.Series:
    """Deal the included images into `calibration` and `evaluation`, balanced by label, site, images and patients.

    Images of a patient, of a group of near-duplicates and of a file stay together (`medsharp.keys.clusters_of`). The
    order of the rows decides nothing.

    Args:
        manifest: With groups, as `tie_duplicates` fills them in, and labels.
        positive: The class of interest.
        share: Of the images that go to the calibration part, in (0, 1).
        seed: Of the dealing.

    Returns:
        The part of each row, by the index of the manifest's table.

    Raises:
        InputError: A part would have fewer than `LEAST` patients of a class; the sentence says how many there are.
    """
    check_share(share)
    rows = manifest.included
    names = np.array([name_of(row) for row in rows.to_dict("records")], dtype=object)
    rows = rows.iloc[np.argsort(names, kind="stable")]
    clusters = clusters_of(rows)
    labels = rows["label"].to_numpy(dtype=object)
    _check_enough(manifest.info.name, labels == positive, clusters, positive)
    sites = [site_key(site) for site in rows["site"]]
    dealt = deal(clusters, labels, sites, [share, 1 - share], seed)
    parts = pd.Series(np.where(dealt == 0, CALIBRATION, EVALUATION), index=rows.index, dtype=object)
    for part in (CALIBRATION, EVALUATION):
        check_part(rows[parts == part], positive, f"{manifest.info.name}, {part} part")
    return parts


def check_share(share: float) -> None:
    """Refuse a share that leaves one of the two parts empty.

    Raises:
        InputError: It does.
    """
    if not 0 < share < 1:
        raise InputError(
            f"--share must lie between 0 and 1, without either, not {share:g}: the rest evaluates the update"
        )


def describe_part(rows: pd.DataFrame, positive: str) -> LocalPart:
    """Count the patients (or groups) and images of a part.

    Args:
        rows: Of a manifest or of predictions.
        positive: The class of interest.
    """
    clusters, chosen = clusters_of(rows), (rows["label"] == positive).to_numpy(dtype=bool)
    return LocalPart(
        patients=len(np.unique(clusters)),
        positive_patients=len(np.unique(clusters[chosen])),
        images=len(rows),
        positives=int(chosen.sum()),
    )


def check_part(rows: pd.DataFrame, positive: str, name: str) -> tuple[int, int]:
    """Return how many patients with a positive and how many with another image a part has.

    Raises:
        InputError: There are fewer than `LEAST` of one of them.
    """
    clusters, chosen = clusters_of(rows), (rows["label"] == positive).to_numpy(dtype=bool)
    with_, without = len(np.unique(clusters[chosen])), len(np.unique(clusters[~chosen]))
    if min(with_, without) < LEAST:
        raise InputError(
            f"{name}: {with_} patients or groups with a {positive} image and {without} with another are too few, at "
            f"least {LEAST} of each are needed; give more data, or another --share"
        )
    return with_, without


def write_parts(folder: Path, manifest: Manifest, parts: pd.Series) -> str:
    """Write `parts.csv`, which image and patient is in which part; return its SHA-256.

    Raises:
        InputError: Another list lies there: parts are drawn once, and not again after predictions were seen.
    """
    rows = manifest.table.loc[parts.index]
    names = [name_of(row) for row in rows.to_dict("records")]
    table = pd.DataFrame({"image": names, **{column: rows[column].to_numpy() for column in _COLUMNS}})
    table["part"] = parts.to_numpy()
    buffer = io.StringIO()
    table.to_csv(buffer, index=False, lineterminator="\n")
    path = folder / PARTS
    if path.exists() and path.read_text(encoding="utf-8") != buffer.getvalue():
        raise InputError(
            f"{path} holds parts that were drawn otherwise (of other data, or by another --seed or --share); a new "
            "draw needs another --record, so that both remain to be seen"
        )
    if not path.exists():
        write_text(path, buffer.getvalue())
    return sha256_file(path)


def _check_enough(name: str, positive: np.ndarray, clusters: np.ndarray, label: str) -> None:
    if positive.all() or not positive.any():
        only = label if positive.all() else f"other than {label}"
        raise InputError(f"{name} has images of one class only ({only}); an update needs {label} and others")
    counts = [len(np.unique(clusters[chosen])) for chosen in (positive, ~positive)]
    if min(counts) < 2 * LEAST:
        raise InputError(
            f"{name} has {counts[0]} patients or groups with a {label} image and {counts[1]} with another, too few to "
            f"update a model and to measure it: at least {2 * LEAST} of each are needed, {LEAST} in each part"
        )
