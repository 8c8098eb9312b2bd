"""All of `bundle.yaml`, and its digest."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Literal

from pydantic import Field

from medsharp.bundle.parts import (
    LATER,
    CheckLimit,
    Combination,
    Growing,
    HeldOut,
    InputCheck,
    OperatingPoint,
    Preprocessing,
    TrainingRecord,
)
from medsharp.bundle.updates import Update


class BundleSpec(Growing):
    """All of `bundle.yaml` but its digest.

    Attributes:
        temperature: What logits are divided by before softmax; 1 where it could not be estimated.
        uncalibrated: Why it could not be: the end of a sentence; empty where it was.
        heatmap_reference: Strong evidence in the bundles of before, whose heat maps had one scale; nothing reads it.
        weights: How the graph stores them; it computes in float32 either way.
        combination: How the graph makes one answer of several; None for one network that sees one view.
        held_out: Figures at each hospital left out wholly; empty where none was measured.
        input_check: Limits of older bundles; None where `checks` stand for it.
        checks: Limits of the input checks, with their rates, by key.
        updates: What `medsharp recalibrate` did, the oldest first; empty for a bundle as it was exported.
    """

    format: int
    name: str
    created: str
    medsharp: str
    classes: tuple[str, ...]
    positive: str
    preprocess: Preprocessing
    temperature: float = Field(gt=0)
    uncalibrated: str = Field("", json_schema_extra=LATER)
    operating_point: OperatingPoint
    input_check: InputCheck | None = Field(None, json_schema_extra=LATER)
    heatmap_reference: float | None = Field(None, gt=0, json_schema_extra=LATER)
    outputs: tuple[str, ...]
    weights: Literal["fp32", "fp16"] = Field("fp32", json_schema_extra=LATER)
    combination: Combination | None = Field(None, json_schema_extra=LATER)
    training: TrainingRecord
    held_out: tuple[HeldOut, ...] = Field((), json_schema_extra=LATER)
    checks: dict[str, CheckLimit] = Field({}, json_schema_extra=LATER)
    updates: tuple[Update, ...] = Field((), json_schema_extra=LATER)
    files: dict[str, str]

    @property
    def exact_map(self) -> bool:
        """Whether the class activation map, where the graph has one, explains the answer's logits exactly."""
        return self.combination is None or self.combination.average == "logits"

    @property
    def pooled(self) -> bool:
        """Whether predictions of members out of their folds fixed the temperature and the operating point."""
        members = self.training.members
        return any(member.out_of_fold < self.exported_point.images for member in members)

    @property
    def exported_point(self) -> OperatingPoint:
        """The operating point as it was exported, before any update."""
        return self.updates[0].parent_point if self.updates else self.operating_point

    @property
    def exported_temperature(self) -> float:
        """The temperature as it was exported: a slope divides it."""
        return self.temperature * math.prod(update.slope for update in self.updates)

    @property
    def decided_on(self) -> str:
        """Which images the operating point was chosen on, in words."""
        local = next((update for update in reversed(self.updates) if update.method != "none"), None)
        if local is not None:
            return f"images of {local.dataset}, its calibration part"
        if self.training.validated_on:
            return f"images of {self.training.validated_on}"
        return "images out of the folds of its members" if self.pooled else "internal validation images"

    @property
    def changelog(self) -> str:
        """How it was made, and its updates, in words."""
        return "; ".join(["written by medsharp export", *(update.sentence() for update in self.updates)])

    @property
    def left_out_itself(self) -> bool:
        """Whether the figures at a hospital left out are of the bundle itself, whose runs left it out."""
        site = self.training.config.get("data", {}).get("leave_site")
        return [(one.site, one.threshold) for one in self.held_out] == [(site, self.operating_point.threshold)]

    @property
    def learned_from(self) -> str:
        """The data sets, and which hospital of theirs all runs left out: what training and internal figures are of."""
        left_out = self.training.config.get("data", {}).get("leave_site")
        return f"{self.training.dataset} without {left_out}" if left_out else self.training.dataset

    @property
    def internal_data(self) -> str:
        """The data set of the internal images: that of training, or what weights from elsewhere were validated on."""
        return self.training.validated_on or self.learned_from

    @property
    def network(self) -> str:
        """The network's name."""
        return self.training.network

    @property
    def optimizer(self) -> str:
        """The optimizer's name, and what it stands on."""
        return str(self.training.optimizer.get("name", ""))


def digest_of(spec: BundleSpec) -> str:
    """Return the SHA-256 over the content of `bundle.yaml`, and so over the hashes of all files."""
    text = json.dumps(spec.model_dump(mode="json"), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
