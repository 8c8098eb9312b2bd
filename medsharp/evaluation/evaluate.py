"""From predictions to figures: each with its 95 % interval from resampled patients."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
import pandas as pd

from medsharp.errors import InputError, nearest
from medsharp.evaluation.abstention import abstention_of
from medsharp.evaluation.by_patient import by_unit_of
from medsharp.evaluation.conformal import Conformal, conformal_figures
from medsharp.evaluation.counts import confusion_of, counts_of, patients_before
from medsharp.evaluation.failures import failures_of
from medsharp.evaluation.frozen import thresholds_of
from medsharp.evaluation.grouping import Grouping, assert_columns
from medsharp.evaluation.interactions import interactions_of
from medsharp.evaluation.notes import is_extreme, notes_of
from medsharp.evaluation.predictions import check_predictions
from medsharp.evaluation.readers import readers_of
from medsharp.evaluation.sites import Site, site_of, sites_of, summarise_sites
from medsharp.evaluation.statistics.bootstrap import affordable
from medsharp.evaluation.statistics.calibration_error import expected_if_calibrated
from medsharp.evaluation.statistics.curves import curves_of, with_sensible
from medsharp.evaluation.statistics.decision import net_benefit
from medsharp.evaluation.statistics.delong import area_intervals
from medsharp.evaluation.statistics.discrimination import curve_values
from medsharp.evaluation.statistics.estimate import FEWEST_FOR_PERCENTILES, MOST_LEFT_OUT, Estimate, Interval
from medsharp.evaluation.statistics.figures import Cases, estimates_of, figures_of, measure
from medsharp.evaluation.statistics.multiclass import multiclass_figures
from medsharp.evaluation.statistics.scalars import statistics_of
from medsharp.evaluation.statistics.smooth_calibration import SmoothCalibration
from medsharp.evaluation.statistics.thresholded import operating_point
from medsharp.evaluation.subgroups import groups_of, subgroups_of
from medsharp.keys import clusters_of, resampled


@dataclass(frozen=True)
class Evaluation:
    """One data set's figures.

    Attributes:
        content: What goes to `evaluation.json`: name, role, counts, figures, curves, subgroups, notes, ...
        estimates: The figures as they stray over resamples, for intervals of differences; kept in memory only.
        site: What the data set brings to a summary over several, each taken as one hospital.
        thumbnails: Pictures of failures as data URIs by image name, where they were asked for; in the HTML page only.
    """

    content: dict[str, Any]
    estimates: dict[str, Estimate] = field(repr=False)
    site: Site = field(repr=False)
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
    interval: Interval = "percentile",
    prevalence: float | None = None,
    conformal: Conformal | None = None,
    by: Sequence[Grouping] = (),
    excluded: dict[str, int] | None = None,
    submitted_patients: int | None = None,
    about: dict[str, str] | None = None,
    warnings: Sequence[str] = (),
) -> Evaluation:
    """Evaluate a table of predictions at a frozen threshold.

    Intervals come from a bootstrap that resamples patients (or groups of near-duplicates, or images where nothing else
    is known) with all their images. Where a share is 0 or 1, or the ranking perfect, which resampling cannot move,
    Wilson's or Newcombe's interval on the number of patients stands instead; `method` says which. Of very many images
    fewer resamples are drawn (`medsharp.evaluation.statistics.bootstrap.affordable`).

    The figures are of the images that were answered. What the checks refused is counted beside them, with figures of
    all images where those have numbers (`medsharp.evaluation.abstention`).

    Args:
        table: As `read_predictions` gives it.
        classes: In the order of the columns.
        positive: The class of interest; with more than two classes it is compared with the rest.
        threshold: Decide for the positive class from this probability on; it must not come from these images.
        name: Of the data set.
        role: `internal`, `external`, or `unstated` where nobody said whether the model knew this hospital.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap; each data set draws its own stream from it.
        interval: `percentile` or `bca`, how intervals are made of the resamples.
        prevalence: Where the model is to be used; predictive values are given for it too.
        conformal: Prediction sets calibrated elsewhere, whose coverage is looked at.
        by: Columns that make subgroups, beside those that always do; whether groups differ is tested for these.
        excluded: Images left out before prediction, by reason.
        submitted_patients: Patients before any image was left out, where they are known; those of the table itself,
            where nothing was left out before it.
        about: Source, licence, citation, doi, for the report.
        warnings: Sentences that must stand beside the figures.

    Raises:
        InputError: The table is wrong or has one class only; the sentence names the row.
    """
    if positive not in classes:
        raise InputError(f"{name}: positive class '{positive}' is not among the classes{nearest(positive, classes)}")
    if not 0 <= threshold <= 1:
        raise InputError(f"{name}: threshold {threshold} is not a probability between 0 and 1")
    if prevalence is not None and not 0 < prevalence < 1:
        raise InputError(f"{name}: prevalence {prevalence} is not a share between 0 and 1")
    if interval not in get_args(Interval):
        raise InputError(f"{name}: interval is '{interval}'; choose from {', '.join(get_args(Interval))}")
    if conformal is not None and list(conformal.classes) != list(classes):
        raise InputError(
            f"{name} has classes {', '.join(classes)}, but {conformal.name} has {', '.join(conformal.classes)}"
        )
    if resamples < 1:
        raise InputError(f"{name}: resamples is {resamples}; 2000 are usual, 1 is the least")
    predictions = check_predictions(table, classes, name)
    rows = predictions.rows
    assert_columns(by, list(map(str, rows.columns)), name)
    labels = (rows["label"] == positive).to_numpy(dtype=bool)
    if labels.all() or not labels.any():
        only = positive if labels.all() else " and ".join(sorted(set(rows["label"])))
        out = f", besides {len(predictions.refused)} that the checks refused" if len(predictions.refused) else ""
        raise InputError(
            f"{name} has images of one class only ({only}){out}; ranking and calibration need {positive} and others"
        )
    # Sorted once, so that no resample has to be.
    order = np.argsort(-rows[f"p_{positive}"].to_numpy(dtype=float), kind="stable")
    rows, labels = rows.iloc[order].reset_index(drop=True), labels[order]
    predictions = replace(predictions, rows=rows)
    cases = Cases(labels, rows[f"p_{positive}"].to_numpy(dtype=float), clusters_of(rows), float(threshold))
    rng = np.random.default_rng([seed, zlib.crc32(f"{role}\x1f{name}".encode())])
    drawn = affordable(resamples, len(rows))
    smooth = SmoothCalibration(labels, cases.scores)
    curves = [curve_values, net_benefit()]
    statistics = [*statistics_of(cases, prevalence=prevalence, curves=curves), smooth.statistic]
    measured = measure(cases.clusters, statistics, resamples=drawn, rng=rng, interval=interval)
    estimates = estimates_of(cases, measured)
    figures = figures_of(estimates, interval)
    figures["ece"]["expected_if_calibrated"] = expected_if_calibrated(cases.scores, cases.clusters, rng)
    before = patients_before(table) if submitted_patients is None and not excluded else submitted_patients
    expected = smooth.expected_if_calibrated(cases.clusters, np.random.default_rng([seed, drawn]))
    for key, values in expected.items():
        figures[key]["expected_if_calibrated"] = values
    counts = counts_of(
        predictions,
        cases.clusters,
        classes=classes,
        positive=positive,
        excluded=dict(excluded or {}),
        submitted_patients=before,
    )
    groups = groups_of(rows, cases, resamples=resamples, rng=rng, interval=interval, by=by)
    subgroups = subgroups_of(groups)
    several = len(classes) > 2
    how: dict[str, Any] = {"resamples": drawn, "rng": rng, "interval": interval}
    content = {
        "name": name,
        "role": role,
        "about": {key: value for key, value in (about or {}).items() if value},
        "simulated": is_simulated(name, about or {}, counts),
        "classes": list(classes),
        "positive": positive,
        "threshold": float(threshold),
        "thresholds": thresholds_of(np.array([threshold])),
        "stated_prevalence": prevalence,
        "counts": counts,
        "figures": figures,
        "auroc_intervals": area_intervals(labels, cases.scores, cases.clusters),
        "operating_point": operating_point(labels, cases.scores, threshold),
        "curves": with_sensible(curves_of(cases, smooth, measured), positive, classes),
        "conformal": conformal and conformal_figures(conformal, rows, cases, **how),
        "subgroups": subgroups,
        "site_summary": summarise_sites(sites_of(rows, cases, subgroups)),
        "confusion": confusion_of(rows, classes) if several else None,
        "multiclass": multiclass_figures(rows, classes, cases, **how) if several else None,
        "failures": failures_of(rows, classes=classes, positive=positive, threshold=threshold),
        "notes": [*warnings, *notes_of(counts, extreme=int(is_extreme(cases.scores).sum()), constant=cases.constant)],
        "readers": readers_of(
            rows, cases, positive=positive, classes=classes, resamples=resamples, rng=rng, interval=interval
        ),
        **by_unit_of(rows, cases, resamples=resamples, rng=rng, interval=interval),
        "interactions": interactions_of(groups, by) if cases.patients() > 1 else [],
        "abstention": abstention_of(
            predictions,
            classes=classes,
            positive=positive,
            threshold=threshold,
            resamples=resamples,
            rng=rng,
            interval=interval,
        ),
        "intervals": _intervals(resampled(rows, cases.clusters), counts["clusters"], resamples, drawn, seed, interval),
    }
    return Evaluation(content, estimates, site_of(name, cases, figures))


def _intervals(unit: str, clusters: int, wished: int, drawn: int, seed: int, interval: Interval) -> dict[str, Any]:
    made = "bias-corrected and accelerated (BCa) limits" if interval == "bca" else "percentiles"
    if interval == "bca" and clusters > MOST_LEFT_OUT:
        made = "bias-corrected (BCa, acceleration 0) limits"
    if drawn < FEWEST_FOR_PERCENTILES:
        made = "value -+ 1.96 standard deviations"
    fewer = f" ({wished} were wished; fewer are enough for so many images)" if drawn < wished else ""
    return {
        "level": 0.95,
        "interval": interval,
        "method": f"bootstrap of {unit} with all their images, {made} of {drawn} resamples{fewer}",
        "unit": unit,
        "clusters": clusters,
        "resamples": drawn,
        "seed": seed,
    }


def is_simulated(name: str, about: dict[str, str], counts: dict[str, Any]) -> bool:
    """Whether a data set, its source or one of its sites is called simulated."""
    names = [name, about.get("name", ""), about.get("source", ""), *counts["by"].get("site", {})]
    return any(str(text).strip().casefold().startswith("simulated") for text in names)
