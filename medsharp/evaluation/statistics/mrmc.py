"""Several readers of the same cases: the analysis of variance of Obuchowski and Rockette, readers and cases random.

Hillis' degrees of freedom (Statistics in Medicine 26, 2007) are for the model of Obuchowski and Rockette
(Communications in Statistics, Simulation and Computation 24, 1995). One model has no readers to vary over: its
differences from each reader are analysed as a figure of merit of their own (Hupse et al., Radiology 266, 2013, with
random cases as Chakraborty, Observer Performance Methods for Diagnostic Imaging, 2017, chapter 22). With a model for
each reader that is the test of two modalities, of which it equals F, degrees of freedom and interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit


@dataclass(frozen=True)
class ReaderMean:
    """The mean of a figure over readers.

    Attributes:
        value: The mean.
        standard_error: Over new readers and new cases.
        degrees_of_freedom: Hillis'; infinite where the readers do not differ.
        low: Lower 95 % limit.
        high: Upper 95 % limit.
        p: Two-sided, of a true mean of 0.
        mean_square: Of the readers, `MS(R)`.
        covariance: Mean covariance of two readers' figures over cases, `Cov2`.
        fixed_error: Standard error over new cases for these very readers.
    """

    value: float
    standard_error: float
    degrees_of_freedom: float
    low: float
    high: float
    p: float
    mean_square: float
    covariance: float
    fixed_error: float


def mean_over_readers(figures: np.ndarray, covariance: np.ndarray) -> ReaderMean | None:
    """Return the mean of a figure over readers, readers and cases being random.

    With `MS(R)` the sample variance of the J figures and `Cov2` the mean covariance of two of them, the variance of
    the mean is `(MS(R) + max(J Cov2, 0)) / J`, with `(MS(R) + max(J Cov2, 0))^2 / (MS(R)^2 / (J - 1))` degrees of
    freedom.

    Args:
        figures: Of each reader [J], at least two.
        covariance: Of the figures over cases [J, J], clustered where cases come from patients.

    Returns:
        None where there is no variance: the readers agree, and cases do not move them.
    """
    readers = len(figures)
    mean_square = float(np.var(figures, ddof=1))
    covered = float((covariance.sum() - np.trace(covariance)) / (readers * (readers - 1)))
    total = mean_square + max(readers * covered, 0.0)
    if not total > 0:
        return None
    value, error = float(np.mean(figures)), math.sqrt(total / readers)
    freedom = total**2 / (mean_square**2 / (readers - 1)) if mean_square > 0 else math.inf
    half = float(stdtrit(freedom, 0.975)) * error
    return ReaderMean(
        value=value,
        standard_error=error,
        degrees_of_freedom=freedom,
        low=value - half,
        high=value + half,
        p=float(2 * stdtr(freedom, -abs(value) / error)),
        mean_square=mean_square,
        covariance=covered,
        fixed_error=math.sqrt(max(float(covariance.sum()), 0.0)) / readers,
    )


def model_less_readers(areas: np.ndarray, covariance: np.ndarray) -> ReaderMean | None:
    """Return the mean over readers of the model's figure less the reader's.

    Args:
        areas: Of the model, then of each reader [1 + J].
        covariance: Of them over cases [1 + J, 1 + J].
    """
    readers = len(areas) - 1
    contrast = np.hstack([np.ones((readers, 1)), -np.eye(readers)])  # [J, 1 + J]: the model less each reader
    return mean_over_readers(contrast @ areas, contrast @ covariance @ contrast.T)
