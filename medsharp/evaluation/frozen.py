"""The threshold that a table of predictions is decided at: never a default, and always with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medsharp.bundle import SPEC, read_bundle
from medsharp.errors import InputError
from medsharp.evaluation.answers import SCORE, numbers_in
from medsharp.evaluation.findings import EXCLUDED, FAILED, REFUSED, fate_of
from medsharp.evaluation.headings import OF_CLASS, ORIGIN, THRESHOLD
from medsharp.evaluation.predictions import text_of

SIDE, MARGIN = "threshold_side", "threshold_margin"
"""Columns of predictions: on which side of the threshold the probability is, and how far from it in log odds."""


@dataclass(frozen=True)
class FrozenThreshold:
    """What decides each row.

    Attributes:
        values: Of each row of the table, float [N] with the table's index; rows that nothing is decided of have that of
            another row.
        origin: Where it comes from, in words.
    """

    values: pd.Series
    origin: str

    @property
    def distinct(self) -> np.ndarray:
        """The thresholds there are, ascending: one, or several where several models predicted the rows."""
        return np.unique(self.values.to_numpy(dtype=float))

    @property
    def single(self) -> float | None:
        """The threshold, or None where there are several."""
        distinct = self.distinct
        return float(distinct[0]) if len(distinct) == 1 else None

    @property
    def text(self) -> str:
        """The threshold, or how many there are and between which, to four digits."""
        return threshold_text(self.distinct)


def threshold_columns(threshold: float | None, positive: str, origin: str) -> dict[str, str | float]:
    """Return the three columns of a table that is decided at one threshold; without one the first is empty."""
    return {THRESHOLD: "" if threshold is None else threshold, OF_CLASS: positive, ORIGIN: origin}


def threshold_text(distinct: np.ndarray) -> str:
    """Write `0.1026`, or `5 from 0.0812 to 0.1433` where rows have their own."""
    if len(distinct) == 1:
        return f"{distinct[0]:.4f}"
    return f"{len(distinct)} from {distinct[0]:.4f} to {distinct[-1]:.4f}"


def thresholds_of(distinct: np.ndarray) -> dict[str, int | float]:
    """Return what stands under `thresholds` in `evaluation.json`: how many images are decided at, and between which."""
    return {"count": len(distinct), "least": float(distinct.min()), "greatest": float(distinct.max())}


def frozen_threshold(
    table: pd.DataFrame, file: str | Path, positive: str, given: float | None, *, probabilities: bool = True
) -> FrozenThreshold:
    """Return what decides a table's rows: the threshold given, else the table's column, else the bundle's beside it.

    Args:
        table: As `read_predictions` gives it.
        file: Where it was read from.
        positive: The class whose probability is compared with the threshold.
        given: By the user; it comes before all others.
        probabilities: Whether the table has probabilities; a threshold of scores may be any number, and no bundle has
            one.

    Raises:
        InputError: There is no threshold, one is no probability, or it is of another class; the sentence names the row
            and what to do.
    """
    found = stated_threshold(table, file, positive, given, probabilities=probabilities)
    if found is None:
        raise InputError(
            f"{file} has no column {THRESHOLD} with numbers and no bundle lies beside it: give the operating point "
            "that was fixed before these images were seen as --threshold, or what `medsharp predict` writes, which "
            "carries it"
        )
    return found


def stated_threshold(
    table: pd.DataFrame, file: str | Path, positive: str, given: float | None, *, probabilities: bool = True
) -> FrozenThreshold | None:
    """Return what `frozen_threshold` does, or None where there is no threshold: for figures that need none."""
    file = Path(file)
    if given is not None:
        if not _possible(given, probabilities):
            raise InputError(f"--threshold {given:g} {_impossible(probabilities)}")
        return FrozenThreshold(pd.Series(float(given), index=table.index), "given as --threshold")
    if THRESHOLD in table:
        texts = table[THRESHOLD].astype(str).str.strip().where(table[THRESHOLD].notna(), "")
        if (texts != "").any():
            return _of_column(table, texts, file, positive, probabilities)
    folder = file.resolve().parent
    if probabilities and (folder / SPEC).is_file():
        spec = read_bundle(folder, verify=False)
        if spec.positive != positive:
            raise InputError(_other_class(f"{folder.name}, the bundle beside {file.name},", spec.positive, positive))
        threshold = spec.operating_point.threshold
        return FrozenThreshold(
            pd.Series(threshold, index=table.index), f"frozen in {folder.name}, the bundle beside it"
        )
    return None


def _of_column(
    table: pd.DataFrame, texts: pd.Series, file: Path, positive: str, probabilities: bool
) -> FrozenThreshold:
    fates = fate_of(table)
    predicted, used = ~fates.isin((EXCLUDED, FAILED, REFUSED)), _decided(table, fates)
    classes = set(text_of(table[used], OF_CLASS)) - {""}
    if classes and not probabilities:
        raise InputError(
            f"the threshold of {file} is of the probability of {min(classes)}, and says nothing of scores on another "
            "scale: give one on theirs as --threshold"
        )
    if classes - {positive}:
        raise InputError(_other_class(str(file), min(classes - {positive}), positive))
    numbers = numbers_in(texts)
    right = numbers.between(0, 1) if probabilities else pd.Series(np.isfinite(numbers), index=numbers.index)
    wrong = np.flatnonzero((~right & (predicted | (texts != ""))).to_numpy())
    if len(wrong):
        row = int(wrong[0])
        said = f"is '{texts.iloc[row]}', which {_impossible(probabilities)}" if texts.iloc[row] else "is missing"
        more = f" ({len(wrong)} such rows)" if len(wrong) > 1 else ""
        raise InputError(f"{file}, row {int(table.index[row]) + 2}: the {THRESHOLD} {said}{more}")
    origins = sorted(set(text_of(table[used], ORIGIN)) - {""})
    origin = f"column {THRESHOLD} of {file.name}"
    if origins:
        origin += f": {origins[0]}" if len(origins) == 1 else f", of {len(origins)} origins"
    numbers = of_decided(table, numbers)
    # A refused image may have an answer, and no threshold.
    return FrozenThreshold(numbers.fillna(numbers[predicted].iloc[0] if predicted.any() else numbers.max()), origin)


def of_decided(table: pd.DataFrame, thresholds: pd.Series) -> pd.Series:
    """Return thresholds in which rows that nothing is decided of have the one of another row.

    Excluded and failed rows, and refused ones without an answer, shall not count as a threshold of their own.

    Args:
        table: As `read_predictions` gives it.
        thresholds: Of its rows [N].
    """
    used = _decided(table, fate_of(table))
    return thresholds.where(used, thresholds[used].iloc[0]) if used.any() else thresholds


def _decided(table: pd.DataFrame, fates: pd.Series) -> pd.Series:
    """Return of each row whether its answer meets a threshold: it is not excluded, did not fail, and has an answer."""
    answers = [name for name in map(str, table) if name.startswith("p_") or name == SCORE]
    silent = table[answers].isna().all(axis=1) if answers else pd.Series(False, index=table.index)
    return ~fates.isin((EXCLUDED, FAILED)) & ~(fates.eq(REFUSED) & silent)


def _possible(threshold: float, probabilities: bool) -> bool:
    return 0 <= threshold <= 1 if probabilities else bool(np.isfinite(threshold))


def _impossible(probabilities: bool) -> str:
    return "is no probability between 0 and 1" if probabilities else "is no number on the scale of the scores"


def _other_class(who: str, of: str, positive: str) -> str:
    return (
        f"the threshold of {who} is of the probability of {of}, and says nothing of {positive}: give one as --threshold"
    )
