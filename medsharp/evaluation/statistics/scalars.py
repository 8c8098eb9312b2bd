"""What computes the figures of the registry from weights of the images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from medsharp.evaluation.statistics.bootstrap import Statistic
from medsharp.evaluation.statistics.calibration import probability_scores
from medsharp.evaluation.statistics.calibration_error import binned_scores
from medsharp.evaluation.statistics.decision import net_benefit_at
from medsharp.evaluation.statistics.discrimination import RankingStatistic, WeightedRanks, areas
from medsharp.evaluation.statistics.figures import Cases
from medsharp.evaluation.statistics.fixed_rates import at_fixed_rates
from medsharp.evaluation.statistics.registry import SCALARS
from medsharp.evaluation.statistics.selective import selective_risk
from medsharp.evaluation.statistics.thresholded import decisions

_FIXED = ("partial_auroc", "sensitivity_at", "specificity_at")


def statistics_of(
    cases: Cases,
    figures: Collection[str] = SCALARS,
    *,
    prevalence: float | None = None,
    curves: Sequence[RankingStatistic] = (),
) -> list[Statistic]:
    """Return what computes these figures (and others that come with them), and nothing that none of them needs.

    Args:
        cases: Labels, scores (descending), clusters and threshold.
        figures: Keys of the registry.
        prevalence: Where the model is to be used, for predictive values there.
        curves: What else to compute from the same ranking.
    """
    labels, scores = cases.labels, cases.scores
    wanted = set(figures)
    ranking = [areas, decisions(cases.threshold, prevalence), net_benefit_at(cases.threshold)]
    if any(name.startswith(_FIXED) for name in wanted):
        ranking.append(at_fixed_rates)
    others: tuple[tuple[set[str], Callable[[], Statistic]], ...] = (
        (
            {"log_loss", "calibration_intercept", "calibration_slope", "oe_ratio"},
            lambda: probability_scores(labels, scores),
        ),
        (
            {name for name in wanted if name.startswith("brier") or name in ("ece", "calibration_error")},
            lambda: binned_scores(labels, scores, cases.clusters),
        ),
        ({"aurc"}, lambda: selective_risk(labels, scores, cases.threshold)),
    )
    return [
        WeightedRanks(labels, scores).statistic([*ranking, *curves]),
        *(make() for keys, make in others if keys & wanted),
    ]
