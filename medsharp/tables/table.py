"""A table that somebody brings, read and cleaned.

All cells are text, cleaned once here: without blanks, byte order marks and invisible characters around them, composed
(NFC), and numbers as people write them (`7` where a workbook holds 7.0). Rows keep the number that a spreadsheet shows.
"""

from __future__ import annotations

import dataclasses
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.errors import InputError, nearest
from medsharp.files import url_of
from medsharp.keys import name_key, named
from medsharp.tables.parquet import is_parquet_folder, parquet_cells
from medsharp.tables.text import HEAD_ROWS, decode, parse
from medsharp.tables.workbook import Sheet
from medsharp.tables.workbook import sheets as sheets_of

_INVISIBLE = dict.fromkeys(
    [0xAD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
)
_AROUND = "\u200c\u200d"  # joiners, which some scripts need inside a word
_NO = re.compile(r"0([.,]00?)?|f|false|no?|nein|non|nee|falsch|faux|falso|onwaar|ложь|нет|-|none|nan|null|n/a|na")
_YES = re.compile(r"1([.,]00?)?|t|true|y|yes|x|ja?|oui|o|s[ií]|sim|wahr|vrai|verdadero|vero|verdadeiro|waar|истина|да")

_AS_TEXT = re.compile(r"=\"([^\"]*)\"|'(\d[^']*)", re.DOTALL)

WORKBOOK = b"PK\x03\x04"
PARQUET = b"PAR1"
OLD_WORKBOOK = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@dataclass(frozen=True)
class Table:
    """A table as text.

    Attributes:
        path: The file.
        frame: Columns by name, the empty string where nothing stands; the index is the row in the file, as a
            spreadsheet numbers it. Blank rows are not there.
        notes: Sentences on what had to be guessed or left out, for a person.
    """

    path: Path
    frame: pd.DataFrame
    notes: tuple[str, ...] = ()

    def records(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Give the number of every row in the file, and its cells."""
        columns = [str(name) for name in self.frame]
        for row in self.frame.itertuples(name=None):
            yield int(row[0]), dict(zip(columns, row[1:], strict=True))


HeaderRank = Callable[[Sequence[str]], int]
"""How well the names in a row fit as the header of the table that is meant; 0 where they do not."""


def read_table(path: str | Path, needed: Sequence[str] = (), *, rank: HeaderRank | None = None) -> Table:
    """Read a table of any usual kind.

    It may be text, an Excel workbook, a Parquet file or a folder of them. Text may be UTF-8 or UTF-16, with or without
    a byte order mark, or a Western code page where only one gives words; separated by comma, semicolon, tab or bar;
    with blank rows and columns, and rows that end early because their last cells are empty. Of a workbook the one
    sheet with the needed columns is read, and none that is hidden; merged cells count for each of their rows.

    Args:
        path: The file; its content tells what it is.
        needed: Columns that must be there, in whatever case; they get the names given here.
        rank: Of a workbook, tells the sheet that is meant, and where its header stands, where no name of a column must
            be there: the one that fits best.

    Raises:
        InputError: The file cannot be read, a column is missing or there twice, a row does not fit the header, or
            several sheets fit alike; the sentence names file and row.
    """
    path = Path(path)
    if is_parquet_folder(path):
        return table_of_cells(path, parquet_cells(path), None, needed, [])
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(unread(path, error)) from error
    return parse_table(path, data, needed, rank=rank)


def is_workbook(path: Path) -> bool:
    """Whether a file is an Excel workbook by its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(WORKBOOK)) == WORKBOOK


def unread(path: Path, error: OSError) -> str:
    """Return why a table cannot be read, in a sentence."""
    url = url_of(path)
    if url is not None and isinstance(error, FileNotFoundError):
        return f"{url}: a table at a URL is not read here; copy it to this machine"
    return f"cannot read {path}: {error.strerror}"


def parse_table(path: Path, data: bytes, needed: Sequence[str] = (), *, rank: HeaderRank | None = None) -> Table:
    """Read a table that is in memory, as `read_table` does a file.

    Args:
        path: What to call it in errors; nothing is read there.
        data: Its bytes.
        needed: Columns that must be there.
        rank: As for `read_table`.

    Raises:
        InputError: As for `read_table`.
    """
    if data.startswith(OLD_WORKBOOK):
        raise InputError(f"{path} is a workbook of Excel 97 or encrypted; save it as .xlsx without a password")
    if data.startswith(WORKBOOK):
        return _from_workbook(path, data, needed, rank)
    if data.startswith(PARQUET):
        return table_of_cells(path, parquet_cells(path, data), None, needed, [])
    text, notes = decode(path, data)
    cells, lengths = parse(path, text, needed)
    return table_of_cells(path, cells, lengths, needed, notes)


def has_columns(path: Path, needed: Sequence[str]) -> bool:
    """Whether a file is a table with these columns; nothing is raised where it is none."""
    try:
        read_table(path, needed)
    except InputError:
        return False
    return True


def table_with(folder: Path, needed: Sequence[str], pattern: str = "*.xlsx") -> Path | None:
    """Return the first file of a folder that is a table with these columns."""
    if not folder.is_dir():
        return None
    files = sorted(file for file in folder.glob(pattern) if file.is_file() and not file.name.startswith(("~$", ".")))
    return next((file for file in files if has_columns(file, needed)), None)


def number(text: str) -> str:
    """Return a number as people write it, `5.0` and `5,0` as `5`; other text as it is."""
    return re.sub(r"^(-?\d+)(\.0+|,00?)$", r"\1", text)


def reason(text: str, plain: str) -> str:
    """Return why a row is left out: of a cell that says no, such as 0 or FALSE, the empty string.

    Args:
        text: The cell; a reason, or yes or no as spreadsheets and people write them.
        plain: The reason where the cell says yes and no more.
    """
    said = text.strip().casefold()
    return "" if _NO.fullmatch(said) else plain if _YES.fullmatch(said) else text


def clean(text: str) -> str:
    """Return a cell's text without blanks and invisible characters around it, composed (NFC).

    What tells spreadsheets that digits are text is none of it: `="007"` and `'007` are 007.
    """
    if text.isascii():
        text = text.strip()
    else:
        text = unicodedata.normalize("NFC", text.translate(_INVISIBLE)).strip().strip(_AROUND).strip()
    marked = _AS_TEXT.fullmatch(text)
    return (marked[1] or marked[2] or "").strip() if marked else text


def _from_workbook(path: Path, data: bytes, needed: Sequence[str], rank: HeaderRank | None) -> Table:
    every = list(sheets_of(path, data))
    shown = [sheet for sheet in every if not sheet.is_hidden]
    hidden = [sheet.title for sheet in every if sheet.is_hidden and (sheet.cells != "").any(axis=None)]
    are = "are" if len(hidden) > 1 else "is"
    unread = f"hidden sheet{'s' * (len(hidden) > 1)} {named(hidden)} {are} not read"
    fitting = _fitting(shown, needed, rank)
    if not fitting:
        filled = [sheet for sheet in shown if len(sheet.cells)]
        if not filled:
            raise InputError(f"{path} has no rows{f'; {unread}' if hidden else ''}")
        try:
            read = table_of_cells(path, filled[0].cells, None, needed, [])  # it lacks what is needed, or nothing is
        except InputError as error:
            raise InputError(f"{error}; {unread}" if hidden else str(error)) from error
        return dataclasses.replace(read, notes=(f"{path.name}: {unread}", *read.notes)) if hidden else read
    if len(fitting) > 1:
        titles = named([sheet.title for sheet, _ in fitting])
        raise InputError(
            f"{path}: sheets {titles} have the columns of one table, and nothing says which of them counts; keep one, "
            "or hide the others"
        )
    sheet, headings = fitting[0]
    return table_of_cells(path, sheet.cells, None, [*needed, *headings], [f"{path.name}: {unread}"] if hidden else [])


def _fitting(sheets: Sequence[Sheet], needed: Sequence[str], rank: HeaderRank | None) -> list[tuple[Sheet, list[str]]]:
    """Return the sheets whose header fits best, each with the names in it that tell where it stands.

    Those without a row below the header count only where no other fits.
    """
    wanted = {name_key(name) for name in needed}
    if not wanted and rank is None:
        return []
    ranked = []
    for sheet in sheets:
        best, best_place, headings = 0, 0, list[str]()
        for place, row in enumerate(sheet.cells.iloc[:HEAD_ROWS].itertuples(index=False, name=None)):
            names = [name for cell in row if (name := " ".join(clean(str(cell)).split()))]
            fits = 1 if rank is None else rank(names)
            if wanted <= {name_key(name) for name in names} and fits > best:
                best, best_place, headings = fits, place, names if rank is not None else []
        if best:
            has_rows = bool((sheet.cells.iloc[best_place + 1 :] != "").any(axis=None))
            ranked.append((has_rows, best, sheet, headings))
    most = max((kind[:2] for kind in ranked), default=None)
    found = [(sheet, headings) for *kind, sheet, headings in ranked if tuple(kind) == most]
    return found if most is None or most[0] else found[:1]  # several empty ones are alike


def header_row(cells: pd.DataFrame, wanted: set[str]) -> int | None:
    """Return the place of the first row that has the wanted names; of the first filled one where none are wanted.

    Args:
        cells: Of the first rows.
        wanted: Keys of names (`medsharp.keys.name_key`).
    """
    for place, row in enumerate(cells.iloc[:HEAD_ROWS].itertuples(index=False, name=None)):
        names = {name_key(str(cell)) for cell in row} - {""}
        if names and wanted <= names and not (len(names) == 1 and next(iter(names)).startswith("sep=")):
            return place
    return None


def table_of_cells(
    path: Path, cells: pd.DataFrame, lengths: np.ndarray | None, needed: Sequence[str], notes: list[str]
) -> Table:
    """Make the table of the cells of a file, the header among them.

    Args:
        path: To name in errors.
        cells: Text; the index is the row in the file.
        lengths: How many cells each row has, where rows may be short [n].
        needed: Columns that must be there.
        notes: On the file.

    Raises:
        InputError: As `read_table`.
    """
    wanted = {name_key(name): name for name in needed}
    place = header_row(cells, set(wanted))
    if place is None:
        first = header_row(cells, set())
        header = [] if first is None else [clean(str(cell)) for cell in cells.iloc[first] if clean(str(cell))]
        if not header:
            raise InputError(f"{path} is empty; it needs a header, and a row each")
        known = {name_key(name) for name in header}
        missing = next(name for key, name in wanted.items() if key not in known)
        raise InputError(f"{path} has no column '{missing}'{nearest(missing, header)}")
    # A line break or a run of blanks inside of a heading is how a cell was laid out, and no part of its name.
    header = [" ".join(clean(str(cell)).split()) for cell in cells.iloc[place]]
    header = [wanted.get(name_key(name), name) for name in header]
    _refuse_repeated(path, header)
    width = max(number for number, name in enumerate(header, start=1) if name)
    body = _cleaned(cells.iloc[place + 1 :])
    filled = np.zeros(len(body), dtype=np.int64)  # the last cell of each row that holds something, counted from 1
    for column in range(body.shape[1]):
        filled[(body.iloc[:, column] != "").to_numpy()] = column + 1
    if (filled > width).any():
        first = int(np.argmax(filled > width))
        raise InputError(f"{path}, row {body.index[first]}: {filled[first]} values for {width} columns")
    if lengths is not None:
        _refuse_short(path, body.index, lengths[place + 1 :], filled, header, needed)
    nameless = [column for column, name in enumerate(header) if not name and (body.iloc[:, column] != "").any()]
    if nameless:
        notes = [*notes, f"{path.name}: column {nameless[0] + 1} has no name and is not read"]
    named = [column for column, name in enumerate(header) if name]
    frame = body.iloc[:, named][filled > 0]
    frame.columns = pd.Index([header[column] for column in named])
    return Table(path, frame, tuple(notes))


def _refuse_repeated(path: Path, header: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for column, name in enumerate(header, start=1):
        key = name_key(name)
        if key and key in seen:
            raise InputError(
                f"{path} has the same column twice in its header: '{header[seen[key] - 1]}' and '{name}' are columns "
                f"{seen[key]} and {column}; rename or remove one"
            )
        seen[key] = column


def _refuse_short(
    path: Path,
    rows: pd.Index,
    lengths: np.ndarray,
    filled: np.ndarray,
    header: Sequence[str],
    needed: Sequence[str],
) -> None:
    """Refuse a row that ends before a needed column; where only later ones lack, a spreadsheet left out empty cells."""
    least = max([header.index(name) + 1 for name in needed], default=0)
    width = sum(1 for name in header if name)
    short = (filled > 0) & (lengths < least)
    if short.any():
        first = int(np.argmax(short))
        raise InputError(f"{path}, row {rows[first]}: {lengths[first]} values for {width} columns")


def _cleaned(cells: pd.DataFrame) -> pd.DataFrame:
    columns = {}
    for column in cells:
        codes, values = pd.factorize(cells[column])  # cells repeat; each text is cleaned once
        texts = np.array([clean(str(value)) for value in values], dtype=object)
        columns[column] = texts[codes] if len(texts) else np.empty(0, dtype=object)
    return pd.DataFrame(columns, index=cells.index, dtype=str)
