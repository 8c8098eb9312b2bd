"""Tables as text: bytes of whatever encoding and separator to cells."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.errors import InputError
from medsharp.keys import name_key

_SEPARATORS = ",;\t|"
HEAD_BYTES = 65_536
"""Of a text, by which its separator is told."""

HEAD_ROWS = 20
"""The header is looked for among so many rows: exports begin with a title now and then."""

_CODE_PAGES = {"cp1252": "Windows-1252", "mac_roman": "Mac OS Roman", "cp850": "DOS code page 850"}
"""Of Western Europe, as 'CSV', 'CSV (Macintosh)' and 'CSV (MS-DOS)' of a spreadsheet are; the likeliest first."""

_FOREIGN = re.compile(r"[^\s,;|\"'/\\()<>=+*:_-]*[^\x00-\x7f][^\s,;|\"'/\\()<>=+*:_-]*")
_WESTERN = "ŒœŠšŽžŸ\u2013\u2014\u2018\u2019\u201a\u201c\u201d\u201e\u2026\u20ac\u2122"
"""Of what is beyond Latin-1: letters, dashes, quotation marks, the dots, euro and trade mark signs."""


def decode(path: Path, data: bytes) -> tuple[str, list[str]]:
    """Return the text of a file, and a sentence where its encoding had to be guessed.

    Args:
        path: To name in errors.
        data: UTF-8 or UTF-16, with a byte order mark or without, or a Western code page.

    Raises:
        InputError: It is no text, or in no code page that only gives words.
    """
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            try:
                return _checked(path, data.decode(encoding)), []
            except UnicodeDecodeError as error:
                raise InputError(f"{path} is not text in {encoding.upper()}, as its first bytes say") from error
    if b"\0" in data[:HEAD_BYTES]:
        # UTF-16 without its mark: every other byte of plain letters is zero.
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
        try:
            return _checked(path, data.decode(encoding)), []
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not a table: it holds zero bytes") from error
    try:
        return data.decode("utf-8"), []
    except UnicodeDecodeError:
        return _decode_code_page(path, data)


def _checked(path: Path, text: str) -> str:
    if "\0" in text:
        raise InputError(f"{path} is not a table: it holds zero bytes")
    return text


def _decode_code_page(path: Path, data: bytes) -> tuple[str, list[str]]:
    """Decode bytes that are not UTF-8 by the first Western code page in which they are words."""
    for encoding, title in _CODE_PAGES.items():
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        foreign = _foreign_words(text)
        if foreign is not None:
            # Letters only: the words may be names of patients, and notes are printed and stored in manifests.
            letters = dict.fromkeys(re.findall(r"[^\x00-\x7f]", "".join(foreign)))
            given = ", ".join(f"'{letter}'" for letter in list(letters)[:5])
            return text, [
                f"{path.name} is not in UTF-8; it is read as {title}, which gives {given}. Save it as 'CSV UTF-8' if "
                "that is wrong"
            ]
    raise InputError(f"{path} is neither in UTF-8 nor in a code page of Western Europe; save it as 'CSV UTF-8'")


def _foreign_words(text: str) -> list[str] | None:
    """Return the words with letters beyond ASCII; None where they are no words of a Western European language.

    Bytes of another code page give signs inside of words, capitals after small letters, or long runs of accents.
    """
    words: list[str] = []
    for word in dict.fromkeys(_FOREIGN.findall(text)):
        if re.search(r"[^\x00-\x7f\W\d_]{3}|[a-z][À-ÖØ-ÞŠŽŸŒ]", word):
            return None
        for found in re.finditer(r"[^\x00-\x7f]", word):
            sign, before, after = found.group(), word[: found.start()][-1:], word[found.end() :][:1]
            if not (ord(sign) < 0x100 or sign in _WESTERN):
                return None
            if sign.isalpha() and sign not in "ªºµ":
                continue
            catalan = sign == "·" and (before + after).lower() == "ll"
            inside = before.isalpha() and after.isalpha() and sign != "\u2019" and not catalan
            if inside or (after.isalpha() and sign in "£¥§©®¹²³"):
                return None
        words.append(word)
    return words


def parse(path: Path, text: str, needed: Sequence[str]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the cells of every row, blank ones too, index 1, 2, ..., and how many each row has.

    Args:
        path: To name in errors.
        text: With rows in any line ends; quoted cells may hold separators and line ends.
        needed: Columns by which the separator is told.

    Raises:
        InputError: A quotation mark is not closed, or nothing is there.
    """
    separator = separator_of(text, needed)
    # pandas reads a quotation mark that is never closed, and rows of any length, without a word; csv tells.
    lengths = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            lengths.append(len(row))
    except csv.Error as error:
        raise InputError(
            f"{path}, row {len(lengths) + 1} is not a row of a CSV table ({error}); check its quotation marks"
        ) from error
    if not any(lengths):
        raise InputError(f"{path} is empty; it needs a header, and a row each")
    cells = pd.read_csv(
        io.StringIO(text, newline=""),
        sep=separator,
        header=None,
        names=range(max(lengths)),
        index_col=False,
        dtype=str,
        na_filter=False,
        skip_blank_lines=False,
    )
    if len(cells) != len(lengths):
        raise InputError(f"{path} is not a CSV table: its rows cannot be told apart; check the quotation marks")
    cells.index = pd.RangeIndex(1, len(cells) + 1)
    return cells, np.array(lengths)


def separator_of(text: str, needed: Sequence[str]) -> str:
    """Return what separates the cells of a text that begins so."""
    head = text[:HEAD_BYTES]
    told = re.match(r"\ufeff?\"?sep=(.)", head)  # a line that Excel writes and understands
    if told and told[1] in _SEPARATORS:
        return told[1]
    best, most = ",", (False, 0)
    wanted = {name_key(name) for name in needed}
    for separator in _SEPARATORS:
        for row in _head(head, separator):
            rank = (bool(wanted) and wanted <= {name_key(cell) for cell in row}, len(row))
            if rank > most:
                best, most = separator, rank
            if rank[0] or (not wanted and any(row)):
                break
    return best


def _head(text: str, separator: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for _ in range(HEAD_ROWS):
            yield next(reader)
    except (csv.Error, StopIteration):
        return
