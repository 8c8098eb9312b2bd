"""The curves of one image's probability under corruption, as a table with small plots."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

from medsharp.inference import Prediction
from medsharp.inference.prediction import log_odds
from medsharp.robustness.corruptions import Corruption
from serve.page.meaning import Background
from serve.page.numbers import noun, percent, probability_beside

_WIDTH, _HEIGHT = 120, 36
_SEVERITIES = (1, 3, 5)


@dataclass(frozen=True)
class Curve:
    """The answers under one corruption, at each severity in ascending order; refused ones too."""

    corruption: Corruption
    answers: tuple[Prediction, ...]


@dataclass(frozen=True)
class Undrawn:
    """The answer without what was drawn onto the image.

    Attributes:
        kinds: What was found; empty where nothing was.
        before: The answer to the image as it is.
        after: The answer without it; None where nothing was found.
        pictures: Data URIs of both images.
    """

    kinds: tuple[str, ...]
    before: Prediction
    after: Prediction | None
    pictures: tuple[str, str] | None = None


def robustness_table(
    of: str, clean: Prediction, curves: Sequence[Curve], undrawn: Undrawn, background: Background, family: str
) -> str:
    """Draw the table of one family, and above it both answers where drawings were found.

    Args:
        of: The image, and which part and frame of it.
        clean: The answer to it.
        curves: The answers under each corruption.
        undrawn: The answer without drawings.
        background: Of the model that answered.
        family: What the corruptions are.
    """
    threshold = background.threshold
    changed = sum(any(_flips(one, clean) for one in curve.answers) for curve in curves)
    said = (
        f"{of}: the decision changes under {changed} of {len(curves)} corruptions at one severity or another."
        if changed
        else f"{of}: the decision changes under none of {len(curves)} corruptions."
    )
    head = "".join(f'<th scope="col">Severity {severity}</th>' for severity in _SEVERITIES)
    rows = "".join(_row(curve, clean, threshold) for curve in curves)
    return (
        f'<div class="ms-robustness" data-said="{html.escape(said)}"><p><b>{html.escape(said)}</b> As it is, the '
        f"probability of {html.escape(noun(background.positive))} is {_number(clean, threshold)}, the operating point "
        f'{percent(threshold)}.</p>{_drawings(undrawn, threshold)}<div class="ms-table"><table>'
        f'<caption>{html.escape(family)}</caption><thead><tr><th scope="col">Corruption</th><th scope="col">Curve</th>'
        f"{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="ms-small">Severities go from 1 (mild) to 5; the dashed line of a curve is the operating point, its '
        "scale that of log odds. One image says how this answer behaves and nothing of "
        "how the model does in general: <code>medsharp robustness</code> measures that on a data set.</p></div>"
    )


def _row(curve: Curve, clean: Prediction, threshold: float) -> str:
    cells = "".join(
        f'<td class="ms-cell{" ms-flips" if _flips(one, clean) else ""}">{_number(one, threshold)}'
        f"{' <b>changes</b>' if _flips(one, clean) else ''}</td>"
        for one in curve.answers
    )
    title = html.escape(curve.corruption.name.replace("_", " "))
    about = html.escape(curve.corruption.description)
    return (
        f'<tr><th scope="row">{title}<br><span>{about}</span></th>'
        f"<td>{_plot([clean, *curve.answers], threshold)}</td>{cells}</tr>"
    )


def _flips(one: Prediction, clean: Prediction) -> bool:
    return one.side is not None and one.side != clean.side


def _number(one: Prediction, threshold: float) -> str:
    if one.side is None:
        return "no answer"
    return html.escape(probability_beside(one.positive_probability, threshold))


def _plot(answers: Sequence[Prediction], threshold: float) -> str:
    """Draw probability over severity, with the operating point; what has no answer is left out."""
    places = [0, *_SEVERITIES]
    points = [
        (4 + (_WIDTH - 8) * place / places[-1], _height(one.positive_probability))
        for place, one in zip(places, answers, strict=True)
        if one.side is not None
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>' for x, y in points)
    at = _height(threshold)
    return (
        f'<svg class="ms-plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" aria-hidden="true">'
        f'<line x1="0" x2="{_WIDTH}" y1="{at:.1f}" y2="{at:.1f}"/><polyline points="{line}"/>{dots}</svg>'
    )


def _height(probability: float) -> float:
    """Return where a probability lies in the plot, from 0.5 to 99.5 % on the scale of log odds."""
    most = log_odds(0.995)
    share = (min(max(log_odds(probability), -most), most) + most) / (2 * most)
    return 3 + (_HEIGHT - 6) * (1 - share)


def _drawings(undrawn: Undrawn, threshold: float) -> str:
    title = "<h3>With and without calipers and text</h3>"
    if undrawn.after is None or undrawn.pictures is None:
        return f"{title}<p>No calipers, text or ruler were found on this image.</p>"
    figures = "".join(
        f'<figure><img src="{uri}" alt="{what}"><figcaption>{what}: <b>{_number(one, threshold)}</b></figcaption>'
        "</figure>"
        for uri, what, one in zip(
            undrawn.pictures,
            ("As it is", "Without them, filled from around"),
            (undrawn.before, undrawn.after),
            strict=True,
        )
    )
    changes = "The decision changes." if _flips(undrawn.after, undrawn.before) else "The decision stays."
    return f'{title}<p>Found: {", ".join(undrawn.kinds)}. {changes}</p><div class="ms-pictures">{figures}</div>'
