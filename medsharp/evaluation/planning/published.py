"""The published closed forms: how many independent images give a figure a standard error.

Riley et al., "Minimum sample size for external validation of a clinical prediction model with a binary outcome",
Statistics in Medicine 40, 2021, and BMJ 384, 2024, e074821; what `pmvalsampsize` for R and Stata computes. They are
for one image a patient. Each returns a number that is not rounded.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import expit


def oe_images(prevalence: float, error: float) -> float:
    """For O:E, `error` that of its logarithm: `(1 - q) / (q SE^2)` (equation 5); what is expected counts as known."""
    return (1 - prevalence) / (prevalence * error**2)


def slope_images(
    log_odds: np.ndarray, weights: np.ndarray, error: float, *, constant: float = 0.0, slope: float = 1.0
) -> float:
    """For the calibration slope: `I00 / (SE^2 (I00 I11 - I01^2))` of the information for one image (equation 6).

    Args:
        log_odds: What the model gives [N].
        weights: Their shares, which sum to 1 [N].
        error: The standard error wished.
        constant: Of the anticipated calibration, `logit P = constant + slope L`.
        slope: Likewise.
    """
    risk = expit(constant + slope * log_odds)
    spread = weights * risk * (1 - risk)
    whole, mean, square = float(spread.sum()), float(spread @ log_odds), float(spread @ log_odds**2)
    return whole / (error**2 * (whole * square - mean**2))


def auroc_images(auroc: float, prevalence: float, error: float) -> float:
    """For AUROC `A`: the `n` at which Newcombe's variance (Statistics in Medicine 25, 2006, method 4) is `error^2`.

    `A (1 - A) (1 + (n/2 - 1) k) = SE^2 n^2 q (1 - q)` with `k = (1 - A) / (2 - A) + A / (1 + A)`, solved for `n`.
    """
    k = (1 - auroc) / (2 - auroc) + auroc / (1 + auroc)
    a = error**2 * prevalence * (1 - prevalence) / (auroc * (1 - auroc))
    return (k / 2 + math.sqrt(k**2 / 4 + 4 * a * (1 - k))) / (2 * a)


def share_images(share: float, of: float, error: float) -> float:
    """For sensitivity or specificity: `s (1 - s) / (f SE^2)`, `f` the share of images that it is a share of."""
    return share * (1 - share) / (of * error**2)


def net_benefit_images(
    sensitivity: float, specificity: float, prevalence: float, threshold: float, error: float
) -> float:
    """For net benefit over prevalence (section 3.4), with `w = (1 - q) / q t / (1 - t)`.

    `(sens (1 - sens) / q + w^2 spec (1 - spec) / (1 - q) + w^2 (1 - spec)^2 / (q (1 - q))) / SE^2`
    """
    q, alarms = prevalence, 1 - specificity
    w = (1 - q) / q * threshold / (1 - threshold)
    found = sensitivity * (1 - sensitivity) / q
    return (found + w**2 * (specificity * alarms / (1 - q) + alarms**2 / (q * (1 - q)))) / error**2
