"""The shapes of the API's answers, and what becomes of an assessment in them."""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, Field

from medsharp.inference.checks import Finding, Outcome, Status
from medsharp.inference.prediction import Side
from serve.engine.draw import Assessment, is_missing
from serve.security.gate import NOTICE

HEATMAP_SIDE = 1024
"""Longest side of a heat map in pixels; it shows some hundred places, however large the image is."""


class FindingAnswer(BaseModel):
    """What an input check found in an image."""

    check: str = Field(description="The check's key; docs/checks.md describes each")
    outcome: Outcome = Field(description="`refusal` (there is no number) or `caution` (mind it beside the number)")
    sentence: str = Field(description="What was found, for a person")
    advice: str = Field(description="What to do about a refusal; empty for a caution")
    value: float | None = Field(description="What was measured; null where that is no number")
    limit: float = Field(description="What it may be")


class BoxAnswer(BaseModel):
    """A part of an image in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


EXAMPLE: dict[str, Any] = {
    "name": "scan.png",
    "probabilities": {"benign": 0.93, "malignant": 0.07},
    "positive_probability": 0.07,
    "threshold": 0.088,
    "side": "below",
    "margin": -0.25,
    "prediction_set": ["benign"],
    "status": "cautioned",
    "reasons": ["very dark"],
    "checks": ["caution:dark"],
    "findings": [
        {"check": "dark", "outcome": "caution", "sentence": "very dark", "advice": "", "value": 3.1, "limit": 10.0}
    ],
    "flags": [],
    "error": None,
    "size": [600, 800],
    "frame": None,
    "box": None,
    "heatmap": None,
    "heatmap_empty": None,
    "model": "bus-lite0",
    "digest": "0" * 64,
    "seconds": 0.12,
    "notice": NOTICE,
}
"""Of an answer."""

FAILED: dict[str, Any] = {
    **EXAMPLE,
    **dict.fromkeys(("probabilities", "positive_probability", "side", "margin", "prediction_set", "size")),
    "reasons": [],
    "checks": [],
    "findings": [],
    "status": "failed",
    "error": "scan.png is not a PNG, JPEG, TIFF, BMP, WebP, GIF or DICOM image",
}
"""Of an image that could not be read."""


class ImageAnswer(BaseModel):
    """What the model says of one image, or why it says nothing."""

    name: str = Field(description="File name as sent, without folders and control characters")
    probabilities: dict[str, float] | None = Field(description="Calibrated probability of each class")
    positive_probability: float | None = Field(description="Calibrated probability of the positive class")
    threshold: float = Field(description="Operating point, fixed on the model's internal validation data")
    side: Side | None = Field(description="`above` from the threshold on, or `below`")
    margin: float | None = Field(description="Distance to the threshold in log odds, negative below it")
    prediction_set: list[str] | None = Field(
        description="The classes that cannot be ruled out: of images like the validation images, at least 90 % of each "
        "label have it in their set; perhaps all of them, perhaps none; null without a number"
    )
    status: Status = Field(
        description="`answered`, `cautioned` (answered, and `reasons` say what to mind), `refused` (`reasons` say why; "
        "no number) or `failed` (`error` says why)"
    )
    reasons: list[str] = Field(description="What the checks found: why there is no number, or what to mind about it")
    checks: list[str] = Field(
        description="Which checks found that, in the same order, as `refusal:key` or `caution:key`"
    )
    findings: list[FindingAnswer] = Field(description="The same with what to do about it and what was measured")
    flags: list[str] = Field(description="How the file was read")
    error: str | None = Field(description="Why the image could not be assessed")
    size: tuple[int, int] | None = Field(description="Height and width of the image in pixels, where it could be read")
    frame: int | None = Field(description="Which frame of a clip this is, counted from 1; null for a file of one image")
    box: BoxAnswer | None = Field(description="The part of the image that was looked at, where one was asked for")
    heatmap: str | None = Field(
        default=None,
        description="PNG data URI, the image under the heat map (warm places speak for the positive class, cold ones "
        f"against it), at most {HEATMAP_SIDE} pixels high and wide; with `heatmap=1` only",
    )
    heatmap_empty: bool | None = Field(
        default=None,
        description="Whether the heat map shows nothing, as the answer lies at the operating point; with `heatmap=1` "
        "only",
    )
    model: str = Field(description="Name of the bundle")
    digest: str = Field(description="SHA-256 of its `bundle.yaml`, which has those of its files")
    seconds: float = Field(description="Wall time of reading the image and of the network")
    notice: str = NOTICE


def answer(assessment: Assessment, threshold: float) -> ImageAnswer:
    """Say in JSON's terms what the model says of one image; one that failed or was refused has null for numbers."""
    prediction = assessment.prediction
    missing = is_missing(prediction.positive_probability)
    box = assessment.box
    return ImageAnswer(
        name=prediction.name,
        probabilities=None if missing else {name: float(value) for name, value in prediction.probabilities.items()},
        positive_probability=None if missing else float(prediction.positive_probability),
        threshold=threshold,
        side=prediction.side,
        margin=None if missing else prediction.margin,
        prediction_set=None if prediction.prediction_set is None else list(prediction.prediction_set),
        status=prediction.status,
        reasons=list(prediction.reasons),
        checks=list(prediction.checks),
        findings=[_finding(finding) for finding in prediction.ordered_findings],
        flags=list(prediction.flags),
        error=prediction.error,
        size=assessment.size,
        frame=prediction.frame,
        box=None if box is None else BoxAnswer(left=box.left, top=box.top, right=box.right, bottom=box.bottom),
        heatmap=assessment.heatmap,
        model=prediction.model,
        digest=prediction.digest,
        seconds=round(prediction.seconds, 6),
        heatmap_empty=None if assessment.evidence is None else not assessment.evidence,
    )


def _finding(finding: Finding) -> FindingAnswer:
    value = float(finding.value)
    return FindingAnswer(
        check=finding.check,
        outcome=finding.outcome,
        sentence=finding.sentence,
        advice=finding.advice,
        value=value if math.isfinite(value) else None,  # which JSON could not say
        limit=float(finding.limit),
    )
