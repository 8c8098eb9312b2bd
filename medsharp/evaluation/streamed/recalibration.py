"""Logistic recalibration of scores on disk: Newton's method, each step a pass over them."""

from __future__ import annotations

import numpy as np

from medsharp.evaluation.statistics.calibration import Recalibration, logit, newton, recalibrate, slopes_of
from medsharp.evaluation.streamed.reading import split_label
from medsharp.evaluation.streamed.runs import SortedRuns
from medsharp.progress import Progress


def recalibrate_stored(
    scores: SortedRuns, place: int, positives: int, log_odds: tuple[int, float, float], progress: Progress | None = None
) -> Recalibration:
    """Fit both recalibration models of `medsharp.evaluation.statistics.calibration.recalibrate` to all images.

    It starts from the fit of the first images, so that two or three passes are enough. The result is the maximum of the
    likelihood of all, as in memory: the last step is shorter than 1e-9.

    Args:
        scores: See `medsharp.evaluation.streamed.reading.Stored`; probabilities.
        place: Of the positive class among the classes.
        positives: Images of it.
        log_odds: Their number, sum and sum of squares.
        progress: Called with images done in all passes.
    """
    count, total, squares = log_odds
    centre = total / count
    scale = max(0.0, squares / count - centre**2) ** 0.5 or 1.0
    some = scores.sample()
    labels = split_label(some["label"])[0] == place
    near = recalibrate(labels, -some["key"], np.ones((1, len(some))))
    share = np.clip(positives / count, 1e-3, 1 - 1e-3)
    passes = _Passes(scores, place, centre, scale, progress)
    # Where the first images lead astray, as those of one class would, it begins where `recalibrate` does.
    large = passes.fit(near.in_the_large, np.zeros(1))
    close = np.concatenate([near.constant + near.slope * centre, near.slope * scale])
    full = passes.fit(close, np.array([np.log(share / (1 - share)), 0.0]))
    slope = full[:, 1] / scale
    return Recalibration(large[:, 0], slope, full[:, 0] - slope * centre)


class _Passes:
    def __init__(self, scores: SortedRuns, place: int, centre: float, scale: float, progress: Progress | None) -> None:
        self._scores, self._place, self._centre, self._scale = scores, place, centre, scale
        self._progress, self._done = progress, 0

    def fit(self, *starts: np.ndarray) -> np.ndarray:
        """Return the coefficients [1, K] from the first start [K] that leads to them; NaN where none does."""
        fitted = np.full((1, len(starts[0])), np.nan)
        for start in starts:
            if np.isfinite(start).all() and not np.isfinite(fitted).all():
                fitted = newton(lambda active, beta: self.slopes(beta), start[None])
        return fitted

    def slopes(self, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return gradient and curvature over all images: of one coefficient beside the log odds, or of two."""
        size = beta.shape[1]
        gradient, curvature = np.zeros((1, size)), np.zeros((1, size, size))
        for rows in self._scores.pieces():
            y = (split_label(rows["label"])[0] == self._place).astype(np.float64)
            odds, ones = logit(-rows["key"]), np.ones((1, len(rows)))
            standard = np.stack([ones[0], (odds - self._centre) / self._scale])
            offset = odds if size == 1 else np.zeros_like(odds)
            part = slopes_of(ones if size == 1 else standard, y, offset, ones, beta)
            gradient, curvature = gradient + part[0], curvature + part[1]
        self._done += len(self._scores)
        if self._progress is not None:
            self._progress(self._done, self._done, "recalibrating")
        return gradient, curvature
