"""What the input checks refuse and mark on a data set, and what it does to the figures.

The figures of a data set are of the images that were answered, as the served model answers them. Alone they would let a
model look better by refusing what is hard. Beside them stand how much is refused and of which class; the figures with
the refused images answered anyway, where the table has their numbers; sensitivity and specificity by intention to
diagnose, which need no numbers and count a refused image as wrong whichever class it is of (the worst case of a 3 x 2
table: Simel et al., Med Decis Making 7, 1987; Schuetz et al., BMJ 345, 2012, e6717; STARD 2015, item 15); and whether
what a check marks or refuses is what the model gets wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation.findings import CAUTIONED, REFUSAL, REFUSED, STATUS, Found, fate_of, findings_of
from medsharp.evaluation.least import LEAST_EVENTS, RESAMPLES, SMALLEST
from medsharp.evaluation.predictions import Predictions
from medsharp.evaluation.statistics.bootstrap import Statistic, affordable, draw
from medsharp.evaluation.statistics.estimate import Estimate, Interval
from medsharp.evaluation.statistics.figures import Cases, Measured, estimates_of, figures_of, measure, share_estimate
from medsharp.evaluation.statistics.intervals import percentile_band
from medsharp.evaluation.statistics.registry import HEADLINE
from medsharp.evaluation.statistics.scalars import statistics_of
from medsharp.evaluation.statistics.selective import COVERAGES, confidence_of, selective_risk
from medsharp.keys import clusters_of

CHANGED = ("auroc", "sensitivity", "specificity")
"""Figures whose change is given: of all images, less that of the answered ones."""

COMPARED = ("auroc", "sensitivity", "specificity")
"""Figures in which marked images are compared with the others, beside the error rate."""

ERROR_RATE = "error_rate"

NO_NUMBERS = "the table has no numbers of the refused images (medsharp predict --answer-anyway writes them)"

_BUDGET = 20_000_000
_TIER = 1e3
"""More than any distance in log odds: what is marked comes after all that is not, and what is refused last."""


def abstention_of(
    predictions: Predictions,
    *,
    classes: Sequence[str],
    positive: str,
    threshold: float,
    resamples: int,
    rng: np.random.Generator,
    interval: Interval = "percentile",
) -> dict[str, Any] | None:
    """Return what the checks refused and marked, and the figures with and without; None without a column `status`.

    Args:
        predictions: The checked table.
        classes: In the order of the columns.
        positive: The class of interest.
        threshold: The frozen one.
        resamples: Of patients, the refused ones among them; all figures are of the same draws, so that differences are
            paired.
        rng: Their draws.
        interval: How intervals are made of the resamples.

    Returns:
        `images` (answered and refused), `clusters`, `refused`, `cautioned` (each `images`, `labels`, `share`,
        `share_by_label`), `checks` (the same by check, with `error_rate`), `intention_to_diagnose`, `anyway`, `marked`,
        `policies` and `risk_coverage`; docs/evaluation-json.md has them in full.
    """
    if STATUS not in predictions.rows:
        return None
    rows = pd.concat([predictions.rows, predictions.refused], ignore_index=True)
    # Descending, and those without a number last.
    order = np.argsort(-rows[f"p_{positive}"].to_numpy(dtype=float), kind="stable")
    rows = rows.iloc[order].reset_index(drop=True)
    labels = (rows["label"] == positive).to_numpy(dtype=bool)
    cases = Cases(labels, rows[f"p_{positive}"].to_numpy(dtype=float), clusters_of(rows), float(threshold))
    wished = affordable(min(resamples, RESAMPLES), len(rows), _BUDGET)
    drawn = draw(int(cases.clusters.max()) + 1, wished, rng)
    data = _Data(rows, cases, fate_of(rows).to_numpy(), tuple(classes), drawn, interval)
    kinds = {kind: data.fates == kind for kind in (REFUSED, CAUTIONED)}
    return {
        "images": len(rows),
        "clusters": cases.patients(),
        **{kind: data.counted(mask) for kind, mask in kinds.items()},
        "checks": _checks(data),
        "intention_to_diagnose": _intention_to_diagnose(data),
        "anyway": _anyway(data) if kinds[REFUSED].any() else None,
        "marked": _marked(data),
        "policies": _policies(data),
        "risk_coverage": _risk_coverage(data),
    }


@dataclass(frozen=True)
class _Data:
    """All images that were answered or refused, in the order of `cases`, and the draws that every figure shares."""

    rows: pd.DataFrame
    cases: Cases
    fates: np.ndarray
    classes: tuple[str, ...]
    drawn: np.ndarray
    interval: Interval

    @property
    def refused(self) -> np.ndarray:
        return np.asarray(self.fates == REFUSED)

    @property
    def known(self) -> np.ndarray:
        """Images that have a number [N]."""
        return np.isfinite(self.cases.scores)

    @property
    def wrong(self) -> np.ndarray:
        """Images that the threshold decides wrongly [N]; what has no number is not decided."""
        return self.known & ((self.cases.scores >= self.cases.threshold) != self.cases.labels)

    def measured(self, statistics: Sequence[Statistic]) -> Measured:
        return measure(self.cases.clusters, statistics, drawn=self.drawn, interval=self.interval)

    @cached_property
    def _weights(self) -> np.ndarray:
        """How often each patient is drawn in each resample [R, C], as numbers that multiply fast and exactly."""
        return self.drawn.astype(np.float32)

    def share(self, which: np.ndarray, among: np.ndarray) -> Estimate:
        """Estimate the share of the images `among` [N] that are `which` [N], from counts by patient [C]."""
        some, of = (np.bincount(self.cases.clusters, part) for part in (which & among, among))
        if not among.any():
            return Estimate(np.nan, np.full(len(self.drawn), np.nan), reason="there is no such image", n=0)
        several = len(of) > 1
        drawn = [(self._weights @ part.astype(np.float32)).astype(np.float64) for part in (some, of)]
        replicates = _quotient(*drawn) if several else np.empty(0)
        left_out = {"share": _quotient(some.sum() - some, of.sum() - of)} if several else {}
        measured = Measured({"share": some.sum() / of.sum()}, {"share": replicates}, left_out, len(among))
        return share_estimate(measured, "share", among, self.cases)

    def figures(self, which: np.ndarray, keys: Sequence[str], least: int = 0) -> dict[str, Estimate]:
        """Estimate figures of the registry of some images [N]."""
        part = self.cases.chosen(which)
        statistics = [_within(statistic, which) for statistic in statistics_of(part, keys)]
        found = estimates_of(part, self.measured(statistics), least)
        return {key: found[key] for key in keys if key in found}

    def counted(self, which: np.ndarray) -> dict[str, Any]:
        """Count some images, and give their share, in all and of each class."""
        of = {name: (self.rows["label"] == name).to_numpy(dtype=bool) for name in self.classes}
        return {
            "images": int(which.sum()),
            "labels": {name: int((which & among).sum()) for name, among in of.items()},
            "share": self.share(which, np.ones_like(which)).figure(self.interval),
            "share_by_label": {name: self.share(which, among).figure(self.interval) for name, among in of.items()},
        }


def _quotient(some: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return shares, NaN of nothing."""
    return np.divide(some, of, out=np.full(some.shape, np.nan), where=of > 0)


def _within(statistic: Statistic, which: np.ndarray) -> Statistic:
    """Return a statistic of some images [N] as one of weights of all; NaN where none of them was drawn."""

    def of_all(weights: np.ndarray) -> dict[str, np.ndarray]:
        part = weights[:, which]
        none = np.logical_not(part.any(axis=1))
        found = statistic(np.where(none[:, None], 1.0, part))
        return {name: np.where(none.reshape(-1, *[1] * (v.ndim - 1)), np.nan, v) for name, v in found.items()}

    return of_all


def _checks(data: _Data) -> list[dict[str, Any]]:
    """Return what each check refused or marked, refusals first, then the most frequent."""
    masks: dict[tuple[str, str], np.ndarray] = {}
    sentences: dict[tuple[str, str], str] = {}
    for place, found in enumerate(findings_of(data.rows)):
        for one in found:
            key = (one.outcome, one.check)
            masks.setdefault(key, np.zeros(len(data.rows), dtype=bool))[place] = True
            sentences[key] = sentences.get(key) or one.sentence
    order = sorted(masks, key=lambda key: (key[0] != REFUSAL, -int(masks[key].sum()), key[1]))
    return [
        {**Found(*key, sentences[key])._asdict(), **data.counted(masks[key]), ERROR_RATE: _error_rate(data, masks[key])}
        for key in order
    ]


def _error_rate(data: _Data, which: np.ndarray) -> dict[str, Any]:
    """Return the share of wrong decisions among some images [N], where all of them have a number."""
    if not data.known[which].all():
        estimate = Estimate(
            np.nan, np.full(len(data.drawn), np.nan), reason="not all have a number", n=int(which.sum())
        )
        return estimate.figure(data.interval)
    return data.share(data.wrong, which).figure(data.interval)


def _intention_to_diagnose(data: _Data) -> dict[str, Any]:
    """Return sensitivity and specificity with a refused image counted as wrong, whichever class it is of."""
    right, labels = ~data.wrong & ~data.refused, data.cases.labels
    return {
        "sensitivity": data.share(right, labels).figure(data.interval),
        "specificity": data.share(right, ~labels).figure(data.interval),
    }


def _anyway(data: _Data) -> dict[str, Any]:
    """Return headline figures of all images, the refused ones answered anyway, and their change from the answered."""
    if not data.known.all():
        return {"reason": NO_NUMBERS}
    everyone = data.figures(np.ones_like(data.refused), HEADLINE)
    answered = data.figures(~data.refused, CHANGED)
    return {
        "figures": figures_of(everyone, data.interval),
        "changes": {key: (everyone[key] - answered[key]).figure(data.interval) for key in CHANGED},
    }


def _marked(data: _Data) -> dict[str, Any] | None:
    """Return the marked images beside the other answered ones; None where none is marked, or all are."""
    marked = data.fates == CAUTIONED
    parts = {"cautioned": marked, "others": ~marked & ~data.refused}
    if not all(mask.any() for mask in parts.values()):
        return None
    fewest = min(int(mask.sum()) for mask in parts.values())
    if fewest < SMALLEST:
        return {"reason": f"fewer than {SMALLEST} images are {'marked' if marked.sum() == fewest else 'not marked'}"}
    estimates = {}
    for name, mask in parts.items():
        both = len(set(data.cases.labels[mask])) == 2
        estimates[name] = {ERROR_RATE: data.share(data.wrong, mask)}
        estimates[name] |= data.figures(mask, COMPARED, LEAST_EVENTS) if both else {}
    shared = [key for key in estimates["others"] if key in estimates["cautioned"]]
    found: dict[str, Any] = {
        name: {"images": int(mask.sum()), "positives": int(data.cases.labels[mask].sum())}
        | figures_of(estimates[name], data.interval)
        for name, mask in parts.items()
    }
    differences = {key: estimates["cautioned"][key] - estimates["others"][key] for key in shared}
    return found | {"differences": figures_of(differences, data.interval)}


def _policies(data: _Data) -> list[dict[str, Any]]:
    """Return who may be answered, to which share of all images that comes, and how many decisions are wrong then."""
    policies = {
        "unmarked": ~data.refused & (data.fates != CAUTIONED),
        "answered": ~data.refused,
        "all": np.ones_like(data.refused),
    }
    whole = Estimate(1.0, np.ones(len(data.drawn)), reason="by definition", n=len(data.rows))
    return [
        {
            "policy": name,
            "images": int(mask.sum()),
            "coverage": (whole if mask.all() else data.share(mask, np.ones_like(mask))).figure(data.interval),
            "risk": _error_rate(data, mask),
        }
        for name, mask in policies.items()
        if mask.any() and (name != "all" or data.refused.any())
    ]


def _risk_coverage(data: _Data) -> dict[str, Any] | None:
    """Return the risk-coverage curve of all images by confidence alone, and with what is marked and refused last.

    Where the checks find what the model gets wrong, the second lies below the first, and its area (`aurc`) is less.
    """
    if not data.known.all():
        return None
    labels, scores, threshold = data.cases.labels, data.cases.scores, data.cases.threshold
    confidence = confidence_of(scores, threshold)
    tier = np.select([data.refused, data.fates == CAUTIONED], [0.0, 1.0], 2.0)
    orders = {"confidence": confidence, "checks": confidence + _TIER * tier}
    found: dict[str, Any] = {"coverage": COVERAGES.tolist()}
    areas = {}
    for name, order in orders.items():
        measured = data.measured([selective_risk(labels, scores, threshold, order)])
        low, high = percentile_band(measured.replicates["risk_at_coverage"])
        found[name] = {"risk": measured.values["risk_at_coverage"].tolist(), "low": low, "high": high}
        areas[name] = measured.estimate("aurc", n=len(labels), bounds=(0.0, 1.0))
    areas["difference"] = areas["checks"] - areas["confidence"]
    return found | {"aurc": figures_of(areas, data.interval)}
