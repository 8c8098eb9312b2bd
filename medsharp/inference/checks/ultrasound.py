"""Whether an image looks like breast ultrasound at all: a logistic regression on statistics of the picture.

Its weights lie beside this file. `medsharp bench checks` measures it, and fits it: on lesion images of two hospitals,
and changed copies of them, against pictures of other kinds. No network is needed, and none can be fooled into a number.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from medsharp.inference.checks.entry import ImageCheck
from medsharp.inference.checks.picture import Picture
from medsharp.inference.checks.statistics import NAMES, statistics_of

WEIGHTS = "ultrasound.json"

MOST = 4.0
"""Standard deviations at which a statistic is cut: one that is far out shall not decide alone."""


@dataclass(frozen=True)
class Likeness:
    """The log odds that a picture is breast ultrasound, 0 at the limit.

    Attributes:
        mean: Of each statistic [K].
        scale: Its standard deviation [K].
        weight: Its weight, of the standardised value [K].
        intercept: Added.
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    intercept: float

    @classmethod
    def of(cls, content: dict[str, Any]) -> Likeness:
        """Return that of the content of `ultrasound.json`."""
        mean, scale, weight = np.array([content["statistics"][name] for name in NAMES]).T
        return cls(mean, scale, weight, float(content["intercept"]))

    def __call__(self, statistics: np.ndarray) -> np.ndarray:
        """Return float64 [...] of statistics [..., K]."""
        standard = np.clip((statistics - self.mean) / self.scale, -MOST, MOST)
        return np.asarray(standard @ self.weight + self.intercept)


@lru_cache(maxsize=1)
def shipped() -> Likeness:
    """Return the one that lies beside this file."""
    return Likeness.of(json.loads(files("medsharp.inference.checks").joinpath(WEIGHTS).read_text(encoding="utf-8")))


def _likeness(picture: Picture) -> float:
    return float(shipped()(statistics_of(picture)))


CHECK = ImageCheck(
    "not_ultrasound",
    "refusal",
    "the image does not look like breast ultrasound",
    "the log odds of a logistic regression on statistics of grey, edges, local patterns, spectrum, speckle and depth "
    "lie below the limit",
    _likeness,
    0.0,
    above=False,
    fitted=True,
    advice="upload one grey-scale (B-mode) ultrasound image of a breast lesion as the scanner saved it: no photograph "
    "or scan of a screen, a print or a report",
)
