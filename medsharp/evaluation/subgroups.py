"""The same figures within sites, devices, BI-RADS categories, histologies, lesion sizes, any column, marked images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from medsharp.evaluation.findings import findings_of
from medsharp.evaluation.grouping import CAUTION, FLAG, LESION_SIZE, Group, Grouping, categories, groups_by
from medsharp.evaluation.headings import GROUPS
from medsharp.evaluation.least import LEAST_EVENTS, RESAMPLES, SMALLEST
from medsharp.evaluation.lesion_size import size_groups
from medsharp.evaluation.predictions import text_of
from medsharp.evaluation.statistics.bootstrap import affordable, draw
from medsharp.evaluation.statistics.estimate import Estimate, Interval
from medsharp.evaluation.statistics.figures import Cases, estimates_of, figures_of, measure
from medsharp.evaluation.statistics.registry import SCALARS
from medsharp.evaluation.statistics.scalars import statistics_of

TESTED = ("auroc", "sensitivity", "specificity", "calibration_intercept", "calibration_slope")
"""Figures whose difference between groups is tested: ranks and shares on the logit scale, the others as they are."""

_MOST = 40
"""Groups of a column that are listed at most, the largest; a summary over sites (`sites_of`) and tests take all."""

_BUDGET = 100_000_000


@dataclass(frozen=True)
class Subgroup:
    """Images of one kind, and how often their patients are drawn in resamples of all patients.

    Attributes:
        by: Their column.
        name: What they have in common.
        listed: Whether they stand in the table, for which all figures are measured.
        places: Where they stand among all images, ascending [n].
        whole: Labels, scores, clusters and threshold of all images.
        draws: How often each patient is drawn: uint8 [R, clusters], the same for every group.
        interval: How intervals are made of the resamples.
    """

    by: str
    name: str
    listed: bool
    places: np.ndarray = field(repr=False)
    whole: Cases = field(repr=False)
    draws: np.ndarray = field(repr=False)
    interval: Interval

    @cached_property
    def cases(self) -> Cases:
        """The group's own, its clusters counted anew."""
        return self.whole.chosen(self.places)

    @cached_property
    def drawn(self) -> np.ndarray:
        """How often each of its patients is drawn: uint8 [R, its clusters]."""
        return self.draws[:, np.unique(self.whole.clusters[self.places])]

    @property
    def has_enough(self) -> bool:
        """Whether there are images enough for figures."""
        return len(self.places) >= SMALLEST

    @property
    def alone(self) -> str:
        """The figure that is left of a group of one class; empty where it has both."""
        labels = self.cases.labels
        return "sensitivity" if labels.all() else "specificity" if not labels.any() else ""

    @cached_property
    def present(self) -> np.ndarray:
        """In which resamples there is any of its patients: bool [R]."""
        return np.asarray(self.drawn.any(axis=1))

    @cached_property
    def estimates(self) -> dict[str, Estimate]:
        """Its figures on the images as they are and on the resamples where it is present."""
        keys = (self.alone,) if self.alone else SCALARS if self.listed else TESTED
        statistics, drawn = statistics_of(self.cases, keys), self.drawn[self.present]
        measured = measure(self.cases.clusters, statistics, drawn=drawn, interval=self.interval)
        return estimates_of(self.cases, measured, LEAST_EVENTS)


def groups_of(
    rows: pd.DataFrame,
    cases: Cases,
    *,
    resamples: int,
    rng: np.random.Generator,
    interval: Interval = "percentile",
    by: Sequence[Grouping] = (),
) -> list[Subgroup]:
    """Return the groups of every column, to be measured on the same resamples of patients.

    What a patient does to two groups is then in their covariance. A column with a single value is left out, as its
    group would be the whole.

    Args:
        rows: The images, in the order of `cases`.
        cases: Labels, scores, clusters, threshold.
        resamples: Of patients, 1,000 at most, and fewer of very many images.
        rng: Their draws.
        interval: How intervals are made of the resamples.
        by: Columns that were asked for, which come first; site, device, BI-RADS, histology and lesion size make groups
            of themselves.

    Raises:
        InputError: A value of a column that is cut is not a number.
    """
    wished = affordable(min(resamples, RESAMPLES), len(cases.labels), _BUDGET)
    draws = draw(int(cases.clusters.max()) + 1, wished, rng)
    return [Subgroup(*group, cases, draws, interval) for group in _groups(rows, by)]


def subgroups_of(groups: Sequence[Subgroup]) -> list[dict[str, Any]]:
    """Return the figures of each listed group of at least `SMALLEST` images.

    A figure needs `LEAST_EVENTS` images of the kind that it is about: sensitivity positive ones, AUROC and calibration
    of both kinds. A group of one class only has its sensitivity, or specificity, alone: of the invasive ductal
    carcinomas, say, how many are found. Groups that are too small are listed with the reason instead of figures, the
    largest `_MOST` groups of a column at most.
    """
    found = []
    for group in groups:
        if not group.listed:
            continue
        labels = group.cases.labels
        entry = {
            "by": group.by,
            "group": group.name,
            "images": len(labels),
            "positives": int(labels.sum()),
            "clusters": group.cases.patients(),
        }
        if not group.has_enough:
            found.append(entry | {"reason": f"fewer than {SMALLEST} images"})
            continue
        figures = figures_of(group.estimates, group.interval)
        if group.alone:
            found.append(entry | {"reason": "one class only", group.alone: figures[group.alone]})
            continue
        found.append(entry | figures)
    return found


def _columns(rows: pd.DataFrame, by: Sequence[Grouping]) -> dict[str, list[Group]]:
    """Return the groups of each column that divides the images: those asked for, then those grouped of themselves."""
    asked = {grouping.column for grouping in by}
    usual = (Grouping(column) for column in GROUPS if column not in asked)
    found = {grouping.column: groups_by(rows, grouping) for grouping in by}
    found |= {grouping.column: _categories(rows, grouping.column) for grouping in usual}
    found[LESION_SIZE] = size_groups(rows)
    return {column: groups for column, groups in found.items() if groups}


def _categories(rows: pd.DataFrame, column: str) -> list[Group]:
    text = text_of(rows, column)
    return categories(text) if text[text != ""].nunique() > 1 else []


def _groups(rows: pd.DataFrame, by: Sequence[Grouping]) -> Iterator[tuple[str, str, bool, np.ndarray]]:
    """Give column, name, whether it is listed, and the places of its images [n], of each group."""
    for column, groups in _columns(rows, by).items():
        largest = set(sorted(range(len(groups)), key=lambda number: -len(groups[number][1]))[:_MOST])
        for number, (name, places) in enumerate(groups):
            yield column, name, number in largest, places
    flags = text_of(rows, "flags")
    if (flags != "").any() and (flags == "").any():
        parts = flags[flags != ""].str.split(";").explode().str.strip()
        for flag in sorted(set(parts[parts != ""]))[:_MOST]:
            # An image may name a flag twice.
            yield FLAG, str(flag), True, np.unique(rows.index.get_indexer(parts.index[parts == flag]))
        yield FLAG, "no flag", True, np.flatnonzero(flags == "")
    found = findings_of(rows)
    marked = np.array([bool(one) for one in found], dtype=bool)
    if marked.any() and not marked.all():
        names = sorted({one.sentence or one.check for all_ in found for one in all_})[:_MOST]
        for name in names:
            which = [any(name == (one.sentence or one.check) for one in all_) for all_ in found]
            yield CAUTION, name, True, np.flatnonzero(which)
        yield CAUTION, "no caution", True, np.flatnonzero(~marked)
