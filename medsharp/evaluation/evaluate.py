"""From predictions to figures: each with its 95 % interval from resampled patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation.calibration import calibration, reliability, wilson
from medsharp.evaluation.discrimination import WeightedRanks, precision_recall_curve, roc_curve
from medsharp.evaluation.predictions import check_predictions, clusters_of

SMALLEST_SUBGROUP = 20
_BLOCK = 250


@dataclass(frozen=True)
class Evaluation:
    """One data set's figures.

    Attributes:
        content: What goes to `evaluation.json`.
        replicates: Bootstrap values of each figure [R], for intervals of differences.
    """

    content: dict[str, Any]
    replicates: dict[str, np.ndarray] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return name, role, counts, figures, curves, subgroups and notes as plain values."""
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
    nothing else is known) with all their images. Where a share is 0 or 1, which resampling cannot move, Wilson's
    interval on the number of images stands instead; `method` says which.

    Args:
        table: As `read_predictions` gives it.
        classes: In the order of the columns.
        positive: The class of interest; with more than two classes it is compared with the rest.
        threshold: Decide for the positive class from this probability on; it must not come from these images.
        name: Of the data set.
        role: `internal` or `external`.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.
        excluded: Images left out before prediction, by reason.
        about: Source, licence, citation, for the report.
        warnings: Sentences that must stand beside the figures.

    Raises:
        InputError: The table is wrong; the sentence names the row.
    """
    rows = check_predictions(table, classes, name)
    labels = (rows["label"] == positive).to_numpy()
    scores = rows[f"p_{positive}"].to_numpy(dtype=float)
    clusters = clusters_of(rows)
    count = int(clusters.max()) + 1
    notes = list(warnings)
    point = _figures(labels, scores, threshold, np.ones((1, len(rows))))
    replicates: dict[str, list[np.ndarray]] = {key: [] for key in point}
    if count >= 2:
        rng = np.random.default_rng(seed)
        for start in range(0, resamples, _BLOCK):
            drawn = rng.multinomial(count, np.full(count, 1 / count), size=min(_BLOCK, resamples - start))
            for key, values in _figures(labels, scores, threshold, drawn[:, clusters].astype(float)).items():
                replicates[key].append(values)
    else:
        notes.append("one patient only: no interval can be given")
    joined = {key: np.concatenate(values) if values else np.empty(0) for key, values in replicates.items()}
    figures = {
        key: _figure(key, float(value[0]), joined[key], labels, scores, threshold) for key, value in point.items()
    }
    mixed = pd.Series(rows["label"].to_numpy()).groupby(clusters).nunique()
    if (mixed > 1).any():
        notes.append(f"{int((mixed > 1).sum())} patients or groups have images of several classes")
    content = {
        "name": name,
        "role": role,
        "about": about or {},
        "positive": positive,
        "threshold": threshold,
        "counts": _counts(table, rows, clusters, classes, excluded or {}),
        "figures": figures,
        "curves": _curves(labels, scores),
        "subgroups": _subgroups(rows, labels, scores, clusters, resamples, seed),
        "confusion": _confusion(rows, classes),
        "notes": notes,
    }
    return Evaluation(content, joined)


def _figures(labels: np.ndarray, scores: np.ndarray, threshold: float, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Compute every figure for each row of weights [R, N]."""
    y = labels.astype(float)
    flagged = (scores >= threshold).astype(float)
    total = weights.sum(axis=1)
    true_positive, positives = weights @ (y * flagged), weights @ y
    flags, negatives = weights @ flagged, total - positives
    true_negative = negatives - (flags - true_positive)
    ranks = WeightedRanks(labels, scores)
    intercept, slope = calibration(labels, scores, weights)
    clipped = np.clip(np.where(labels, scores, 1 - scores), 1e-15, 1)
    sensitivity, specificity = _share(true_positive, positives), _share(true_negative, negatives)
    return {
        "auroc": ranks.auroc(weights),
        "auprc": ranks.average_precision(weights),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": _share(true_positive, flags),
        "npv": _share(true_negative, total - flags),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "accuracy": _share(true_positive + true_negative, total),
        "brier": weights @ (scores - y) ** 2 / total,
        "log_loss": weights @ -np.log(clipped) / total,
        "calibration_intercept": intercept,
        "calibration_slope": slope,
        "prevalence": positives / total,
    }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _figure(
    key: str, value: float, replicates: np.ndarray, labels: np.ndarray, scores: np.ndarray, threshold: float
) -> dict[str, Any]:
    if not np.isfinite(value):
        reasons = {"ppv": "no image reaches the threshold", "npv": "every image reaches the threshold"}
        return {
            "value": None,
            "low": None,
            "high": None,
            "reason": reasons.get(key, "it does not exist for these data"),
        }
    if key in ("sensitivity", "specificity", "ppv", "npv", "accuracy") and value in (0.0, 1.0):
        flagged = scores >= threshold
        base = {"sensitivity": labels, "specificity": ~labels, "ppv": flagged, "npv": ~flagged}.get(key)
        total = len(labels) if base is None else int(base.sum())
        low, high = wilson(round(value * total), total)
        return {"value": value, "low": low, "high": high, "method": "Wilson, images"}
    finite = replicates[np.isfinite(replicates)]
    if len(finite) < 0.9 * max(1, len(replicates)) or not len(finite):
        return {"value": value, "low": None, "high": None, "reason": "too few resamples in which it exists"}
    low, high = np.percentile(finite, [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high), "method": "patient bootstrap, percentile"}


def _counts(
    table: pd.DataFrame, rows: pd.DataFrame, clusters: np.ndarray, classes: Sequence[str], excluded: dict[str, int]
) -> dict[str, Any]:
    failed = table["error"].fillna("") if "error" in table else pd.Series(dtype=str)
    flags = rows["flags"].fillna("").astype(str) if "flags" in rows else pd.Series(dtype=str)
    patients = rows["patient"].fillna("").astype(str) if "patient" in rows else pd.Series([""])
    return {
        "images": len(rows),
        "clusters": int(clusters.max()) + 1,
        "patients_known": bool((patients != "").all()),
        "labels": {name: int((rows["label"] == name).sum()) for name in classes},
        "excluded": dict(excluded),
        "failed": int((failed != "").sum()),
        "flags": {str(k): int(v) for k, v in flags[flags != ""].str.split("; ").explode().value_counts().items()},
    }


def _curves(labels: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    false, true = roc_curve(labels, scores)
    recall, precision = precision_recall_curve(labels, scores)
    edges = np.linspace(0, 1, 21)
    cuts = np.linspace(0.01, 0.6, 60)
    prevalence = labels.mean()
    benefit = [float((labels & (scores >= t)).mean() - (~labels & (scores >= t)).mean() * t / (1 - t)) for t in cuts]
    everyone = [float(prevalence - (1 - prevalence) * t / (1 - t)) for t in cuts]
    return {
        "roc": {"false_positive_share": false.tolist(), "true_positive_share": true.tolist()},
        "precision_recall": {"recall": recall.tolist(), "precision": precision.tolist()},
        "reliability": reliability(labels, scores),
        "histogram": {
            "edges": edges.tolist(),
            "positive": np.histogram(scores[labels], edges)[0].tolist(),
            "negative": np.histogram(scores[~labels], edges)[0].tolist(),
        },
        "net_benefit": {"threshold": cuts.tolist(), "model": benefit, "treat_all": everyone},
    }


def _subgroups(
    rows: pd.DataFrame, labels: np.ndarray, scores: np.ndarray, clusters: np.ndarray, resamples: int, seed: int
) -> list[dict[str, Any]]:
    found = []
    for column in ("site", "device", "birads"):
        if column not in rows:
            continue
        names = rows[column].fillna("").astype(str)
        kinds = sorted(set(names) - {""})
        for kind in kinds if len(kinds) > 1 else []:
            chosen = (names == kind).to_numpy()
            part = labels[chosen]
            if chosen.sum() < SMALLEST_SUBGROUP or part.all() or not part.any():
                continue
            ranks = WeightedRanks(part, scores[chosen])
            inside = pd.factorize(clusters[chosen])[0]
            count = int(inside.max()) + 1
            drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=min(resamples, 1000))
            values = ranks.auroc(drawn[:, inside].astype(float))
            low, high = np.nanpercentile(values, [2.5, 97.5])
            value = float(ranks.auroc(np.ones((1, len(part))))[0])
            figure = {"value": value, "low": float(low), "high": float(high)}
            images = {"images": len(part), "positives": int(part.sum())}
            found.append({"by": column, "group": kind, **images, "auroc": figure})
    return found


def _confusion(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Count labels against the most probable class."""
    shares = rows[[f"p_{name}" for name in classes]].to_numpy(dtype=float)
    chosen = np.array(list(classes))[shares.argmax(axis=1)]
    return {
        label: {other: int(((rows["label"] == label) & (chosen == other)).sum()) for other in classes}
        for label in classes
    }
