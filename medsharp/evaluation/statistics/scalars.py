"""What computes every scalar figure of a data set from weights of its images."""

from __future__ import annotations

from collections.abc import Sequence

from medsharp.evaluation.statistics.bootstrap import Statistic
from medsharp.evaluation.statistics.calibration import probability_scores
from medsharp.evaluation.statistics.calibration_error import binned_scores
from medsharp.evaluation.statistics.decision import net_benefit_at
from medsharp.evaluation.statistics.discrimination import RankingStatistic, WeightedRanks, areas
from medsharp.evaluation.statistics.figures import Cases
from medsharp.evaluation.statistics.fixed_rates import at_fixed_rates
from medsharp.evaluation.statistics.selective import selective_risk
from medsharp.evaluation.statistics.thresholded import decisions


def scalar_statistics(
    cases: Cases, prevalence: float | None = None, curves: Sequence[RankingStatistic] = ()
) -> list[Statistic]:
    """Return the statistics behind `medsharp.evaluation.statistics.figures.SCALARS`.

    Args:
        cases: Labels, scores (descending), clusters and threshold.
        prevalence: Where the model is to be used, for predictive values there.
        curves: What else to compute from the same ranking.
    """
    labels, scores = cases.labels, cases.scores
    parts = [areas, at_fixed_rates, decisions(cases.threshold, prevalence), net_benefit_at(cases.threshold)]
    return [
        WeightedRanks(labels, scores).statistic([*parts, *curves]),
        probability_scores(labels, scores),
        binned_scores(labels, scores, cases.clusters),
        selective_risk(labels, scores, cases.threshold),
    ]
