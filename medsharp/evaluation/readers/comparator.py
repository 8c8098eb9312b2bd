"""What a data set's readers reached on its images, and what the model reaches on the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from medsharp.birads import is_suspicious
from medsharp.evaluation.readers.columns import Reader, readers_in
from medsharp.evaluation.readers.paired import paired_areas, paired_rates, too_little
from medsharp.evaluation.readers.study import study_of
from medsharp.evaluation.statistics.bootstrap import affordable
from medsharp.evaluation.statistics.estimate import Interval
from medsharp.evaluation.statistics.figures import Cases

CAVEATS = (
    "Readers may have seen more than the image that the model saw: other views, the moving scan, Doppler, older "
    "examinations, the patient's age, history and findings by hand.",
    "Where the readers' categories decided who was biopsied, and the labels are of biopsies, the images are those that "
    "readers found suspicious: their specificity here is not that of their practice, and neither is the model's.",
)
"""What holds for every such comparison, whatever the figures."""

_BUDGET = 20_000_000


def readers_of(
    rows: pd.DataFrame,
    cases: Cases,
    *,
    positive: str,
    classes: Sequence[str],
    resamples: int,
    rng: np.random.Generator,
    interval: Interval = "percentile",
) -> dict[str, Any] | None:
    """Compare the model with every reader whose judgements stand in the table; with several, with their mean too.

    Differences are the model's figure less the reader's, on the images that the reader judged. Readers' judgements rise
    with suspicion of cancer: where the positive class is another one, each has a `reason` in place of figures.

    Args:
        rows: The images, in the order of `cases`; columns as `readers_in` finds them.
        cases: Labels, scores, clusters and threshold.
        positive: The class of interest.
        classes: All classes.
        resamples: Of the patient bootstrap.
        rng: Its draws.
        interval: How intervals are made of them.

    Returns:
        What stands under `readers` in `evaluation.json`; None where no column holds judgements.
    """
    readers, notes = readers_in(rows)
    if not readers:
        return None
    entries = []
    suspicious = is_suspicious(positive, classes)
    foreign = "" if suspicious else f"readers say how suspicious of cancer an image is, not how surely it is {positive}"
    for reader in readers:
        entry = _summary(reader, cases, foreign)
        notes += reader.notes
        if "reason" not in entry:
            part, ratings = cases.chosen(reader.read), reader.ratings[reader.read]
            drawn = affordable(resamples, len(ratings), _BUDGET)
            entry |= paired_areas(part, ratings)
            entry["cutoffs"] = paired_rates(
                part,
                ratings,
                reader.cutoffs,
                resamples=drawn,
                rng=rng,
                interval=interval,
            )
            notes += _doubts(reader, entry["auroc"]["value"])
        entries.append(entry)
    return {
        "direction": "model minus reader",
        "caveats": list(CAVEATS),
        "notes": notes,
        "readers": entries,
        "mrmc": study_of(cases, readers) if suspicious else None,
    }


def _summary(reader: Reader, cases: Cases, foreign: str) -> dict[str, Any]:
    read = reader.read
    part = cases.chosen(read)
    entry: dict[str, Any] = {
        "name": reader.name,
        "column": reader.column,
        "scale": reader.scale,
        "images": int(read.sum()),
        "positives": int(part.labels.sum()),
        "clusters": part.patients(),
        "left_out": reader.left_out,
    }
    if reader.scale == "birads" or reader.cutoffs:
        entry["categories"] = [
            {
                "category": name,
                "images": int((reader.ratings == step).sum()),
                "positives": int(cases.labels[reader.ratings == step].sum()),
            }
            for name, step in reader.steps.items()
        ]
    reason = foreign or too_little(part)
    return entry | ({"reason": reason} if reason else {})


def _doubts(reader: Reader, area: float) -> list[str]:
    """Return what an area that no reader reaches makes one ask of the column."""
    if area == 1.0:
        return [f"{reader.name} separates the classes without exception: see whether the labels were made from it"]
    if area < 0.5:
        return [f"{reader.name} ranks worse than chance: see whether higher values mean less suspicious there"]
    return []
