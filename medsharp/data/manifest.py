"""The manifest: a table with a row an image, and `manifest.yaml` beside it that says what the data set is."""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml

from medsharp.data.parts import Part, PartFolders, read_parts, written_parts
from medsharp.data.paths import DataFolder
from medsharp.data.same_meaning import fullest_columns
from medsharp.data.stores import Store, copied, is_url
from medsharp.errors import InputError, nearest
from medsharp.files import assert_utf8, atomic_path, sha256_file, write_text
from medsharp.images import DecodedImage, ImageLimits, ValueRange, read_image, read_range
from medsharp.images.values import declared_range
from medsharp.keys import name_key, named, spellings, united_sites
from medsharp.progress import Progress
from medsharp.tables import SUFFIXES, number, read_table, reason
from medsharp.tables.columns import known_names
from medsharp.tables.merged import fill_merged
from medsharp.yaml_text import load_yaml

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

_FIRST_COLUMNS = COLUMNS[: COLUMNS.index("frame")]
"""Those that `write_manifest` has begun every table with; `frame` was added later."""

SPLITS = ("train", "val", "test")

ABOUT = "manifest.yaml"

AUDITED = "audit: "
"""How the notes begin that `medsharp data audit` leaves in `manifest.yaml`; reading keeps them."""

_SPLIT_NAMES = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
EMPTY_CELLS, UNKNOWN = "empty_cells", "unknown"
"""What `manifest.yaml` says where an empty cell means that nothing is known, and never that cells were merged."""

_READ_URLS = "predict, evaluate and robustness"
"""Commands that read images in object stores."""


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


def manifest_file(folder: Path) -> Path | None:
    """Return the manifest in a folder: `manifest.csv`, or the same as a workbook or with tabs."""
    files = (folder / f"manifest{suffix}" for suffix in SUFFIXES)
    return next((file for file in files if file.is_file()), None)


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


def read_manifest(path: str | Path, *, classes: Sequence[str] | None = None, stored: bool = False) -> Manifest:
    """Read a manifest and check it.

    Every cell is cleaned (see `medsharp.tables`), paths become those of the files on disk (`medsharp.data.paths`), a
    site has one spelling, what merged cells leave empty is filled (but where `write_manifest` wrote it, whose empty
    cells say that nothing is known), and `exclude` of 0 or FALSE is none; the notes say each of these.

    Args:
        path: A CSV file or workbook, Parquet, or a folder that holds `manifest.csv` or `manifest.xlsx`; or the URL of a
            file.
        classes: The labels that are right; by default those of `manifest.yaml`, else those that occur.
        stored: Whether its images may lie in an object store: it is a URL, or `root` in `manifest.yaml` is one.

    Raises:
        InputError: The file is missing, is no table, lacks a column, repeats an image, or holds an unknown label or a
            path that leaves the data folder; the sentence names file and row as a spreadsheet numbers it. Or the name
            of a folder is not in UTF-8.
    """
    if isinstance(path, str) and is_url(path):
        if not stored:
            raise InputError(f"{path}: a URL is read by medsharp {_READ_URLS} only; copy the data set")
        return _read_stored(path, classes)
    path = Path(path)
    assert_utf8(path, path.resolve())
    if path.is_dir() and path.suffix.lower() != ".parquet":
        path = manifest_file(path) or path / "manifest.csv"
    manifest = _read(path, classes, "")
    if manifest.store and not stored:
        only = f"are read by medsharp {_READ_URLS} only; copy them"
        raise InputError(f"{path}: images at a URL, {manifest.store}, {only}")
    return manifest


def _read_stored(url: str, classes: Sequence[str] | None) -> Manifest:
    if PurePosixPath(url).suffix.lower() not in SUFFIXES:
        raise InputError(f"{url}: at a URL give the manifest itself, such as {url.rstrip('/')}/manifest.csv")
    store, _, name = url.rpartition("/")
    with copied(store, (name, ABOUT)) as folder:
        if not (folder / name).is_file():
            raise InputError(f"cannot read {url}: there is no such file")
        try:
            return _read(folder / name, classes, store)
        except InputError as error:
            raise InputError(str(error).replace(str(folder), store)) from error


def _read(path: Path, classes: Sequence[str] | None, store: str) -> Manifest:
    read = read_table(path, ("image", "label"))
    if read.frame.empty:
        raise InputError(f"{path} lists no images")
    lines = tuple(int(line) for line in read.frame.index)
    about = _read_about(path.with_name(ABOUT))
    table, told = read_rows(path, read.frame, about)
    root, url = _place_of_images(path, str(about.get("root") or ""), store)
    parts = read_parts(about.get("parts"), path.with_name(ABOUT))
    known = _classes(about, path.with_name(ABOUT))
    if known:
        _check_labels(path, table, known, lines)
    elif classes is not None:
        _check_labels(path, table, classes, lines)
    else:
        _check_labels(path, table, _labels_once(table["label"]), lines)
    folder = store.rpartition("/")[2] or path.resolve().parent.name
    info = DatasetInfo(
        name=str(about.get("name") or (path.stem if path.stem != "manifest" else folder)),
        classes=known or (tuple(classes) if classes is not None else tuple(sorted(set(table["label"]) - {""}))),
        range=None if about.get("range") is None else read_range(about["range"], f"{path.with_name(ABOUT)}: range"),
        **{key: str(about.get(key) or "") for key in ("licence", "citation", "source", "doi")},
    )
    notes = [*read.notes, *told]
    _read_splits(path, table, lines)
    _read_digests(path, table, lines)
    _read_frames(path, table, lines)
    written = table["image"].copy()
    files = PartFolders(parts) if parts else Store(url) if url else DataFolder(root)
    notes += _find_files(path, table, files, lines)
    _check_duplicates(path, table, written, lines)
    kept = (note for note in _notes(about) if note.startswith(AUDITED))
    return Manifest(table, info, root, (*kept, *notes), lines, parts, "" if parts else url)


def read_rows(path: Path, frame: pd.DataFrame, about: Mapping[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """Read the cells of a table of images as a manifest has them, whoever wrote it.

    Columns get their names (`Patient ID` is `patient`), those of `COLUMNS` that are missing are added, `exclude`
    becomes a reason or nothing, what merged cells leave empty is filled, and a site has one spelling.

    Args:
        path: Of the table, to be named in the sentences that are returned.
        frame: Its cells, all text.
        about: What `manifest.yaml` says; empty where there is none.

    Returns:
        The rows, index 0, 1, ..., and a sentence on each thing that was taken for another.

    Raises:
        InputError: Two columns of one meaning contradict each other, such as `PatientID` and `MRN`.
    """
    ours = says_all(frame, about)  # further columns of whatever name are further ones then
    single, notes = (frame, list[str]()) if ours else _one_of_each(path, frame)
    table = complete(_known_names(single))
    notes += _read_exclude(path, table)
    if not ours:
        notes += fill_merged(path, table)
    notes += _unite_sites(path, table)
    return table, notes


def says_all(frame: pd.DataFrame, about: Mapping[str, Any]) -> bool:
    """Whether an empty cell says that nothing is known: `write_manifest` wrote the table, and merged no cells."""
    if about.get(EMPTY_CELLS) == UNKNOWN:
        return True
    # Before there was this key, it could be told by the header, beside a whole manifest.yaml or an audit's hashes.
    header = tuple(map(str, frame))[: len(_FIRST_COLUMNS)]
    fields = {field.name for field in dataclasses.fields(DatasetInfo)} - {"range"}
    return header == _FIRST_COLUMNS and (fields <= about.keys() or bool((frame["sha256"] != "").any()))


def _place_of_images(path: Path, root: str, store: str) -> tuple[Path, str]:
    """Return the folder of the images, and its URL where that is none of this machine.

    Args:
        path: The manifest.
        root: What its `manifest.yaml` says.
        store: The URL of the folder that it was read from, or nothing.

    Raises:
        InputError: A manifest in a store names a folder of this machine, or one above the store.
    """
    ours = root.partition("://")[0] in ("file", "local")
    if is_url(root) and not (store and ours):
        return path.parent, root.rstrip("/")
    if not store:
        return path.parent / root, ""  # an absolute root stands by itself
    if not root:
        return path.parent, store
    scheme, _, folder = store.partition("://")
    place = posixpath.normpath(posixpath.join(folder, root))
    bucket = folder.partition("/")[0]  # or the host
    if ours or root.startswith("/") or PureWindowsPath(root).is_absolute() or place.partition("/")[0] != bucket:
        raise InputError(f"{store}/{ABOUT}: root '{root}' is not in the store; give a folder there, or a URL")
    return path.parent, f"{scheme}://{place}"


def _classes(about: dict[str, Any], path: Path) -> tuple[str, ...]:
    classes = about.get("classes") or []
    if not isinstance(classes, list):
        raise InputError(f"{path}: classes must be a list, such as [benign, malignant], and is '{classes}'")
    return tuple(map(str, classes))


def _notes(about: dict[str, Any]) -> list[str]:
    notes = about.get("notes") or []
    return [str(note) for note in notes] if isinstance(notes, list) else [str(notes)]


def write_manifest(manifest: Manifest, folder: str | Path) -> None:
    """Write `manifest.csv` and `manifest.yaml`; the root is recorded only when the images lie elsewhere."""
    folder = Path(folder)
    about: dict[str, Any] = dataclasses.asdict(manifest.info)
    about["classes"] = list(manifest.info.classes)
    if manifest.info.range is None:
        del about["range"]
    else:
        about["range"] = list(manifest.info.range)
    if manifest.parts:
        about["parts"] = written_parts(manifest.parts)
    elif manifest.root.resolve() != folder.resolve():
        about["root"] = str(manifest.root.resolve())
    about[EMPTY_CELLS] = UNKNOWN
    if manifest.notes:
        about["notes"] = list(manifest.notes)
    with atomic_path(folder / "manifest.csv") as temporary:
        manifest.table.to_csv(temporary, index=False, lineterminator="\n")
    write_text(folder / "manifest.yaml", yaml.safe_dump(about, sort_keys=False, allow_unicode=True))


def _read_about(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        about = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(about, dict):
        raise InputError(f"{path} must hold keys such as name and classes")
    return about


def _known_names(table: pd.DataFrame) -> pd.DataFrame:
    """Give the columns that mean something here their names: `BI-RADS` and `Study date` are `birads`, `study_date`."""
    names = known_names(map(str, table), (*COLUMNS, *CARRIED))
    renamed: dict[str, str] = {}
    for name, right in names.items():
        if right not in table and right not in renamed.values():  # the first of several, and none beside the right one
            renamed[name] = right
    return table.rename(columns=renamed)


def _one_of_each(path: Path, frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Give the column that is read of several of one meaning its name; the others stay as further ones."""
    meanings: dict[str, list[str]] = {}
    for heading, name in known_names(map(str, frame), (*COLUMNS, *CARRIED)).items():
        meanings.setdefault(name, []).append(heading)
    for name, headings in meanings.items():
        headings.sort(key=lambda heading: name_key(heading) == "mrn")  # DICOM's number goes before another
        headings.sort(key=name.__ne__)  # and the name itself before both
    read, notes = fullest_columns(path, frame, meanings)
    for name, heading in read.items():
        if heading != name:
            frame = frame.drop(columns=[name], errors="ignore").rename(columns={heading: name})
    return frame, notes


def _check_labels(path: Path, table: pd.DataFrame, classes: Sequence[str], lines: Sequence[int]) -> None:
    wrong = ~table["label"].isin(["", *classes])
    if wrong.any():
        row = int(np.argmax(wrong))
        label = str(table.at[row, "label"])
        close = nearest(label, classes)
        close = close if close.startswith("; did") else ""
        raise InputError(f"{path.name}, row {lines[row]}: label '{label}' is not one of {', '.join(classes)}{close}")


def _labels_once(labels: pd.Series) -> list[str]:
    """Return the labels; of those that differ in case, blanks or dashes only the most frequent."""
    several = spellings(labels, labels.map({label: name_key(label) for label in labels.unique()}))
    return sorted(set(labels) - {""} - {other for names in several for other in names[1:]})


def _read_exclude(path: Path, table: pd.DataFrame) -> list[str]:
    """Read 0, FALSE and no as not excluded, and 1, TRUE and yes as excluded without a reason."""
    given = table["exclude"]
    table["exclude"] = given.map(lambda text: reason(str(text), "excluded in the manifest"))
    kept = (given != "") & (table["exclude"] == "")
    if not kept.any():
        return []
    words = named(sorted(set(given[kept])))
    return [f"{path.name}: exclude is {words} in {kept.sum()} rows, which are used"]


def _read_splits(path: Path, table: pd.DataFrame, lines: Sequence[int]) -> None:
    splits = table["split"].map(lambda text: _SPLIT_NAMES.get(str(text).casefold(), str(text).casefold()))
    wrong = ~splits.isin(["", *SPLITS])
    if wrong.any():
        row = int(np.argmax(wrong))
        given = table.at[row, "split"]
        raise InputError(f"{path.name}, row {lines[row]}: split '{given}' is not one of {', '.join(SPLITS)}")
    table["split"] = splits


def _read_digests(path: Path, table: pd.DataFrame, lines: Sequence[int]) -> None:
    digests = table["sha256"].str.lower()
    wrong = (digests != "") & ~digests.str.fullmatch("[0-9a-f]{64}")
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{path.name}, row {lines[row]}: sha256 '{table.at[row, 'sha256']}' is not 64 hexadecimal digits; empty "
            "the cell, and it is computed again"
        )
    table["sha256"] = digests


def _read_frames(path: Path, table: pd.DataFrame, lines: Sequence[int]) -> None:
    frames = table["frame"].map(lambda text: number(str(text)))
    wrong = (frames != "") & ~frames.str.fullmatch("0*[1-9][0-9]{0,8}")
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"{path.name}, row {lines[row]}: frame '{table.at[row, 'frame']}' is no number of a frame; they count from "
            "1, and an empty cell takes the sharpest"
        )
    table["frame"] = frames.str.lstrip("0")


def _find_files(
    path: Path, table: pd.DataFrame, folder: DataFolder | PartFolders | Store, lines: Sequence[int]
) -> list[str]:
    """Write the paths of the files on disk into `image` and `mask`."""
    missing = []
    images, masks = [], []
    for line, image, mask in zip(lines, table["image"], table["mask"], strict=True):
        try:
            if not image:
                raise InputError("no image is named")
            found = folder.find(image)
            # A mask that is missing is told by the audit and by what needs it.
            masks.append(";".join(folder.find(name) or name for name in mask.split(";") if name) if mask else "")
        except InputError as error:
            raise InputError(f"{path.name}, row {line}: {error}") from error
        images.append(found or image)
        if found is None:
            missing.append((line, image))
    if missing:
        line, name = missing[0]
        more = f" ({len(missing)} images are missing in all)" if len(missing) > 1 else ""
        raise InputError(f"{path.name}, row {line}: image '{name}' is not in {folder.root}{more}")
    table["image"], table["mask"] = images, masks
    return folder.notes(path.name)


def _check_duplicates(path: Path, table: pd.DataFrame, written: pd.Series, lines: Sequence[int]) -> None:
    """Refuse an image that stands twice, unless as different frames of a clip."""
    repeated = table.duplicated(["image", "frame"])
    # A clip without a frame is its sharpest one, which may be among those that are numbered.
    several = table["image"].duplicated(keep=False) & (table["frame"] == "")
    if repeated.any() or several.any():
        row = int(np.argmax(repeated if repeated.any() else several))
        same = table["image"] == table.at[row, "image"]
        if repeated.any():
            same &= table["frame"] == table.at[row, "frame"]
        first = int(np.argmax(same & (table.index != row)))
        frame = f", frame {table.at[row, 'frame']}" if repeated.any() and table.at[row, "frame"] else ""
        remedy = "" if repeated.any() else "; number its frames in every row"
        row, first = max(row, first), min(row, first)
        raise InputError(
            f"{path.name}, row {lines[row]}: image '{written[row]}'{frame} stands in row {lines[first]} already{remedy}"
        )


def _unite_sites(path: Path, table: pd.DataFrame) -> list[str]:
    table["site"], several = united_sites(table["site"])
    return [f"{path.name}: site {named(names)} are one site, '{names[0]}'" for names in several]
