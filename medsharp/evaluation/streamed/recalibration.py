"""Logistic recalibration of scores on disk: Newton's method, each step a pass over them."""

from __future__ import annotations

import numpy as np

from medsharp.evaluation.statistics.calibration import Recalibration, logit, newton, recalibrate, slopes_of
from medsharp.evaluation.streamed.reading import split_label
from medsharp.evaluation.streamed.runs import SortedRuns
from medsharp.progress import Progress


def recalibrate_stored(
    scores: SortedRuns, place: int, log_odds: tuple[int, float, float], progress: Progress | None = None
) -> Recalibration:
    """Fit both recalibration models of `medsharp.evaluation.statistics.calibration.recalibrate` to all images.

    It starts from the fit of the first images, so that two or three passes are enough. The result is the maximum of the
    likelihood of all, as in memory: the last step is shorter than 1e-9.

    Args:
        scores: See `medsharp.evaluation.streamed.reading.Stored`; probabilities.
        place: Of the positive class among the classes.
        log_odds: Their number, sum and sum of squares.
        progress: Called with images done in all passes.
    """
    count, total, squares = log_odds
    centre = total / count
    scale = max(0.0, squares / count - centre**2) ** 0.5 or 1.0
    some = scores.sample()
    labels = split_label(some["label"])[0] == place
    start = recalibrate(labels, -some["key"], np.ones((1, len(some))))
    near = all(np.isfinite(part).all() for part in start)
    large = start.in_the_large[:, None] if near else np.zeros((1, 1))
    full = np.zeros((1, 2))
    if near:
        full[0] = start.constant[0] + start.slope[0] * centre, start.slope[0] * scale
    passes = _Passes(scores, place, centre, scale, progress)
    large = newton(lambda active, beta: passes.slopes(beta), large)
    full = newton(lambda active, beta: passes.slopes(beta), full)
    slope = full[:, 1] / scale
    return Recalibration(large[:, 0], slope, full[:, 0] - slope * centre)


class _Passes:
    def __init__(self, scores: SortedRuns, place: int, centre: float, scale: float, progress: Progress | None) -> None:
        self._scores, self._place, self._centre, self._scale = scores, place, centre, scale
        self._progress, self._done = progress, 0

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
