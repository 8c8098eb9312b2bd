"""Whether probabilities mean what they say."""

from __future__ import annotations

import numpy as np

_STEPS = 25


def logit(probabilities: np.ndarray) -> np.ndarray:
    """Return the log odds, kept finite for 0 and 1."""
    clipped = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return np.log(clipped / (1 - clipped))


def calibration(labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return calibration-in-the-large and slope for each row of weights.

    The intercept `a` maximises the likelihood of `logit(P) = a + logit(p)`, the slope is `b` of `logit(P) = a' + b
    logit(p)` (Van Calster et al., Journal of Clinical Epidemiology 74, 2016). 0 and 1 are perfect.

    Args:
        labels: {0, 1} [N].
        probabilities: Of the positive class [N].
        weights: [R, N].

    Returns:
        Intercepts [R] and slopes [R]; NaN where the fit does not exist, as with one class or separated classes.
    """
    score = logit(probabilities)
    y = np.asarray(labels, dtype=float)
    return _newton(np.ones((1, len(y))), y, score, weights)[:, 0], _newton(
        np.stack([np.ones_like(score), score]), y, np.zeros_like(score), weights
    )[:, 1]


def _newton(design: np.ndarray, y: np.ndarray, offset: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fit weighted logistic regressions at once: design [K, N], y [N], offset [N], weights [R, N]; returns [R, K]."""
    count, size = len(weights), len(design)
    beta = np.zeros((count, size))
    step = np.full((count, size), np.inf)
    for _ in range(_STEPS):
        eta = np.clip(beta @ design + offset, -30, 30)
        p = 1 / (1 + np.exp(-eta))
        gradient = (weights * (y - p)) @ design.T
        curvature = np.einsum("rn,jn,kn->rjk", weights * p * (1 - p), design, design, optimize=True)
        # A ridge far below the statistics keeps separated samples solvable; they are refused below.
        curvature += 1e-9 * np.eye(size)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        beta += np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-10:
            break
    converged = (np.abs(step).max(axis=1) < 1e-6) & (np.abs(beta).max(axis=1) < 50)
    return np.where(converged[:, None], beta, np.nan)


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Return, for bins of equal size, mean probability, observed share and its 95 % Wilson interval."""
    order = np.argsort(probabilities, kind="stable")
    points = []
    for part in np.array_split(order, min(bins, max(1, len(order) // 5))):
        positives, total = int(labels[part].sum()), len(part)
        low, high = wilson(positives, total)
        points.append(
            {
                "probability": float(probabilities[part].mean()),
                "observed": positives / total,
                "low": low,
                "high": high,
                "images": total,
            }
        )
    return points


def wilson(successes: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a share (Wilson, JASA 22, 1927)."""
    z = 1.959963984540054
    share = successes / total
    centre = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    # Rounding must not leave a share of 0 or 1 outside its own interval.
    return (0.0 if successes == 0 else float(centre - half)), (1.0 if successes == total else float(centre + half))
