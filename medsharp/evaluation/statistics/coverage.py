"""How often 95 % intervals hold the truth: measured on simulated studies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from medsharp.evaluation.statistics.bootstrap import Statistic
from medsharp.evaluation.statistics.calibration import probability_scores
from medsharp.evaluation.statistics.decision import net_benefit_at
from medsharp.evaluation.statistics.delong import area_intervals
from medsharp.evaluation.statistics.discrimination import WeightedRanks, areas
from medsharp.evaluation.statistics.estimate import Interval
from medsharp.evaluation.statistics.figures import Cases, estimates_of, measure
from medsharp.evaluation.statistics.fixed_rates import at_fixed_rates
from medsharp.evaluation.statistics.simulated_study import Population
from medsharp.evaluation.statistics.thresholded import decisions
from medsharp.progress import Progress

THRESHOLD = 0.3


@dataclass(frozen=True)
class Coverage:
    """How one kind of interval did.

    Attributes:
        figure: Such as `auroc`.
        method: Such as `percentile`.
        covered: Share of the studies whose interval holds the truth.
        below: Share whose interval lies below the truth.
        width: Mean width.
        studies: How many gave an interval.
    """

    figure: str
    method: str
    covered: float
    below: float
    width: float
    studies: int

    @property
    def error(self) -> float:
        """Standard error of `covered`, from the number of studies."""
        return math.sqrt(self.covered * (1 - self.covered) / max(1, self.studies))


def measure_coverage(
    *,
    studies: int = 2000,
    patients: int = 400,
    resamples: int = 1000,
    seed: int = 0,
    population: Population | None = None,
    threshold: float = THRESHOLD,
    progress: Progress | None = None,
) -> list[Coverage]:
    """Simulate studies and count how often each interval holds the truth.

    Args:
        studies: How many.
        patients: In each, with one to three images.
        resamples: Of patients, in each.
        seed: Of everything.
        population: Where the patients come from.
        threshold: At which images are called.
        progress: Called with studies done, studies in all and what is being done.

    Returns:
        One entry for each figure and method: percentile and BCa intervals of the patient bootstrap, those on the scale
        of the registry where it has one (`as reported`), and DeLong's and Obuchowski's for AUROC.
    """
    population = population or Population()
    labels, scores, _ = population.support()
    # The population's weights are no resample of its support: one step from equal weights would miss the fit.
    truth = population.truth(_statistics(labels, scores, threshold, one_step_from=len(labels) + 1))
    collected: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for number, stream in enumerate(np.random.default_rng(seed).spawn(studies), start=1):
        for key, limits in _intervals(population, patients, resamples, threshold, stream).items():
            collected.setdefault(key, []).append(limits)
        if progress is not None:
            progress(number, studies, f"simulating studies of {patients} patients")
    return [_counted(figure, method, truth[figure], limits) for (figure, method), limits in collected.items()]


def _statistics(labels: np.ndarray, scores: np.ndarray, threshold: float, **fit: int) -> list[Statistic]:
    ranking = [areas, at_fixed_rates, decisions(threshold), net_benefit_at(threshold)]
    errors = (scores - labels) ** 2

    def brier(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"brier": weights @ errors / weights.sum(axis=1)}

    return [WeightedRanks(labels, scores).statistic(ranking), probability_scores(labels, scores, **fit), brier]


def _intervals(
    population: Population, patients: int, resamples: int, threshold: float, rng: np.random.Generator
) -> dict[tuple[str, str], tuple[float, float]]:
    labels, scores, clusters = population.draw(patients, rng)
    if labels.all() or not labels.any():
        return {}
    cases = Cases(labels, scores, clusters, threshold)
    measured = measure(clusters, _statistics(labels, scores, threshold), resamples=resamples, rng=rng, interval="bca")
    found: dict[tuple[str, str], tuple[float, float]] = {}
    estimates = estimates_of(cases, measured)
    kinds: tuple[tuple[str, Interval], ...] = (("percentile", "percentile"), ("BCa", "bca"))
    for method, kind in kinds:
        for name, estimate in estimates.items():
            _keep(found, (name, method), replace(estimate, scale="").figure(kind))
    for name, estimate in estimates.items():
        if estimate.scale:
            _keep(found, (name, "as reported"), estimate.figure())
    for method, figure in area_intervals(labels, scores, clusters).items():
        _keep(found, ("auroc", {"delong": "DeLong", "obuchowski": "Obuchowski"}[method]), figure)
    return found


def _keep(found: dict[tuple[str, str], tuple[float, float]], key: tuple[str, str], figure: dict[str, Any]) -> None:
    if figure["low"] is not None:
        found[key] = (float(figure["low"]), math.inf if figure["high"] is None else float(figure["high"]))


def _counted(figure: str, method: str, truth: float, limits: list[tuple[float, float]]) -> Coverage:
    low, high = np.array(limits).T
    return Coverage(
        figure,
        method,
        float(np.mean((low <= truth) & (truth <= high))),
        float(np.mean(high < truth)),
        float(np.mean(high - low)),
        len(limits),
    )
