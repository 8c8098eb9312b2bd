"""The slider that shows what other thresholds would bring; the frozen operating point it never moves."""

from __future__ import annotations

import html
import json
from dataclasses import asdict

from serve.page.meaning import Background
from serve.page.numbers import interval, percent


def threshold_slider(background: Background, probability: float) -> str:
    """Draw a slider over thresholds with the sensitivity and specificity of each on the validation images.

    Args:
        background: Of the model that answered.
        probability: Of the image, of which is said on which side of the slider's threshold it would lie.
    """
    rates, validation = background.rates, background.validation
    if not rates or validation is None:
        return '<p class="ms-small">What other thresholds would bring is not known: no validation predictions.</p>'
    start = next(n for n, one in enumerate(rates) if one.threshold == background.threshold)
    at = rates[start]
    table = [{key: _rounded(value) for key, value in asdict(one).items()} for one in rates]
    side = "at or above" if probability >= at.threshold else "below"
    unit = "" if validation.resampled.startswith("images") else f"; intervals over {validation.resampled}"
    return (
        f'<details class="ms-threshold" data-probability="{probability:.9f}" '
        f"data-rates='{html.escape(json.dumps(table))}'>"
        "<summary>What would another threshold bring?</summary>"
        f'<label>Threshold <input type="range" min="0" max="{len(rates) - 1}" value="{start}" '
        f'aria-valuetext="{percent(at.threshold)}"></label>'
        f'<p aria-live="polite">At <b class="ms-at">{percent(at.threshold)}</b>, in the validation data: sensitivity '
        f'<span class="ms-sensitivity">{percent(at.sensitivity)} ({interval(at.sensitivity_interval)})</span>, '
        f'specificity <span class="ms-specificity">{percent(at.specificity)} ({interval(at.specificity_interval)})'
        f'</span>. This image would be <span class="ms-would">{side}</span>.</p>'
        f'<p class="ms-small">Validation data: {html.escape(validation.name)}, {len(validation.scores)} images{unit}. '
        f"To look only: the operating point of this model stays {percent(background.threshold)}, as it was frozen, in "
        "every answer and everything that is saved.</p></details>"
    )


def _rounded(value: float | tuple[float, float]) -> float | list[float]:
    # Thresholds are compared with the probability, so that they are not rounded further than it is.
    return [round(one, 4) for one in value] if isinstance(value, tuple) else round(value, 9)
