"""Checks of what the network makes of an image: unlike what it learned, undecided, or without a lesion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medsharp.inference.checks.entry import Check
from medsharp.inference.checks.learned import Learned


@dataclass(frozen=True)
class Answers:
    """What a network makes of a batch.

    Attributes:
        features: float [B, D].
        logits: float [B, C].
        learned: What the bundle knows of its own images.
    """

    features: np.ndarray
    logits: np.ndarray
    learned: Learned


AnswerCheck = Check[Answers, np.ndarray]
"""Measures every image of a batch: float [B]."""


def _distance(answers: Answers) -> np.ndarray:
    return answers.learned.distance(answers.features)


def _energy(answers: Answers) -> np.ndarray:
    """Return the logarithm of the sum of the powers of the logits: low where no class is known."""
    return np.asarray(np.logaddexp.reduce(answers.logits.astype(np.float64), axis=1))


def _no_lesion(answers: Answers) -> np.ndarray:
    return answers.learned.no_lesion_odds(answers.features)


ANSWER_CHECKS: tuple[AnswerCheck, ...] = (
    AnswerCheck(
        "no_lesion",
        "caution",
        "there may be no lesion in view: the model tells kinds of lesions apart and cannot say that there is none",
        "the log odds, by a logistic regression on the network's features, that the image is one without a lesion",
        _no_lesion,
        None,
    ),
    AnswerCheck(
        "distance",
        "caution",
        "unlike the images that the model learned from",
        "the distance (Mahalanobis) of the network's features from those of the nearest class (K. Lee et al., NeurIPS "
        "2018), covariance shrunk (Ledoit and Wolf, 2004)",
        _distance,
        None,
    ),
    AnswerCheck(
        "energy",
        "caution",
        "the network finds little evidence of any kind in the image",
        "the energy of the logits (W. Liu et al., NeurIPS 2020)",
        _energy,
        None,
        above=False,
    ),
)
"""Of a bundle that has limits for them."""
