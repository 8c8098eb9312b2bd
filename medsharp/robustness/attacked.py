"""Where attacks plug in: they need gradients, which only the training side has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from medsharp.inference.predictor import Predictor
from medsharp.progress import Progress
from medsharp.robustness.sample import Sample


@dataclass(frozen=True)
class Attacked:
    """A model's answers to adversarial images.

    Attributes:
        attack: Such as `FGSM`.
        norm: `Linf` or `L2`.
        epsilon: The bound, in grey levels.
        steps: Of the attack.
        probabilities: float64 [N, C].
    """

    attack: str
    norm: str
    epsilon: float
    steps: int
    probabilities: np.ndarray


class Adversary(Protocol):
    """Attacks the images of a sample; `training.attacked` has one."""

    def __call__(
        self, predictor: Predictor, sample: Sample, labels: np.ndarray, seed: int, progress: Progress | None
    ) -> list[Attacked]:
        """Return answers to each attack; labels are class numbers, int [N]."""
        ...
