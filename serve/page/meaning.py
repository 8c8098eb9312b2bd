"""What a number means, in words: by the validation data, by the operating point, and by what happened elsewhere."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medsharp.bundle import BundleSpec, Figure, HeldOut
from medsharp.bundle.prediction_sets import ALPHA
from medsharp.inference import Predictor
from medsharp.inference.prediction import log_odds
from medsharp.inference.validation import LEAST, Rates, Validation
from serve.page.numbers import interval, noun, out_of, percent


@dataclass(frozen=True)
class Background:
    """What stands beside each answer of a model.

    Attributes:
        spec: Of its bundle.
        validation: Its validation predictions; None where it carries none.
        rates: What thresholds bring on them.
    """

    spec: BundleSpec
    validation: Validation | None = None
    rates: tuple[Rates, ...] = ()

    @property
    def threshold(self) -> float:
        """The frozen operating point."""
        return self.spec.operating_point.threshold

    @property
    def positive(self) -> str:
        """The class whose probability is shown."""
        return self.spec.positive


def background_of(predictor: Predictor) -> Background:
    """Return the background of a model's answers, which is read once for each bundle."""
    return _background(Path(predictor.folder), predictor.digest, predictor.spec.model_dump_json())


@functools.lru_cache(maxsize=8)
def _background(folder: Path, digest: str, spec: str) -> Background:
    parsed = BundleSpec.model_validate_json(spec)
    validation = Validation.read(parsed, folder)
    rates = () if validation is None else tuple(validation.rates(parsed.operating_point.threshold))
    return Background(parsed, validation, rates)


def distance(probability: float, threshold: float) -> str:
    """Say on which side of the operating point a probability lies and how far, without a full stop."""
    points = f"{100 * abs(probability - threshold):.1f}\N{NO-BREAK SPACE}percentage points"
    side = "At or above" if probability >= threshold else "Below"
    return f"{side} the operating point, by {points}"


def odds(probability: float, threshold: float) -> str:
    """Say the same as a ratio of odds, which tells more of small probabilities than points do."""
    ratio = math.exp(abs(log_odds(probability) - log_odds(threshold)))
    if ratio < 1.05:
        return "Its odds are those of the operating point, nearly."
    times = f"{ratio:.1f}" if ratio < 10 else f"{ratio:.0f}" if ratio < 1000 else "more than 1,000"
    if probability >= threshold:
        return f"Its odds are {times} times those of the operating point."
    return f"Its odds would have to be {times} times as high to reach the operating point."


def score_meaning(background: Background, probability: float) -> str:
    """Say how many of the validation images that scored so were of the positive class; or why that is not known."""
    positive = background.positive
    validation = background.validation
    if validation is None:
        return f"How often such a score was {positive} is not known: this model carries no validation predictions."
    near = validation.near(probability)
    if near is None:
        return (
            f"How often such a score was {positive} is not known: the {len(validation.scores)} validation images are "
            f"too few to have {LEAST} that scored alike."
        )
    extreme = {"above": "highest", "below": "lowest"}.get(near.beyond or "")
    which = (
        f"No validation image scored so {'high' if near.beyond == 'above' else 'low'}. "
        f"Of the {near.images} that scored {extreme}"
        if near.beyond
        else f"Of the {near.images} lesions in the validation data that scored most like this one"
    )
    share = near.positives / near.images
    counted = f"{near.positives}" + ("" if near.images == 100 else f" ({percent(share)})")
    overall = 100 * validation.positive.mean()
    return (
        f"{which} (from {percent(near.low)} to {percent(near.high)}), {counted} "
        f"{'was' if near.positives == 1 else 'were'} {positive}, {interval(near.interval)}. "
        f"In all of these data {overall:.0f} of 100 were; where {noun(positive)} is rarer, fewer of those who score so "
        "have it."
    )


def undecided(classes: Sequence[str] | None) -> str:
    """Say of a prediction set that it leaves several classes open, or none; nothing where there is one, or no set.

    A set of one class would be read as a verdict, beside a probability that says how sure it is.
    """
    if classes is None or len(classes) == 1:
        return ""
    error = f"at a rate of error of {100 * ALPHA:.0f}\N{NO-BREAK SPACE}%"
    if not classes:
        return f"No class is likely enough to be believed {error}: few validation images scored so, whatever they were."
    return f"{' and '.join(classes).capitalize()} remain possible {error}."


def elsewhere(background: Background) -> list[str]:
    """Say what the model did at each hospital left out of training; a sentence where there is none."""
    spec = background.spec
    if not spec.held_out:
        return ["Not measured at a hospital left out of training: how it does on images of yours is not known."]
    who = "it" if spec.left_out_itself else "a model made in the same way"
    return [text for site in spec.held_out if (text := _at(site, spec.classes, spec.positive, who))]


def _at(site: HeldOut, classes: tuple[str, ...], positive: str, who: str) -> str:
    said = []
    specificity, sensitivity = site.figures.get("specificity"), site.figures.get("sensitivity")
    if specificity is not None and specificity.value is not None:
        wrong = _complement(specificity)
        others = " and ".join(name for name in classes if name != positive)
        said.append(f"called {out_of(wrong.value or 0.0)} images of {others} lesions suspicious ({_shares(wrong)})")
    if sensitivity is not None and sensitivity.value is not None:
        said.append(f"found {percent(sensitivity.value)} of the {positive} ones{_limits(sensitivity)}")
    return f"At {site.site}, left out of training, {who} {' and '.join(said)}." if said else ""


def _complement(figure: Figure) -> Figure:
    """Return 1 less a share: its limits change places."""
    low, high = figure.low, figure.high
    return Figure(
        value=None if figure.value is None else 1 - figure.value,
        low=None if high is None else 1 - high,
        high=None if low is None else 1 - low,
    )


def _shares(figure: Figure) -> str:
    value = percent(figure.value or 0.0)
    if figure.low is None or figure.high is None:
        return value
    return f"{value}, {interval((figure.low, figure.high))}"


def _limits(figure: Figure) -> str:
    return "" if figure.low is None or figure.high is None else f" ({interval((figure.low, figure.high))})"
