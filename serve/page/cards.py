"""HTML of what the page shows: one image's answer, the table of several, errors, and what the model is."""

from __future__ import annotations

import html
from collections.abc import Sequence

from medsharp.inference.checks import Finding
from serve.engine.assess import Assessment, is_missing

_FLAGS = {
    "colour": "Colour image, converted to grey: the model was not made for Doppler or photographs of a screen.",
    "alpha": "Image with transparency, laid on black.",
    "cmyk": "CMYK image, converted to grey.",
    "palette": "Palette image, converted to grey.",
    "16-bit": "Image of more than 8 bits, scaled to 8.",
    "upper bits unused": "Its values use less than a quarter of their 16 bits, so that it may be far too dark.",
    "floating-point": "Image of floating-point numbers, scaled to 8 bits.",
    "undefined pixels": "Some pixels were no number and are shown black.",
    "values beyond the declared range": "Some values were beyond the declared range and were cut.",
    "signed values without a window": "Signed values without a window, shown over their whole range.",
    "colour label corrected": "The DICOM file's colour label contradicted its data, which was believed.",
    "colour label doubtful": "The DICOM file's colour label hardly fits its pixels: the greys may be wrong.",
    "burned-in annotation": "The DICOM file says that text, perhaps a name, is part of its pixels.",
    "dicom": "Read from DICOM: the pixels, and what the file says of how to show them; nothing about the patient.",
    "rotated": "Turned as its EXIF orientation says.",
    "cropped to the ultrasound region": "Cropped to the ultrasound region that the DICOM file names.",
}
_HARMLESS = frozenset({"dicom", "palette", "rotated", "cropped to the ultrasound region"})


def _is_fact(flag: str) -> bool:
    """Whether a flag only says how the file was read; the others are warnings."""
    return flag in _HARMLESS or flag.startswith("frame ")


def result(assessments: Sequence[Assessment], positive: str, threshold: float) -> str:
    """Draw the answers of one upload: the detail of a single image, or a table with the details folded below.

    Args:
        assessments: One an image.
        positive: Name of the class whose probability is shown, such as "malignant".
        threshold: The frozen operating point, 0 to 1.
    """
    if len(assessments) == 1:
        return detail(assessments[0], positive, threshold)
    rows = "".join(_row(assessment, positive, threshold) for assessment in assessments)
    folded = "".join(
        f"<details><summary>{html.escape(assessment.prediction.name)}</summary>"
        f"{detail(assessment, positive, threshold)}</details>"
        for assessment in assessments
        if assessment.prediction.error is None
    )
    return (
        f'<div class="ms-table"><table><caption>{_caption(assessments)}</caption><thead><tr><th>Image</th>'
        f"<th>Probability<br>of {html.escape(noun(positive))}</th><th>Operating point<br>{percent(threshold)}</th>"
        f"<th>Remarks</th></tr></thead><tbody>{rows}</tbody></table></div>{folded}"
    )


def _caption(assessments: Sequence[Assessment]) -> str:
    """Say how many images there are, and how many of them have no answer and why."""
    statuses = [assessment.prediction.status for assessment in assessments]
    kinds = (("refused", "refused"), ("failed", "could not be read"))
    silent = [f"{statuses.count(status)} {words}" for status, words in kinds if status in statuses]
    return f"{len(assessments)} images" + (f"; without an answer: {', '.join(silent)}" if silent else "")


def detail(assessment: Assessment, positive: str, threshold: float) -> str:
    """Draw one image, its heat map, the probability with the operating point on the bar, and how far it is from it.

    What a check marks stands above the number; what a check refuses has neither number nor heat map.
    """
    prediction = assessment.prediction
    if prediction.status == "refused":
        return refusal(assessment, positive)
    if prediction.error is not None or is_missing(prediction.positive_probability):
        return problem(prediction.error or f"{prediction.name} could not be assessed")
    probability = prediction.positive_probability
    above = probability >= threshold
    side = "above" if above else "below"
    points = f"{100 * abs(probability - threshold):.1f}\N{NO-BREAK SPACE}percentage points"
    words = f"<b>{'At or above' if above else 'Below'} the operating point</b>, by {points}."
    beside = html.escape(probability_beside(probability, threshold))
    marked = bool(prediction.reasons)
    label = f"Probability of {html.escape(noun(positive))}{', with caution' if marked else ''}"
    return (
        f'<section class="ms-card"><div class="ms-name">{_title(assessment)}</div>{_remarks(prediction.reasons)}'
        f'<div class="ms-figures"><div><div class="ms-label">{label}</div>'
        f'<div class="ms-number{" ms-marked" if marked else ""}">{beside}</div></div>'
        f'<div class="ms-verdict ms-{side}">{words}</div></div>'
        f"{_bar(probability, threshold)}{_remarks(prediction.flags)}"
        f'<div class="ms-pictures">{_picture(assessment.image, "Image as decoded")}'
        f"{_heatmap(assessment, positive)}</div></section>"
    )


def refusal(assessment: Assessment, positive: str) -> str:
    """Say why there is no answer and what to do; the image is shown as it was decoded, without number, bar or map."""
    prediction = assessment.prediction
    refusals = refusals_of(assessment)
    why = "".join(f"<li>{html.escape(sentence(found.sentence))}</li>" for found in refusals)
    advice = " ".join(dict.fromkeys(sentence(found.advice) for found in refusals))
    image = f'<div class="ms-pictures">{_picture(assessment.image, "Image as decoded")}</div>'
    return (
        f'<section class="ms-card"><div class="ms-name">{_title(assessment)}</div>'
        f'<div class="ms-refusal"><p><b>No answer.</b> The model does not judge this image:</p><ul>{why}</ul>'
        f"<p><b>What to do:</b> {html.escape(advice)} If that was done, the model cannot judge this image.</p>"
        f"<p><b>No answer is not an all-clear:</b> it says nothing about {html.escape(noun(positive))}.</p></div>"
        f"{_remarks(prediction.flags)}{image if assessment.image else ''}</section>"
    )


def refusals_of(assessment: Assessment) -> list[Finding]:
    """Return what an image was refused for; what is merely marked in it says nothing more."""
    return [found for found in assessment.prediction.findings if found.outcome == "refusal"]


def _heatmap(assessment: Assessment, positive: str) -> str:
    of = html.escape(noun(positive))
    if assessment.heatmap is None:
        return _picture(None, "Heat map")
    if not assessment.evidence:
        return _picture(assessment.heatmap, "The heat map is empty: the answer lies at the operating point.")
    caption = f"Heat map: warm places speak for {of}, cold ones against it, counted from the operating point."
    if assessment.prediction.heatmap_method == "occlusion":
        caption += " Found by covering one place after another."
    return _picture(assessment.heatmap, caption)


def problem(sentence: str) -> str:
    """Say what went wrong, and what to do, in one sentence."""
    return f'<div class="ms-problem" role="alert"><b>Not assessed.</b> {html.escape(sentence)}</div>'


def percent(value: float) -> str:
    """Write a share as people read it; what is rounded is never 0 % or 100 %."""
    if 0.0 < value < 0.001:
        return "< 0.1\N{NO-BREAK SPACE}%"
    if 0.999 < value < 1.0:
        return "> 99.9\N{NO-BREAK SPACE}%"
    return f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def probability_beside(value: float, threshold: float) -> str:
    """Write a probability, never as 0 % or 100 %, which no model may claim, and never as the operating point it misses.

    Args:
        value: The probability.
        threshold: The operating point, which is shown beside it by `percent`.
    """
    shown = percent(min(max(value, 1e-9), 1 - 1e-9))
    if value < threshold and shown == percent(threshold):
        return f"just below {shown}"
    return shown


def noun(positive: str) -> str:
    """Turn the name of the positive class into what the probability is of."""
    return {"malignant": "malignancy"}.get(positive, positive)


def _title(assessment: Assessment) -> str:
    size = f" <span>{assessment.size[1]} by {assessment.size[0]} pixels</span>" if assessment.size else ""
    return html.escape(assessment.prediction.name) + size


def _bar(probability: float, threshold: float) -> str:
    fill, mark = 100 * probability, 100 * threshold
    # The words under the mark must not leave the bar on a phone.
    anchor = "start" if mark < 30 else "end" if mark > 70 else "middle"
    return (
        f'<div class="ms-bar" role="img" aria-label="{html.escape(probability_beside(probability, threshold))}, '
        f'operating point {percent(threshold)}">'
        f'<div class="ms-track"><div class="ms-fill" style="width:{fill:.2f}%"></div></div>'
        f'<div class="ms-mark" style="left:{mark:.2f}%"></div>'
        f'<div class="ms-point ms-{anchor}" style="left:{mark:.2f}%">operating point {percent(threshold)}</div></div>'
    )


def _remarks(flags: Sequence[str]) -> str:
    items = ""
    for flag in flags:
        kind = "ms-fact" if _is_fact(flag) else "ms-warning"
        items += f'<li class="{kind}">{html.escape(_FLAGS.get(flag, sentence(flag)))}</li>'
    return f'<ul class="ms-remarks">{items}</ul>' if items else ""


def sentence(words: str) -> str:
    """Give words a capital and a full stop."""
    words = words.strip()
    return words[:1].upper() + words[1:] + ("" if words.endswith((".", "!", "?")) else ".")


def _picture(uri: str | None, caption: str) -> str:
    picture = (
        f'<img src="{uri}" alt="{caption}">' if uri else '<div class="ms-none">Not available for this network.</div>'
    )
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def _row(assessment: Assessment, positive: str, threshold: float) -> str:
    prediction = assessment.prediction
    name = html.escape(prediction.name)
    if prediction.error is not None:
        return f'<tr class="ms-failed"><td>{name}</td><td colspan="3">{html.escape(prediction.error)}</td></tr>'
    if prediction.status == "refused":
        why = html.escape(" ".join(sentence(found.sentence) for found in refusals_of(assessment)))
        return f'<tr class="ms-silent"><td>{name}</td><td colspan="3"><b>No answer.</b> {why}</td></tr>'
    above = prediction.positive_probability >= threshold
    side = "at or above" if above else "below"
    warnings = "; ".join(html.escape(flag) for flag in prediction.flags if not _is_fact(flag))
    start = f"<tr><td>{name}</td>"
    if prediction.reasons:
        # Above the number, not behind it.
        why = html.escape(" ".join(map(sentence, prediction.reasons)))
        start = (
            f'<tr class="ms-cautioned"><td rowspan="2">{name}</td><td colspan="3"><b>Caution:</b> {why}</td></tr><tr>'
        )
    return (
        f'{start}<td class="ms-cell{" ms-marked" if prediction.reasons else ""}">'
        f"{html.escape(probability_beside(prediction.positive_probability, threshold))}</td>"
        f'<td><span class="ms-pill ms-{"above" if above else "below"}">{side}</span></td><td>{warnings}</td></tr>'
    )
