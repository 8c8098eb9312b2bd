"""How often intervals over seeds and patients hold the truth: measured on simulated networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import norm

from medsharp.evaluation.comparison.seeds import Networks, mixed_interval
from medsharp.evaluation.statistics.bootstrap import Statistic, bootstrap
from medsharp.evaluation.statistics.coverage import THRESHOLD
from medsharp.evaluation.statistics.simulated_study import Population
from medsharp.progress import Progress

FIGURES = ("auroc", "sensitivity", "specificity")
NUMBERS = (2, 3, 4, 5, 7, 10)
"""How many networks a method has."""

ALONE, BOTH, ONE, MISTAKEN = "S networks", "S against S", "S against 1", "S against 1, taken for its method"
"""Designs: the mean of a method's networks, the difference of two methods' means, of a mean and one network, and the
last again where the single network is taken for all that its method may give, which no p value is given for."""


@dataclass(frozen=True)
class Method:
    """Log odds that networks of one way of training give: their centre and shift differ from seed to seed.

    Attributes:
        seed: Standard deviation between networks of `centre` and of `shift`, each.
        method: Share of the variance over patients, and over images, that only networks of this method have in common.
        network: Share that each network has for itself: seed-by-patient noise.
        population: What a network gives on the average.
    """

    seed: float
    method: float = 0.08
    network: float = 0.12
    population: Population = field(default_factory=Population)

    @property
    def spread(self) -> float:
        """Standard deviation of a network's log odds in a class."""
        return math.hypot(self.population.patient, self.population.image)

    def truth(self) -> dict[str, float]:
        """Return the figures of all patients there could be, on the average over all seeds there could be."""
        return self._figures(self.population.centre, self.population.shift, self.seed)

    def truth_of(self, centre: float, shift: float) -> dict[str, float]:
        """Return the figures of all patients there could be, of one network."""
        return self._figures(centre, shift, 0.0)

    def _figures(self, centre: float, shift: float, seed: float) -> dict[str, float]:
        # The mean of Phi(z) over a normal z is Phi of its mean over sqrt(1 + variance).
        cut = math.log(THRESHOLD / (1 - THRESHOLD))
        values = {
            "auroc": shift / math.hypot(math.sqrt(2) * self.spread, seed),
            "sensitivity": (centre + shift - cut) / math.hypot(self.spread, math.sqrt(2) * seed),
            "specificity": (cut - centre) / math.hypot(self.spread, seed),
        }
        return {name: float(norm.cdf(value)) for name, value in values.items()}


@dataclass(frozen=True)
class SeedCoverage:
    """How one kind of interval did.

    Attributes:
        figure: Such as `auroc`.
        design: One of `ALONE`, `BOTH`, `ONE`, `MISTAKEN`.
        seed: Standard deviation of the networks' log odds between seeds.
        networks: How many a method has.
        covered: Share of the studies whose interval holds the truth; of `BOTH` it is 1 less the type I error as well.
        seed_share: Mean share of the variance that is the seeds'.
        studies: How many gave an interval.
    """

    figure: str
    design: str
    seed: float
    networks: int
    covered: float
    seed_share: float
    studies: int


def measure_seed_coverage(
    *,
    studies: int = 2000,
    patients: int = 300,
    resamples: int = 150,
    seeds: Sequence[float] = (0.0, 0.1, 0.2),
    numbers: Sequence[int] = NUMBERS,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[SeedCoverage]:
    """Simulate studies of two methods, whose networks all see the same patients, and count.

    The second method's seeds vary half as much as the first's. Of a single network the truth is its own figure of all
    patients; of several it is the mean over all seeds.

    Args:
        studies: How many, for each entry of `seeds`.
        patients: In each, with one to three images.
        resamples: Of patients, in each.
        seeds: Standard deviations of the first method's networks between seeds, in log odds.
        numbers: Of networks of a method; a study of the largest number has those of the smaller ones.
        seed: Of everything.
        progress: Called with studies done, studies in all and what is being done.
    """
    counted: dict[tuple[str, str, float, int], list[tuple[bool, float]]] = {}
    done = 0
    for spread, stream in zip(seeds, np.random.default_rng(seed).spawn(len(seeds)), strict=True):
        methods = Method(spread), Method(spread / 2)
        for rng in stream.spawn(studies):
            for (figure, design, number), result in _study(methods, patients, resamples, max(numbers), numbers, rng):
                counted.setdefault((figure, design, spread, number), []).append(result)
            done += 1
            if progress is not None:
                progress(done, studies * len(seeds), f"simulating networks on {patients} patients")
    return [
        SeedCoverage(*key, float(np.mean([hit for hit, _ in found])), float(np.mean([s for _, s in found])), len(found))
        for key, found in counted.items()
    ]


def _study(
    methods: tuple[Method, Method],
    patients: int,
    resamples: int,
    most: int,
    numbers: Sequence[int],
    rng: np.random.Generator,
) -> list[tuple[tuple[str, str, int], tuple[bool, float]]]:
    """Return whether each interval of one study holds its truth, and the share of the seeds, by figure and design."""
    population = methods[0].population
    clusters = np.repeat(np.arange(patients), rng.integers(1, population.images + 1, patients))
    labels = (rng.random(patients) < population.prevalence)[clusters]
    if labels.all() or not labels.any():
        return []
    shared = _normal(patients, clusters, population, rng)
    scores, own = [], []  # [2 most, N], and the truth of each
    for method in methods:
        of_method = _normal(patients, clusters, population, rng)
        for _ in range(most):
            centre = population.centre + method.seed * rng.normal()
            shift = population.shift + method.seed * rng.normal()
            noise = _normal(patients, clusters, population, rng)
            odds = centre + shift * labels + math.sqrt(1 - method.method - method.network) * shared
            odds += math.sqrt(method.method) * of_method + math.sqrt(method.network) * noise
            scores.append(1 / (1 + np.exp(-odds)))
            own.append(method.truth_of(centre, shift))
    statistic = figures_of_networks(labels, np.stack(scores), clusters)
    values = {name: value[0] for name, value in statistic(np.ones((1, len(labels)))).items()}  # [2 most]
    replicates = bootstrap([statistic], clusters, resamples=resamples, rng=rng)  # [R, 2 most]
    truths = [method.truth() for method in methods]
    found = []
    for figure in FIGURES:
        at, drawn = values[figure], replicates[figure]
        for number in numbers:
            first = Networks(-1, at[:number], drawn[:, :number])
            second = Networks(1, at[most : most + number], drawn[:, most : most + number])
            one = Networks(1, at[most : most + 1], drawn[:, most : most + 1])
            alone = Networks(1, first.values, first.replicates)
            methods_differ = truths[1][figure] - truths[0][figure]
            for groups, aims in (
                ([alone], {ALONE: truths[0][figure]}),
                ([first, second], {BOTH: methods_differ}),
                ([first, one], {ONE: own[most][figure] - truths[0][figure], MISTAKEN: methods_differ}),
            ):
                value = float(sum(group.sign * group.values.mean() for group in groups))
                mixed = mixed_interval(value, groups, patients)
                if mixed["low"] is not None:
                    for design, truth in aims.items():
                        hit = bool(mixed["low"] <= truth <= mixed["high"])
                        found.append(((figure, design, number), (hit, mixed["seed_share"] or 0.0)))
    return found


def _normal(patients: int, clusters: np.ndarray, population: Population, rng: np.random.Generator) -> np.ndarray:
    """Return effects of images, of which those of a patient have a part in common [N]."""
    of_patients = population.patient * rng.normal(size=patients)[clusters]
    return np.asarray(of_patients + population.image * rng.normal(size=len(clusters)))


def figures_of_networks(labels: np.ndarray, scores: np.ndarray, clusters: np.ndarray) -> Statistic:
    """Return what computes the figures of many networks at once, where the images of a patient have one label.

    Args:
        labels: bool [N].
        scores: Of each network [K, N].
        clusters: The patient of each image, int [N], ascending; images of a patient weigh alike.

    Returns:
        Weights [R, N] to `auroc`, `sensitivity` and `specificity` at the threshold of the simulations, [R, K] each.
    """
    ill, well = np.flatnonzero(labels), np.flatnonzero(~labels)
    starts = [np.flatnonzero(np.diff(clusters[images], prepend=-1)) for images in (ill, well)]  # of each patient
    called = (scores >= THRESHOLD).T.astype(float)  # [N, K]
    won = []
    for row in scores:
        pairs = (row[ill][:, None] > row[well]) + 0.5 * (row[ill][:, None] == row[well])  # [ill, well]
        won.append(np.add.reduceat(np.add.reduceat(pairs, starts[0], axis=0), starts[1], axis=1))  # of patients

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        positives, negatives = weights[:, ill], weights[:, well]
        of_ill, of_well = positives.sum(axis=1)[:, None], negatives.sum(axis=1)[:, None]
        first, second = positives[:, starts[0]], negatives[:, starts[1]]
        # AUROC of a resample: the pairs that a positive wins, each as often as its two patients were drawn.
        wins = np.stack([np.einsum("rp,rp->r", first @ of_patients, second) for of_patients in won], axis=1)
        with np.errstate(invalid="ignore"):  # a resample may hold one class only
            return {
                "auroc": wins / (of_ill * of_well),
                "sensitivity": positives @ called[ill] / of_ill,
                "specificity": 1 - negatives @ called[well] / of_well,
            }

    return statistic
