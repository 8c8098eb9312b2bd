"""Findings on a data set as a whole: its patients, the balance of sites and devices, the sizes of its images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
from scipy.stats import fisher_exact

from medsharp.data.audit.finding import KINDS, Finding
from medsharp.data.audit.inspect import stated_size
from medsharp.data.manifest import Manifest, name_of

_LEAST_IMAGES = 20
_LEAST_DIFFERENCE = 0.15
_SURE = 1e-3


def patient_findings(manifest: Manifest) -> Iterator[Finding]:
    """Yield patients with several images, each at its first image, and those with different labels."""
    rows = manifest.included
    known = rows[rows["patient"] != ""]
    for (_, patient), images in known.groupby(["site", "patient"], sort=False):
        if len(images) < 2:
            continue
        labels = images.loc[images["label"] != "", "label"].value_counts()
        counted = ", ".join(f"{label} {count}" for label, count in labels.items()) or "no labels"
        first = name_of(images.iloc[0].to_dict())
        name = manifest.info.name
        yield Finding(
            name, first, "patient", f"patient {patient}: {len(images)} images ({counted})", KINDS["patient"].action
        )
        if len(labels) > 1:
            detail = f"patient {patient}: {counted}"
            yield Finding(name, first, "patient-labels", detail, KINDS["patient-labels"].action)


def balance_findings(manifest: Manifest) -> Iterator[Finding]:
    """Yield sites and devices whose share of a class differs from that of the others (Fisher's exact test)."""
    rows = manifest.included
    rows = rows[rows["label"] != ""]
    for column in ("site", "device"):
        for value, images in rows[rows[column] != ""].groupby(column):
            others = rows[rows[column] != value]
            if min(len(images), len(others)) < _LEAST_IMAGES:
                continue
            for label in manifest.info.classes[-1:] if len(manifest.info.classes) == 2 else manifest.info.classes:
                inside, outside = int((images["label"] == label).sum()), int((others["label"] == label).sum())
                share, other_share = inside / len(images), outside / len(others)
                table = [[inside, len(images) - inside], [outside, len(others) - outside]]
                if abs(share - other_share) >= _LEAST_DIFFERENCE and fisher_exact(table).pvalue < _SURE:
                    shares = f"{share:.0%} of {len(images)} images are {label}, {other_share:.0%} elsewhere"
                    detail = f"{column} {value}: {shares}"
                    yield Finding(manifest.info.name, "", "balance", detail, KINDS["balance"].action)


def size_findings(manifest: Manifest, sizes: Mapping[int, tuple[int, int]]) -> Iterator[Finding]:
    """Yield one sentence where images are smaller than the data set's table says.

    Args:
        manifest: Whose table may state sizes.
        sizes: Width and height in pixels of each row that was read.
    """
    stated = {row: stated_size({str(k): v for k, v in manifest.table.loc[row].items()}) for row in sizes}
    told = {row: size for row, size in stated.items() if size is not None and min(sizes[row]) > 0}
    smaller = [row for row, size in told.items() if max(sizes[row]) < max(size)]
    if smaller:
        longest = max(max(sizes[row]) for row in told)
        detail = (
            f"{len(smaller):,} of {len(told):,} images are smaller than the table says; the longest side here has "
            f"{longest} pixels. Aspect ratios were compared instead of sizes (columns stated_width, stated_height)"
        )
        yield Finding(manifest.info.name, "", "reduced", detail, KINDS["reduced"].action)


def counts_by(table: pd.DataFrame, column: str, classes: tuple[str, ...]) -> list[tuple[str, list[int]]]:
    """Count included images of each value of a column by class; empty where nothing is known of it."""
    rows = table[(table["exclude"] == "") & (table[column] != "")]
    return [
        (str(value), [int((images["label"] == label).sum()) for label in classes])
        for value, images in rows.groupby(column)
    ]
