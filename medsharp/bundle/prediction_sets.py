"""Prediction sets of one image: the classes that a model cannot rule out, at a stated rate of error."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsharp.bundle.folder import VALIDATION
from medsharp.errors import InputError

ALPHA = 0.10
"""Sets are made to hold the truth in at least 90 % of new images like the calibration images."""

PREDICTION_SET = "prediction_set"
"""Column of predictions: the classes of the set, divided by semicolons."""

_HALF_DIGIT = 5e-7
"""Half the last digit of a probability in the tables of older bundles, which have six behind the point: no image is
outside for their being rounded. Where classes are separated the quantile is 0 there, and no probability is quite 1."""

NO_CLASS = "no class"
"""What stands there for a set in which there is none."""


def to_table(shares: np.ndarray) -> np.ndarray:
    """Return probabilities with the 12 digits that the tables of a bundle have.

    They count from the first that is not 0: of two classes that a network is sure of, one is near 0, and has them all.

    Args:
        shares: Calibrated probabilities, float [N].
    """
    return np.array([float(f"{share:.12g}") for share in shares])


def inside(shares: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
    """Return which classes are in each set: those of which `1 - p_class` is at most the quantile, to six digits.

    Args:
        shares: Calibrated probabilities, float [..., C].
        quantiles: Of each class [C], as `conformal_quantile` gives them.

    Returns:
        bool [..., C].
    """
    return np.asarray(1 - shares <= quantiles + _HALF_DIGIT)


def conformal_quantile(scores: np.ndarray, alpha: float) -> float:
    """Return the `ceil((n + 1)(1 - alpha))`-th smallest of n scores; infinite where there are too few of them.

    V. Vovk, A. Gammerman and G. Shafer, *Algorithmic Learning in a Random World*, 2005.

    Args:
        scores: Nonconformity scores of the calibration images, float [n].
        alpha: The share of sets that may miss the truth, in (0, 1).
    """
    rank = math.ceil((len(scores) + 1) * (1 - alpha) - 1e-9)
    return float(np.sort(scores)[rank - 1]) if 1 <= rank <= len(scores) else math.inf


@dataclass(frozen=True)
class PredictionSets:
    """Sets with a coverage for each label: of the images of a label, at least `1 - alpha` have it in their set.

    That holds for images like those of the calibration; at another hospital it has to be looked at, which
    `medsharp evaluate` does. A class is in an image's set where `1 - p_class` is at most its quantile, to six digits
    (V. Vovk, Machine Learning 92, 2013).

    Attributes:
        quantiles: By class, in the order of the network's outputs; infinite where a label has too few images, and the
            class is then in every set.
        alpha: The share of sets that may miss the truth.
    """

    quantiles: Mapping[str, float]
    alpha: float = ALPHA

    def of(self, shares: Sequence[float] | np.ndarray) -> tuple[str, ...]:
        """Return the classes that an image may be of: perhaps all, perhaps none.

        Args:
            shares: Calibrated probabilities [C], in the order of the classes.
        """
        found = inside(np.asarray(shares, dtype=float), np.array(list(self.quantiles.values())))
        return tuple(name for name, there in zip(self.quantiles, found, strict=True) if there)

    def written(self, shares: Sequence[float] | np.ndarray) -> str:
        """Return the set as tables have it; empty where there is no number."""
        return "" if np.isnan(shares).any() else written_set(self.of(shares))


def written_set(classes: Sequence[str] | None) -> str:
    """Return a set as tables have it; empty for None, which says that there is no set."""
    if classes is None:
        return ""
    return "; ".join(classes) or NO_CLASS


def read_prediction_sets(bundle: str | Path, classes: Sequence[str]) -> PredictionSets | None:
    """Fix the quantiles on the validation predictions that export froze into a bundle.

    Args:
        bundle: Its folder.
        classes: In the order of the network's outputs.

    Returns:
        None for a bundle that carries no such predictions.

    Raises:
        InputError: The table in the bundle cannot be read.
    """
    path = Path(bundle) / VALIDATION
    if not path.is_file():
        return None
    scores: dict[str, list[float]] = {name: [] for name in classes}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                scores[row["label"]].append(1 - float(row[f"p_{row['label']}"]))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a table of label and p_<class>: {error!r}") from error
    return PredictionSets({name: conformal_quantile(np.array(own), ALPHA) for name, own in scores.items()})
