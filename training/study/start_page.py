"""Whether a gain depends on what networks begin from, laid out for a reader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medsharp.evaluation.report.blocks import Block, Text
from medsharp.quantities import p_value
from training.study.definition import StudyDefinition, merged
from training.study.tables import interval, number, number_table


def start_blocks(entries: Sequence[dict[str, Any]], title: str, study: dict[str, Any]) -> list[Block]:
    """Lay out whether a gain depends on what networks begin from; nothing where all begin alike."""
    if not entries:
        return []
    rows = [
        [
            f"{entry['optimizer']}, {entry['hospital']}, {entry['part']}",
            interval(entry["scratch"]),
            interval(entry["pretrained"]),
            interval(more),
            p_value(more["p"]),
            p_value(more["p_holm"]),
            number(more["smallest_seen"]),
        ]
        for entry in entries
        for more in [entry["more"]]
    ]
    header = ["Optimizer, trained on, part", "From scratch", "Pretrained", "More from scratch", "p", "p after Holm"]
    caption = (
        f"AUROC less that of {study['reference']}, {title}, averaged over the networks that begin from random weights "
        "and over those that begin from pretrained ones, and the first less the second on the same folds; Holm over "
        f"{entries[0]['more']['family']} of these; smallest seen: what a test at 5 % finds with a power of 80 %"
    )
    return [
        number_table(caption, [*header, "Smallest seen"], rows),
        Text(_begin(StudyDefinition.model_validate(study))),
    ]


def _begin(study: StudyDefinition) -> str:
    """Say which networks begin how, and whether that is all that they differ by."""
    groups: dict[bool, dict[str, str]] = {False: {}, True: {}}
    for one in study.networks:
        section = merged(study.base, one.settings).get("network", {})
        groups[one.name in study.pretrained][one.name] = str(section.get("name"))
    scratch, ready = groups[False], groups[True]
    said = f"From scratch: {', '.join(scratch)}. Pretrained: {', '.join(ready)}."
    if sorted(scratch.values()) == sorted(ready.values()):
        return f"{said} They are the same networks; epochs and learning rates are those of the study file."
    return f"{said} These are different networks, so that what they begin from is not all that differs."
