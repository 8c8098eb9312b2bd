"""Which mean and standard deviation a network's pixels are normalised by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from medsharp.errors import InputError
from medsharp.networks.classifier import Classifier

Wanted = Literal["auto", "weights", "dataset", "image"]
"""What a configuration asks for; `auto` means `weights` where they state theirs, else `dataset`."""

Statistic = float | Sequence[float]
"""On the scale 0 to 1: of grey values, or of each colour."""


def grey(value: Statistic | None) -> float | None:
    """Return the mean over the colours, as timm takes it for a network of one channel."""
    if value is None or isinstance(value, (int, float)):
        return value
    return float(sum(value) / len(value))


def normalize_like_weights(
    network: Classifier, wanted: Wanted, mean: Statistic | None = None, std: Statistic | None = None
) -> None:
    """Settle a network's normalisation, now that it has its initial weights.

    Weights were fitted to inputs of a certain mean and spread: given others, they start from features that they never
    made. Where mean and standard deviation are given, or known of the weights, `network.mean` and `network.std` become
    those, and `network.normalization` says `weights`; else it says what was asked for, `auto` meaning `dataset`.

    Args:
        network: With `origin`, where its weights come from elsewhere.
        wanted: What was asked for.
        mean: Given in place of that of the weights.
        std: The same.

    Raises:
        InputError: `weights` was asked for, and nothing is known of theirs; or each image was normalised by itself
            when they were trained, and neither that nor a mean was asked for.
    """
    if wanted in ("dataset", "image"):
        network.normalization = wanted
        return
    if mean is None and network.weights_by_image and network.origin is not None:
        raise InputError(
            f"{network.origin.file} was trained with network.normalization: image, each image by its own mean and "
            "deviation; set that (of a description: normalization: image)"
        )
    if mean is None and network.origin is not None:
        mean, std = network.origin.mean, network.origin.std
    if network.channels == 1:
        mean, std = grey(mean), grey(std)
    if mean is None or std is None:
        if wanted == "weights":
            reason = "there are none" if network.origin is None else f"{network.origin.file} does not state theirs"
            raise InputError(
                f"network.normalization = 'weights': {reason}; set network.mean and network.std, or choose dataset"
            )
        network.normalization = "dataset"
        return
    network.normalization = "weights"
    network.set_normalization(mean, std)
