"""Augmentation as settings: the transforms with their parameters, and the recipes that go by a name."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from medsharp.settings import Section, about

Share = Annotated[float, Field(ge=0, le=1)]


def _prob(share: float) -> Any:
    return Field(share, description="how often it is done, as a share of the images")


class Placement(Section):
    """Flip left and right, rotate, shear, zoom, stretch and shift; never upside down."""

    degrees: float = Field(10.0, ge=0, le=45, description="rotation at most")
    shear: float = Field(0.08, ge=0, le=0.5, description="at most, as a tangent")
    zoom: tuple[float, float] = Field((0.85, 1.2), description="smallest and largest factor")
    stretch: float = Field(1.1, ge=1, le=2, description="largest ratio between the factors of the axes")
    shift: float = Field(0.08, ge=0, le=0.5, description="at most, as a share of the side")
    flip: Share = Field(0.5, description="how often left and right change places")

    @model_validator(mode="after")
    def _ordered(self) -> Placement:
        if not 0.25 <= self.zoom[0] <= self.zoom[1] <= 4:
            raise ValueError(f"zoom {list(self.zoom)} must be two factors from 0.25 to 4, the smaller first")
        return self


class DepthAttenuation(Section):
    """Darker with depth, as tissue that attenuates more than the scanner compensates for."""

    rate: float = Field(1.5, ge=0, le=6, description="largest r of exp(-r d), d from 0 at the probe to 1 at the bottom")
    prob: Share = _prob(0.5)


class Shadow(Section):
    """A dark band below a reflector, along the beam."""

    strength: Share = Field(0.8, description="how much of the echo the darkest shadow takes")
    width: float = Field(0.15, gt=0, le=1, description="standard deviation at most, as a share of the side")
    prob: Share = _prob(0.5)


class Haze(Section):
    """A bright veil at some distance from the probe, as reverberation makes it."""

    strength: Share = Field(0.4, description="of white, at most")
    prob: Share = _prob(0.5)


class Speckle(Section):
    """Multiplicative grain, wider than it is deep."""

    amount: Share = Field(0.25, description="standard deviation at most")
    prob: Share = _prob(0.5)


class DepthGain(Section):
    """A smooth gain along depth, as a wrong time-gain compensation makes it."""

    amount: Share = Field(0.35, description="at most, up or down")
    prob: Share = _prob(0.5)


class Gain(Section):
    """Another gain and another grey map: `255 gain (image / 255)^gamma`."""

    gamma: float = Field(1.35, ge=1, le=4, description="largest exponent; the smallest is 1 / gamma")
    gain: float = Field(1.3, ge=1, le=4, description="largest factor; the smallest is 1 / gain")
    prob: Share = _prob(1.0)


class Resolution(Section):
    """Blurred, sharpened, or resampled from fewer pixels: other probes, other screens."""

    lowest: float = Field(0.6, gt=0.05, le=0.95, description="least share of the side that is resampled from")
    prob: Share = _prob(0.3)


class Noise(Section):
    """Additive Gaussian noise."""

    amount: float = Field(10.0, ge=0, le=128, description="standard deviation at most, in grey levels")
    prob: Share = _prob(0.5)


class Erasing(Section):
    """A box filled with the mean of the image."""

    largest: float = Field(0.2, ge=0.05, le=0.8, description="side at most, as a share of the image's")
    prob: Share = _prob(0.25)


class Augmentation(Section):
    """What is done to a training image, in this order whatever the order in the file; what is not named is not done.

    First the geometry, then what happens in the body, then what scanner and screen do.
    """

    placement: Placement | None = Field(None, description=about(Placement))
    depth_attenuation: DepthAttenuation | None = Field(None, description=about(DepthAttenuation))
    shadow: Shadow | None = Field(None, description=about(Shadow))
    haze: Haze | None = Field(None, description=about(Haze))
    speckle: Speckle | None = Field(None, description=about(Speckle))
    depth_gain: DepthGain | None = Field(None, description=about(DepthGain))
    gain: Gain | None = Field(None, description=about(Gain))
    resolution: Resolution | None = Field(None, description=about(Resolution))
    noise: Noise | None = Field(None, description=about(Noise))
    erasing: Erasing | None = Field(None, description=about(Erasing))

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, values: Any) -> Any:
        # `shadow:` with nothing behind it, or `shadow: true`, means the transform with its defaults.
        if isinstance(values, dict):
            return {key: {} if value is None or value is True else value for key, value in values.items()}
        return values

    @model_serializer(mode="wrap")
    def _named_only(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if value is not None}

    def transforms(self) -> dict[str, BaseModel]:
        """Return the transforms that are done, by name, in their order."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: transform for name, transform in named.items() if transform is not None}


RECIPES: dict[str, Augmentation] = {
    "none": Augmentation(),
    "light": Augmentation(
        placement=Placement(degrees=5, shear=0, zoom=(0.95, 1.05), stretch=1, shift=0.04),
        gain=Gain(gamma=1.15, gain=1.1),
    ),
    "standard": Augmentation(placement=Placement(), gain=Gain(), resolution=Resolution(), noise=Noise()),
    "strong": Augmentation(
        placement=Placement(degrees=12, shear=0.1, zoom=(0.7, 1.4), stretch=1.35, shift=0.13),
        speckle=Speckle(),
        depth_gain=DepthGain(),
        gain=Gain(gamma=1.6, gain=1.4),
        resolution=Resolution(lowest=0.45, prob=0.5),
        noise=Noise(amount=12),
        erasing=Erasing(),
    ),
    "ultrasound": Augmentation(
        placement=Placement(degrees=5, shear=0, zoom=(0.9, 1.15), stretch=1.1, shift=0.06),
        depth_attenuation=DepthAttenuation(),
        shadow=Shadow(),
        haze=Haze(),
        speckle=Speckle(),
        gain=Gain(),
    ),
}
"""By name: `none`; `light` and `standard`, for any image; `strong`, for a model that shall hold on other scanners; and
`ultrasound`, what bodies and scanners do to a B-mode image."""


def find_augmentation(given: str | Augmentation) -> Augmentation:
    """Return a recipe by name, or what was given.

    Raises:
        KeyError: No recipe has the name.
    """
    return RECIPES[given] if isinstance(given, str) else given
