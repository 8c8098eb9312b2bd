"""The manifest: a CSV with a row an image, and `manifest.yaml` beside it that says what the data set is."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pandas as pd
import yaml

from medsharp.errors import InputError, nearest
from medsharp.files import atomic_path, write_text

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
)
"""The columns every manifest has after reading; `image` and `label` are required in the file, others are kept too."""

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


@dataclass(frozen=True)
class Manifest:
    """A table of images and what is known of them.

    Attributes:
        table: A row an image, all columns text, the empty string where nothing is known, index 0, 1, 2, ...
        info: What the data set is.
        root: The folder that image and mask paths are relative to.
        notes: Sentences on what was dropped or tied and why, for a person.
    """

    table: pd.DataFrame
    info: DatasetInfo
    root: Path
    notes: tuple[str, ...] = ()

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
        return self.root / relative

    def masks(self, row: Any) -> list[Path]:
        """The mask files of a row; `mask` joins several with semicolons."""
        return [self.path(name) for name in str(row["mask"]).split(";") if name]

    def replace(self, *, table: pd.DataFrame | None = None, notes: Sequence[str] | None = None) -> Manifest:
        """Return a copy with another table or other notes."""
        return dataclasses.replace(
            self,
            table=self.table if table is None else table.reset_index(drop=True),
            notes=self.notes if notes is None else tuple(notes),
        )


def make_table(rows: Sequence[dict[str, str]]) -> pd.DataFrame:
    """Lay rows out as a manifest's table: every column there, all text, sorted as given."""
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


def read_manifest(path: str | Path, *, classes: Sequence[str] | None = None) -> Manifest:
    """Read a manifest and check it.

    Args:
        path: The CSV file, or a folder that holds `manifest.csv`.
        classes: The labels that are right; by default those of `manifest.yaml`, else those that occur.

    Raises:
        InputError: The file is missing, is not a CSV in UTF-8, lacks a column, repeats an image, or holds an unknown
            label or a path that leaves the data folder; the sentence names file and row (the header is row 1).
    """
    path = Path(path)
    if path.is_dir():
        path = path / "manifest.csv"
    table = _read_csv(path)
    about = _read_about(path.with_name("manifest.yaml"))
    root = path.parent / str(about.get("root") or "")  # an absolute root stands by itself
    known = tuple(about.get("classes") or ())
    labels = sorted(set(table["label"]) - {""})
    if known:
        _check_labels(path, table, known)
    elif classes is not None:
        _check_labels(path, table, classes)
    info = DatasetInfo(
        name=str(about.get("name") or (path.stem if path.stem != "manifest" else path.resolve().parent.name)),
        classes=known or (tuple(classes) if classes is not None else tuple(labels)),
        **{key: str(about.get(key) or "") for key in ("licence", "citation", "source", "doi")},
    )
    _check_paths(path, table, root)
    _check_duplicates(path, table)
    _check_splits(path, table)
    return Manifest(table, info, root, tuple(note for note in _notes(about) if note.startswith(AUDITED)))


def _notes(about: dict[str, Any]) -> list[str]:
    notes = about.get("notes") or []
    return [str(note) for note in notes] if isinstance(notes, list) else [str(notes)]


def write_manifest(manifest: Manifest, folder: str | Path) -> None:
    """Write `manifest.csv` and `manifest.yaml`; the root is recorded only when the images lie elsewhere."""
    folder = Path(folder)
    about: dict[str, Any] = dataclasses.asdict(manifest.info)
    about["classes"] = list(manifest.info.classes)
    if manifest.root.resolve() != folder.resolve():
        about["root"] = str(manifest.root.resolve())
    if manifest.notes:
        about["notes"] = list(manifest.notes)
    with atomic_path(folder / "manifest.csv") as temporary:
        manifest.table.to_csv(temporary, index=False, lineterminator="\n")
    write_text(folder / "manifest.yaml", yaml.safe_dump(about, sort_keys=False, allow_unicode=True))


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream, strict=True))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8; save it as 'CSV UTF-8'") from error
    except csv.Error as error:
        raise InputError(f"{path} is not a CSV table: {error}") from error
    if not rows:
        raise InputError(f"{path} is empty; it needs a header with image and label, and a row an image")
    header = [name.strip() for name in rows[0]]
    if len(header) == 1 and ";" in header[0]:
        raise InputError(f"{path} is separated by semicolons; save it with commas")
    for name in ("image", "label"):
        if name not in header:
            raise InputError(f"{path} has no column '{name}'{nearest(name, header)}")
    if len(set(header)) != len(header):
        raise InputError(f"{path} has the same column twice in its header")
    for number, row in enumerate(rows[1:], start=2):
        if row and len(row) != len(header):
            raise InputError(f"{path}, row {number}: {len(row)} values for {len(header)} columns")
    body = [row for row in rows[1:] if row]
    if not body:
        raise InputError(f"{path} lists no images")
    return complete(pd.DataFrame(body, columns=pd.Index(header), dtype=str))


def _read_about(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        about = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(about, dict):
        raise InputError(f"{path} must hold keys such as name and classes")
    return about


def _check_labels(path: Path, table: pd.DataFrame, classes: Sequence[str]) -> None:
    for number, label in enumerate(table["label"], start=2):
        if label and label not in classes:
            close = nearest(label, classes)
            close = close if close.startswith("; did") else ""
            raise InputError(f"{path.name}, row {number}: label '{label}' is not one of {', '.join(classes)}{close}")


def _check_paths(path: Path, table: pd.DataFrame, root: Path) -> None:
    inside = root.resolve()
    missing = []
    for number, row in enumerate(table[["image", "mask"]].to_dict("records"), start=2):
        if not row["image"]:
            raise InputError(f"{path.name}, row {number}: no image is named")
        for name in [row["image"], *filter(None, row["mask"].split(";"))]:
            outside = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
            if outside or ".." in PureWindowsPath(name).parts:
                raise InputError(f"{path.name}, row {number}: path '{name}' must stay inside the data folder")
            if not (root / name).resolve().is_relative_to(inside):
                raise InputError(f"{path.name}, row {number}: '{name}' is a link that leaves the data folder")
        if not (root / row["image"]).is_file():
            missing.append((number, row["image"]))
    if missing:
        number, name = missing[0]
        more = f" ({len(missing)} images are missing in all)" if len(missing) > 1 else ""
        raise InputError(f"{path.name}, row {number}: image '{name}' is not in {root}{more}")


def _check_duplicates(path: Path, table: pd.DataFrame) -> None:
    names = table["image"].map(lambda name: PurePosixPath(name).as_posix())  # ./a.png is a.png
    repeated = table.index[names.duplicated()]
    if len(repeated):
        row = int(repeated[0])
        first = int(table.index[names == names[row]][0])
        raise InputError(
            f"{path.name}, row {row + 2}: image '{table.at[row, 'image']}' stands in row {first + 2} already"
        )


def _check_splits(path: Path, table: pd.DataFrame) -> None:
    for number, split in enumerate(table["split"], start=2):
        if split and split not in SPLITS:
            raise InputError(f"{path.name}, row {number}: split '{split}' is not one of {', '.join(SPLITS)}")
