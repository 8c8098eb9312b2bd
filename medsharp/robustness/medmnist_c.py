"""MedMNIST-C's own summary: balanced error and relative balanced error, against AlexNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medsharp.evaluation.statistics.estimate import Estimate

ALEXNET_CLEAN = 0.14536340852130336
ALEXNET = {
    "pixelate": 0.46127819548872184,
    "jpeg_compression": 0.2986215538847118,
    "speckle_noise": 0.38709273182957393,
    "motion_blur": 0.25902255639097743,
    "brightness_up": 0.3197994987468672,
    "brightness_down": 0.21127819548872181,
    "contrast_down": 0.15864661654135334,
}
"""AlexNet's error, 1 - balanced accuracy, on BreastMNIST-C, averaged over severities (Di Salvo et al., 2024)."""


def balanced_errors(clean: Estimate, cells: Mapping[str, Sequence[Estimate]]) -> dict[str, Any] | None:
    """Return BE and rBE, or None unless all seven corruptions are there.

    `BE_c = mean_s(E) / A_c` and `rBE_c = (mean_s(E) - E_clean) / (A_c - A_clean)` with the error `E = 1 - balanced
    accuracy` at the threshold and AlexNet's `A`; both are averaged over the corruptions.

    Args:
        clean: Balanced accuracy on the clean images.
        cells: Balanced accuracy at severity 1 to 5, by corruption.
    """
    if not set(ALEXNET) <= set(cells):
        return None
    before = clean.scaled(-1, 1)
    error = {name: Estimate.mean(cells[name]).scaled(-1, 1) for name in ALEXNET}
    be = {name: error[name].scaled(1 / alexnet) for name, alexnet in ALEXNET.items()}
    rbe = {name: (error[name] - before).scaled(1 / (alexnet - ALEXNET_CLEAN)) for name, alexnet in ALEXNET.items()}
    return {
        "error_clean": before.figure(),
        "be": Estimate.mean(list(be.values())).figure(),
        "rbe": Estimate.mean(list(rbe.values())).figure(),
        "corruptions": {
            name: {"error": error[name].figure(), "be": be[name].figure(), "rbe": rbe[name].figure()}
            for name in ALEXNET
        },
    }
