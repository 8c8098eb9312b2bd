"""From predictions to figures: each with its 95 % interval from resampled patients."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from medsharp.errors import InputError, nearest
from medsharp.evaluation.calibration import CLIP, probability_scores, recalibration_curve, reliability
from medsharp.evaluation.counts import confusion_of, counts_of
from medsharp.evaluation.decision import CUTS, net_benefit
from medsharp.evaluation.discrimination import GRID, WeightedRanks, precision_recall_curve, roc_curve
from medsharp.evaluation.failures import failures_of
from medsharp.evaluation.figures import SCALARS, Cases, Measured, figures_of, measure
from medsharp.evaluation.intervals import percentile_band
from medsharp.evaluation.predictions import check_predictions, clusters_of
from medsharp.evaluation.subgroups import subgroups_of
from medsharp.evaluation.thresholded import decisions, operating_point

_FEW_CLUSTERS = 30
_MOST_POINTS = 1000


@dataclass(frozen=True)
class Evaluation:
    """One data set's figures.

    Attributes:
        content: What goes to `evaluation.json`: name, role, counts, figures, curves, subgroups, notes, ...
        replicates: Bootstrap values of each figure [R], for intervals of differences; kept in memory only.
        thumbnails: Pictures of failures as data URIs by image name, where they were asked for; in the HTML page only.
    """

    content: dict[str, Any]
    replicates: dict[str, np.ndarray] = field(repr=False)
    thumbnails: dict[str, str] = field(default_factory=dict, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the content as plain values."""
        return self.content


def evaluate_predictions(
    table: pd.DataFrame,
    *,
    classes: Sequence[str],
    positive: str,
    threshold: float,
    name: str,
    role: str = "external",
    resamples: int = 2000,
    seed: int = 0,
    excluded: dict[str, int] | None = None,
    about: dict[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> Evaluation:
    """Evaluate a table of predictions at a frozen threshold.

    Intervals are percentiles of a bootstrap that resamples patients (or groups of near-duplicates, or images where
    nothing else is known) with all their images. Where a share is 0 or 1, or the ranking perfect, which resampling
    cannot move, Wilson's or Newcombe's interval on the number of patients stands instead; `method` says which.

    Args:
        table: As `read_predictions` gives it.
        classes: In the order of the columns.
        positive: The class of interest; with more than two classes it is compared with the rest.
        threshold: Decide for the positive class from this probability on; it must not come from these images.
        name: Of the data set.
        role: `internal` or `external`.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap; each data set draws its own stream from it.
        excluded: Images left out before prediction, by reason.
        about: Source, licence, citation, doi, for the report.
        warnings: Sentences that must stand beside the figures.

    Raises:
        InputError: The table is wrong or has one class only; the sentence names the row.
    """
    if positive not in classes:
        raise InputError(f"{name}: positive class '{positive}' is not among the classes{nearest(positive, classes)}")
    if not 0 <= threshold <= 1:
        raise InputError(f"{name}: threshold {threshold} is not a probability between 0 and 1")
    if resamples < 1:
        raise InputError(f"{name}: resamples is {resamples}; 2000 are usual, 1 is the least")
    predictions = check_predictions(table, classes, name)
    rows = predictions.rows
    labels = (rows["label"] == positive).to_numpy(dtype=bool)
    if labels.all() or not labels.any():
        only = positive if labels.all() else " and ".join(sorted(set(rows["label"])))
        raise InputError(
            f"{name} has images of one class only ({only}); ranking and calibration need {positive} and others"
        )
    cases = Cases(labels, rows[f"p_{positive}"].to_numpy(dtype=float), clusters_of(rows), threshold)
    rng = np.random.default_rng([seed, zlib.crc32(f"{role}\x1f{name}".encode())])
    ranks = WeightedRanks(labels, cases.scores)
    statistics = [
        ranks.figures,
        ranks.curves,
        decisions(labels, cases.scores, threshold),
        probability_scores(labels, cases.scores),
        net_benefit(labels, cases.scores),
    ]
    measured = measure(cases, statistics, resamples=resamples, rng=rng)
    counts = counts_of(predictions, cases.clusters, classes=classes, positive=positive, excluded=dict(excluded or {}))
    content = {
        "name": name,
        "role": role,
        "about": {key: value for key, value in (about or {}).items() if value},
        "simulated": _simulated(name, about or {}, counts),
        "classes": list(classes),
        "positive": positive,
        "threshold": float(threshold),
        "counts": counts,
        "figures": figures_of(cases, measured),
        "operating_point": operating_point(labels, cases.scores, threshold),
        "curves": _curves(cases, ranks, measured),
        "subgroups": subgroups_of(rows, cases, resamples=resamples, rng=rng),
        "confusion": confusion_of(rows, classes) if len(classes) > 2 else None,
        "failures": failures_of(rows, classes=classes, positive=positive, threshold=threshold),
        "notes": [*warnings, *_notes(cases, counts)],
        "intervals": _intervals(counts, resamples, seed),
    }
    return Evaluation(content, {name: measured.replicates[name] for name in SCALARS})


def _curves(cases: Cases, ranks: WeightedRanks, measured: Measured) -> dict[str, Any]:
    labels, scores = cases.labels, cases.scores
    values, replicates = measured.values, measured.replicates
    false, true = roc_curve(labels, scores)
    recall, precision = precision_recall_curve(labels, scores)
    roc_low, roc_high = percentile_band(replicates["roc_band"])
    precision_low, precision_high = percentile_band(replicates["precision_band"])
    benefit_low, benefit_high = percentile_band(replicates["net_benefit"])
    edges = np.linspace(0, 1, 21)
    return {
        "roc": {
            "false_positive_rate": _thinned(false),
            "true_positive_rate": _thinned(true),
            # The first point, (0, 0), is reached by no threshold.
            "threshold": [None, *_thinned(np.r_[np.inf, ranks.thresholds])[1:]],
            "band": {"false_positive_rate": GRID.tolist(), "low": roc_low, "high": roc_high},
        },
        "precision_recall": {
            "recall": _thinned(recall),
            "precision": _thinned(precision),
            "band": {"recall": GRID.tolist(), "low": precision_low, "high": precision_high},
        },
        "reliability": {
            "bins": reliability(labels, scores, cases.clusters),
            "curve": recalibration_curve(scores, values["recalibration"], replicates["recalibration"]),
        },
        "histogram": {
            "edges": edges.tolist(),
            "positive": np.histogram(scores[labels], edges)[0].tolist(),
            "negative": np.histogram(scores[~labels], edges)[0].tolist(),
        },
        "net_benefit": {
            "threshold": CUTS.tolist(),
            "model": values["net_benefit"].tolist(),
            "low": benefit_low,
            "high": benefit_high,
            "treat_all": values["treat_all"].tolist(),
        },
    }


def _thinned(values: np.ndarray) -> list[float]:
    """Return at most `_MOST_POINTS` evenly spaced points of a curve, its ends among them."""
    kept = np.linspace(0, len(values) - 1, min(len(values), _MOST_POINTS)).round().astype(int)
    return [float(value) for value in values[kept]]


def _notes(cases: Cases, counts: dict[str, Any]) -> list[str]:
    notes = []
    if counts["clusters"] == 1:
        notes.append("There is one patient only: no interval can be given.")
    elif min(counts["clusters_by_label"].values()) < _FEW_CLUSTERS:
        notes.append(
            f"A class has fewer than {_FEW_CLUSTERS} patients or groups: "
            "intervals from so few are rough and often too narrow."
        )
    if counts["clusters_of_several_labels"]:
        number = counts["clusters_of_several_labels"]
        who = "patient or group has" if number == 1 else "patients or groups have"
        notes.append(f"{number} {who} images of several classes; they are kept and resampled together.")
    if 0 < counts["images_without_patient"] < counts["images"]:
        notes.append(
            f"{counts['images_without_patient']} images have no patient; "
            "each stands for one, or its group of near-duplicates does."
        )
    extreme = int(((cases.scores < CLIP) | (cases.scores > 1 - CLIP)).sum())
    if extreme:
        notes.append(
            f"{extreme} probabilities are 0 or 1; log loss and calibration take them as {CLIP:g} and 1 - {CLIP:g}."
        )
    if (cases.scores == cases.scores[0]).all():
        notes.append("Every image has the same probability: the model does not rank these images at all.")
    return notes


def _intervals(counts: dict[str, Any], resamples: int, seed: int) -> dict[str, Any]:
    unit = "patients" if counts["patients_known"] else "patients or groups of near-duplicates"
    if counts["patients"] is None and counts["clusters"] == counts["images"]:
        unit = "images, as patients are unknown"
    return {
        "level": 0.95,
        "method": f"bootstrap of {unit} with all their images, percentiles of {resamples} resamples",
        "unit": unit,
        "clusters": counts["clusters"],
        "resamples": resamples,
        "seed": seed,
    }


def _simulated(name: str, about: dict[str, str], counts: dict[str, Any]) -> bool:
    names = [name, about.get("name", ""), about.get("source", ""), *counts["by"].get("site", {})]
    return any(str(text).strip().casefold().startswith("simulated") for text in names)
