"""What a model says of one image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from medsharp.inference.checks.finding import Finding, Status

if TYPE_CHECKING:
    from medsharp.inference.saliency import Saliency

DISPLAY_SIDE = 1024
"""Longest side in pixels at which a map is drawn unless told otherwise; what it shows has some hundred places."""

Side = Literal["above", "below"]

_LEAST_SHARE = 1e-12
"""Probabilities are at least so far from 0 and 1 where their log odds are taken, which are then at most 27.6."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image, or why it says nothing.

    Attributes:
        name: The image; `scan.dcm#12` for a frame that was asked for.
        probabilities: Calibrated, by class; empty where there is an error or the image is refused.
        positive_probability: Of the positive class; NaN where there is none.
        threshold: The frozen operating point, a probability of the positive class; NaN where there is no number.
        flags: What to know of how the image was read, such as `colour`.
        findings: Of the checks; with a refusal there is no number, unless the predictor was told to answer anyway.
        error: Why the image could not be read, or None.
        source: The image, without a frame.
        frame: Which frame of a clip it is, counted from 1; None for a file of one image.
        heatmap_method: How `heatmap` finds the evidence: `class activation map`, which adds up to the logits; `mean
            class activation map`, the mean of those of an ensemble's members, which adds up to the mean of their
            logits and not quite to the answer, a mean of probabilities; or `occlusion`.
        prediction_set: The classes that cannot be ruled out (`medsharp.bundle.prediction_sets`), perhaps none or all;
            None without a number, or where the bundle has no validation predictions.
        model: Name of the bundle.
        digest: SHA-256 of its `bundle.yaml`, and so of all its files.
        seconds: Wall time of reading the image and making it ready, and its share of its batch's.
        picture: The image as it is shown, uint8 [h, w], where that was asked for.
    """

    name: str
    probabilities: dict[str, float] = field(default_factory=dict)
    positive_probability: float = math.nan
    flags: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    error: str | None = None
    source: str = ""
    frame: int | None = None
    heatmap_method: str = ""
    threshold: float = math.nan
    prediction_set: tuple[str, ...] | None = None
    model: str = ""
    digest: str = ""
    seconds: float = field(default=0.0, compare=False)
    picture: np.ndarray | None = field(default=None, repr=False, compare=False)
    _explain: Callable[[int], Saliency] | None = field(default=None, repr=False, compare=False)

    @property
    def side(self) -> Side | None:
        """On which side of the operating point the probability lies: `above` from it on; None without a number."""
        if math.isnan(self.positive_probability):
            return None
        return "above" if self.positive_probability >= self.threshold else "below"

    @property
    def margin(self) -> float:
        """Distance to the operating point in log odds, negative below it; NaN without a number."""
        return log_odds(self.positive_probability) - log_odds(self.threshold)

    @property
    def margin_points(self) -> float:
        """The same distance in percentage points of probability."""
        return 100 * (self.positive_probability - self.threshold)

    @property
    def status(self) -> Status:
        """What became of the image; `refused` too where it was answered anyway."""
        if self.error is not None:
            return "failed"
        if any(finding.outcome == "refusal" for finding in self.findings):
            return "refused"
        return "cautioned" if self.findings else "answered"

    @property
    def reasons(self) -> tuple[str, ...]:
        """The sentences of the findings, refusals first."""
        return tuple(finding.sentence for finding in self.ordered_findings)

    @property
    def checks(self) -> tuple[str, ...]:
        """Which checks found that, in the same order, each with what follows: `refusal:dark`, `caution:clipped`."""
        return tuple(f"{finding.outcome}:{finding.check}" for finding in self.ordered_findings)

    @property
    def ordered_findings(self) -> list[Finding]:
        """The findings, refusals first."""
        return sorted(self.findings, key=lambda finding: finding.outcome != "refusal")

    def saliency(self, longest_side: int = DISPLAY_SIDE) -> Saliency | None:
        """Return where the evidence is, in log odds from the operating point; made when asked for.

        Args:
            longest_side: Draw it at most this many pixels high and wide, and never larger than the image.

        Returns:
            None without a number.
        """
        return None if self._explain is None else self._explain(longest_side)

    def heatmap(self, longest_side: int = DISPLAY_SIDE) -> np.ndarray | None:
        """Return the same for drawing: float32 [h, w], from -1, against the positive class, to 1, for it."""
        saliency = self.saliency(longest_side)
        return None if saliency is None else saliency.shades


def log_odds(share: float) -> float:
    """Return the natural logarithm of the odds of a probability: finite, but NaN of NaN."""
    if math.isnan(share):
        return math.nan
    inside = min(max(share, _LEAST_SHARE), 1 - _LEAST_SHARE)
    return math.log(inside / (1 - inside))
