"""The pass over patients: what each adds to every sum, drawn a Poisson number of times in each resample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from medsharp.evaluation.statistics.calibration import Recalibration, log_losses, logit, one_step_columns
from medsharp.evaluation.statistics.figures import About
from medsharp.evaluation.streamed.poisson import weights
from medsharp.evaluation.streamed.ranking import Ranked
from medsharp.evaluation.streamed.reading import split_label
from medsharp.progress import Progress

_WEIGHTS = 2**19
"""Draws that are in memory as doubles at once."""


@dataclass(frozen=True)
class Columns:
    """What is summed of each patient, and where it stands.

    Attributes:
        classes: Images of each class.
        called: Positives, and others, at or above the threshold.
        error: Squared error of the probability.
        loss: Log loss.
        expected: Probabilities.
        steps: The seven sums of `one_step`; none where the recalibration does not exist.
        bins: Images, positives and probabilities of each bin.
        count: How many columns there are.
    """

    classes: slice
    called: slice
    error: int
    loss: int
    expected: int
    steps: slice
    bins: tuple[slice, slice, slice]
    count: int

    @staticmethod
    def of(classes: int, bins: int, *, ranked: bool, fitted: bool) -> Columns:
        """Lay out the columns; of scores that are no probabilities only the first two kinds."""
        at = classes + 2
        if ranked:
            none = slice(at, at)
            return Columns(slice(0, classes), slice(classes, at), at, at, at, none, (none, none, none), at)
        steps = slice(at + 3, at + 3 + 7 * fitted)
        first = steps.stop
        parts = [slice(first + bins * number, first + bins * (number + 1)) for number in range(3)]
        return Columns(
            slice(0, classes), slice(classes, at), at, at + 1, at + 2, steps, (parts[0], parts[1], parts[2]),
            first + 3 * bins,
        )  # fmt: skip


@dataclass
class Patients:
    """What the pass finds.

    Attributes:
        columns: Where sums stand.
        sums: Over all images [K].
        resampled: Over each resample [K, R].
        clusters: What is resampled together.
        by_class: Clusters with an image of each class [C].
        several: Clusters with images of several classes.
        known: Patients that have a name.
        about: Clusters with an image of each kind.
        in_bins: Clusters with an image in each bin [B].
        delong: Sums of squares of `V10 - A` and of `V01 - A`.
        obuchowski: Sums of `D D`, `H H` and `D H` over clusters.
    """

    columns: Columns
    sums: np.ndarray
    resampled: np.ndarray
    by_class: np.ndarray
    in_bins: np.ndarray
    clusters: int = 0
    several: int = 0
    known: int = 0
    about: dict[About, int] = field(default_factory=lambda: dict.fromkeys(_ABOUT, 0))
    delong: np.ndarray = field(default_factory=lambda: np.zeros(2))
    obuchowski: np.ndarray = field(default_factory=lambda: np.zeros(3))


_ABOUT: tuple[About, ...] = ("images", "positives", "negatives", "called", "not called")


@dataclass(frozen=True)
class _Sums:
    """Of some clusters.

    Attributes:
        keys: Their numbers [c].
        columns: Sums by column [c, K].
        placed: Sums of `V10 - A` and of `V01 - A` [c, 2].
        known: Numbers of their patients that have a name.
    """

    keys: np.ndarray
    columns: np.ndarray
    placed: np.ndarray
    known: np.ndarray


def resample_patients(
    ranked: Ranked,
    *,
    classes: int,
    place: int,
    threshold: float,
    fit: Recalibration | None,
    resamples: int,
    seed: int,
    progress: Progress | None = None,
) -> Patients:
    """Go through the rows by patient, once, and draw each patient for every resample.

    Memory: an eighth of a run of rows, the sums of their patients, and the sums of each resample.

    Args:
        ranked: What the pass over the scores found and laid on disk.
        classes: How many.
        place: Of the positive class among them.
        threshold: From which images are called.
        fit: Of all images, from which resamples go one step; None for scores that are no probabilities.
        resamples: How many.
        seed: Of the draws.
        progress: Called with images done.
    """
    bins = ranked.bins.shape[1]
    # Without a slope, the sums of its steps are NaN, and nothing else is.
    fitted = fit is not None and bool(np.isfinite(fit.in_the_large).all())
    columns = Columns.of(classes, bins, ranked=fit is None, fitted=fitted)
    found = Patients(
        columns, np.zeros(columns.count), np.zeros((columns.count, resamples)), np.zeros(classes, dtype=np.int64),
        np.zeros(bins, dtype=np.int64),
    )  # fmt: skip
    adding = _Adding(found, ranked, place, threshold, fit if fitted else None, resamples, seed)
    for part in ranked.patients.ranges(max(1, ranked.patients.held // 8)):
        # A patient of more rows than are held at once is summed piece by piece.
        pieces = [adding.summed(rows) for rows in part.pieces()]
        adding.take(pieces[0] if len(pieces) == 1 else _of_one(pieces))
        if progress is not None:
            progress(part.start + part.rows, ranked.images, "resampling patients")
    return found


def _of_one(pieces: Sequence[_Sums]) -> _Sums:
    """Return the sums of a single cluster from those of its pieces."""
    columns, placed = (sum(part) for part in zip(*((p.columns, p.placed) for p in pieces), strict=True))
    nodes = np.unique(np.concatenate([piece.known for piece in pieces]))
    return _Sums(pieces[0].keys, np.asarray(columns), np.asarray(placed), nodes)


class _Adding:
    """Adds rows to what the pass finds."""

    def __init__(
        self,
        found: Patients,
        ranked: Ranked,
        place: int,
        threshold: float,
        fit: Recalibration | None,
        resamples: int,
        seed: int,
    ) -> None:
        self.found, self.area, self.place, self.threshold = found, ranked.area, place, threshold
        self.fit, self.resamples, self.seed = fit, resamples, seed

    def summed(self, rows: np.ndarray) -> _Sums:
        """Return the sums of rows sorted by `key`, each cluster's by itself."""
        found, columns = self.found, self.found.columns
        starts = np.flatnonzero(np.r_[True, rows["key"][1:] != rows["key"][:-1]])  # of each cluster [c]
        classes, known = split_label(rows["label"])
        labels, scores = classes == self.place, rows["score"]
        called = scores >= self.threshold
        sums = np.zeros((len(starts), columns.count))

        def add(column: int, values: np.ndarray) -> None:
            sums[:, column] = np.add.reduceat(values.astype(np.float64, copy=False), starts)

        for number in range(columns.classes.stop):
            add(number, classes == number)
        add(columns.called.start, called & labels)
        add(columns.called.start + 1, called & ~labels)
        if columns.error < columns.count:  # probabilities
            add(columns.error, (scores - labels) ** 2)
            add(columns.loss, log_losses(labels, scores))
            add(columns.expected, scores)
            if self.fit is not None:
                steps = one_step_columns(labels.astype(np.float64), logit(scores), self.fit)  # [n, 7]
                sums[:, columns.steps] = np.add.reduceat(steps, starts, axis=0)
            for number in range(found.in_bins.size):
                inside = rows["bin"] == number
                for part, values in zip(columns.bins, (inside, inside & labels, scores * inside), strict=True):
                    add(part.start + number, values)
        away = rows["placement"] - self.area
        for side, mask in enumerate((labels, ~labels)):
            found.delong[side] += float((away[mask] ** 2).sum())
        placed = np.stack([np.add.reduceat(away * mask, starts) for mask in (labels, ~labels)], axis=1)
        return _Sums(rows["key"][starts], sums, placed, np.unique(rows["node"][known]))

    def take(self, sums: _Sums) -> None:
        """Count clusters, and draw them for every resample."""
        found, columns = self.found, sums.columns
        layout = found.columns
        images = columns[:, layout.classes]  # of each class [c, C]
        positives = images[:, self.place]
        negatives = images.sum(axis=1) - positives
        found_called = columns[:, layout.called]
        called = found_called.sum(axis=1)
        found.clusters += len(columns)
        found.by_class += (images > 0).sum(axis=0)
        found.several += int(((images > 0).sum(axis=1) > 1).sum())
        found.known += len(sums.known)
        masks = (positives + negatives, positives, negatives, called, positives + negatives - called)
        for about, mask in zip(_ABOUT, masks, strict=True):
            found.about[about] += int((mask > 0).sum())
        if layout.error < layout.count:
            found.in_bins += (columns[:, layout.bins[0]] > 0).sum(axis=0)
        over, under = sums.placed.T
        found.obuchowski += [float(over @ over), float(under @ under), float(over @ under)]
        found.sums += columns.sum(axis=0)
        size = max(1, _WEIGHTS // self.resamples)
        for first in range(0, len(columns), size):
            part = slice(first, first + size)
            drawn = weights(sums.keys[part], self.resamples, self.seed).astype(np.float64)  # [c, R]
            found.resampled += columns[part].T @ drawn
