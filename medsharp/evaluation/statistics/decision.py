"""Whether deciding by the model does more good than treating everyone or no one."""

from __future__ import annotations

import numpy as np

from medsharp.evaluation.statistics.discrimination import Ranking, RankingStatistic

CUTS = np.round(np.linspace(0.01, 0.60, 60), 2)
"""Threshold probabilities of the decision curve: from which risk on one would act."""

SENSIBLE = (0.02, 0.10)
"""Threshold probabilities from which biopsy is sensible: BI-RADS advises it above 2 % (category 4), and its lowest part
(4A) ends at 10 % (ACR BI-RADS Atlas, 5th edition, 2013)."""


def net_benefit(cuts: np.ndarray = CUTS) -> RankingStatistic:
    """Return what computes net benefit at each cut `t` (Vickers and Elkin, Medical Decision Making 26, 2006).

    `TP / n - FP / n * t / (1 - t)`: true positives, less false positives at the price that the cut implies. Treating
    no one has a net benefit of 0, so that the gain is over the better of 0 and treating all. What the model gains over
    treating all, in interventions: of 100 patients `100 (benefit - benefit of all) (1 - t) / t` are not treated and
    lose nothing (Vickers et al., BMC Medical Informatics and Decision Making 8, 2008); that is
    `100 (TN / n - FN / n * (1 - t) / t)`.

    Args:
        cuts: In (0, 1) [T].

    Returns:
        A ranking to `net_benefit`, `treat_all`, `net_benefit_gain` and `avoided`, [R, T] each.
    """
    odds = cuts / (1 - cuts)
    price = np.divide(100.0, odds, out=np.full_like(odds, np.nan), where=odds > 0)

    def statistic(ranking: Ranking) -> dict[str, np.ndarray]:
        places = ranking.flagged_from(cuts)
        total = (ranking.true[:, -1] + ranking.false[:, -1])[:, None]
        benefit = (ranking.true[:, places] - ranking.false[:, places] * odds) / total
        # The same sums as the model's, so that where it flags every image the gain is 0 and not a rounding error.
        everyone = (ranking.true[:, -1:] - ranking.false[:, -1:] * odds) / total
        return {
            "net_benefit": benefit,
            "treat_all": everyone,
            "net_benefit_gain": benefit - np.maximum(everyone, 0.0),
            "avoided": (benefit - everyone) * price,
        }

    return statistic


def net_benefit_at(threshold: float) -> RankingStatistic:
    """Return what computes net benefit, its gain and interventions avoided at a threshold, [R] each."""
    # From a threshold of 1 on no number of true positives outweighs a false one: there is no net benefit.
    cut = np.array([threshold if threshold < 1 else np.nan])

    def statistic(ranking: Ranking) -> dict[str, np.ndarray]:
        values = net_benefit(cut)(ranking)
        return {
            "net_benefit_at_threshold": values["net_benefit"][:, 0],
            "net_benefit_gain_at_threshold": values["net_benefit_gain"][:, 0],
            "interventions_avoided": values["avoided"][:, 0],
        }

    return statistic
