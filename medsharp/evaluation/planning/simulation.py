"""Whether plans hold: evaluations of as many patients as planned are simulated, and their intervals measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logit, ndtri

from medsharp.evaluation.planning.anticipated import binormal
from medsharp.evaluation.planning.plan import Criterion, make_plan
from medsharp.evaluation.statistics.bootstrap import Statistic, bootstrap
from medsharp.evaluation.statistics.calibration import probability_scores
from medsharp.evaluation.statistics.decision import net_benefit_at
from medsharp.evaluation.statistics.discrimination import WeightedRanks, areas
from medsharp.evaluation.statistics.intervals import percentile
from medsharp.evaluation.statistics.simulated_study import Population
from medsharp.evaluation.statistics.thresholded import decisions
from medsharp.progress import Progress


@dataclass(frozen=True)
class Setting:
    """What is stated to the plan, as to `binormal`."""

    auroc: float
    prevalence: float
    sensitivity: float
    images: float = 1.0
    icc: float = 0.0

    def __str__(self) -> str:
        several = "" if self.images == 1 else f", {self.images:g} images a patient, ICC {self.icc:g}"
        return f"AUROC {self.auroc:g}, prevalence {self.prevalence:g}, sensitivity {self.sensitivity:g}{several}"


SETTINGS = (
    Setting(0.85, 0.3, 0.9),
    Setting(0.85, 0.3, 0.9, images=2, icc=0.5),
    Setting(0.9, 0.1, 0.8, images=2.5, icc=0.8),
)

WIDTHS = {
    "auroc": 0.1,
    "sensitivity": 0.1,
    "specificity": 0.1,
    "oe": 0.3,
    "intercept": 0.5,
    "slope": 0.4,
    "net_benefit": 0.2,
    "net_benefit_gain": 0.04,
}


@dataclass(frozen=True)
class Kept:
    """How a wish was kept.

    Attributes:
        setting: Where.
        criterion: What was planned.
        width: Mean width of the intervals.
        error: Standard error of that mean, from the number of evaluations.
        covered: Share of the intervals that hold the anticipated value, which is the true one.
        evaluations: How many gave an interval.
    """

    setting: Setting
    criterion: Criterion
    width: float
    error: float
    covered: float
    evaluations: int


def simulate(
    setting: Setting,
    *,
    evaluations: int = 200,
    resamples: int = 500,
    seed: int = 0,
    keys: tuple[str, ...] = tuple(WIDTHS),
    progress: Progress | None = None,
) -> list[Kept]:
    """Plan each figure, simulate evaluations of the planned number of patients, and measure their intervals.

    The intervals are those that an evaluation reports: percentiles of resampled patients.

    Args:
        setting: The patients, and how the model does with them.
        evaluations: How many, for each figure.
        resamples: Of patients, in each.
        seed: Of everything.
        keys: Figures, of `WIDTHS`.
        progress: Called with evaluations done, in all, and what is being done.
    """
    anticipated = binormal(
        setting.auroc, setting.prevalence, sensitivity=setting.sensitivity, images=setting.images, icc=setting.icc
    )
    assert anticipated.threshold is not None
    plan = make_plan(anticipated, {key: WIDTHS[key] for key in keys})
    spread = math.sqrt(2) * float(ndtri(setting.auroc))
    population = Population(
        prevalence=setting.prevalence,
        centre=float(logit(setting.prevalence)) - spread**2 / 2,
        shift=spread**2,
        patient=spread * math.sqrt(setting.icc),
        image=spread * math.sqrt(1 - setting.icc),
    )
    results = []
    for criterion, root in zip(plan.criteria, np.random.default_rng(seed).spawn(len(plan.criteria)), strict=True):
        limits = []
        for number, stream in enumerate(root.spawn(evaluations), start=1):
            counts = math.floor(setting.images) + (stream.random(criterion.patients) < setting.images % 1)
            labels, scores, clusters = population.draw(criterion.patients, stream, counts)
            statistic = _STATISTICS[criterion.key](labels, scores, anticipated.threshold)
            replicates = bootstrap([statistic], clusters, resamples=resamples, rng=stream)["figure"]
            limits.append(percentile(replicates[np.isfinite(replicates)]))
            if progress is not None:
                progress(number, evaluations, f"{criterion.name}, {criterion.patients} patients")
        results.append(_kept(setting, criterion, np.array(limits)))
    return results


def _kept(setting: Setting, criterion: Criterion, limits: np.ndarray) -> Kept:
    """Sum up limits [evaluations, 2]."""
    widths = limits[:, 1] - limits[:, 0]
    covered = (limits[:, 0] <= criterion.anticipated) & (criterion.anticipated <= limits[:, 1])
    error = float(widths.std(ddof=1)) / math.sqrt(len(widths))
    return Kept(setting, criterion, float(widths.mean()), error, float(covered.mean()), len(widths))


Made = Callable[[np.ndarray, np.ndarray, float], Statistic]
"""Labels [N], probabilities [N] and a threshold to what computes `figure` from weights [R, N]."""


def _named(statistic: Statistic, name: str) -> Statistic:
    return lambda weights: {"figure": statistic(weights)[name]}


def _auroc(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Statistic:
    return _named(WeightedRanks(labels, scores).statistic([areas]), "auroc")


def _decided(name: str) -> Made:
    def made(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Statistic:
        return _named(WeightedRanks(labels, scores).statistic([decisions(threshold)]), name)

    return made


def _calibrated(name: str) -> Made:
    return lambda labels, scores, threshold: _named(probability_scores(labels, scores), name)


def _observed_to_expected(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Statistic:
    return lambda weights: {"figure": (weights @ labels) / (weights @ scores)}


def _net_benefit(labels: np.ndarray, scores: np.ndarray, threshold: float) -> Statistic:
    raw = _named(WeightedRanks(labels, scores).statistic([net_benefit_at(threshold)]), "net_benefit_at_threshold")
    return lambda weights: {"figure": raw(weights)["figure"] * weights.sum(axis=1) / (weights @ labels)}


_STATISTICS: dict[str, Made] = {
    "auroc": _auroc,
    "sensitivity": _decided("sensitivity"),
    "specificity": _decided("specificity"),
    "oe": _observed_to_expected,
    "intercept": _calibrated("calibration_intercept"),
    "slope": _calibrated("calibration_slope"),
    "net_benefit": _net_benefit,
    "net_benefit_gain": lambda labels, scores, threshold: _named(
        WeightedRanks(labels, scores).statistic([net_benefit_at(threshold)]), "net_benefit_gain_at_threshold"
    ),
}
