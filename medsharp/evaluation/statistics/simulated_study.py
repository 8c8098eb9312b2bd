"""Simulated studies whose true figures are known: patients with several images each, as hospitals send them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from medsharp.evaluation.statistics.bootstrap import Statistic

_GRID = 40_001
_REACH = 8.0


@dataclass(frozen=True)
class Population:
    """Log odds that a model gives to images: `centre + shift y + u + e`, u shared by a patient's images.

    Attributes:
        prevalence: Share of patients with cancer.
        centre: Mean log odds of images without.
        shift: How much higher those with cancer are.
        patient: Standard deviation between patients.
        image: Standard deviation between images of a patient.
        images: How many images a patient has at most; each number up to it is as likely.
    """

    prevalence: float = 0.33
    centre: float = -1.4
    shift: float = 1.8
    patient: float = 0.8
    image: float = 0.8
    images: int = 3

    def draw(
        self, patients: int, rng: np.random.Generator, counts: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return labels bool, probabilities (descending) and patients int of a study, [N] each.

        Args:
            patients: How many.
            rng: Where they come from.
            counts: Images of each patient [patients]; drawn where not given.
        """
        if counts is None:
            counts = rng.integers(1, self.images + 1, patients)
        clusters = np.repeat(np.arange(patients), counts)
        labels = (rng.random(patients) < self.prevalence)[clusters]
        odds = self.centre + self.shift * labels
        odds = odds + self.patient * rng.normal(size=patients)[clusters] + self.image * rng.normal(size=len(clusters))
        order = np.argsort(-odds, kind="stable")
        return labels[order], 1 / (1 + np.exp(-odds[order])), clusters[order]

    def support(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return labels, probabilities (descending) and weights of a fine grid over all images: [M] each."""
        spread = float(np.hypot(self.patient, self.image))
        points = np.linspace(-_REACH, _REACH, _GRID)
        mass = norm.pdf(points)
        mass /= mass.sum()
        odds = np.r_[self.centre + spread * points, self.centre + self.shift + spread * points]
        weights = np.r_[(1 - self.prevalence) * mass, self.prevalence * mass]
        labels = np.repeat([False, True], _GRID)
        order = np.argsort(-odds, kind="stable")
        return labels[order], 1 / (1 + np.exp(-odds[order])), weights[order]

    def truth(self, statistics: list[Statistic]) -> dict[str, float]:
        """Return the figures of all patients there could be; `statistics` must be made for `support`."""
        _, _, weights = self.support()
        values: dict[str, float] = {}
        for statistic in statistics:
            found = statistic(weights[None] * len(weights))
            values.update({name: float(value[0]) for name, value in found.items() if value.ndim == 1})
        return values
