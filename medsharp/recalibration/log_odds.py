"""An update of probabilities on the scale of log odds, and what it means for logits and temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy.special import expit

from medsharp.bundle import UpdateMethod
from medsharp.bundle.prediction_sets import to_table
from medsharp.errors import InputError
from medsharp.evaluation.statistics.calibration import recalibrate_log_odds
from medsharp.evaluation.statistics.closed_test import ClosedTest, closed_test

Wish = Literal["auto", "none", "intercept", "slope", "threshold"]

_SMALLEST = 1e-300
"""Above it float64 has all of its digits."""

_LEAST_SHARE = 1e-7
"""Tables in older bundles have 6 digits behind the point: a probability of 0 there is below 5e-7."""


@dataclass(frozen=True)
class LogOddsUpdate:
    """`logit(new) = intercept + slope logit(old)` of the positive class.

    A graph with logits `z` and temperature `T` gives `logit(old) = (z_positive - z_other) / T`. The slope goes into the
    temperature, `T / slope`, by which every reader of a bundle divides already; the intercept goes into the graph, as
    `intercept T / slope` more for the logit of the positive class.
    """

    intercept: float = 0.0
    slope: float = 1.0

    @property
    def changes(self) -> bool:
        """Whether any probability becomes another."""
        return (self.intercept, self.slope) != (0.0, 1.0)

    def temperature(self, before: float) -> float:
        """Return the temperature of the updated bundle."""
        return before / self.slope

    def shift(self, classes: Sequence[str], positive: str, temperature: float) -> list[float]:
        """Return what each logit is raised by [C], at the temperature of the bundle before."""
        return [self.intercept * self.temperature(temperature) * (name == positive) for name in classes]

    def applied(self, table: pd.DataFrame, classes: Sequence[str], positive: str) -> pd.DataFrame:
        """Return predictions with updated probabilities; rows without any stay so.

        Args:
            table: With `p_<class>` of each class.
            classes: Two.
            positive: One of them.
        """
        if not self.changes:
            return table
        (other,) = (name for name in classes if name != positive)
        odds = self.intercept + self.slope * log_odds_of(table, classes, positive)
        return table.assign(**{f"p_{positive}": expit(odds), f"p_{other}": expit(-odds)})

    def of_rounded(self, table: pd.DataFrame, classes: Sequence[str], positive: str) -> pd.DataFrame:
        """Return a table of a bundle with updated probabilities; one that was rounded to 0 is taken for less than all.

        Args:
            table: With `p_<class>` of each class, as the bundle has them.
            classes: Two.
            positive: One of them.
        """
        if not self.changes:
            return table
        columns = [f"p_{name}" for name in classes]
        shares = table[columns].to_numpy(dtype=float)
        least = min(_LEAST_SHARE, shares[shares > 0].min(initial=1.0) / 2)
        known = table.assign(**{name: table[name].clip(lower=least) for name in columns})
        updated = self.applied(known, classes, positive)
        return updated.assign(**{name: to_table(updated[name].to_numpy()) for name in columns})


def log_odds_of(table: pd.DataFrame, classes: Sequence[str], positive: str) -> np.ndarray:
    """Return the log odds of the positive class against the others [N]: the same that an update is applied to.

    They are of both probabilities, as a logit of 1 - 1e-17 has no digits left, while 1e-17 has all of its own.

    Args:
        table: With `p_<class>` of each class.
        classes: Its classes.
        positive: One of them.
    """
    of_positive = table[f"p_{positive}"].to_numpy(dtype=float)
    of_others = table[[f"p_{name}" for name in classes if name != positive]].to_numpy(dtype=float).sum(axis=1)
    return np.log(np.maximum(of_positive, _SMALLEST)) - np.log(np.maximum(of_others, _SMALLEST))


def choose_update(
    wish: Wish, labels: np.ndarray, log_odds: np.ndarray, clusters: np.ndarray, where: str
) -> tuple[UpdateMethod, LogOddsUpdate, ClosedTest | None]:
    """Estimate the update that was asked for, by maximum likelihood; `auto` lets a closed test choose.

    Args:
        wish: What to update.
        labels: bool [N], of the calibration part.
        log_odds: Of the positive class before the update [N], as `log_odds_of` gives them.
        clusters: The patient of each image, int [N].
        where: What the images are, for errors.

    Raises:
        InputError: The probabilities separate the classes, or rank them the wrong way round, so that there is no slope
            to update by.
    """
    if wish in ("none", "threshold"):
        return wish, LogOddsUpdate(), None
    fit = recalibrate_log_odds(labels, log_odds, np.ones((1, len(labels))))
    intercept, constant, slope = (float(values[0]) for values in (fit.in_the_large, fit.constant, fit.slope))
    if wish in ("auto", "slope") and not np.isfinite([constant, slope]).all():
        raise InputError(
            f"{where}: no slope can be estimated, as the probabilities separate the classes or are all equal; "
            "--update intercept or threshold needs none"
        )
    test: ClosedTest | None = None
    method: UpdateMethod
    if wish == "auto":
        test = closed_test(labels, log_odds, clusters)
        method = test.chosen
    else:
        method = wish
    if method == "slope" and slope <= 0:
        raise InputError(
            f"{where}: the slope is {slope:.3g}, so that a higher probability goes with fewer positives here; no "
            "update repairs that: look at the labels and the images"
        )
    if not np.isfinite(intercept):
        raise InputError(f"{where}: no intercept can be estimated")
    updates = {"none": LogOddsUpdate(), "intercept": LogOddsUpdate(intercept), "slope": LogOddsUpdate(constant, slope)}
    return method, updates[method], test
