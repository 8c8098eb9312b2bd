"""Augmentation: random MONAI dictionary transforms that keep what depth means in an ultrasound image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.transforms import Compose

from medsharp.data.augmentation.body import RandomDepthAttenuation, RandomHaze, RandomShadow, RandomSpeckle
from medsharp.data.augmentation.placement import RandomPlacement
from medsharp.data.augmentation.scanner import (
    RandomDepthGain,
    RandomErasing,
    RandomGain,
    RandomNoise,
    RandomResolution,
)
from medsharp.errors import InputError, nearest
from medsharp.recipes import RECIPES, Augmentation, find_augmentation

TRANSFORMS: dict[str, Callable[..., Any]] = {
    "placement": RandomPlacement,
    "depth_attenuation": RandomDepthAttenuation,
    "shadow": RandomShadow,
    "haze": RandomHaze,
    "speckle": RandomSpeckle,
    "depth_gain": RandomDepthGain,
    "gain": RandomGain,
    "resolution": RandomResolution,
    "noise": RandomNoise,
    "erasing": RandomErasing,
}
"""By the names of `medsharp.recipes.Augmentation`, whose parameters they take."""


def make_augmentation(given: str | Augmentation) -> Compose:
    """Make the transforms of a recipe, fresh ones on each call.

    Raises:
        InputError: No recipe has the name.
    """
    try:
        recipe = find_augmentation(given)
    except KeyError:
        raise InputError(f"unknown augmentation '{given}'{nearest(str(given), RECIPES)}") from None
    return Compose([TRANSFORMS[name](**settings.model_dump()) for name, settings in recipe.transforms().items()])


__all__ = ["RECIPES", "TRANSFORMS", "make_augmentation"]
