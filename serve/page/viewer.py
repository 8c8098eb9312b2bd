"""The picture of an answer and what can be done with it: zoom, opacity of the heat map, a region, a frame."""

from __future__ import annotations

import html
import re

from medsharp.images import Box
from serve.engine import Assessment
from serve.page.numbers import noun

_FRAME = re.compile(r"frame (\d+) of (\d+)")


def viewer(assessment: Assessment, positive: str) -> str:
    """Draw the image under its heat map, whose opacity the browser changes, in a frame that can be zoomed and scrolled.

    A refused image has no heat map, and neither has one of a network without one.
    """
    if assessment.image is None:
        return ""
    over, slider = "", ""
    if assessment.heatmap is not None:
        over = f'<img class="ms-map" src="{assessment.heatmap}" alt="" draggable="false">'
        slider = (
            '<label class="ms-inline">Heat map <input class="ms-opacity" type="range" min="0" max="100" value="100" '
            'aria-valuetext="100 percent"></label>'
        )
    return (
        '<div class="ms-viewer" data-zoom="1"><div class="ms-frame" tabindex="0" role="region" '
        'aria-label="The image; it scrolls when zoomed"><div class="ms-stack">'
        f'<img src="{assessment.image}" alt="The image as decoded" draggable="false">{over}'
        '<div class="ms-box" hidden></div></div></div>'
        f'<p class="ms-caption">{_caption(assessment, positive)}</p>'
        f'<div class="ms-controls">{slider}<span class="ms-inline" role="group" aria-label="Zoom">'
        '<button type="button" class="ms-zoom" value="-1" aria-label="Zoom out">&minus;</button>'
        '<span class="ms-zoomed" aria-live="polite">100 %</span>'
        '<button type="button" class="ms-zoom" value="1" aria-label="Zoom in">+</button>'
        '<button type="button" class="ms-zoom" value="0">Whole image</button></span></div></div>'
    )


def _caption(assessment: Assessment, positive: str) -> str:
    if assessment.prediction.status == "refused":
        return "The image as decoded."
    if assessment.heatmap is None:
        return "The image as decoded. A heat map is not available for this network."
    if not assessment.evidence:
        return "The heat map is empty: the answer lies at the operating point."
    of = html.escape(noun(positive))
    caption = f"Heat map: warm places speak for {of}, cold ones against it, counted from the operating point."
    if assessment.prediction.heatmap_method == "occlusion":
        caption += " Found by covering one place after another."
    return caption


def frame_of(assessment: Assessment) -> tuple[int, int] | None:
    """Return which frame of how many an answer is of; None for a still image."""
    found = (_FRAME.match(flag) for flag in assessment.prediction.flags)
    return next(((int(one[1]), int(one[2])) for one in found if one), None)


def tools(assessment: Assessment) -> str:
    """Draw the forms that ask anew: of another frame of a clip, and of a region.

    Args:
        assessment: The answer, with an image.
    """
    return _frames(assessment) + _region(assessment.box) + '<div class="ms-message"></div>'


def _frames(assessment: Assessment) -> str:
    found = frame_of(assessment)
    if found is None:
        return ""
    number, count = found
    sharpest = any(flag.endswith("the sharpest") for flag in assessment.prediction.flags)
    state = "the sharpest, which is proposed" if sharpest else "chosen by you"
    back = "" if sharpest else '<button type="button" class="ms-sharpest">The sharpest frame</button>'
    return (
        f'<form class="ms-frames"><fieldset><legend>Clip of {count} frames</legend>'
        f"<p>This answer is of frame {number}, {state}.</p>"
        f'<label class="ms-inline">Frame <input type="range" name="frame" min="1" max="{count}" '
        f'value="{number}"></label>'
        f'<input type="number" name="number" min="1" max="{count}" value="{number}" aria-label="Number of the frame">'
        f"<button>Assess this frame</button>{back}</fieldset></form>"
    )


def _region(box: Box | None) -> str:
    values = (box.left, box.top, box.right, box.bottom) if box else ("", "", "", "")
    sides = "".join(
        f'<label class="ms-inline">{name.capitalize()} <input name="{name}" type="number" min="0" value="{value}" '
        'inputmode="numeric"></label>'
        for name, value in zip(("left", "top", "right", "bottom"), values, strict=True)
    )
    whole = '<button type="button" class="ms-whole">The whole image again</button>' if box else ""
    of = "This answer is of the region below. " if box else ""
    return (
        '<form class="ms-region" novalidate><fieldset><legend>Region of interest</legend>'
        f"<p>{of}Only the region is assessed then, as if the image had been cropped to it.</p>"
        '<label class="ms-inline"><input type="checkbox" class="ms-drawing"> Draw it on the image</label>'
        f'<div class="ms-sides">{sides}<span class="ms-small">pixels</span></div>'
        f"<button>Assess this region</button>{whole}</fieldset></form>"
    )
