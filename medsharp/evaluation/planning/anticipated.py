"""What patients an evaluation will meet, and how the model will do with them: stated in figures, or like a table's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, ndtri
from scipy.special import logit as exact_logit

from medsharp.errors import InputError
from medsharp.evaluation.frozen import FrozenThreshold
from medsharp.evaluation.headings import THRESHOLD
from medsharp.evaluation.predictions import check_predictions, clusters_of, patients_of
from medsharp.evaluation.statistics.calibration import contradicted, logit
from medsharp.quantities import counted

NODES = 2**15
"""Pairs of images that stand for each class of a binormal population: more move no figure's standard error by .1 %."""

LEAST_PATIENTS = 10
"""Patients of each class that a table must have for standard errors to be taken from it."""

_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class Anticipated:
    """Images as an evaluation will meet them, each standing for a share of the population.

    Attributes:
        labels: bool [N].
        log_odds: What the model gives them [N].
        flagged: Whether it decides for the positive class: bool [N]; None where no operating point is stated.
        threshold: The probability that net benefit is computed at.
        patients: int 0, 1, ... [N].
        patient_weights: How many patients of the population each stands for, in any unit [P].
        share_of_patients: How many of the patients have a positive image.
        images: Mean number of images a patient.
        pairs: Mean number of ordered pairs of images a patient whose covariance counts: of `m (m - 1)`, 0 where a
            design effect is stated.
        design_effect: What a stated one multiplies every variance of independent images with; 1 where none is.
        assumptions: What was stated or estimated, as plain values for the plan.
        contradicted: How many probabilities are 0 or 1, and wrong: with one, calibration has no intercept and slope.
    """

    labels: np.ndarray
    log_odds: np.ndarray
    flagged: np.ndarray | None
    threshold: float | None
    patients: np.ndarray
    patient_weights: np.ndarray
    share_of_patients: float
    images: float
    pairs: float
    design_effect: float
    assumptions: dict[str, float | int | str | None]
    contradicted: int = 0

    @property
    def weights(self) -> np.ndarray:
        """The share of the population's images that each stands for [N]."""
        weights = self.patient_weights[self.patients]
        return weights / weights.sum()


def binormal(
    auroc: float,
    prevalence: float,
    *,
    sensitivity: float | None = None,
    specificity: float | None = None,
    threshold: float | None = None,
    images: float = 1.0,
    icc: float = 0.0,
    design_effect: float | None = None,
) -> Anticipated:
    """Return a population whose log odds are normal in each class, with one variance, and calibrated.

    `L | y ~ N(mu + s^2 y, s^2)` with `s = sqrt(2) Phi^-1(AUROC)` (Riley et al., Statistics in Medicine 40, 2021,
    section 4.6.3) and `mu = logit(prevalence) - s^2 / 2`, with which `logit P(y = 1 | L) = L` holds by Bayes' theorem.
    Two images of a patient share the label, and their log odds are correlated by `icc` in each class. A class is laid
    out on the points `(i + 1/2) / N, frac(i phi)` of the unit square, which fill it evenly, instead of being drawn.

    Args:
        auroc: In (0.5, 1).
        prevalence: In (0, 1).
        sensitivity: Where the model decides; without it, what follows from `specificity` or from `threshold`.
        specificity: Likewise.
        threshold: The probability that the model decides from, and net benefit's odds; without it, the one that a
            sensitivity or a specificity alone implies.
        images: A patient has; every patient has this number, or, where it is not whole, the two next to it.
        icc: Of two images of a patient, in [0, 1].
        design_effect: Instead of `icc`: what the patients' images have in common, their label too, in one number for
            all figures.

    Raises:
        InputError: A threshold stands beside a sensitivity or a specificity alone, from which another one follows.
    """
    if threshold is not None and (sensitivity is None) != (specificity is None):
        given, other = ("sensitivity", "specificity") if specificity is None else ("specificity", "sensitivity")
        raise InputError(
            f"--threshold and --{given} each say where the model decides, and may mean two operating points; give one "
            f"of them, or --{other} too"
        )
    spread = math.sqrt(2) * float(ndtri(auroc))
    centre = float(exact_logit(prevalence)) - spread**2 / 2
    place = (np.arange(NODES) + 0.5) / NODES
    first = ndtri(place)
    second = icc * first + math.sqrt(1 - icc**2) * ndtri(np.modf(np.arange(1, NODES + 1) * _GOLDEN)[0])
    pairs = np.stack([first, second], axis=1).ravel()
    labels = np.repeat([False, True], len(pairs))
    standard = np.tile(pairs, 2)
    cuts = _cuts(spread, centre, sensitivity, specificity, threshold)
    if threshold is None and cuts is not None and (sensitivity is None or specificity is None):
        threshold = float(expit(centre + spread * cuts[0]))
    return Anticipated(
        labels=labels,
        log_odds=centre + spread**2 * labels + spread * standard,
        flagged=None if cuts is None else standard >= np.where(labels, cuts[1], cuts[0]),
        threshold=threshold,
        patients=np.arange(len(labels)) // 2,
        patient_weights=np.repeat([1 - prevalence, prevalence], NODES),
        share_of_patients=prevalence,
        images=images,
        pairs=_pairs(images) if design_effect is None else 0.0,
        design_effect=1.0 if design_effect is None else design_effect,
        assumptions={
            "origin": "binormal",
            "positive": "malignant",
            "auroc": auroc,
            "prevalence": prevalence,
            "log_odds_mean_of_negatives": centre,
            "log_odds_deviation": spread,
            "threshold": threshold,
            "decided": None if threshold is None else f"from a probability of {threshold:.4g} on",
            "images_per_patient": images,
            "icc": icc if design_effect is None else None,
            "design_effect": design_effect,
        },
    )


def _cuts(
    spread: float, centre: float, sensitivity: float | None, specificity: float | None, threshold: float | None
) -> tuple[float, float] | None:
    """Return from how many deviations over its class's mean a negative and a positive are flagged."""
    if sensitivity is not None and specificity is not None:
        return float(ndtri(specificity)), float(ndtri(1 - sensitivity))
    if sensitivity is not None:
        cut = float(ndtri(1 - sensitivity)) + spread
    elif specificity is not None:
        cut = float(ndtri(specificity))
    elif threshold is not None:
        cut = (float(exact_logit(threshold)) - centre) / spread
    else:
        return None
    return cut, cut - spread


def from_predictions(
    table: pd.DataFrame,
    name: str,
    *,
    positive: str,
    frozen: FrozenThreshold | None = None,
    prevalence: float | None = None,
    images: float | None = None,
) -> Anticipated:
    """Return the patients of a table of predictions, as many of them as the population has.

    Args:
        table: As `read_predictions` gives it.
        name: What to call it in errors.
        positive: The class of interest.
        frozen: What decides each row; without it nothing is decided. Net benefit needs one threshold for all.
        prevalence: Share of the images that are positive where the evaluation is to be; patients with and without a
            positive image are weighted so that it holds. The model's probabilities stay as they are.
        images: A patient has, all of one label where there are several; by default as many, and as unequally many, as
            in the table.

    Raises:
        InputError: The table has too few patients, no two images of any patient where `images` needs them, patients
            with images of both labels, of whom it does not say how many images of either kind `images` would be, or
            cannot be weighted to the prevalence.
    """
    classes = [str(column).removeprefix("p_") for column in table.columns if str(column).startswith("p_")]
    if positive not in classes:
        raise InputError(f"{name} has no column p_{positive}; name the positive class with --positive")
    decided = table if frozen is None else table.assign(**{THRESHOLD: frozen.values})
    rows = check_predictions(decided, classes, name).rows
    labels = (rows["label"] == positive).to_numpy()
    patients = clusters_of(rows)
    probabilities = rows[f"p_{positive}"].to_numpy(dtype=float)
    with_positive = np.bincount(patients, labels) > 0
    for which, count in ((positive, int(with_positive.sum())), (f"no {positive}", int((~with_positive).sum()))):
        if count < LEAST_PATIENTS:
            raise InputError(
                f"{name} has {count} patients with {which} images; {LEAST_PATIENTS} are needed to plan from it"
            )
    names, sizes = patients_of(rows), np.bincount(patients)
    weights = np.ones(len(sizes))
    if prevalence is not None:
        weights = _weighted(labels, patients, with_positive, prevalence, name)
    own_images = float(weights @ sizes / weights.sum())
    own_pairs = float(weights @ (sizes * (sizes - 1)) / weights.sum())
    if images is not None and images > 1 and own_pairs == 0:
        raise InputError(
            f"{name} has one image of each patient, which does not say how alike several are; "
            "leave --images-per-patient out"
        )
    mixed = int((with_positive & (np.bincount(patients, ~labels) > 0)).sum())
    if images is not None and images > 1 and mixed:
        raise InputError(
            f"{name} has {counted(mixed, 'patient')} with images of {positive} and of no {positive}: it does not say "
            f"how many patients of {images:g} images have one of {positive}; leave --images-per-patient out, or "
            "give 1"
        )
    prevalence_of_images = float(weights[patients] @ labels / weights[patients].sum())
    share_of_patients = float(weights @ with_positive / weights.sum())
    return Anticipated(
        labels=labels,
        log_odds=logit(probabilities),
        flagged=None if frozen is None else probabilities >= rows[THRESHOLD].to_numpy(dtype=float),
        threshold=None if frozen is None or frozen.single == 1 else frozen.single,
        patients=patients,
        patient_weights=weights,
        # Of patients who have equally many images of one label each, the share is that of the images.
        share_of_patients=share_of_patients if images is None else prevalence_of_images,
        images=own_images if images is None else images,
        pairs=own_pairs if images is None else _pairs(images),
        design_effect=1.0,
        assumptions={
            "origin": name,
            "positive": positive,
            "table_images": len(labels),
            "table_patients": len(sizes),
            "table_patients_with_positive": int(with_positive.sum()),
            "table_names_of_patients": int(names[names != ""].nunique()),
            "table_images_without_patient": int((names == "").sum()),
            "prevalence": prevalence_of_images,
            "threshold": None if frozen is None else frozen.single,
            "decided": None if frozen is None else f"at threshold {frozen.text}, {frozen.origin}",
            "images_per_patient": own_images if images is None else images,
            "icc": intraclass_correlation(logit(probabilities), labels, patients),
        },
        contradicted=contradicted(labels, probabilities),
    )


def intraclass_correlation(values: np.ndarray, labels: np.ndarray, patients: np.ndarray) -> float | None:
    """Return how alike two images of a patient and of one label are, by the correlation of all such pairs.

    Fisher's intraclass correlation: products over ordered pairs, over the variance about the class's mean.

    Args:
        values: Log odds [N].
        labels: bool [N].
        patients: int 0, 1, ... [N].

    Returns:
        None where no patient has two images of one label, or values do not vary.
    """
    products, squares, pairs = 0.0, 0.0, 0
    for of_class in (labels, ~labels):
        rest = values[of_class] - values[of_class].mean()
        sums, counts = np.bincount(patients[of_class], rest), np.bincount(patients[of_class])
        products += float((sums**2).sum() - (rest**2).sum())
        pairs += int((counts * (counts - 1)).sum())
        squares += float((rest**2).sum())
    return products / pairs / (squares / len(values)) if pairs and squares else None


def _pairs(images: float) -> float:
    """Return the mean of `m (m - 1)` where patients have as equally many images as the mean allows."""
    whole = math.floor(images)
    return whole * (whole - 1) + (images - whole) * 2 * whole


def _weighted(
    labels: np.ndarray, patients: np.ndarray, with_positive: np.ndarray, prevalence: float, name: str
) -> np.ndarray:
    """Weight patients with a positive image against those without so that the images have the prevalence."""
    inside = with_positive[patients]
    positives, images_beside, others = int(labels.sum()), int(inside.sum()), int((~inside).sum())
    # W positives / (W images_beside + others) = prevalence
    rest = positives - prevalence * images_beside
    if rest <= 0:
        highest = positives / images_beside
        raise InputError(
            f"--prevalence {prevalence:g} cannot be had of {name}: "
            f"of the images of patients with cancer {highest:.2f} are positive"
        )
    return np.where(with_positive, prevalence * others / rest, 1.0)
