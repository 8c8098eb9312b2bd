"""What an audit can find, how bad it is, and what the strict policy does about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding harms a training or an evaluation."""

    error = "error"
    warning = "warning"
    note = "note"


class Action(StrEnum):
    """What becomes of an image in the manifest."""

    exclude = "exclude"
    group = "group"
    flag = "flag"
    none = "none"


class Policy(StrEnum):
    """Whether the manifest is changed."""

    strict = "strict"
    report = "report"


MOST_EXCLUDED = 0.2
"""Share of a data set that one kind may exclude by itself; more is more likely a wrong measure than a wrong image."""

LEAST_EXCLUDED = 3
"""Images from which on a share says something; one of four images is no pattern."""


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        name: As it stands in `findings.csv` and in the column `flags`.
        title: As the page calls it.
        severity: How bad it is.
        action: Under the policy `strict`.
        meaning: Why it matters, and what to do.
        paired: Whether a finding is about two images.
    """

    name: str
    title: str
    severity: Severity
    action: Action
    meaning: str
    paired: bool = False


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with an image, a pair of images, or a data set (`image` empty).

    Attributes:
        dataset: Name of the data set.
        image: As `medsharp.data.manifest.name_of` calls its row: the path, with `#12` where the row is of one frame;
            empty for the whole data set.
        kind: A key of `KINDS`.
        detail: What was measured, in words.
        action: What was done to the image.
        other_image: Of a pair.
        other_dataset: Where the other image is.
        distance: Differing bits of 256; None where no hash is meant.
        similarity: Correlation of the fine structure; None where no pair is meant.
    """

    dataset: str
    image: str
    kind: str
    detail: str
    action: Action
    other_image: str = ""
    other_dataset: str = ""
    distance: int | None = None
    similarity: float | None = None


@dataclass(frozen=True)
class Suspension:
    """A kind of finding that would exclude so much of a data set that nobody should let it do so unseen.

    Attributes:
        dataset: Name of the data set.
        kind: A key of `KINDS`.
        count: Images that it would exclude.
        images: Images that were looked at.
        accepted: Whether it was accepted, so that they are excluded.
    """

    dataset: str
    kind: str
    count: int
    images: int
    accepted: bool

    def __str__(self) -> str:
        title = KINDS[self.kind].title
        found = f"{self.dataset}: {title[0].lower()}{title[1:]} on {self.count:,} of {self.images:,} images"
        share = f"{found} ({self.count / self.images:.0%})"
        if self.accepted:
            return f"{share}; they are excluded, as accepted"
        return f"{share}; they are flagged, not excluded: look at some, then give --accept {self.kind} if it is right"


_E, _W, _N = Severity.error, Severity.warning, Severity.note

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("unreadable", "Unreadable", _E, Action.exclude, "No image can be decoded from the file."),
        Kind("constant", "Constant", _E, Action.exclude, "Every pixel has the same grey."),
        Kind(
            "contradictory",
            "One picture, two labels",
            _E,
            Action.exclude,
            "The same or nearly the same picture stands under different labels. Nobody can tell from the images which "
            "label is right, so that all of them are left out.",
            paired=True,
        ),
        Kind(
            "between",
            "In two data sets",
            _E,
            Action.exclude,
            "The picture is in another data set too: whoever trains on one and evaluates on the other measures memory. "
            "It is left out of the data set that was named later.",
            paired=True,
        ),
        Kind(
            "exact",
            "Exact copies",
            _W,
            Action.exclude,
            "The same pixels again under the same label. The first stays.",
            paired=True,
        ),
        Kind(
            "near",
            "Near-duplicates",
            _W,
            Action.group,
            "Neighbouring frames, the same frame with other calipers, or the same image saved again. They share a "
            "group, which no split divides.",
            paired=True,
        ),
        Kind(
            "mirrored",
            "Mirrored copies",
            _W,
            Action.group,
            "One image is the other, left and right exchanged. They share a group.",
            paired=True,
        ),
        Kind(
            "crop",
            "Parts of another image, and further frames",
            _W,
            Action.group,
            "The images show one scene at other borders, scales or a little later: a crop, a zoom, or frames of one "
            "scan. They share a group.",
            paired=True,
        ),
        Kind(
            "patient-labels",
            "Patients with different labels",
            _W,
            Action.flag,
            "May be right, as a patient can have two lesions; check that the labels are those of the images.",
        ),
        Kind(
            "doppler",
            "Colour Doppler",
            _W,
            Action.exclude,
            "Flow is drawn in red and blue over the tissue; in grey it looks like bright tissue. A model for B-mode "
            "images should not meet it. Where the data set's table has a column doppler, the column decides.",
        ),
        Kind(
            "dual-view",
            "Two scans in one image",
            _W,
            Action.flag,
            "The label may belong to one half only. Found by a gap or a seam near the middle; where the data set's "
            "table has a column combined, the column decides.",
        ),
        Kind("tiny", "Tiny", _W, Action.flag, "The shorter side has less than 64 pixels: speckle is gone."),
        Kind(
            "shape",
            "Oddly shaped",
            _N,
            Action.flag,
            "More than twice as wide as high, or the reverse. A letterbox leaves few pixels of it.",
        ),
        Kind(
            "mask-size",
            "Masks of another size",
            _W,
            Action.flag,
            "The mask does not lie on the image. Where lesions are looked at, one that lies on its side is refused, "
            "and any other is stretched onto the image.",
        ),
        Kind("mask-missing", "Masks that are missing or unreadable", _W, Action.flag, "The manifest names a mask."),
        Kind(
            "mask-doubtful",
            "Masks that may mean something else",
            _W,
            Action.flag,
            "All of an image or its border is marked, as in an inverted mask, or grey areas are not; or the image is "
            "stored turned or mirrored, and nothing says whether its mask is too.",
        ),
        Kind(
            "values",
            "Doubtful greys",
            _W,
            Action.flag,
            "The range of stored values or the kind of colours is not what the file says, or nothing says it; declare "
            "`range: [LOW, HIGH]` in manifest.yaml. An image of two greys only is rather a mask.",
        ),
        Kind("mask-empty", "Empty masks", _N, Action.flag, "A lesion is labelled, but no pixel of the mask is set."),
        Kind(
            "table-size",
            "Size differs from the data set's table",
            _W,
            Action.flag,
            "The aspect ratio of the file is not that of the width and height which the data set's own table gives: "
            "the image was cropped or exchanged, and boxes of the table do not fit it.",
        ),
        Kind(
            "colour",
            "Coloured drawings",
            _N,
            Action.flag,
            "Coloured pixels that are no flow: calipers, text, a body marker, the frame of a Doppler window, or a tint "
            "of the whole image.",
        ),
        Kind(
            "calipers",
            "Calipers",
            _N,
            Action.flag,
            "Looks like measuring crosses. They were put there by someone who saw a lesion, and a model may learn "
            "them. Where the data set's table has a column marks, the column decides.",
        ),
        Kind(
            "text",
            "Burned-in text",
            _N,
            Action.flag,
            "Looks like a line of letters. It may tell the site, the side or even the patient. Short words are missed.",
        ),
        Kind("ruler", "Rulers", _N, Action.flag, "A scale of ticks stands in the image; it tells the scanner."),
        Kind(
            "column",
            "Columns that could not be read",
            _W,
            Action.none,
            "The column decides what the audit would otherwise look for in the pixels; cells that are neither yes nor "
            "no decide nothing, and the pixels are looked at.",
        ),
        Kind(
            "patient",
            "Patients with several images",
            _N,
            Action.group,
            "They share a group, which no split divides; intervals are over patients.",
        ),
        Kind(
            "balance",
            "Sites or devices whose classes differ",
            _W,
            Action.none,
            "Where one scanner has many more malignant images than another, a model can read the scanner instead of "
            "the lesion. Look at the figures by site and device.",
        ),
        Kind(
            "reduced",
            "Images smaller than the data set's table says",
            _N,
            Action.none,
            "The aspect ratios agree: this is a reduced copy of the data set.",
        ),
    )
}
"""In the order of the page."""
