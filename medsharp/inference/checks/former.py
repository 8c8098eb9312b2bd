"""The checks of a bundle from before it had limits of its own: they lie beyond anything in its validation images."""

from __future__ import annotations

import numpy as np

from medsharp.bundle import InputCheck
from medsharp.inference.checks.finding import Finding


def former_findings(check: InputCheck, inputs: np.ndarray, features: np.ndarray) -> list[tuple[Finding, ...]]:
    """Return what marks each image of a batch.

    Args:
        check: The bundle's.
        inputs: The network's, uint8 [B, S, S].
        features: What it makes of them, float [B, D].
    """
    standard = (features - np.array(check.feature_mean)) / np.array(check.feature_scale)
    distances = np.sqrt((standard**2).mean(axis=1))
    low, high = check.brightness
    findings = []
    for brightness, distance in zip(inputs.mean(axis=(1, 2)), distances, strict=True):
        found = (
            (distance > check.distance_limit, "distance", "unlike the training images", distance, check.distance_limit),
            (brightness < low, "brightness", "very dark", brightness, low),
            (brightness > high, "brightness", "very bright", brightness, high),
        )
        findings.append(
            tuple(
                Finding(key, "caution", sentence, float(value), limit)
                for holds, key, sentence, value, limit in found
                if holds
            )
        )
    return findings
