"""`medsharp compare`: models on the same images, paired."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import console, note
from medsharp.errors import InputError
from medsharp.quantities import number

if TYPE_CHECKING:
    from medsharp.evaluation.comparison import Group


def compare(
    predictions: Annotated[
        list[Path] | None, typer.Argument(help="predictions.csv of each model, on the same images.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="name=glob: tables of one method under several seeds; may be repeated."),
    ] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(
            min=0,
            max=1,
            help="Operating point: one for all, or one a table. Without it: the table's column threshold, or the "
            "bundle beside.",
        ),
    ] = None,
    positive: Annotated[str, typer.Option(help="The positive class.")] = "malignant",
    margin: Annotated[
        float | None, typer.Option(help="Test that the later model loses less AUROC than this against the earlier.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for comparison.json, .html and .md.")] = None,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Bootstrap resamples of patients.")] = 2000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Compare models on the same images: paired intervals and tests, and what may be concluded from them.

    Differences are the later model minus the earlier one. With --group, networks of one method that differ in the seed
    are taken together, and the variance of seeds is told from that of patients.
    """
    from medsharp.evaluation.comparison import compare_models, write_comparison

    groups = _groups(predictions or [], group or [], threshold or [], positive)
    first = groups[0].models[0]
    classes = [str(name).removeprefix("p_") for name in first.table.columns if str(name).startswith("p_")]
    comparison = compare_models(
        groups, classes=classes, positive=positive, margin=margin, resamples=resamples, seed=seed
    )
    content = comparison.as_dict()
    for pair in content["pairs"]:
        _show(pair)
    for one in content["groups"]:
        for model in one["models"]:
            note(f"{model['name']}: threshold {model['thresholds']}, {model['threshold_from']}")
    for sentence in content["limits"]:
        note(sentence)
    if out is not None:
        for path in write_comparison(out, comparison):
            note(f"written: {path}")


def _groups(predictions: list[Path], named: list[str], thresholds: list[float], positive: str) -> list[Group]:
    from medsharp.evaluation.comparison import Group, group_name, read_models

    members: list[tuple[str | None, list[Path]]] = [(None, [path]) for path in predictions]
    for text in named:
        name, pattern = group_name(text)
        files = [Path(file) for file in sorted(glob.glob(pattern, recursive=True))]
        if not files:
            raise InputError(f"--group {name}: no file matches {pattern}")
        members.append((name, files))
    if len(members) < 2:
        raise InputError("a comparison needs at least two models: give another predictions.csv or --group name=glob")
    models = read_models([file for _, files in members for file in files], thresholds, positive=positive)
    groups = []
    for given, files in members:
        taken, models = models[: len(files)], models[len(files) :]
        groups.append(Group(given or taken[0].name, tuple(taken)))
    return groups


def _show(pair: dict[str, Any]) -> None:
    from medsharp.evaluation.comparison.page import difference_text, p_text
    from medsharp.evaluation.statistics.registry import COMPARED, names_of

    table = Table(title=escape(f"{pair['second']} minus {pair['first']}"), title_justify="left", title_style="bold")
    for column in ("figure", pair["first"], pair["second"], "difference (95 % interval)", "test"):
        table.add_column(escape(column))
    for key, name in names_of(COMPARED).items():
        figure = pair["figures"][key]
        values = ["-" if figure[side] is None else number(figure[side]) for side in ("first", "second")]
        table.add_row(name, *values, difference_text(figure), p_text(figure))
    console.print(table)
    for sentence in pair["conclusions"]:
        console.print(escape(sentence), soft_wrap=True)
    console.print()
