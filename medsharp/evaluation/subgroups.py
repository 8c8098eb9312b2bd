"""The same figures within sites, devices, BI-RADS categories, histologies, lesion sizes, any column, marked images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation.counts import GROUPS
from medsharp.evaluation.findings import findings_of
from medsharp.evaluation.grouping import Group, Grouping, categories, groups_by
from medsharp.evaluation.lesion_size import size_groups
from medsharp.evaluation.predictions import text_of
from medsharp.evaluation.statistics.bootstrap import affordable
from medsharp.evaluation.statistics.estimate import Interval
from medsharp.evaluation.statistics.figures import Cases, estimates_of, figures_of, measure
from medsharp.evaluation.statistics.registry import SCALARS
from medsharp.evaluation.statistics.scalars import statistics_of

LESION_SIZE = "lesion size"

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
    rows: pd.DataFrame,
    cases: Cases,
    *,
    resamples: int,
    rng: np.random.Generator,
    interval: Interval = "percentile",
    by: Sequence[Grouping] = (),
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
        by: Columns that were asked for, which come first; site, device, BI-RADS, histology and lesion size make groups
            of themselves.

    Raises:
        InputError: A value of a column that is cut is not a number.
    """
    found = []
    for column, name, places in _groups(rows, by):
        part = cases.chosen(places)
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


def columns_of(rows: pd.DataFrame, by: Sequence[Grouping] = (), most: int | None = None) -> dict[str, list[Group]]:
    """Return the groups of each column that divides the images: those asked for, then those grouped of themselves.

    Args:
        rows: The images.
        by: Columns asked for.
        most: Only so many groups of a column, the largest.
    """
    asked = {grouping.column for grouping in by}
    usual = (Grouping(column) for column in GROUPS if column not in asked)
    found = {grouping.column: groups_by(rows, grouping, most) for grouping in by}
    found |= {grouping.column: _categories(rows, grouping.column, most) for grouping in usual}
    found[LESION_SIZE] = size_groups(rows)
    return {column: groups for column, groups in found.items() if groups}


def _categories(rows: pd.DataFrame, column: str, most: int | None) -> list[Group]:
    text = text_of(rows, column)
    return categories(text, most) if text[text != ""].nunique() > 1 else []


def _groups(rows: pd.DataFrame, by: Sequence[Grouping]) -> Iterator[tuple[str, str, np.ndarray]]:
    """Give column, group and the places of its images [n] of each group."""
    for column, groups in columns_of(rows, by, _MOST).items():
        yield from ((column, name, places) for name, places in groups)
    flags = text_of(rows, "flags")
    if (flags != "").any() and (flags == "").any():
        parts = flags[flags != ""].str.split(";").explode().str.strip()
        for flag in sorted(set(parts[parts != ""]))[:_MOST]:
            # An image may name a flag twice.
            yield "flag", str(flag), np.unique(rows.index.get_indexer(parts.index[parts == flag]))
        yield "flag", "no flag", np.flatnonzero(flags == "")
    found = findings_of(rows)
    marked = np.array([bool(one) for one in found], dtype=bool)
    if marked.any() and not marked.all():
        names = sorted({one.sentence or one.check for all_ in found for one in all_})[:_MOST]
        for name in names:
            which = [any(name == (one.sentence or one.check) for one in all_) for all_ in found]
            yield "caution", name, np.flatnonzero(which)
        yield "caution", "no caution", np.flatnonzero(~marked)
