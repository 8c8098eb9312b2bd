"""Sharpness and the generalization gap laid out for a reader."""

from __future__ import annotations

from collections import Counter
from typing import Any

from medsharp.evaluation.report.blocks import Block, Heading, Notice, Text
from medsharp.quantities import counted
from training.study.flatness import GAPS
from training.study.tables import BUDGETS, LONGEST, in_order, interval, interval_of_share, number_table, plain_value


def flatness_blocks(results: dict[str, Any]) -> list[Block]:
    """Lay out gaps, sharpness, and how they go together."""
    blocks: list[Block] = [Heading("Sharpness and the generalization gap")]
    gaps = results["gaps"]
    rows = [
        [
            f"{one['optimizer']}, {one['network']}, {one['hospital']}, {BUDGETS[one['budget']]}",
            plain_value({"value": one["auroc_gap"]}),
            plain_value({"value": one["loss_gap"]}),
        ]
        for one in gaps
    ]
    blocks.append(
        number_table(
            "Generalization gap, mean of folds and seeds", ["Optimizer, network, hospital", *GAPS.values()], rows
        )
    )
    sharpness = results["sharpness"]
    if "reason" in sharpness:
        return [*blocks, Text(f"No correlation with sharpness: {sharpness['reason']}.")]
    rows = [
        [f"{one['measure']}, {one['scope']}", GAPS[one["gap"]], interval(one, sign=True)]
        for one in sharpness["correlations"]
    ]
    header = ["Measure of sharpness", "Gap", "Spearman's correlation"]
    caption = (
        "Rank correlation of sharpness with the gap (95 % intervals over folds). Observational: runs differ in "
        "optimizer, settings and length too, and no correlation here says that flatness is the cause"
    )
    return [*blocks, *_measured(sharpness), *_ratios(results), number_table(caption, header, rows)]


def _ratios(results: dict[str, Any]) -> list[Block]:
    """A table a kind of measure, with a column for each scale of it."""
    found = {(one["budget"], one["optimizer"], one["measure"]): one for one in results["sharpness"].get("ratios", [])}
    rows, measures = in_order(key[:2] for key in found), in_order(key[2] for key in found)
    reference = results["study"]["reference"]
    tables: list[Block] = []
    for kind in in_order(name.partition(", ")[0] for name in measures):
        own = [name for name in measures if name.partition(", ")[0] == kind]
        caption = (
            f"{kind.capitalize()} of the minima, times {reference}'s: geometric means of paired runs over networks, "
            "folds and hospitals (95 % intervals as of differences on test folds); below 1 is flatter"
        )
        cells = [
            [interval_of_share(found.get((budget, optimizer, name))) for name in own] for budget, optimizer in rows
        ]
        names = [
            f"{optimizer}, {BUDGETS[budget]} ({', '.join(found[budget, optimizer, own[0]]['hospitals'])})"
            for budget, optimizer in rows
        ]
        header = ["Optimizer (trained on)", *(name.partition(", ")[2] or name for name in own)]
        tables.append(number_table(caption, header, [[name, *each] for name, each in zip(names, cells, strict=True)]))
    return tables


def _measured(sharpness: dict[str, Any]) -> list[Block]:
    """Say how many runs could not be measured, and how many eigenvalues are not those to which the iteration tends."""
    missing, loose = sharpness["missing"], sharpness["not_converged"]
    runs = len(sharpness["measures"])
    blocks: list[Block] = []
    if missing:
        run, reason = next(iter(missing.items()))
        said = (
            f"{len(missing)} of {runs + len(missing)} runs could not be measured and are left out; the first, {run}: "
        )
        blocks.append(Notice(f"{said}{reason[:LONGEST]}"))
    counts = Counter(name for names in loose.values() for name in names)
    if counts:
        which = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        said = f"Eigenvalues that did not converge, and are at least as large, of {runs} runs: {which}."
    else:
        said = f"{counted(runs, 'run')} measured; all eigenvalues converged."
    return [*blocks, Text(said)]
