"""Whether a bundle is evaluated on images that it was made with: by hashes, as the images are not in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.bundle import MODELS, TRAINING_HASHES, TRAINING_LOOKS
from medsharp.data.duplicates import DISTANCE, perceptual_hash
from medsharp.data.leaks import HASH_DIGITS, hash_bits, near_between
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.files import write_text

RANGES = "int8"
"""Marks images that a network did not learn from, and from which alone its int8 graph has the ranges."""

_SPLITS = ("train", "val", RANGES)
UPDATED = "update"
"""Marks images that a bundle was updated on, where others have their split."""

_MADE_WITH = {
    "train": "that it was trained on",
    "val": "by which its epoch or threshold was chosen",
    RANGES: "that its int8 graph has its ranges from",
    UPDATED: "that it was updated on",
}
_END = "these figures do not tell how it does on images it never saw"


def write_hashes(folder: Path, manifest: Manifest) -> None:
    """Write the hashes of the images that a network learned from and was chosen by.

    `training_images.sha256` has a line for each training file, its SHA-256. `training_images.dhash` has a line for each
    training and validation image: the perceptual hash as it is and mirrored, 64 hexadecimal digits each, and its split.

    Args:
        folder: The bundle that is being made, with its graphs.
        manifest: As used in training, with splits; of a network that was trained elsewhere, with `RANGES` in place of
            `train`, as what it learned from is not known.

    Raises:
        InputError: A hash is not known and the image cannot be read.
    """
    digests = sorted(set(manifest.of_split("train")["sha256"]) - {""})
    if digests:
        write_text(folder / TRAINING_HASHES, "\n".join(digests) + "\n")
    # An int8 graph that did not pass its gate is not there to know any image.
    splits = [split for split in _SPLITS if split != RANGES or (folder / MODELS["int8"]).is_file()]
    lines = sorted({f"{_hash(manifest, row)} {split}" for split in splits for row in _rows(manifest, split)})
    if lines:
        write_text(folder / TRAINING_LOOKS, "\n".join(lines) + "\n")


def add_hashes(folder: Path, manifest: Manifest, images: pd.Index) -> None:
    """Add to a bundle's hashes those of the images that it was updated on, each marked `update`.

    Args:
        folder: The bundle that is being made, with the hashes of the one it was made from.
        manifest: The local data, with `sha256` and `dhash`.
        images: Rows of its table.

    Raises:
        InputError: A hash is not known and the image cannot be read.
    """
    rows = [{str(key): value for key, value in row.items()} for row in manifest.table.loc[images].to_dict("records")]
    added = {
        TRAINING_HASHES: {row["sha256"] for row in rows} - {""},
        TRAINING_LOOKS: {_hash(manifest, row) for row in rows},
    }
    for name, digits in added.items():
        path = folder / name
        known = path.read_text(encoding="ascii") if path.exists() else ""
        write_text(path, known + "".join(f"{line} {UPDATED}\n" for line in sorted(digits)))


def leaks(bundle: Path, manifest: Manifest) -> tuple[str, ...]:
    """Say how many images of a data set the bundle was made with; nothing where there are none.

    Copies of training images are found by SHA-256. Near-duplicates of training and validation images are found by the
    256-bit perceptual hash: at most 10 bits differ, of the image as it is or mirrored. A bundle that carries no hashes
    is not checked.

    Args:
        bundle: The bundle's folder.
        manifest: With `sha256` and `dhash`, as `tie_duplicates` fills them in.

    Raises:
        InputError: The file of hashes is damaged.
    """
    sentences = []
    rows = manifest.included
    found: set[int] = set()
    for updated, what in ((False, "trained"), (True, "updated")):
        exact = rows.index[rows["sha256"].isin(_read_hashes(bundle / TRAINING_HASHES, updated))].tolist()
        if exact:
            sentences.append(
                f"LEAK: the model was {what} on {len(exact)} of these images{_such(manifest, exact)}; {_END}"
            )
        found |= set(exact)
    known, bits = hash_bits(manifest)
    for split, what in _MADE_WITH.items():
        pairs = near_between(_read_looks(bundle / TRAINING_LOOKS, split), bits)
        near = sorted({int(known.index[second]) for _, second in pairs} - found)
        if near:
            which = f"{len(near)} {'more ' if found else ''}of these images{_such(manifest, near)}"
            sentences.append(
                f"LEAK: {which} are, or nearly are by a perceptual hash (at most {DISTANCE} of 256 bits differ), "
                f"images {what}; {_END}"
            )
        found |= set(near)
    return tuple(sentences)


def _such(manifest: Manifest, chosen: list[int]) -> str:
    return f" (such as row {manifest.line(chosen[0])}, {manifest.table.at[chosen[0], 'image']})"


def _rows(manifest: Manifest, split: str) -> list[dict[str, str]]:
    return [{str(key): value for key, value in row.items()} for row in manifest.of_split(split).to_dict("records")]


def _hash(manifest: Manifest, row: dict[str, str]) -> str:
    # Manifests of runs from before there was the column.
    return row.get("dhash") or perceptual_hash(manifest.read(row).pixels).tobytes().hex()


def _read_hashes(path: Path, updated: bool) -> set[str]:
    """Return the SHA-256 of the images that a bundle was trained on, or of those that it was updated on."""
    if not path.exists():
        return set()
    lines = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line]
    return {words[0] for words in lines if (UPDATED in words[1:]) == updated}


def _read_looks(path: Path, split: str) -> np.ndarray:
    if not path.exists():
        return np.empty((0, 2, 32), dtype=np.uint8)
    try:
        entries = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        digits = "".join(digits for digits, side in entries if side == split)
        return np.frombuffer(bytes.fromhex(digits), dtype=np.uint8).reshape(-1, 2, 32)
    except ValueError as error:
        raise InputError(f"{path} is not a line of {HASH_DIGITS} digits and a split for each image") from error
