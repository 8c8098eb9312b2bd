"""A table of images, and what is known of the data set that they are of."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from medsharp.data.parts import Part
from medsharp.data.stores import copied
from medsharp.errors import InputError
from medsharp.files import assert_utf8, sha256_file
from medsharp.images import DecodedImage, ImageLimits, ValueRange, read_image
from medsharp.images.values import declared_range
from medsharp.progress import Progress

COLUMNS = (
    "image",
    "label",
    "patient",
    "site",
    "device",
    "view",
    "birads",
    "histology",
    "mask",
    "split",
    "group",
    "exclude",
    "sha256",
    "frame",
)
"""The columns every manifest has after reading; `image` and `label` are required in the file, others are kept too."""

CARRIED = ("study_date", "laterality", "pixel_spacing", "box", "dhash", "flags")
"""Columns that mean the same wherever they are; like those of `COLUMNS` they are known in whatever case."""

DESCRIBED = ("age", "pathology", "lesion", "lesions", "official_split")
"""Further columns that reading a hospital's folder and its list of labels fills, where they say it."""

SPLITS = ("train", "val", "test")

AUDITED = "audit: "
"""How the notes begin that `medsharp data audit` leaves in `manifest.yaml`; reading keeps them."""


@dataclass(frozen=True)
class DatasetInfo:
    """What a data set is, as `manifest.yaml` says it."""

    name: str
    classes: tuple[str, ...]
    licence: str = ""
    citation: str = ""
    source: str = ""
    doi: str = ""
    range: ValueRange | None = None
    """The stored values that are black and white in all its images, for those of more than 8 bits."""


@dataclass(frozen=True)
class Manifest:
    """A table of images and what is known of them.

    Attributes:
        table: A row an image, or a frame of a clip; all columns text, the empty string where nothing is known, index
            0, 1, 2, ...
        info: What the data set is.
        root: The folder that image and mask paths are relative to.
        notes: Sentences on what was dropped or tied and why, for a person.
        lines: The row of each in the file, as a spreadsheet numbers it; empty where row 0 stands in row 2, and so on.
        parts: The data sets that it joins, whose names the paths begin with; empty for one by itself, where they are
            relative to `root`.
        store: The URL of the folder that paths are relative to, where they lie in an object store; `at_hand` fetches
            them. Empty where they are files.
        copy_of: The URL of the store that the files in `root` are copies of; empty where they are none.
    """

    table: pd.DataFrame
    info: DatasetInfo
    root: Path
    notes: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()
    parts: tuple[Part, ...] = ()
    store: str = ""
    copy_of: str = ""

    @property
    def included(self) -> pd.DataFrame:
        """The rows that nothing excludes."""
        return self.table[self.table["exclude"] == ""]

    def of_split(self, split: str) -> pd.DataFrame:
        """The included rows of `train`, `val` or `test`."""
        rows = self.included
        return rows[rows["split"] == split]

    def path(self, relative: str) -> Path:
        """The file that an `image` or one entry of `mask` names."""
        head, _, below = relative.partition("/")
        part = next((part for part in self.parts if part.name == head), None)
        return self.root / relative if part is None else part.root / below

    def range_of(self, row: Any) -> ValueRange | None:
        """The stored values that are black and white in the image of a row, where its data set declares them."""
        head = str(row["image"]).partition("/")[0]
        return next((part.range for part in self.parts if part.name == head), self.info.range)

    def masks(self, row: Any) -> list[Path]:
        """The mask files of a row; `mask` joins several with semicolons."""
        return [self.path(name) for name in str(row["mask"]).split(";") if name]

    def read(self, row: Any, limits: ImageLimits = ImageLimits()) -> DecodedImage:
        """Decode the image of a row: the frame that it names, scaled by the range of its data set.

        Raises:
            ImageError: It cannot be used; see `medsharp.images.read_image`.
        """
        path, frame = self.path(row["image"]), frame_of(row)
        return read_image(path, limits=limits, frame=frame, value_range=self.range_of(row))

    @contextmanager
    def at_hand(self, *, without: Collection[str] = (), progress: Progress | None = None) -> Iterator[Manifest]:
        """Give this manifest with its images and masks as files: copies of a store's, which are removed afterwards.

        Args:
            without: Images that are not read, and so not copied; their masks are.
            progress: Called with files copied, files in all and what is being done.

        Raises:
            InputError: The store cannot be reached, or a file is another than when the manifest was made; and what is
                raised inside, with the store's URL in place of the folder of copies.
        """
        if not self.store:
            yield self
            return
        rows = self.included
        images = (name for name in rows["image"] if name not in without)
        masks = (name for cell in rows["mask"] for name in cell.split(";") if name)
        with copied(self.store, (*images, *masks), progress) as folder:
            here = dataclasses.replace(self, root=folder, store="", copy_of=self.store)
            check_files(here)
            try:
                yield here
            except InputError as error:
                told = here.as_stored(str(error))
                if told == str(error):
                    raise
                raise InputError(told) from error

    def as_stored(self, sentence: str) -> str:
        """Return a sentence that names a store's files by its URL: the folder of copies is another each time."""
        return sentence.replace(str(self.root), self.copy_of) if self.copy_of else sentence

    def of_row(self, row: Any) -> Manifest:
        """Return the manifest of one row alone, given as `medsharp.data.lesion` and others take it."""
        return self.replace(table=pd.DataFrame([row]))

    def anywhere(self) -> Manifest:
        """Return a manifest that means the same on another machine and in another working folder.

        Copies of a store's files are the store's there; what is told to people is left out.
        """
        parts = tuple(dataclasses.replace(part, root=part.root.absolute()) for part in self.parts)
        store = self.store or self.copy_of
        return dataclasses.replace(self, root=self.root.absolute(), parts=parts, notes=(), store=store, copy_of="")

    def with_range(self, value_range: tuple[float, float] | None) -> Manifest:
        """Return a copy whose images have this range of values; None leaves what `manifest.yaml` declares.

        Raises:
            InputError: It is not two finite numbers, the smaller first.
        """
        declared = declared_range(value_range)
        if declared is None:
            return self
        parts = tuple(dataclasses.replace(part, range=declared) for part in self.parts)
        return dataclasses.replace(self, info=dataclasses.replace(self.info, range=declared), parts=parts)

    def line(self, row: Any) -> int:
        """The row in the file that a row of the table, by its index, comes from; the header is row 1 as a rule."""
        return self.lines[int(row)] if self.lines else int(row) + 2

    def replace(self, *, table: pd.DataFrame | None = None, notes: Sequence[str] | None = None) -> Manifest:
        """Return a copy with another table or other notes; a table of fewer rows keeps their index until it is here."""
        lines = self.lines
        if table is not None and lines:
            known = len(table.index) == 0 or (table.index.min() >= 0 and table.index.max() < len(lines))
            lines = tuple(lines[row] for row in table.index) if known else ()
        return dataclasses.replace(
            self,
            table=self.table if table is None else table.reset_index(drop=True),
            notes=self.notes if notes is None else tuple(notes),
            lines=lines,
        )


def frame_of(row: Any) -> int | Literal["sharpest"]:
    """Return which frame of a clip a row of a manifest is: its number from 1, or the sharpest where it says nothing."""
    given = str(row.get("frame") or "")
    return int(given) if given else "sharpest"


def name_of(row: Mapping[Any, Any]) -> str:
    """Return what a row of a manifest is called in predictions: the image, with `#12` where the row is of one frame."""
    return f"{row['image']}#{row['frame']}" if row.get("frame") else str(row["image"])


def make_table(rows: Sequence[dict[str, str]]) -> pd.DataFrame:
    """Lay rows out as a manifest's table: every column there, all text, sorted as given.

    Raises:
        InputError: The name of a file is not in UTF-8: no table can hold it.
    """
    for row in rows:
        assert_utf8(row.get("image"), row.get("mask"), what="file")
    table = pd.DataFrame(list(rows), dtype=str)
    return complete(table)


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """Add the missing columns of `COLUMNS`, empty, in their order; others follow."""
    table = table.astype(object).where(table.notna(), "").astype(str)
    for column in COLUMNS:
        if column not in table:
            table[column] = ""
    others = [column for column in table.columns if column not in COLUMNS]
    return table[[*COLUMNS, *others]].reset_index(drop=True)


def check_unchanged(manifest: Manifest, rows: Iterable[Any], digests: Iterable[str]) -> None:
    """Check that files are those of which the manifest has the SHA-256.

    Args:
        manifest: Rows without `sha256` are not checked.
        rows: By their index.
        digests: Of the file of each; empty where it cannot be read, which is told elsewhere.

    Raises:
        InputError: Some are others; the sentence names their rows.
    """
    rows = list(rows)
    known = manifest.table.loc[rows, "sha256"]
    pairs = zip(rows, known, digests, strict=True)
    changed = [row for row, before, now in pairs if before and now and before != now]
    if changed:
        lines = [str(manifest.line(row)) for row in changed[1:]]
        more = f", and so in row{'s' if len(lines) > 1 else ''} {', '.join(lines[:8])}" if lines else ""
        more += f" and {len(lines) - 8} more" if len(lines) > 8 else ""
        place, image = f"{manifest.info.name}, row {manifest.line(changed[0])}", manifest.table.at[changed[0], "image"]
        raise InputError(
            f"{place}: {image} is another file than when the manifest was made (its SHA-256 differs{more}); audit and "
            "split the data set again, with the column sha256 empty"
        )


def check_files(manifest: Manifest) -> None:
    """Check the files that are used by the SHA-256 that the manifest has of them, as `check_unchanged` does."""
    rows = manifest.included
    rows = rows[rows["sha256"] != ""]

    def digest(image: str) -> str:
        try:
            return sha256_file(manifest.path(image))
        except OSError:
            return ""

    check_unchanged(manifest, rows.index, map(digest, rows["image"]))
