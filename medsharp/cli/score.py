"""`medsharp score`: the statistics of `evaluate` for any model's predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from medsharp.cli._console import IntervalKind, console, figures_table, note, reader_notes
from medsharp.errors import InputError


def score(
    predictions: Annotated[Path, typer.Argument(help="CSV with image, label and p_<class> columns.")],
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Decide for the positive class from this probability on. Without it: the table's column threshold, or "
            "the bundle beside.",
        ),
    ] = None,
    positive: Annotated[str, typer.Option(help="The positive class.")] = "malignant",
    out: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="html, md, json, csv; repeated or joined by commas. Default: html,json."),
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Bootstrap resamples of patients.")] = 2000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    interval: Annotated[
        IntervalKind, typer.Option(help="How 95 % intervals are made of the resamples.")
    ] = IntervalKind.percentile,
    prevalence: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of positives where the model is to be used: PPV and NPV there too."),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="The model's predictions on other images, which fix conformal prediction sets.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Share of prediction sets that may miss the truth.")] = 0.1,
) -> None:
    """Score a table of predictions, whoever's model made it: every figure with its 95 % interval."""
    from medsharp.evaluation import calibrate, read_predictions, write_evaluation
    from medsharp.evaluation.conformal import assert_other_images
    from medsharp.evaluation.frozen import THRESHOLD, frozen_threshold
    from medsharp.evaluation.own_thresholds import evaluate_at_own_thresholds
    from medsharp.evaluation.report import left_over, parse_formats

    chosen = parse_formats(formats)
    if formats and out is None:
        raise InputError("--format needs --out, the folder that the report is written to")
    table = read_predictions(predictions)
    classes = [column.removeprefix("p_") for column in table.columns if column.startswith("p_")]
    if positive not in classes:
        raise InputError(f"{predictions} has no column p_{positive}; name the positive class with --positive")
    frozen = frozen_threshold(table, predictions, positive, threshold)
    conformal = None
    if calibration is not None:
        other = read_predictions(calibration, classes)
        assert_other_images(other, table, calibration.name, predictions.name)
        conformal = calibrate(other, classes, calibration.name, alpha)
    evaluation = evaluate_at_own_thresholds(
        table.assign(**{THRESHOLD: frozen.values}),
        classes=classes,
        positive=positive,
        warnings=[f"Threshold {frozen.text}, {frozen.origin}."],
        name=predictions.stem,
        role="unstated",
        resamples=resamples,
        seed=seed,
        interval=interval.value,
        prevalence=prevalence,
        conformal=conformal,
    )
    title = escape(f"At threshold {frozen.text}, {frozen.origin}")
    console.print(figures_table({predictions.stem: evaluation.as_dict()["figures"]}, title))
    reader_notes([evaluation.as_dict()])
    if out is not None:
        written = write_evaluation(out, [evaluation], {}, formats=chosen)
        for path in written:
            note(f"report: {path}")
        for path in left_over(out, written):
            note(f"{path} is of an earlier run; this one was not asked for that format")
