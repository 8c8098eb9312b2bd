"""What `bundle.yaml` is made of: preprocessing, operating point, training, figures at hospitals left out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from medsharp.preprocess import Crop, PreprocessSpec
from medsharp.weights_origin import WeightsOrigin

Average = Literal["probabilities", "logits"]
"""What an ensemble takes the mean of."""


class Part(BaseModel):
    """Keys and values that are all known and never change."""

    # Most parts are only read as parts of all of `bundle.yaml`, whose schema has theirs within it.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


LATER: dict[str, Any] = {"later": True}
"""Marks a key that is written only where it says something."""


class Growing(Part):
    """A part that has got keys since: those that say nothing are left out, so that older bundles keep their digest."""

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = plain(self)
        fields = type(self).model_fields
        later = (name for name, field in fields.items() if (field.json_schema_extra or {}) == LATER)
        for name in later:
            if getattr(self, name) == fields[name].default:
                del values[name]
        return values


class Preprocessing(Part):
    """How an image becomes the network's input; see `medsharp.preprocess.PreprocessSpec`."""

    size: int
    crop: Crop
    fit: Literal["letterbox", "stretch"]
    margin: float = 0.2
    inpaint: bool = False

    def spec(self) -> PreprocessSpec:
        """Return it as `medsharp.preprocess` takes it."""
        return PreprocessSpec(self.size, self.crop, self.fit, self.margin, self.inpaint)

    @model_serializer(mode="wrap")
    def _as_written(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what says nothing, so that bundles written before these keys existed keep their digest."""
        values: dict[str, Any] = plain(self)
        if self.crop != "lesion":
            del values["margin"]
        if not self.inpaint:
            del values["inpaint"]
        return values


class OperatingPoint(Growing):
    """The threshold on the positive class's probability, and what it reached where it was chosen.

    `interval` is that of the threshold over resampled patients, 95 %; `sensitivity_interval` and
    `specificity_interval` are those of the two at the threshold as it is.
    """

    threshold: float = Field(ge=0, le=1)
    rule: str
    sensitivity: float
    specificity: float
    images: int
    positives: int
    interval: tuple[float, float] | None = Field(None, json_schema_extra=LATER)
    sensitivity_interval: tuple[float, float] | None = Field(None, json_schema_extra=LATER)
    specificity_interval: tuple[float, float] | None = Field(None, json_schema_extra=LATER)

    def reached(self) -> str:
        """Say what it reached where it was chosen: `sensitivity 0.950 (0.930 to 0.967), specificity ...`."""
        intervals = {"sensitivity": self.sensitivity_interval, "specificity": self.specificity_interval}
        return ", ".join(
            f"{name} {Figure(value=getattr(self, name), low=limits and limits[0], high=limits and limits[1])}"
            for name, limits in intervals.items()
        )


class InputCheck(Part):
    """In older bundles: what the internal validation images look like; predictions on images far from them are flagged.

    `distance_limit` bounds the root mean square of `(features - feature_mean) / feature_scale`; brightness is the mean
    grey level of the network's input.
    """

    feature_mean: tuple[float, ...]
    feature_scale: tuple[float, ...]
    distance_limit: float
    brightness: tuple[float, float]


class CheckLimit(Growing):
    """The limit of an input check, and how often the check speaks.

    Attributes:
        limit: Of the check's value: the bundle's own, or that of every bundle when it was written.
        false_alarms: Share of the bundle's own images, of those with a lesion, that lie beyond it.
        images: How many these are.
        found: Share of images without a lesion that lie beyond it, each judged by a fit that left it out.
        without: How many these are.
    """

    limit: float
    false_alarms: float
    images: int
    found: float | None = Field(None, json_schema_extra=LATER)
    without: int = Field(0, json_schema_extra=LATER)


class Member(Part):
    """One of several runs in a bundle.

    Attributes:
        seed: Of initial weights, order and augmentation.
        fold: Which fold was not learned from, such as `2 of 5`; empty without folds.
        left_out: The site that was left out of training; empty without one.
        images: How many were in each of its splits.
        out_of_fold: How many of its predictions decide temperature and operating point.
        weights: SHA-256 of the weights' file.
        differences: Settings in which its configuration differs from `TrainingRecord.config`, `section.key` to value.
    """

    seed: int
    fold: str = ""
    left_out: str = ""
    images: dict[str, int]
    out_of_fold: int
    weights: str
    differences: dict[str, Any] = {}


class TrainingRecord(Growing):
    """What the network was trained on and how; of several what they have in common, and each under `members`.

    `weights` is what it started from, None for random ones. With several, `images` counts under `train` what any of
    them learned from, under `val` what besides was used to choose, and under `test` what is left.

    `elsewhere` is the file of a network that was trained elsewhere, and `validated_on` the data that fixed temperature
    and operating point for it, which `images` then counts.
    """

    dataset: str
    licence: str = ""
    citation: str = ""
    images: dict[str, int]
    excluded: dict[str, int] = {}
    network: str
    optimizer: dict[str, Any]
    command: str = ""
    config: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    weights: WeightsOrigin | None = Field(None, json_schema_extra=LATER)
    members: tuple[Member, ...] = Field((), json_schema_extra=LATER)
    elsewhere: WeightsOrigin | None = Field(None, json_schema_extra=LATER)
    validated_on: str = Field("", json_schema_extra=LATER)


class Combination(Growing):
    """How one graph makes one answer of several networks, or of several views of an image.

    Attributes:
        members: How many networks.
        average: What the answer is the mean of.
        flip: Whether each also sees the mirror image.
        sizes: Sides in pixels at which each sees the image, the largest, that of the input, first; empty for it alone.
    """

    members: int
    average: Average
    flip: bool
    sizes: tuple[int, ...] = Field((), json_schema_extra=LATER)

    @property
    def answers(self) -> int:
        """How many answers the mean is of: networks times views."""
        return self.members * (2 if self.flip else 1) * (len(self.sizes) or 1)

    def sentence(self) -> str:
        """Say in words what the answer is the mean of: a sentence without a full stop."""
        views = "the image and its mirror image" if self.flip else "the image"
        if self.sizes:
            *larger, smallest = map(str, self.sizes)
            views += f"{', each' if self.flip else ''} at {', '.join(larger)} and {smallest} pixels"
        who = "one network gives" if self.members == 1 else f"{self.members} networks give"
        return f"the answer is the mean of the {self.average} that {who} of {views}"


class Figure(Part):
    """A figure with its 95 % interval; None where it does not exist for these images."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "-"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


class HeldOut(Growing):
    """How models made in the same way do at a hospital that they never saw, at the threshold frozen without it.

    Attributes:
        site: The hospital.
        images: How many, of `patients` patients or groups; `positives` of the images are of the positive class.
        threshold: Frozen for the model that never saw it; None where several models with several thresholds share it.
        figures: `auroc`, `sensitivity`, `specificity` and `calibration_slope`.
        bundle: Digest of the bundle that was measured there; empty where it was a cross-validation.
    """

    site: str
    images: int
    patients: int
    positives: int
    threshold: float | None = None
    figures: dict[str, Figure]
    bundle: str = Field("", json_schema_extra=LATER)
