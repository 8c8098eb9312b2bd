"""The pass over scores from the highest down: placements of every image, areas, bins and the points of curves.

What `medsharp.evaluation.statistics.delong` and `discrimination` do of arrays: sums of whole numbers, so that the
results are the same. Equal scores are never divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medsharp.evaluation.statistics.calibration import MIDDLE, logit
from medsharp.evaluation.statistics.calibration_error import ideal_starts
from medsharp.evaluation.streamed.reading import split_label
from medsharp.evaluation.streamed.runs import KeyRange, SortedRuns
from medsharp.evaluation.streamed.ties import Ties
from medsharp.progress import Progress

POINTS = 1000
"""Of each curve, at most about so many."""

HISTOGRAM = 20
"""Bins of the histogram."""


@dataclass
class Ranked:
    """What the pass finds.

    Attributes:
        positives: Images of the positive class.
        negatives: The others.
        wins: Pairs in which the positive is above, counted twice, and once where tied: `2 P Q AUROC`.
        precision: Sum over the positives of the precision at their score: `P` times the AUPRC.
        bins: Of each bin images, positives, sum of scores and of `p (1 - p)` [4, B].
        points: False, true and score along the curve, a point each.
        histogram: Positives and negatives in equally wide bins [2, 20].
        edges: Of those bins.
        middle: Log odds at the places that quantiles need, by place.
        patients: Laid on disk for the last pass: `key` (what is resampled together), `node` (patient), `score`,
            `placement`, `label`, `bin`.
    """

    positives: int
    negatives: int
    edges: np.ndarray
    patients: SortedRuns
    wins: int = 0
    precision: float = 0.0
    bins: np.ndarray = field(default_factory=lambda: np.zeros((4, 0)))
    points: list[tuple[int, int, float]] = field(default_factory=list)
    histogram: np.ndarray = field(default_factory=lambda: np.zeros((2, HISTOGRAM), dtype=np.int64))
    middle: dict[int, float] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """All images."""
        return self.positives + self.negatives

    @property
    def area(self) -> float:
        """AUROC."""
        return self.wins / (2 * self.positives * self.negatives)


PATIENT_FIELDS = [
    ("key", "<u8"),
    ("node", "<u8"),
    ("score", "<f8"),
    ("placement", "<f8"),
    ("label", "u1"),
    ("bin", "u1"),
]


def rank(
    scores: SortedRuns,
    *,
    place: int,
    positives: int,
    edges: np.ndarray,
    sites: Ties,
    ties: Ties,
    patients: SortedRuns,
    progress: Progress | None = None,
) -> Ranked:
    """Go through the scores once, and lay on disk what the pass over patients needs.

    Args:
        scores: See `medsharp.evaluation.streamed.reading.Stored`.
        place: Of the positive class among the classes.
        positives: How many images are of it.
        edges: Of the histogram.
        sites: Patients that are one because some rows name no site.
        ties: These, and what groups and files tie.
        patients: Where to lay the rows.
        progress: Called with images done.
    """
    found = Ranked(positives, len(scores) - positives, edges, patients)
    starts = ideal_starts(found.images)
    found.bins = np.zeros((4, len(starts) + 1))
    sweep = _Sweep(found, place, starts, _places(found.images), sites, ties)
    for part in scores.ranges():
        sweep.add(part)
        if progress is not None:
            progress(part.start + part.rows, found.images, "ranking images")
    found.bins = found.bins[:, : sweep.bin + 1]
    return found


class _Sweep:
    """The state between ranges: how many positives and negatives were above, and the bin."""

    def __init__(
        self, found: Ranked, place: int, starts: np.ndarray, middle: Sequence[int], sites: Ties, ties: Ties
    ) -> None:
        self.found, self.place, self.starts, self.middle = found, place, starts, middle
        self.sites, self.ties = sites, ties
        self.true = self.false = 0
        self.bin = -1

    def add(self, part: KeyRange) -> None:
        """Take a range of scores, below all before."""
        if not part.single:
            (rows,) = part.pieces()
            runs = np.flatnonzero(np.r_[True, rows["key"][1:] != rows["key"][:-1]])  # where each score begins [U]
            labels = split_label(rows["label"])[0] == self.place
            self._take(part.start, rows, labels, runs, np.add.reduceat(labels.astype(np.int64), runs), part.rows)
            return
        # One score of more rows than are held: counted first, then placed.
        at = sum(int((split_label(rows["label"])[0] == self.place).sum()) for rows in part.pieces())
        for number, rows in enumerate(part.pieces()):
            labels = split_label(rows["label"])[0] == self.place
            last = None if number else part.rows
            self._take(part.start, rows, labels, np.zeros(1, dtype=np.int64), np.array([at]), last, part.rows)
        self.true, self.false = self.true + at, self.false + part.rows - at

    def _take(
        self,
        start: int,
        rows: np.ndarray,
        labels: np.ndarray,
        runs: np.ndarray,
        at: np.ndarray,
        counted: int | None,
        single: int | None = None,
    ) -> None:
        """Place rows.

        Args:
            start: Rows above them.
            rows: Sorted [n].
            labels: bool [n].
            runs: Where each score begins [U].
            at: Positives at each score [U].
            counted: Rows of the range, where its scores were not counted before.
            single: Rows of the one score, of which these are a part.
        """
        found = self.found
        sizes = np.diff(np.r_[runs, len(rows)]) if single is None else np.array([single])
        others = sizes - at
        true = self.true + np.cumsum(at) - at  # positives above each score [U]
        false = self.false + np.cumsum(others) - others
        share_below = (found.negatives - false - others + others / 2) / found.negatives
        share_above = (true + at / 2) / found.positives
        inside = np.diff(np.r_[runs, len(rows)])
        placement = np.where(labels, np.repeat(share_below, inside), np.repeat(share_above, inside))
        scores = -rows["key"]
        bins = self._bins(start, sizes, counted is not None)
        if counted is not None:
            # Whole numbers below 2^63 up to 3e9 images; the sum of a range fits, and Python's numbers have no end.
            found.wins += int((at * (2 * (found.negatives - false - others) + others)).sum())
            flagged = true + at + false + others
            found.precision += float(((true + at) / flagged * at).sum())
            self._points(true + at, false + others, scores[runs])
            if single is None:
                self.true, self.false = int(true[-1] + at[-1]), int(false[-1] + others[-1])
        of_row = np.repeat(bins, inside)
        for row, values in enumerate((None, labels, scores, scores * (1 - scores))):
            found.bins[row] += np.bincount(of_row, values, minlength=found.bins.shape[1])
        # The last edge belongs to the last bin.
        level = np.clip(np.searchsorted(found.edges, scores, side="right") - 1, 0, HISTOGRAM - 1)
        found.histogram += [np.bincount(level[mask], minlength=HISTOGRAM) for mask in (labels, ~labels)]
        if single is None or counted is not None:
            end = start + (len(rows) if single is None else single)
            for wanted in self.middle:
                if start <= wanted < end:
                    found.middle[wanted] = float(logit(scores[min(wanted - start, len(rows) - 1)]))
        laid = np.empty(len(rows), dtype=found.patients.kind)
        laid["key"], laid["node"] = self.ties.root_of(rows["node"]), self.sites.root_of(rows["node"])
        laid["score"], laid["placement"], laid["label"], laid["bin"] = scores, placement, rows["label"], of_row
        found.patients.add(laid)

    def _bins(self, start: int, sizes: np.ndarray, first: bool) -> np.ndarray:
        """Return the bin of each score [U]: a bin begins with the score whose images its ideal start is among."""
        ends = start + np.cumsum(sizes)
        begins = np.searchsorted(self.starts, ends, side="left") > np.searchsorted(self.starts, ends - sizes, "left")
        if self.bin < 0:
            begins[0] = True
        if not first:
            begins[:] = False
        bins = self.bin + np.cumsum(begins)
        self.bin = int(bins[-1])
        return bins

    def _points(self, true: np.ndarray, false: np.ndarray, scores: np.ndarray) -> None:
        """Keep evenly spaced points of the curve: the first score at or after each thousandth of the images."""
        flagged = true + false
        before = np.r_[self.true + self.false, flagged[:-1]]
        step = max(1, self.found.images // POINTS)
        kept = (flagged // step > before // step) | (flagged == self.found.images)
        self.found.points.extend(zip(true[kept].tolist(), false[kept].tolist(), scores[kept].tolist(), strict=True))


def _places(images: int) -> list[int]:
    """Return the places, from the highest score down, whose scores the quantiles of `MIDDLE` lie between."""
    places = []
    for share in MIDDLE:
        at = (images - 1) * (1 - share)
        places += [int(np.floor(at)), int(np.ceil(at))]
    return places


def middle_of(found: Ranked) -> tuple[float, float]:
    """Return the quantiles `MIDDLE` of the log odds."""
    values = []
    for share in MIDDLE:
        at = (found.images - 1) * (1 - share)
        low, high = found.middle[int(np.floor(at))], found.middle[int(np.ceil(at))]
        values.append(low + (high - low) * (at - np.floor(at)))
    return values[0], values[1]


def curves_of(found: Ranked) -> dict[str, Any]:
    """Return the points of ROC and precision-recall curves, without bands, and the histogram."""
    true, false, scores = (np.array(part) for part in zip(*found.points, strict=True))
    nothing: dict[str, list[float]] = {"low": [], "high": []}
    return {
        "roc": {
            "false_positive_rate": [0.0, *(false / found.negatives).tolist()],
            "true_positive_rate": [0.0, *(true / found.positives).tolist()],
            "threshold": [None, *scores.tolist()],
            "band": {"false_positive_rate": [], **nothing},
        },
        "precision_recall": {
            "recall": (true / found.positives).tolist(),
            "precision": (true / (true + false)).tolist(),
            "band": {"recall": [], **nothing},
        },
        "histogram": {
            "edges": found.edges.tolist(),
            "positive": found.histogram[0].tolist(),
            "negative": found.histogram[1].tolist(),
        },
    }
