"""How many patients until every figure is as precise as wished, and how precise figures are with those there are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medsharp.errors import InputError
from medsharp.evaluation.planning.anticipated import Anticipated
from medsharp.evaluation.planning.figures import FIGURES, TREAT_ALL, Planned, Precision, precision, recalibration
from medsharp.evaluation.planning.published import (
    auroc_images,
    net_benefit_images,
    oe_images,
    share_images,
    slope_images,
)

LEAST_CASES = 10
"""Patients with and without a positive image below which a normal approximation is no more than a guess."""

ENOUGH_PATIENTS = 100
"""Patients of each class from which on a table says well enough what standard errors will be."""

MOST_PATIENTS = 10_000_000
"""No evaluation is larger: a wish that needs more is taken for a slip."""


_OF_ONE_CLASS = {"sensitivity": ("with", "without"), "specificity": ("without", "with")}
"""Figures of patients with or without a positive image alone, and the others."""

_WITH_ODDS = frozenset({"net_benefit", "net_benefit_gain"})
"""Figures that need one threshold probability."""

_NO_VARIANCE = 1e-12
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Criterion:
    """What one wish asks for.

    Attributes:
        key: Of the figure.
        name: Of the figure, for people.
        anticipated: Its value.
        width: Of the 95 % interval that is wished.
        standard_error: At which the interval has this width; of the logarithm for O:E.
        patients: How many are needed.
        with_positive: How many of them with a positive image.
        images: How many images these patients have.
        design_effect: How many times as many images are needed as of independent ones.
        independent_images: What the published closed form gives for independent images; None where there is none.
        width_available: Of the interval with the patients there are; None where their number was not given.
    """

    key: str
    name: str
    anticipated: float
    width: float
    standard_error: float
    patients: int
    with_positive: int
    images: int
    design_effect: float
    independent_images: int | None
    width_available: float | None


@dataclass(frozen=True)
class Plan:
    """The wishes, what each needs, and the largest need.

    Attributes:
        criteria: One for each wish.
        assumptions: What patients and model are taken to be.
        available: How many patients there are, where it was given.
        warnings: What a reader must know.
    """

    criteria: tuple[Criterion, ...]
    assumptions: Mapping[str, Any]
    available: int | None
    warnings: tuple[str, ...]

    @property
    def largest(self) -> Criterion:
        """The criterion that needs most patients: the answer."""
        return max(self.criteria, key=lambda criterion: criterion.patients)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of `plan.json`."""
        largest = self.largest
        return {
            "format": 1,
            "patients": largest.patients,
            "with_positive": largest.with_positive,
            "images": largest.images,
            "decided_by": largest.key,
            "available": self.available,
            "assumptions": dict(self.assumptions),
            "criteria": [asdict(criterion) for criterion in self.criteria],
            "warnings": list(self.warnings),
        }


def make_plan(anticipated: Anticipated, widths: Mapping[str, float], *, available: int | None = None) -> Plan:
    """Return how many patients each wish needs.

    A figure's standard error with `n` patients is `sqrt(V / n)`, `V` the variance of a patient's sum of influences over
    the squared mean number of images (`medsharp.evaluation.planning.figures`); `n` is the smallest at which the
    interval of 1.96 standard errors to either side (for O:E, of its logarithm) is no wider than wished.

    Args:
        anticipated: The patients, and how the model does with them.
        widths: Key of a figure to the width of its 95 % interval; empty for the default of every figure that can be
            planned.
        available: How many patients there are: how wide intervals will be with them.

    Raises:
        InputError: A width is not possible, or a figure needs an operating point that is not stated.
    """
    if not widths:
        criteria, left_out = _usual(anticipated, available)
    else:
        criteria, left_out = _wished(anticipated, widths, available), []
    return Plan(tuple(criteria), anticipated.assumptions, available, (*left_out, *_warnings(criteria, anticipated)))


def _wished(anticipated: Anticipated, widths: Mapping[str, float], available: int | None) -> list[Criterion]:
    criteria = []
    for key, figure in FIGURES.items():
        if key in widths:
            if not _stated(figure, anticipated):
                one = "one --threshold" if key in _WITH_ODDS else "--threshold, or a sensitivity or specificity"
                raise InputError(f"--{_option(key)} needs {one}")
            found = precision(figure, anticipated)
            criteria.append(_criterion(figure, widths[key], found, anticipated, available))
    return criteria


def _usual(anticipated: Anticipated, available: int | None) -> tuple[list[Criterion], list[str]]:
    """Plan every figure with its usual width, and say why one cannot be planned.

    Near an end of a figure's range the width is the widest that an interval can have.
    """
    criteria, left_out = [], []
    for figure in FIGURES.values():
        if figure.width is not None and _stated(figure, anticipated):
            found = precision(figure, anticipated)
            width = min(figure.width, figure.most(found.value))
            try:
                criteria.append(_criterion(figure, width, found, anticipated, available))
            except InputError as error:
                left_out.append(f"{figure.name} is not planned: {error}")
    if not criteria:
        raise InputError(left_out[0])
    return criteria, left_out


def _stated(figure: Planned, anticipated: Anticipated) -> bool:
    """Return whether the population has what the figure is made of."""
    if figure.key in _WITH_ODDS and anticipated.threshold is None:
        return False
    return anticipated.flagged is not None or not figure.decides


def _option(key: str) -> str:
    return f"{key.replace('_', '-')}-width"


def _criterion(
    figure: Planned, width: float, found: Precision, anticipated: Anticipated, available: int | None
) -> Criterion:
    variance = found.variance(anticipated)
    _assert_possible(figure, width, found)
    error = figure.error_of(found.value, width)
    # The smallest whole number whose standard error is no larger; a rounding error must not add a patient.
    patients = max(1, math.ceil(variance / error**2 * (1 - 1e-9)))
    share = anticipated.share_of_patients
    _assert_sensible(figure, width, patients, share)
    closed = _published(figure, anticipated, found, error)
    return Criterion(
        key=figure.key,
        name=figure.name,
        anticipated=found.value,
        width=width,
        standard_error=error,
        patients=patients,
        with_positive=math.ceil(patients * share * (1 - 1e-9)),
        images=math.ceil(patients * anticipated.images * (1 - 1e-9)),
        design_effect=variance * anticipated.images / found.image_variance,
        independent_images=None if closed is None else math.ceil(closed * (1 - 1e-9)),
        width_available=None if available is None else figure.width_of(found.value, math.sqrt(variance / available)),
    )


def _assert_possible(figure: Planned, width: float, found: Precision) -> None:
    """Refuse a figure that does not vary, and a width that no interval of it can have."""
    option, most = _option(figure.key), figure.most(found.value)
    if math.isnan(found.value):
        raise InputError(
            f"--{option} cannot be planned from this table: the {figure.name} does not exist where a probability "
            "of 0 or 1 was wrong, or the classes are separated"
        )
    if not (math.isfinite(found.value) and found.image_variance > _NO_VARIANCE and most > 0):
        raise InputError(
            f"--{option} cannot be planned where the {figure.name} is {found.value:.4g}: no interval follows from that"
        )
    if not (math.isfinite(width) and width > 0):
        raise InputError(f"--{option} must be above 0, not {width:g}")
    if width > most * (1 + _ROUNDING):
        raise InputError(
            f"--{option} {width:g}: an interval of that width around the {figure.name} of {found.value:.4g} would "
            f"leave its range; wish for at most {most:.3g}"
        )


def _assert_sensible(figure: Planned, width: float, patients: int, share: float) -> None:
    option = _option(figure.key)
    if patients > MOST_PATIENTS:
        raise InputError(
            f"--{option} {width:g} would need {patients:,} patients, and no evaluation is that large; "
            "wish for a wider interval"
        )
    parts = {"with": share, "without": 1 - share}
    if figure.key in _OF_ONE_CLASS:
        parts.pop(_OF_ONE_CLASS[figure.key][1])
    for word, part in parts.items():
        if patients * part < LEAST_CASES:
            raise InputError(
                f"--{option} {width:g} would do with {math.ceil(patients * part)} patients {word} a positive image, "
                f"too few for the formulas, which need {LEAST_CASES}; wish for a narrower interval"
            )


def _published(figure: Planned, anticipated: Anticipated, found: Precision, error: float) -> float | None:
    """Return what the closed forms say of independent images, for the same figures and standard error."""
    weights = anticipated.weights
    prevalence = float(weights @ anticipated.labels)
    if figure.key == "auroc":
        return auroc_images(found.value, prevalence, error)
    if figure.key == "oe":
        return oe_images(prevalence, error)
    if figure.key == "slope":
        constant, slope = recalibration(anticipated)
        return slope_images(anticipated.log_odds, weights, error, constant=constant, slope=slope)
    if figure.key in ("sensitivity", "specificity"):
        return share_images(found.value, prevalence if figure.key == "sensitivity" else 1 - prevalence, error)
    if figure.key == "net_benefit" and anticipated.threshold is not None:
        sensitivity, specificity = (
            precision(FIGURES[key], anticipated).value for key in ("sensitivity", "specificity")
        )
        return net_benefit_images(sensitivity, specificity, prevalence, anticipated.threshold, error)
    return None


def _warnings(criteria: list[Criterion], anticipated: Anticipated) -> tuple[str, ...]:
    sentences = []
    shares = {"sensitivity": anticipated.share_of_patients, "specificity": 1 - anticipated.share_of_patients}
    for criterion in criteria:
        if criterion.key in shares:
            rarer = min(criterion.anticipated, 1 - criterion.anticipated)
            cases = criterion.patients * shares[criterion.key] * rarer
            if cases < LEAST_CASES:
                sentences.append(
                    f"{criterion.name}: about {cases:.0f} patients are on the rarer side of the threshold, so that the "
                    "width will differ much from one evaluation to the next"
                )
        if criterion.key == "net_benefit_gain":
            treat_all = precision(TREAT_ALL, anticipated)
            if abs(treat_all.value) < 2 * math.sqrt(treat_all.variance(anticipated) / criterion.patients):
                sentences.append(
                    f"{criterion.name}: the threshold is so near the prevalence that an evaluation of "
                    f"{criterion.patients:,} patients cannot tell which of the two is better; its interval will be "
                    "narrower than planned"
                )
    if "table_patients" in anticipated.assumptions:
        unknown = anticipated.assumptions["table_images_without_patient"]
        if unknown:
            sentences.append(
                f"{unknown:,} images of the table name no patient: each counts as a patient unless a group ties it to "
                "others, so that more patients may be needed"
            )
        with_positive = np.bincount(anticipated.patients, anticipated.labels) > 0
        fewer = int(min(with_positive.sum(), (~with_positive).sum()))
        if fewer < ENOUGH_PATIENTS:
            sentences.append(
                f"the table has {fewer} patients in its rarer class, so that the numbers of this plan are themselves "
                "uncertain"
            )
    return tuple(sentences)
