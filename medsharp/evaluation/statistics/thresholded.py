"""What happens at the frozen operating point: decide for the positive class from a probability on."""

from __future__ import annotations

import numpy as np

from medsharp.evaluation.statistics.discrimination import Ranking, RankingStatistic, ratio


def decisions(threshold: float, prevalence: float | None = None) -> RankingStatistic:
    """Return what computes the figures of decisions at a threshold.

    Likelihood ratios are `LR+ = sensitivity / (1 - specificity)` and `LR- = (1 - sensitivity) / specificity`. With a
    stated prevalence `q`, predictive values follow by Bayes' theorem:
    `PPV = sens q / (sens q + (1 - spec)(1 - q))`, `NPV = spec (1 - q) / (spec (1 - q) + (1 - sens) q)`, and of 1,000
    women `1000 q sens` are found, `1000 q (1 - sens)` missed, `1000 (1 - q)(1 - spec)` alarmed for nothing.

    A likelihood ratio over 0 is infinite, and greater than every other: LR+ where the specificity is 1 and the
    sensitivity above 0, LR- where the specificity is 0 and the sensitivity below 1.

    Args:
        threshold: A score that equals it counts as positive.
        prevalence: Where the model is to be used, in (0, 1).

    Returns:
        A ranking to figures [R]; NaN where the denominator has no weight, or of likelihood ratios 0 / 0.
    """

    def statistic(ranking: Ranking) -> dict[str, np.ndarray]:
        place = int(ranking.flagged_from(threshold))
        true_positives, positives = ranking.true[:, place], ranking.true[:, -1]
        false_positives, negatives = ranking.false[:, place], ranking.false[:, -1]
        total, flags, true_negatives = (
            positives + negatives,
            true_positives + false_positives,
            negatives - false_positives,
        )
        sensitivity, specificity = ratio(true_positives, positives), ratio(true_negatives, negatives)
        values = {
            "sensitivity": sensitivity,
            "specificity": specificity,
            "ppv": ratio(true_positives, flags),
            "npv": ratio(true_negatives, total - flags),
            "lr_positive": ratio(sensitivity, 1 - specificity),
            "lr_negative": ratio(1 - sensitivity, specificity),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "accuracy": ratio(true_positives + true_negatives, total),
            "prevalence": ratio(positives, total),
        }
        if prevalence is not None:
            found, missed = sensitivity * prevalence, (1 - sensitivity) * prevalence
            spared, alarmed = specificity * (1 - prevalence), (1 - specificity) * (1 - prevalence)
            values["ppv_at_prevalence"] = ratio(found, found + alarmed)
            values["npv_at_prevalence"] = ratio(spared, spared + missed)
            values["true_positives_per_1000"] = 1000 * found
            values["false_negatives_per_1000"] = 1000 * missed
            values["false_positives_per_1000"] = 1000 * alarmed
            values["true_negatives_per_1000"] = 1000 * spared
        return values

    return statistic


def operating_point(labels: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, float | int]:
    """Return the threshold and the four counts of images."""
    flagged = scores >= threshold
    return {
        "threshold": float(threshold),
        "true_positives": int((labels & flagged).sum()),
        "false_negatives": int((labels & ~flagged).sum()),
        "false_positives": int((~labels & flagged).sum()),
        "true_negatives": int((~labels & ~flagged).sum()),
    }
