"""A table of predictions that does not fit into memory, to the figures of `medsharp score`: in passes over rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from medsharp.errors import InputError
from medsharp.evaluation.evaluate import Evaluation, is_simulated
from medsharp.evaluation.findings import ANSWERED, CAUTIONED, EXCLUDED, FAILED, REFUSED
from medsharp.evaluation.frozen import thresholds_of
from medsharp.evaluation.grouping import NOT_RECORDED
from medsharp.evaluation.notes import notes_of
from medsharp.evaluation.scores import WITHHELD_NOTE, without_probabilities
from medsharp.evaluation.sites import Site
from medsharp.evaluation.statistics.calibration import (
    Recalibration,
    one_step,
    recalibration_between,
    reliability_point,
)
from medsharp.evaluation.statistics.calibration_error import binned_values, expected_of_bins
from medsharp.evaluation.statistics.curves import with_sensible
from medsharp.evaluation.statistics.decision import CUTS, net_benefit, net_benefit_at
from medsharp.evaluation.statistics.delong import delong_of_sums, intervals_of_variances, obuchowski_of_sums
from medsharp.evaluation.statistics.discrimination import Ranking, ratio
from medsharp.evaluation.statistics.estimate import FEWEST_FOR_PERCENTILES, OBUCHOWSKI, ONE_PATIENT
from medsharp.evaluation.statistics.figures import Measured, auroc_at_ends, estimates_of, figures_of
from medsharp.evaluation.statistics.registry import FIGURES, About
from medsharp.evaluation.statistics.thresholded import decisions
from medsharp.evaluation.streamed.patients import Patients, resample_patients
from medsharp.evaluation.streamed.ranking import HISTOGRAM, PATIENT_FIELDS, Ranked, curves_of, middle_of, rank
from medsharp.evaluation.streamed.reading import PIECE, Stored, open_predictions, store
from medsharp.evaluation.streamed.recalibration import recalibrate_stored
from medsharp.evaluation.streamed.runs import ROWS, SortedRuns
from medsharp.evaluation.streamed.ties import assert_once, patients_across_sites, tied_patients
from medsharp.keys import unit_of, united_counts
from medsharp.progress import Progress
from medsharp.tables import TablePieces

NO_RESAMPLES = "resamples of this figure need every image ranked anew, which --stream does not do"
"""Why a figure of a ranking has no interval here."""

NOT_GIVEN = (
    "Read in passes: no figures by subgroup, site, patient or reader, of refused images answered anyway, of several "
    "classes together, of fixed rates, risk-coverage or the smooth calibration curve; curves have no bands."
)
"""What must be said of what is not there."""


@dataclass(frozen=True)
class _Counted:
    """A `Tally` of what went by."""

    images: dict[About, int]
    patients: dict[About, int]
    constant: bool
    contradicted: int

    def images_about(self, which: About) -> int:
        return self.images[which]

    def patients_about(self, which: About) -> int:
        return self.patients[which]


def evaluate_streamed(
    path: str | Path,
    *,
    folder: Path,
    positive: str,
    threshold: float | None = None,
    score: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
    prevalence: float | None = None,
    rows: int = ROWS,
    piece: int = PIECE,
    progress: Progress | None = None,
) -> Evaluation:
    """Evaluate a table of predictions with as much memory as some of its rows need.

    Figures are those of `medsharp.evaluation.evaluate_predictions`, to rounding: AUROC with DeLong's and Obuchowski's
    variances, AUPRC, decisions at the threshold, Brier score and its parts, log loss, recalibration, net benefit.
    Intervals are of a Poisson bootstrap of patients (`medsharp.evaluation.streamed.poisson`), those of calibration
    intercept and slope by one step of Newton's method; of AUROC Obuchowski's.

    Rows go to temporary files without a name, about 90 bytes each at most, which are gone when this ends, however it
    ends. Memory: `piece` rows of text, twice `rows` rows of 34 bytes, `resamples` times about 45 sums, and one key in
    1,024 rows.

    Args:
        path: Parquet, a folder of such files, or CSV.
        folder: On whose disk temporary files are.
        positive: The class of interest.
        threshold: From which images are called; by default that of the rows, or of the bundle beside them.
        score: The column of scores that are no probabilities.
        resamples: Of the bootstrap.
        seed: Of the bootstrap: a patient is drawn alike in whatever order and parts the rows are.
        prevalence: Where the model is to be used.
        rows: That are sorted in memory at once.
        piece: Rows of the table that are text in memory at once.
        progress: Called with rows done, rows in all and what is being done.

    Raises:
        InputError: As `medsharp.evaluation.read_predictions`, or the disk is full.
    """
    if resamples < 1:
        raise InputError(f"resamples is {resamples}; 2000 are usual, 1 is the least")
    table = open_predictions(Path(path), score, piece)
    stored = store(
        table, folder, positive=positive, score=score, threshold=threshold, rows=rows, progress=progress
    )  # fmt: skip
    with stored.scores, stored.images, stored.groups, stored.places:
        content = _evaluated(table, stored, folder, positive, resamples, seed, prevalence, progress)
    counts = content["counts"]
    name = content["name"]
    return Evaluation(content, {}, Site(name, counts["images"], counts["clusters"], {}, {}))


def _evaluated(
    table: TablePieces,
    stored: Stored,
    folder: Path,
    positive: str,
    resamples: int,
    seed: int,
    prevalence: float | None,
    progress: Progress | None,
) -> dict[str, Any]:
    tallies, name, place = stored.tallies, table.path.stem, stored.classes.index(positive)
    positives, images = tallies.labels[positive], sum(tallies.labels.values())
    if positives in (0, images):
        only = positive if positives else " and ".join(sorted(tallies.labels))
        refused = tallies.fates[REFUSED]
        out = f", besides {refused} that the checks refused" if refused else ""
        raise InputError(
            f"{name} has images of one class only ({only}){out}; ranking and calibration need {positive} and others"
        )
    single = stored.threshold.single
    if single is None:
        raise InputError(f"{table.path} has several thresholds")
    assert_once(stored.images, table)
    sites = patients_across_sites(stored.places, stored.name)
    ties = tied_patients(stored.groups, sites, stored.name)
    disk = [sum(run.size for run in stored.runs)]
    for run in (stored.images, stored.groups, stored.places):
        run.close()  # the disk is needed
    fit = None if stored.ranked else recalibrate_stored(stored.scores, place, positives, tallies.log_odds, progress)
    edges = np.histogram_bin_edges([tallies.least, tallies.greatest] if stored.ranked else [0.0, 1.0], HISTOGRAM)
    with SortedRuns(folder, PATIENT_FIELDS, stored.scores.held) as patients:
        ranked = rank(
            stored.scores, place=place, positives=positives, edges=edges, sites=sites, ties=ties, patients=patients,
            progress=progress,
        )  # fmt: skip
        found = resample_patients(
            ranked, classes=len(stored.classes), place=place, threshold=single, fit=fit, resamples=resamples,
            seed=seed, progress=progress,
        )  # fmt: skip
        disk.append(stored.scores.size + patients.size)
    return _content(stored, name, positive, prevalence, fit, ranked, found, resamples, seed, max(disk))


def _content(
    stored: Stored,
    name: str,
    positive: str,
    prevalence: float | None,
    fit: Recalibration | None,
    ranked: Ranked,
    found: Patients,
    resamples: int,
    seed: int,
    disk: int,
) -> dict[str, Any]:
    tallies, threshold = stored.tallies, float(stored.threshold.distinct[0])
    place = stored.classes.index(positive)
    measured = _measured(found, place, threshold, prevalence, fit)
    point = _operating_point(found, place, threshold)
    counted = _Counted(_about(point), found.about, tallies.least == tallies.greatest, tallies.contradicted)
    figures = {key: _poisson(figure) for key, figure in figures_of(estimates_of(counted, measured)).items()}
    areas = _areas(ranked, found)
    figures |= _ranking(ranked, counted, areas["obuchowski"], found.clusters)
    figures = {key: figures[key] for key in FIGURES if key in figures}
    bins = ranked.bins  # images, positives, sums of p and of p (1 - p)
    if not stored.ranked:
        rng = np.random.default_rng([seed, resamples])
        figures["ece"]["expected_if_calibrated"] = expected_of_bins(bins[0], bins[3], found.in_bins, rng)
    counts = _counts(stored, positive, found)
    unit = unit_of(counts["images"] - tallies.nameless, counts["images"], found.clusters)
    fewer = "percentiles" if resamples >= FEWEST_FOR_PERCENTILES else "value -+ 1.96 standard deviations"
    several = len(stored.classes) > 2 and not stored.ranked
    origin = f"Threshold {stored.threshold.text}, {stored.threshold.origin}."
    warnings = [origin, NOT_GIVEN, *([WITHHELD_NOTE] if stored.ranked else []), *stored.notes]
    warnings += [
        f"In column {column} there are more names than are counted; its images are not counted by name."
        for column in sorted(tallies.crowded)
    ]
    content: dict[str, Any] = {
        "name": name,
        "role": "unstated",
        "about": {},
        "simulated": is_simulated(name, {}, counts),
        "classes": list(stored.classes),
        "positive": positive,
        "threshold": threshold,
        "thresholds": thresholds_of(np.array([threshold])),
        "stated_prevalence": prevalence,
        "counts": counts,
        "figures": without_probabilities(figures) if stored.ranked else figures,
        "auroc_intervals": areas,
        "operating_point": point,
        "curves": with_sensible(_curves(stored, ranked, found, fit, measured), positive, stored.classes),
        "conformal": None,
        "subgroups": [],
        "site_summary": None,
        "confusion": _confusion(stored) if several else None,
        "multiclass": None,
        "failures": None,
        "notes": [*warnings, *notes_of(counts, extreme=tallies.extreme, constant=counted.constant)],
        "readers": None,
        "interactions": [],
        "abstention": None,
        "intervals": {
            "level": 0.95,
            "interval": "percentile",
            "method": f"Poisson bootstrap of {unit} with all their images, {fewer} of {resamples} resamples",
            "unit": unit,
            "clusters": found.clusters,
            "resamples": resamples,
            "seed": seed,
        },
        "streamed": {"rows_in_memory": stored.scores.held, "temporary_bytes": disk},
    }
    return content | ({"scale": "score"} if stored.ranked else {})


def _poisson(figure: dict[str, Any]) -> dict[str, Any]:
    """Say of an interval of resamples how they were drawn."""
    method = figure.get("method", "")
    return figure | {"method": f"Poisson {method}"} if method.startswith("patient bootstrap") else figure


def _measured(
    found: Patients, place: int, threshold: float, prevalence: float | None, fit: Recalibration | None
) -> Measured:
    """Return the figures that follow from sums, of all images and of each resample."""
    values, replicates = (
        _figures(sums, found, place, threshold, prevalence, fit) for sums in (found.sums[:, None], found.resampled)
    )
    if fit is not None:
        replaced = {"calibration_intercept": fit.in_the_large, "calibration_slope": fit.slope}
        values |= replaced | {"recalibration": np.stack([fit.constant, fit.slope], axis=1)}
    if found.clusters < 2:
        replicates = {key: value[:0] for key, value in replicates.items()}
    return Measured(
        {key: value[0] for key, value in values.items()}, replicates, images=int(_images(found.sums, found))
    )


def _images(sums: np.ndarray, found: Patients) -> Any:
    return sums[found.columns.classes].sum(axis=0)


def _figures(
    sums: np.ndarray, found: Patients, place: int, threshold: float, prevalence: float | None, fit: Recalibration | None
) -> dict[str, np.ndarray]:
    """Return the values [R] by name of sums [K, R]."""
    columns = found.columns
    images, positives = _images(sums, found), sums[columns.classes][place]
    called = sums[columns.called]  # positives, negatives [2, R]
    # All that decisions need of a ranking: the images at or above the threshold, and those below.
    ranking = Ranking(
        np.array([threshold, -np.inf]),
        np.stack([called[0], positives - called[0]], axis=1),
        np.stack([called[1], images - positives - called[1]], axis=1),
    )
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample in which nobody was drawn
        values = decisions(threshold, prevalence)(ranking) | net_benefit_at(threshold)(ranking)
        if fit is None:
            return values
        expected = sums[columns.expected]
        values["log_loss"] = sums[columns.loss] / images
        values["oe_ratio"] = ratio(positives, expected)
        missing = Recalibration(*(np.full(sums.shape[1], np.nan) for _ in range(3)))
        refit = one_step(sums[columns.steps], fit) if columns.steps.stop > columns.steps.start else missing
        values |= {"calibration_intercept": refit.in_the_large, "calibration_slope": refit.slope}
        values["recalibration"] = np.stack([refit.constant, refit.slope], axis=1)
        mass, ones, probabilities = (sums[part].T for part in columns.bins)
        witnesses = np.maximum(found.in_bins, 2)
        return values | binned_values(mass, ones, probabilities, sums[columns.error], witnesses)


def _operating_point(found: Patients, place: int, threshold: float) -> dict[str, float | int]:
    true, false = (round(float(value)) for value in found.sums[found.columns.called])
    classes = found.sums[found.columns.classes]
    positives, images = round(float(classes[place])), round(float(classes.sum()))
    return {
        "threshold": threshold,
        "true_positives": true,
        "false_negatives": positives - true,
        "false_positives": false,
        "true_negatives": images - positives - false,
    }


def _about(point: dict[str, Any]) -> dict[About, int]:
    tp, fn, fp, tn = (
        point[kind] for kind in ("true_positives", "false_negatives", "false_positives", "true_negatives")
    )
    return {
        "images": tp + fn + fp + tn, "positives": tp + fn, "negatives": fp + tn, "called": tp + fp,
        "not called": fn + tn,
    }  # fmt: skip


def _areas(ranked: Ranked, found: Patients) -> dict[str, dict[str, float | None]]:
    images = ranked.positives, ranked.negatives
    patients = found.about["positives"], found.about["negatives"], found.clusters
    over, under = found.delong
    delong = delong_of_sums(over, under, *images) if min(images) > 1 else math.nan
    first, second, third = found.obuchowski
    obuchowski = obuchowski_of_sums((first, second, third), patients, *images) if min(patients[:2]) > 1 else math.nan
    return intervals_of_variances(ranked.area, delong=float(delong), obuchowski=float(obuchowski))


def _ranking(
    ranked: Ranked, counted: _Counted, obuchowski: dict[str, float | None], clusters: int
) -> dict[str, dict[str, Any]]:
    """Return AUROC, and the AUPRC without an interval."""
    if counted.constant:
        reason = {"value": None, "low": None, "high": None, "n": ranked.images, "reason": _CONSTANT}
        return {"auroc": reason, "auprc": dict(reason)}
    area: dict[str, Any] = {"value": ranked.area, "low": None, "high": None, "n": ranked.images}
    closed = auroc_at_ends(ranked.area, counted)()
    if clusters < 2:
        area["reason"] = ONE_PATIENT
    elif closed is not None:
        area |= closed._asdict()
    elif obuchowski["low"] is None:
        area["reason"] = "its variance does not exist: a class has one patient, or all differ alike"
    else:
        area |= {"low": obuchowski["low"], "high": obuchowski["high"], "method": OBUCHOWSKI}
    precision = ranked.precision / ranked.positives
    return {
        "auroc": area,
        "auprc": {"value": precision, "low": None, "high": None, "n": ranked.images, "reason": NO_RESAMPLES},
    }


_CONSTANT = "every image has the same probability"


def _counts(stored: Stored, positive: str, found: Patients) -> dict[str, Any]:
    tallies = stored.tallies
    images = sum(tallies.labels.values())
    kinds = (ANSWERED, CAUTIONED, REFUSED, FAILED, EXCLUDED)
    return {
        "submitted": sum(tallies.fates.values()),
        "submitted_patients": None,
        "excluded": dict(tallies.excluded.most_common()),
        "failed": tallies.fates[FAILED],
        "refused": tallies.fates[REFUSED],
        "images": images,
        "patients": found.known or None,
        "patients_known": tallies.nameless == 0,
        "images_without_patient": tallies.nameless,
        "clusters": found.clusters,
        "positives": tallies.labels[positive],
        "labels": {name: tallies.labels[name] for name in stored.classes},
        "clusters_by_label": dict(zip(stored.classes, found.by_class.tolist(), strict=True)),
        "clusters_of_several_labels": found.several,
        "by": _names(stored),
        "flags": dict(tallies.flags.most_common()),
        "status": {kind: tallies.fates[kind] for kind in kinds},
    }


def _names(stored: Stored) -> dict[str, dict[str, int]]:
    found = {}
    for column, counts in stored.tallies.names.items():
        united = united_counts(counts) if column == "site" else dict(counts)
        if set(united) - {""}:
            ordered = sorted(united.items(), key=lambda part: -part[1])
            found[column] = {name or NOT_RECORDED: count for name, count in ordered}
    return found


def _confusion(stored: Stored) -> dict[str, dict[str, int]]:
    confusion = stored.tallies.confusion
    return {label: {other: confusion[label, other] for other in stored.classes} for label in stored.classes}


def _curves(
    stored: Stored, ranked: Ranked, found: Patients, fit: Recalibration | None, measured: Measured
) -> dict[str, Any]:
    """Return the points of the curves, without bands but that of the logistic calibration curve."""
    curves = curves_of(ranked)
    if fit is None:
        return curves
    images, ones, sums, _ = ranked.bins
    points = [
        reliability_point(float(p / n), float(y / n), int(n), int(patients))
        for n, y, p, patients in zip(images, ones, sums, found.in_bins, strict=True)
    ]
    first, last = (float(expit(value)) for value in middle_of(ranked))
    logistic = recalibration_between(
        first, last, measured.values["recalibration"], measured.replicates["recalibration"],
        stored.tallies.contradicted,
    )  # fmt: skip
    levels = stored.tallies.levels[:, None].astype(np.float64)
    benefit = {key: value[0].tolist() for key, value in net_benefit()(
        Ranking(np.r_[CUTS[::-1], -np.inf], levels[0], levels[1])
    ).items()}  # fmt: skip
    nothing: dict[str, list[float]] = {"low": [], "high": []}
    return curves | {
        "reliability": {"bins": points, "curve": logistic},
        "net_benefit": {
            "threshold": CUTS.tolist(),
            "model": benefit["net_benefit"],
            **nothing,
            "treat_all": np.broadcast_to(benefit["treat_all"], len(CUTS)).tolist(),
            "gain": {"value": benefit["net_benefit_gain"], **nothing},
            "interventions_avoided": {"value": benefit["avoided"], **nothing},
        },
    }
