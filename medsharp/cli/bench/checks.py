"""`medsharp bench checks`: how often the checks of a picture speak, of which images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medsharp.cli._console import heading, note, progress_bar
from medsharp.cli.bench._output import JsonFile, check_json, show_table, write_json

if TYPE_CHECKING:
    from medsharp.inference.checks.benchmark.rates import Rate


def checks(
    data: Annotated[list[str] | None, typer.Option(help="Data set of breast ultrasound; may be repeated.")] = None,
    no_lesion: Annotated[str, typer.Option(help="Label of images that show no lesion.")] = "normal",
    others: Annotated[
        Path | None, typer.Option(help="Folder with a folder of pictures a kind, none of them ultrasound.")
    ] = None,
    unseen: Annotated[
        Path | None, typer.Option(help="The same, of kinds that --fit and the hospitals left out do not use.")
    ] = None,
    from_packages: Annotated[
        bool, typer.Option("--from-packages", help="Also of pictures that packages brought with them, which are named.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, help="Pictures of each made kind, images under each overlay.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Of what is made.")] = 0,
    fit: Annotated[Path | None, typer.Option(help="File for a fit of ultrasound.json on all of --data.")] = None,
    markdown: Annotated[bool, typer.Option(help="Print Markdown.")] = False,
    json_: JsonFile = None,
) -> None:
    """Count what the checks of a picture refuse and mark: lesions, normal breasts, overlays, other organs, pictures."""
    from medsharp.data.sources import open_dataset
    from medsharp.files import write_text
    from medsharp.inference.checks.benchmark.packages import pictures_of_packages
    from medsharp.inference.checks.benchmark.rates import (
        PHOTOGRAPHS,
        fitted,
        groups_of,
        left_out,
        package_groups,
        pooled,
        rates_of,
        seconds_an_image,
    )
    from medsharp.inference.checks.judge import Judge

    check_json(json_)
    manifests = [open_dataset(path) for path in data or ()]
    heading("Reading and making pictures")
    groups = groups_of(manifests, no_lesion=no_lesion, others=others, unseen=unseen, count=count, seed=seed)
    found = list(pictures_of_packages()) if from_packages else []
    for one in found:
        note(one.sentence)
    if fit is not None:
        import json

        write_text(fit, json.dumps(fitted(groups, seed), indent=1) + "\n")
        note(f"the fit is in {fit}; it is measured once it lies beside medsharp/inference/checks/ultrasound.py")
        return
    with progress_bar() as report:
        rates = rates_of([*groups, *package_groups(found)], Judge(), report)
    rates += pooled(rates, PHOTOGRAPHS, "photographs, faces, wallpapers")
    cost = 1000 * seconds_an_image(groups, Judge())
    note(f"{cost:.1f} ms of one core an image, of the pictures as they are here")
    columns = ("pictures", "sort", "number", "refused (95 % interval)", "cautioned", "by")
    show_table(columns, [_row(rate) for rate in rates], markdown=markdown)
    carried = left_out(groups, seed) if len(manifests) > 1 else []
    if carried:
        rows = [(one.name, _share(one.refused, one.images), _share(one.others_refused, one.others)) for one in carried]
        title = "`not_ultrasound`, fitted without a hospital"
        show_table(
            ("left out", "its images refused", "others of unseen kinds refused"), rows, title=title, markdown=markdown
        )
    write_json(
        json_,
        {"milliseconds": cost, "rates": [asdict(rate) for rate in rates], "left_out": [asdict(one) for one in carried]},
    )


def _row(rate: Rate) -> tuple[str, ...]:
    by = ", ".join(f"{key} {number}" for key, number in rate.by_check.items())
    return rate.name, rate.sort, str(rate.images), _share(rate.refused, rate.images), str(rate.cautioned), by


def _share(found: int, total: int) -> str:
    from medsharp.evaluation.statistics.intervals import wilson

    low, high = wilson(found, total)
    return f"{found / total:.1%} ({low:.1%} to {high:.1%})"
