"""The same figures within sites, devices, BI-RADS categories, histologies, lesion sizes and flagged images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation.counts import GROUPS
from medsharp.evaluation.lesion_size import size_groups
from medsharp.evaluation.predictions import text_of
from medsharp.evaluation.statistics.bootstrap import affordable
from medsharp.evaluation.statistics.calibration import probability_scores
from medsharp.evaluation.statistics.calibration_error import binned_scores
from medsharp.evaluation.statistics.decision import net_benefit_at
from medsharp.evaluation.statistics.discrimination import WeightedRanks, areas
from medsharp.evaluation.statistics.figures import Cases, Measured, figures_of, measure
from medsharp.evaluation.statistics.fixed_rates import at_fixed_rates
from medsharp.evaluation.statistics.selective import selective_risk
from medsharp.evaluation.statistics.thresholded import decisions

NOT_RECORDED = "not recorded"
"""The group of images of which a column says nothing."""

SMALLEST = 20
"""Groups with fewer images get no figures."""

_MOST = 40
"""Groups of a column that are listed at most, the largest; a summary over sites takes all (`sites_of`)."""
_BUDGET = 20_000_000


def subgroups_of(rows: pd.DataFrame, cases: Cases, *, resamples: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return the figures of each group of at least `SMALLEST` images; of one class only, how many are decided rightly.

    A column with a single value is left out, as its group would be the whole. Groups that are too small are listed with
    the reason instead of figures, the largest `_MOST` groups of a column at most.

    Args:
        rows: The images, in the order of `cases`.
        cases: Labels, scores, clusters.
        resamples: Of the patient bootstrap.
        rng: Its draws.
    """
    found = []
    for column, name, chosen in _groups(rows):
        part = cases.chosen(chosen)
        entry = {
            "by": column,
            "group": name,
            "images": len(part.labels),
            "positives": int(part.labels.sum()),
            "clusters": part.patients(),
        }
        reason = _too_little(part)
        if reason:
            found.append(entry | {"reason": reason} | _of_one_class(part, resamples, rng))
            continue
        measured = _measured(part, resamples, rng)
        found.append(entry | figures_of(part, measured))
    return found


def _measured(part: Cases, resamples: int, rng: np.random.Generator) -> Measured:
    wished = affordable(resamples, len(part.labels), _BUDGET)
    ranking = [areas, at_fixed_rates, decisions(part.threshold), net_benefit_at(part.threshold)]
    statistics = [
        WeightedRanks(part.labels, part.scores).statistic(ranking),
        probability_scores(part.labels, part.scores),
        binned_scores(part.labels, part.scores, part.clusters),
        selective_risk(part.labels, part.scores, part.threshold),
    ]
    return measure(part, statistics, resamples=wished, rng=rng, thinned=wished < resamples)


def _of_one_class(part: Cases, resamples: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return the sensitivity of a group of positive images only, or the specificity of one without, if large enough.

    Such a group cannot be ranked, but what share of its images is decided rightly is known: of the invasive ductal
    carcinomas, say, how many are found.
    """
    if len(part.labels) < SMALLEST:
        return {}
    wished = affordable(resamples, len(part.labels), _BUDGET)
    statistic = WeightedRanks(part.labels, part.scores).statistic([decisions(part.threshold)])
    measured = measure(part, [statistic], resamples=wished, rng=rng, thinned=wished < resamples)
    name = "sensitivity" if part.labels.all() else "specificity"
    return {name: figures_of(part, measured)[name]}


def _too_little(part: Cases) -> str:
    if len(part.labels) < SMALLEST:
        return f"fewer than {SMALLEST} images"
    return "one class only" if part.labels.all() or not part.labels.any() else ""


def _groups(rows: pd.DataFrame) -> Iterator[tuple[str, str, np.ndarray]]:
    """Give column, group and mask [N] of each group."""
    for column in GROUPS:
        names = text_of(rows, column)
        if names[names != ""].nunique() < 2:
            continue
        codes, kinds = pd.factorize(names.where(names != "", NOT_RECORDED))
        sizes = np.bincount(codes)
        largest = np.argsort(-sizes, kind="stable")[:_MOST]
        for code in sorted(largest, key=lambda code: natural(str(kinds[code]))):
            yield column, str(kinds[code]), codes == code
    yield from (("lesion size", name, chosen) for name, chosen in size_groups(rows))
    flags = text_of(rows, "flags")
    if (flags != "").any() and (flags == "").any():
        parts = flags[flags != ""].str.split(";").explode().str.strip()
        for flag in sorted(set(parts[parts != ""]))[:_MOST]:
            flagged = np.zeros(len(rows), dtype=bool)
            flagged[rows.index.get_indexer(parts.index[parts == flag])] = True
            yield "flag", str(flag), flagged
        yield "flag", "no flag", (flags == "").to_numpy()


def natural(name: str) -> tuple[bool, float, str]:
    """Order numbers as numbers, before names, and what is not recorded last."""
    number = float(name) if name.replace(".", "", 1).isdecimal() else float("inf")
    return name == NOT_RECORDED, number, name
