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
from medsharp.evaluation.statistics.estimate import Interval
from medsharp.evaluation.statistics.figures import Cases, estimates_of, figures_of, measure
from medsharp.evaluation.statistics.registry import SCALARS
from medsharp.evaluation.statistics.scalars import statistics_of

NOT_RECORDED = "not recorded"
"""The group of images of which a column says nothing."""

SMALLEST = 20
"""Groups with fewer images get no figures."""

LEAST_EVENTS = 10
"""A figure about fewer images of a group is withheld: specificity of two images is 0, 0.5 or 1."""

_MOST = 40
"""Groups of a column that are listed at most, the largest; a summary over sites takes all (`sites_of`)."""
RESAMPLES = 1000
"""Of a group at most: as many have percentiles, and there are many groups."""

_BUDGET = 20_000_000


def subgroups_of(
    rows: pd.DataFrame, cases: Cases, *, resamples: int, rng: np.random.Generator, interval: Interval = "percentile"
) -> list[dict[str, Any]]:
    """Return the figures of each group of at least `SMALLEST` images.

    A figure needs `LEAST_EVENTS` images of the kind that it is about: sensitivity positive ones, AUROC and calibration
    of both kinds. A group of one class only has its sensitivity, or specificity, alone: of the invasive ductal
    carcinomas, say, how many are found. A column with a single value is left out, as its group would be the whole.
    Groups that are too small are listed with the reason instead of figures, the largest `_MOST` groups of a column at
    most.

    Args:
        rows: The images, in the order of `cases`.
        cases: Labels, scores, clusters.
        resamples: Of the patient bootstrap.
        rng: Its draws.
        interval: How intervals are made of the resamples.
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
        if len(part.labels) < SMALLEST:
            found.append(entry | {"reason": f"fewer than {SMALLEST} images"})
            continue
        wished = affordable(min(resamples, RESAMPLES), len(part.labels), _BUDGET)
        only = "sensitivity" if part.labels.all() else "specificity" if not part.labels.any() else None
        keys = SCALARS if only is None else (only,)
        measured = measure(part.clusters, statistics_of(part, keys), resamples=wished, rng=rng, interval=interval)
        figures = figures_of(estimates_of(part, measured, LEAST_EVENTS), interval)
        if only is not None:
            found.append(entry | {"reason": "one class only", only: figures[only]})
            continue
        found.append(entry | figures)
    return found


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
