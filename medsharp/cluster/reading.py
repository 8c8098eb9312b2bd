"""Tasks: the images of a piece are read, checked and made ready for the network, batch by batch."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from medsharp import __version__
from medsharp.data.duplicates import look
from medsharp.data.lesion import BOX, lesion_box
from medsharp.data.manifest import Manifest, check_files, name_of
from medsharp.errors import InputError
from medsharp.images import DecodedImage
from medsharp.inference.predictor import BATCH
from medsharp.inference.preparing import Preparation
from medsharp.inference.reading import Frames, Reading
from medsharp.inference.table import RowSource


@dataclass(frozen=True)
class Piece:
    """Images that a task reads.

    Attributes:
        block: The number of the block that they are of.
        place: Which piece of the block it is, from 0.
        manifest: Of these images alone.
    """

    block: int
    place: int
    manifest: Manifest

    def packed(self) -> dict[str, Any]:
        """Return it as a row of a Ray data set."""
        return {"piece": pickle.dumps(self)}


def read_piece(
    row: dict[str, Any], *, preparation: Preparation, frames: Frames, shares: bool, version: str
) -> Iterator[dict[str, Any]]:
    """Read a piece; give a row for each batch of its readings.

    What is wrong with an image becomes a reading, as everywhere; what is wrong with all, such as a store that cannot be
    reached, becomes one row with `error`, which ends the work.

    Args:
        row: A packed piece.
        preparation: The bundle's.
        frames: As for `predict_manifest`.
        shares: Whether its masks tell how large lesions are.
        version: Of medsharp, where the command runs.
    """
    piece: Piece = pickle.loads(row["piece"])
    about = {"block": piece.block, "place": piece.place, "images": len(piece.manifest.table)}
    try:
        check_version(version)
        if not piece.manifest.store:
            check_files(piece.manifest)  # copies of a store's are checked when they are there
        with piece.manifest.at_hand() as here:
            source = RowSource.of(here, frames, preparation.limits)
            covered = source.shares() if shares else None
            readings = (
                one
                for number, given in enumerate(source.given())
                for one in preparation.readings(number, given, lesion=source.lesion)
            )
            last, count = None, 0
            # One is held back: the last tells how many there were.
            while batch := list(islice(readings, BATCH)):
                if last is not None:
                    yield about | last
                last = {"batch": count, "batches": 0, "error": ""}
                last |= {"content": pickle.dumps(batch), "shares": pickle.dumps(None)}
                count += 1
            assert last is not None  # each row has a reading at least, of its error
            yield about | last | {"batches": count, "shares": pickle.dumps(covered)}
    except InputError as error:
        nothing = pickle.dumps(None)
        yield about | {"batch": 0, "batches": 1, "error": str(error), "content": nothing, "shares": nothing}


def look_at_piece(row: dict[str, Any], *, preparation: Preparation, version: str) -> Iterator[dict[str, Any]]:
    """Read a piece once, for the check for duplicates and for the network; give a row for each batch of its readings.

    Batches are of the images of so many rows that can be read, as `medsharp.inference.ready` makes them.

    Args:
        row: A packed piece.
        preparation: The bundle's.
        version: Of medsharp, where the command runs.
    """
    piece: Piece = pickle.loads(row["piece"])
    about = {"block": piece.block, "place": piece.place}
    try:
        check_version(version)
        with piece.manifest.at_hand() as manifest:
            records = manifest.table.to_dict("records")
            for batch, start in enumerate(range(0, len(records), BATCH)):
                readings: list[Reading] = []

                def prepare(given: Manifest, record: Any, image: DecodedImage, to: list[Reading] = readings) -> None:
                    to.append(_prepared(given, record, image, preparation))

                looks = [look(manifest, one, preparation.limits, prepare) for one in records[start : start + BATCH]]
                yield about | {
                    "batch": batch,
                    "images": len(looks),
                    "error": "",
                    "content": pickle.dumps(readings),
                    "looks": pickle.dumps(looks),
                }
    except InputError as error:
        nothing = pickle.dumps([])
        yield about | {"batch": 0, "images": 0, "error": str(error), "content": nothing, "looks": nothing}


def _prepared(manifest: Manifest, row: Any, image: DecodedImage, preparation: Preparation) -> Reading:
    """Make a decoded image ready for the network; where its lesion is not known, that is its reading."""
    name, lesion = name_of(row), None
    try:
        if preparation.preprocessing.crop == "lesion":
            lesion = lesion_box(name, row.get(BOX, ""), manifest.masks(row), image, preparation.limits)
        return Reading(name, name, prepared=preparation.prepare(image, lesion))
    except InputError as error:
        return Reading(name, name, error=manifest.as_stored(str(error)))


def check_version(version: str) -> None:
    """Refuse work of another version than is installed here.

    Args:
        version: Of medsharp, where the command runs.

    Raises:
        InputError: They differ.
    """
    if version != __version__:
        raise InputError(f"a machine of the cluster has medsharp {__version__}, and this one {version}; install one")
