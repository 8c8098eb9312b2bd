"""What a model says of one image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from medsharp.inference.checks.finding import Finding, Status


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image, or why it says nothing.

    Attributes:
        name: The image; `scan.dcm#12` for a frame that was asked for.
        probabilities: Calibrated, by class; empty where there is an error or the image is refused.
        positive_probability: Of the positive class; NaN where there is none.
        decision: A class, or `not <positive>` with more than two classes; decided at the frozen operating point.
        flags: What to know of how the image was read, such as `colour`.
        findings: Of the checks; with a refusal there is no number, unless the predictor was told to answer anyway.
        error: Why the image could not be read, or None.
        source: The image, without a frame.
        frame: Which frame of a clip it is, counted from 1; None for a file of one image.
        heatmap_method: How `heatmap` finds the evidence: `class activation map`, which adds up to the logits; `mean
            class activation map`, the mean of those of an ensemble's members, which adds up to the mean of their
            logits and not quite to the answer, a mean of probabilities; or `occlusion`.
    """

    name: str
    probabilities: dict[str, float] = field(default_factory=dict)
    positive_probability: float = math.nan
    decision: str = ""
    flags: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    error: str | None = None
    source: str = ""
    frame: int | None = None
    heatmap_method: str = ""
    _explain: Callable[[int | None], np.ndarray] | None = field(default=None, repr=False, compare=False)

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
        ordered = sorted(self.findings, key=lambda finding: finding.outcome != "refusal")
        return tuple(finding.sentence for finding in ordered)

    def heatmap(self, longest_side: int | None = None) -> np.ndarray | None:
        """Return where the evidence for the positive class is: float32 [H, W] from 0 to 1 on the original image.

        Made when asked for; None when there is an error.

        Args:
            longest_side: Draw it at most this many pixels high and wide, for an image of which no more is shown; of
                the original's size by default.
        """
        return None if self._explain is None else self._explain(longest_side)
