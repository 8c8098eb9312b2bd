"""One corruption at one severity: what the model is worth there, and whose decision has changed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from medsharp.evaluation.statistics.calibration import probability_scores
from medsharp.evaluation.statistics.discrimination import WeightedRanks
from medsharp.robustness.estimates import Closed, Estimate, Resamples, auroc_at_ends, share_at_ends

FIGURES = (
    "auroc",
    "brier",
    "calibration_intercept",
    "calibration_slope",
    "sensitivity",
    "specificity",
    "balanced_accuracy",
    "net_benefit",
)
FLIPS = ("all", "positive", "negative", "to_positive", "to_negative")


@dataclass(frozen=True)
class Cell:
    """A model's answers to one version of the images.

    Attributes:
        flagged: Which images it calls positive, bool [N].
        figures: Those of `FIGURES` by name.
        flips: Those of `FLIPS` by name: the share of images whose decision is another than on the clean ones, among
            all, positive and negative images; and, among all, of those that became positive or negative.
    """

    flagged: np.ndarray = field(repr=False)
    figures: dict[str, Estimate]
    flips: dict[str, Estimate]


class Judge:
    """Judges answers of one model on one data set, always on the same resamples.

    Args:
        labels: Whether each image is of the positive class, bool [N]; both occur.
        threshold: Frozen in the bundle; a score that equals it counts as positive.
        resamples: Of the patients.
    """

    def __init__(self, labels: np.ndarray, threshold: float, resamples: Resamples) -> None:
        self.labels = labels
        self.threshold = threshold
        self.resamples = resamples
        ends = {
            "all": share_at_ends(resamples.patients()),
            "positive": share_at_ends(resamples.patients(labels)),
            "negative": share_at_ends(resamples.patients(~labels)),
        }
        self._flip_ends = ends | dict.fromkeys(("to_positive", "to_negative"), ends["all"])
        self._ends = {
            "auroc": auroc_at_ends(resamples.patients(labels), resamples.patients(~labels)),
            "sensitivity": ends["positive"],
            "specificity": ends["negative"],
        }

    def share_ends(self, positive: bool) -> Closed:
        """Return what gives the interval of a share of 0 or 1 of the positive, or of the negative, patients."""
        return self._flip_ends["positive" if positive else "negative"]

    def judge(self, scores: np.ndarray, clean: np.ndarray) -> Cell:
        """Measure answers.

        Args:
            scores: Probability of the positive class on the images as they are now, [N].
            clean: On the clean images, [N].
        """
        flagged, before = scores >= self.threshold, clean >= self.threshold
        shares, flips = self._decided(flagged, before, np.square(scores - self.labels))
        ranks = WeightedRanks(self.labels, scores)
        probable = probability_scores(self.labels, scores)
        names = ("calibration_intercept", "calibration_slope")

        def statistic(weights: np.ndarray) -> np.ndarray:
            found = probable(weights)
            return np.stack([ranks.auroc(weights), *(found[name] for name in names)], axis=1)

        values, replicates = self.resamples.over(statistic)
        figures = {
            name: Estimate(float(values[place]), replicates[:, place], self._ends.get(name))
            for place, name in enumerate(("auroc", *names))
        }
        figures.update(shares)
        return Cell(flagged, {name: figures[name] for name in FIGURES}, flips)

    def _decided(
        self, flagged: np.ndarray, before: np.ndarray, squares: np.ndarray
    ) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
        """Return the figures that are shares or means, and the flips."""
        labels, changed = self.labels, flagged != before
        columns = np.stack(
            [
                np.ones_like(labels),
                labels,
                labels & flagged,
                ~labels & flagged,
                changed,
                changed & labels,
                changed & ~labels,
                changed & flagged,
                changed & before,
                squares,
            ],
            axis=1,
        ).astype(np.float64)
        odds = self.threshold / (1 - self.threshold) if self.threshold < 1 else np.nan

        def statistic(weights: np.ndarray) -> np.ndarray:
            total, positives, true, false, moved, moved_positive, moved_negative, up, down, square = (
                weights @ columns
            ).T
            negatives = total - positives
            with np.errstate(invalid="ignore", divide="ignore"):
                sensitivity, specificity = true / positives, 1 - false / negatives
                return np.stack(
                    [
                        sensitivity,
                        specificity,
                        (sensitivity + specificity) / 2,
                        (true - false * odds) / total,
                        square / total,
                        moved / total,
                        moved_positive / positives,
                        moved_negative / negatives,
                        up / total,
                        down / total,
                    ],
                    axis=1,
                )

        values, replicates = self.resamples.over(statistic)
        shares = ("sensitivity", "specificity", "balanced_accuracy", "net_benefit", "brier")
        estimates = [Estimate(float(value), replicates[:, place]) for place, value in enumerate(values)]
        figures = {
            name: Estimate(estimate.value, estimate.replicates, self._ends.get(name))
            for name, estimate in zip(shares, estimates, strict=False)
        }
        flips = {
            name: Estimate(estimate.value, estimate.replicates, self._flip_ends[name])
            for name, estimate in zip(FLIPS, estimates[len(shares) :], strict=True)
        }
        return figures, flips
