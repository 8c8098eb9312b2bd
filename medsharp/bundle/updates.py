"""The lineage of a bundle: what was changed on local data, by which tests, and what that brought."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from medsharp.bundle.parts import Figure, OperatingPoint, Part

UpdateMethod = Literal["none", "intercept", "slope", "threshold"]
"""What is changed on local data; `slope` is intercept and slope, and both bring a threshold of their own."""


class LocalPart(Part):
    """One of the two parts of the local data: its patients (or groups of near-duplicates), images and positives.

    Attributes:
        patients: Patients, or groups of near-duplicates where patients are not known.
        positive_patients: Those with an image of the positive class.
        images: How many were predicted; `positives` of them are of the positive class.
    """

    patients: int
    positive_patients: int
    images: int
    positives: int


class NestedTest(Part):
    """A test of one update against a more extensive one.

    Attributes:
        kept: What is kept where the test is not significant.
        against: The more extensive update.
        statistic: Twice the difference of the log likelihoods.
        df: How many parameters more.
        design_effect: How far images of a patient inflate the statistic; it is divided by this.
        p: Of the statistic so corrected.
    """

    kept: UpdateMethod
    against: UpdateMethod
    statistic: float
    df: int
    design_effect: float
    p: float

    def sentence(self) -> str:
        """Say in words what was tested and what came out: a sentence without a full stop."""
        return (
            f"{self.kept} or {self.against}: likelihood ratio {self.statistic:.2f} on {self.df} degrees of freedom, "
            f"design effect {self.design_effect:.2f}, p = {self.p:.2g}"
        )


class Update(Part):
    """One update of a bundle on local data: its lineage.

    Attributes:
        parent: Name of the bundle that was updated, and `parent_digest`, that of its `bundle.yaml`.
        created: The day; `medsharp`, the version that did it.
        method: What was changed.
        chosen_by: `closed test`, or `asked` where the method was given.
        tests: The closed test, in the order in which it was made; empty where the method was given.
        intercept: `a` of `logit(new) = a + b logit(old)`, of the positive class; 0 where it was not changed.
        slope: `b`; 1 where it was not changed.
        parent_point: The operating point before.
        dataset: The local data, of which `calibration` changed the bundle and `evaluation` measured it.
        share: Asked for the calibration part, of the images.
        seed: Of the drawing of parts.
        parts: SHA-256 of the list of parts, written before any image was predicted.
        before: Figures of the parent on the evaluation part, with 95 % intervals.
        after: Those of the updated bundle.
        change: After minus before, paired over the same resamples.
    """

    parent: str
    parent_digest: str
    created: str
    medsharp: str
    method: UpdateMethod
    chosen_by: Literal["closed test", "asked"]
    tests: tuple[NestedTest, ...] = ()
    intercept: float
    slope: float = Field(gt=0)
    parent_point: OperatingPoint
    dataset: str
    calibration: LocalPart
    evaluation: LocalPart
    share: float
    seed: int
    parts: str
    before: dict[str, Figure]
    after: dict[str, Figure]
    change: dict[str, Figure]

    def sentence(self) -> str:
        """Say in words what was done to which bundle: a sentence without a full stop."""
        part = self.calibration
        who = (
            f"{part.images} images of {part.patients} patients or groups of {self.dataset} "
            f"({part.positive_patients} with a positive image)"
        )
        parent = f"{self.parent} (digest {self.parent_digest[:12]})"
        return f"{parent} was updated on {who} on {self.created}: {self._changes()}"

    def _changes(self) -> str:
        if self.method == "none":
            return "nothing was changed"
        if self.method == "threshold":
            return "the threshold alone was chosen anew"
        slope = f", slope {self.slope:.4f}" if self.method == "slope" else ""
        return f"intercept {self.intercept:+.4f}{slope} of the log odds, and a threshold chosen anew on that scale"
