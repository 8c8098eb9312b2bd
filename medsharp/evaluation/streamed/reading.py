"""The first pass: rows are checked as those of a table in memory, counted, and laid on disk as numbers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from medsharp.errors import InputError
from medsharp.evaluation.answers import (
    SCORE,
    WITH_COMMA,
    WITH_POINT,
    classes_of,
    has_every_class,
    has_scores_only,
    is_answer,
    labels_of,
)
from medsharp.evaluation.answers import with_answers as answered
from medsharp.evaluation.counts import confusion_of, flags_in
from medsharp.evaluation.findings import EXCLUDED, FAILED, REFUSED, fate_of
from medsharp.evaluation.frozen import FrozenThreshold, frozen_threshold, stated_threshold
from medsharp.evaluation.headings import GROUPS, KNOWN, THRESHOLD
from medsharp.evaluation.notes import is_extreme
from medsharp.evaluation.predictions import (
    Predictions,
    assert_answered,
    check_predictions,
    check_scores,
    with_exclusions,
)
from medsharp.evaluation.statistics.calibration import contradicted, logit
from medsharp.evaluation.statistics.decision import CUTS
from medsharp.evaluation.streamed.hashing import hashes_of, hashes_of_images, joined
from medsharp.evaluation.streamed.runs import SortedRuns
from medsharp.keys import group_key, keyed_in, keys_in, patient_key, site_key, text_of
from medsharp.progress import Progress
from medsharp.tables import TablePieces, open_pieces
from medsharp.tables.columns import known_names, with_known_names

PIECE = 2**17
"""Rows of a table that are text in memory at once."""

MOST_NAMES = 10_000
"""Sites, devices and so on that are counted by name; of a column with more none are."""

_MOST_CLASSES = 200
_LABEL, _HAS_PATIENT = np.uint8(127), np.uint8(128)


@dataclass
class Tallies:
    """What is counted while rows go by; all of it adds up over pieces.

    Attributes:
        fates: Rows by what became of them.
        excluded: Rows by why the table excludes them.
        labels: Answered images by label.
        nameless: Answered images without a patient.
        names: Answered images by name, of columns that group.
        crowded: Columns with more names than are counted.
        flags: Answered images by flag.
        confusion: Answered images by label and most probable class.
        levels: Positive and negative images between the cuts of the decision curve, from the highest down [2, T + 1].
        extreme: Probabilities of 0 and 1.
        contradicted: Those that were wrong.
        least: The least score.
        greatest: The greatest.
        log_odds: Their number, sum, and sum of squares about the first one.
    """

    fates: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    nameless: int = 0
    names: dict[str, Counter[str]] = field(default_factory=dict)
    crowded: set[str] = field(default_factory=set)
    flags: Counter[str] = field(default_factory=Counter)
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    levels: np.ndarray = field(default_factory=lambda: np.zeros((2, len(CUTS) + 1), dtype=np.int64))
    extreme: int = 0
    contradicted: int = 0
    least: float = np.inf
    greatest: float = -np.inf
    log_odds: tuple[int, float, float] = (0, 0.0, 0.0)

    def add(self, rows: pd.DataFrame, classes: Sequence[str], positive: str, scores: np.ndarray, ranked: bool) -> None:
        """Count answered rows.

        Args:
            rows: As `check_predictions` gives them.
            classes: In the order of the columns.
            positive: The class of interest.
            scores: Of the positive class [n].
            ranked: The scores are no probabilities.
        """
        if not len(rows):
            return
        self.labels.update({str(name): int(count) for name, count in rows["label"].value_counts().items()})
        self.least, self.greatest = min(self.least, float(scores.min())), max(self.greatest, float(scores.max()))
        self.flags.update(flags_in(text_of(rows, "flags")))
        if ranked:
            return
        labels = (rows["label"] == positive).to_numpy(dtype=bool)
        if len(classes) > 2:
            for label, row in confusion_of(rows, classes).items():
                self.confusion.update({(label, other): count for other, count in row.items()})
        level = len(CUTS) - np.searchsorted(CUTS, scores, side="right")
        self.levels += [np.bincount(level[mask], minlength=len(CUTS) + 1) for mask in (labels, ~labels)]
        self.extreme += int(is_extreme(scores).sum())
        self.contradicted += contradicted(labels, scores)
        odds, (count, total, squares) = logit(scores), self.log_odds
        self.log_odds = (count + len(odds), total + float(odds.sum()), squares + float((odds**2).sum()))

    def add_names(self, rows: pd.DataFrame) -> None:
        """Count answered rows by the columns that group, as they are written."""
        for column in GROUPS:
            if column in rows and column not in self.crowded:
                counts = self.names.setdefault(column, Counter())
                counts.update({str(name): int(n) for name, n in text_of(rows, column).value_counts().items()})
                if len(counts) > MOST_NAMES:
                    self.crowded.add(column)
                    del self.names[column]


@dataclass(frozen=True)
class Stored:
    """A checked table on disk.

    Attributes:
        name: Of the table in errors.
        classes: In the order of the columns; of a table of scores its labels.
        ranked: It has scores that are no probabilities.
        threshold: That decides, with where it comes from.
        tallies: What was counted.
        notes: On what was not read.
        scores: Answered images: `key` (the score, turned, so that the highest comes first), `node` (patient, or what
            stands for one), `label` (its place among the classes, and whether there is a patient).
        images: Of rows that were answered or refused: the image's number and the row.
        groups: What is tied beside patients: `key` of the group or file, `node`.
        places: Of patients with sites: `key` of the identifier, `node` of identifier and site.
    """

    name: str
    classes: tuple[str, ...]
    ranked: bool
    threshold: FrozenThreshold
    tallies: Tallies
    notes: tuple[str, ...]
    scores: SortedRuns
    images: SortedRuns
    groups: SortedRuns
    places: SortedRuns

    @property
    def runs(self) -> tuple[SortedRuns, ...]:
        """All that is on disk."""
        return self.scores, self.images, self.groups, self.places


def split_label(packed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return places of labels int [n], and whether a patient is known bool [n], of the field `label` of scores."""
    return (packed & _LABEL).astype(np.int64), packed >= _HAS_PATIENT


def open_predictions(path: Path, score: str | None, rows: int) -> TablePieces:
    """Open a table of predictions; of Parquet, no column is read that is not needed.

    Columns have the names that `medsharp.evaluation.read_predictions` gives them.
    """
    known = [name for name in KNOWN if name != score]

    def wanted(column: str) -> bool:
        return bool(known_names([column], known)) or column == score or is_answer(column, score)

    table = open_pieces(
        path, ("image", "label"), rows=rows, wanted=wanted, numbers=lambda column: is_answer(column, score)
    )

    def pieces() -> Iterator[pd.DataFrame]:
        for frame in table.read():
            frame.index = frame.index - 2
            named = with_known_names(frame, known, path.name)
            named.index = named.index + 2
            yield named

    named = with_known_names(pd.DataFrame(columns=list(table.columns), dtype=str), known, path.name)
    return dataclasses.replace(table, columns=tuple(map(str, named.columns)), read=pieces)


def store(
    table: TablePieces,
    folder: Path,
    *,
    positive: str,
    score: str | None,
    threshold: float | None,
    rows: int,
    progress: Progress | None = None,
) -> Stored:
    """Read a table once (twice where its labels must be known first), check every row and lay the numbers on disk.

    Args:
        table: Opened by `open_predictions`.
        folder: On whose disk.
        positive: The class of interest.
        score: The column of scores that are no probabilities.
        threshold: Given by the user.
        rows: That are sorted at once.
        progress: Called with rows done.

    Raises:
        InputError: As `medsharp.evaluation.read_predictions` and `frozen_threshold`, or rows have several thresholds.
    """
    runs = [SortedRuns(folder, fields, rows) for fields in _FIELDS]
    try:
        return _stored(table, runs, positive, score, threshold, progress)
    except BaseException:
        for run in runs:
            run.close()
        raise


_FIELDS: tuple[list[tuple[str, str]], ...] = (
    [("key", "<f8"), ("node", "<u8"), ("label", "u1")],
    [("key", "<u8"), ("row", "<i8")],
    [("key", "<u8"), ("node", "<u8")],
    [("key", "<u8"), ("node", "<u8")],
)


class _Decimals:
    """Whether the numbers of a column have a point or a comma: a table has one of them, whichever piece they stand in.

    Args:
        file: Name of the table.
        score: The column of scores that are no probabilities.
    """

    def __init__(self, file: str, score: str | None) -> None:
        self._file, self._score = file, score
        self._commas: dict[str, tuple[int, str]] = {}
        self._others: set[str] = set()

    def add(self, piece: pd.DataFrame) -> None:
        """Look at a piece, whose index counts the rows of the table from 0.

        Raises:
            InputError: A column has numbers with a comma, and others that are not whole.
        """
        for name in filter(lambda column: is_answer(column, self._score), map(str, piece)):
            column = piece[name]
            if pd.api.types.is_float_dtype(column.dtype):
                continue
            if name not in self._commas:
                given = column[column.str.contains(",", regex=False).to_numpy(dtype=bool)]
                given = given[given.str.fullmatch(WITH_COMMA).to_numpy(dtype=bool)]
                if len(given):
                    self._commas[name] = int(given.index[0]), str(given.iloc[0])
            if name not in self._others and column.str.fullmatch(WITH_POINT).any():
                self._others.add(name)
            if name in self._commas and name in self._others:
                row, text = self._commas[name]
                raise InputError(f"{self._file}, row {row + 2}: {name} is '{text}', not a number")


def _stored(
    table: TablePieces,
    runs: Sequence[SortedRuns],
    positive: str,
    score: str | None,
    threshold: float | None,
    progress: Progress | None,
) -> Stored:
    name, tallies, thresholds = table.path.name, Tallies(), _Thresholds(table.path, positive, threshold)
    labels = None if has_every_class(table.columns, score) else _labels(table, progress)
    classes: list[str] | None = None
    ranked, done, decimals = False, 0, _Decimals(name, score)
    for frame in table.read():
        frame.index = frame.index - 2
        decimals.add(frame)
        piece = answered(with_exclusions(frame), name, positive, score, scores=True, labels=labels)
        if classes is None:
            ranked, classes = has_scores_only(piece), _classes(piece, positive, labels, table.path)
        if ranked:
            checked = check_scores(piece, name, whole=False)
        else:
            checked = check_predictions(piece, classes, name, whole=False)
        fates = fate_of(piece)
        tallies.fates.update({str(fate): int(count) for fate, count in fates.value_counts().items()})
        tallies.excluded.update(checked.excluded)
        tallies.add_names(piece[~fates.isin((EXCLUDED, FAILED, REFUSED))])
        thresholds.add(piece, fates, ranked=ranked)
        scores = checked.rows[SCORE if ranked else f"p_{positive}"].to_numpy(dtype=float)
        tallies.add(checked.rows, classes, positive, scores, ranked)
        tallies.nameless += _lay(checked, scores, piece.index[~fates.isin((EXCLUDED, FAILED))], fates, classes, runs)
        done += len(frame)
        if progress is not None:
            progress(done, table.rows or done, "reading rows")
    if classes is None:
        raise InputError(f"{name} has no rows")
    counts = tallies.fates
    tried = counts[FAILED], counts[REFUSED], dict(tallies.excluded)
    assert_answered(sum(tallies.labels.values()), *tried, name)
    return Stored(name, tuple(classes), ranked, thresholds.found(), tallies, table.notes, *runs)


def _classes(piece: pd.DataFrame, positive: str, labels: Sequence[str] | None, path: Path) -> list[str]:
    try:
        classes = classes_of(piece, positive, labels)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if len(classes) > _MOST_CLASSES // 2:
        raise InputError(
            f"{path} has {len(classes)} classes; a table that is read in passes has {_MOST_CLASSES // 2} at most"
        )
    return classes


def _labels(table: TablePieces, progress: Progress | None) -> list[str]:
    """Return all labels of rows that are evaluated, which a table of one column of answers does not name."""
    found: set[str] = set()
    done = 0
    for frame in table.read():
        found.update(labels_of(with_exclusions(frame)))
        if len(found) > _MOST_CLASSES:
            raise InputError(f"{table.path} has more than {_MOST_CLASSES} labels; the column label names the classes")
        done += len(frame)
        if progress is not None:
            progress(done, table.rows or done, "reading labels")
    return sorted(found)


class _Thresholds:
    """The threshold of the rows of all pieces, which must be one."""

    def __init__(self, path: Path, positive: str, given: float | None) -> None:
        self._path, self._positive, self._given = path, positive, given
        self._of_column: FrozenThreshold | None = None
        self._without: int | None = None  # the first answered row of a piece in which no row has a threshold
        self._ranked = False

    def add(self, piece: pd.DataFrame, fates: pd.Series, *, ranked: bool) -> None:
        """Look at the rows of a piece."""
        self._ranked = ranked
        if self._given is not None:
            return
        predicted = piece.index[(~fates.isin((EXCLUDED, FAILED, REFUSED))).to_numpy()]
        if THRESHOLD in piece and (text_of(piece, THRESHOLD) != "").any():
            found = stated_threshold(piece, self._path, self._positive, None, probabilities=not ranked)
            if found is not None and len(predicted):
                self._of_column = self._agreed(found)
        elif len(predicted) and self._without is None:
            self._without = int(predicted[0])

    def _agreed(self, found: FrozenThreshold) -> FrozenThreshold:
        before = found if self._of_column is None else self._of_column
        distinct = np.union1d(found.distinct, before.distinct)
        if len(distinct) > 1:
            raise InputError(
                f"{self._path} has rows of several thresholds, {distinct[0]:.6g} and {distinct[-1]:.6g} among them; "
                "--stream decides at one: give it as --threshold, or score without --stream"
            )
        return FrozenThreshold(pd.Series(distinct), before.origin)

    def found(self) -> FrozenThreshold:
        """Return the threshold: that of the rows, else the one given, or that of the bundle beside the table."""
        if self._of_column is None:
            nothing = pd.DataFrame({"image": [""]})
            return frozen_threshold(
                nothing, self._path, self._positive, self._given, probabilities=not self._ranked
            )  # fmt: skip
        if self._without is not None:
            raise InputError(f"{self._path}, row {self._without + 2}: the {THRESHOLD} is missing")
        return self._of_column


def _lay(
    checked: Predictions,
    scores: np.ndarray,
    places: pd.Index,
    fates: pd.Series,
    classes: Sequence[str],
    runs: Sequence[SortedRuns],
) -> int:
    """Lay the rows of a piece on disk; return how many have no patient."""
    sorted_scores, images, groups, sites = runs
    kept = fates[~fates.isin((EXCLUDED, FAILED))]
    for part, mask in ((checked.rows, kept != REFUSED), (checked.refused, kept == REFUSED)):
        if len(part):
            images.add(_rows(images, key=hashes_of_images(part["image"]), row=places[mask.to_numpy()].to_numpy() + 2))
    rows = checked.rows
    if not len(rows):
        return 0
    patients = _of(rows, "patient", patient_key)
    known = patients > 0
    node = patients.copy()
    if "site" in rows:
        where = _of(rows, "site", site_key)
        node = np.where(known & (where > 0) & ~keyed_in(rows), joined(patients, where), patients)
        sites.add(_pairs(sites, patients[known], node[known]))
    ties = [_of(rows, column, key) for column, key in (("group", group_key), ("sha256", str)) if column in rows]
    for tie in ties:
        node = np.where(node == 0, tie, node)
    if not node.all():
        node = np.where(node == 0, hashes_of_images(rows["image"]), node)
    for tie in ties:
        groups.add(_pairs(groups, tie[tie > 0], node[tie > 0]))
    label = pd.Categorical(rows["label"], categories=list(classes)).codes.astype(np.uint8)
    sorted_scores.add(
        _rows(sorted_scores, key=-scores, node=node, label=label | np.where(known, _HAS_PATIENT, np.uint8(0)))
    )
    return int((~known).sum())


def _of(rows: pd.DataFrame, column: str, key: Any) -> np.ndarray:
    return hashes_of(keys_in(rows, column, key), column)


def _pairs(runs: SortedRuns, key: np.ndarray, node: np.ndarray) -> np.ndarray:
    """Return what is tied to what, each pair of a piece once."""
    return np.unique(_rows(runs, key=key, node=node))


def _rows(runs: SortedRuns, **fields: np.ndarray) -> np.ndarray:
    rows = np.empty(len(fields["key"]), dtype=runs.kind)
    for name, values in fields.items():
        rows[name] = values
    return rows
