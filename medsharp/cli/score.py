"""`medsharp score`: the statistics of `evaluate` for any model's predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from medsharp.cli._console import BY_HELP, IntervalKind, console, figures_table, note, progress_bar, reader_notes
from medsharp.errors import InputError

if TYPE_CHECKING:
    from medsharp.evaluation.evaluate import Evaluation


def score(
    predictions: Annotated[
        Path,
        typer.Argument(help="CSV, Excel or Parquet with image, label and the model's answers; readers' too, if any."),
    ],
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Decide for the positive class from this probability, or score, on. Without it: the table's column "
            "threshold, or the bundle beside.",
        ),
    ] = None,
    positive: Annotated[str, typer.Option(help="The positive class.")] = "malignant",
    score_column: Annotated[
        str | None,
        typer.Option(
            "--score",
            help="Column of scores that are no probabilities, the higher the likelier positive: ranked and thresholded "
            "alone.",
        ),
    ] = None,
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
        typer.Option(
            min=0, max=1, help="Share of positives where the model is to be used: PPV, NPV and decisions there too."
        ),
    ] = None,
    by: Annotated[list[str] | None, typer.Option(metavar="COLUMNS", help=BY_HELP)] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="The model's predictions on other images, which fix conformal prediction sets.")
    ] = None,
    alpha: Annotated[float, typer.Option(help="Share of prediction sets that may miss the truth.")] = 0.1,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Read the table in passes: Parquet, a folder of such files, or CSV of more rows than fit into memory. "
            "Fewer figures; temporary files beside --out.",
        ),
    ] = False,
) -> None:
    """Score a table of predictions, whoever's model made it: every figure with its 95 % interval.

    The answers are columns p_<class> or logit_<class>, one column probability or logit of the positive class, or score.
    BI-RADS and readers' scores beside them (birads, birads_b, reader_1, ..., or a row for each reader) are compared
    with the model.
    """
    from medsharp.evaluation import calibrate, read_predictions
    from medsharp.evaluation.answers import classes_of, has_scores_only
    from medsharp.evaluation.conformal import assert_other_images
    from medsharp.evaluation.frozen import frozen_threshold
    from medsharp.evaluation.grouping import parse_groupings
    from medsharp.evaluation.headings import THRESHOLD
    from medsharp.evaluation.own_thresholds import evaluate_at_own_thresholds
    from medsharp.evaluation.report import parse_formats
    from medsharp.evaluation.scores import evaluate_scores

    chosen, groupings = parse_formats(formats), parse_groupings(by or ())
    if formats and out is None:
        raise InputError("--format needs --out, the folder that the report is written to")
    if stream:
        if calibration is not None or groupings or interval is not IntervalKind.percentile:
            raise InputError("--stream reads rows in passes, and takes none of --by, --calibration and --interval bca")
        evaluation = _streamed(predictions, out, positive, threshold, score_column, resamples, seed, prevalence)
        _tell(evaluation, predictions, out, chosen)
        return
    table = read_predictions(predictions, positive=positive, score=score_column, scores=True)
    try:
        classes = classes_of(table, positive)
    except InputError as error:
        raise InputError(f"{predictions}: {error}") from error
    ranked = has_scores_only(table)
    frozen = frozen_threshold(table, predictions, positive, threshold, probabilities=not ranked)
    if ranked and calibration is not None:
        raise InputError(f"--calibration needs probabilities, and {predictions} has scores")
    conformal = None
    if calibration is not None:
        other = read_predictions(calibration, classes, positive=positive)
        assert_other_images(other, table, calibration.name, predictions.name)
        conformal = calibrate(other, classes, calibration.name, alpha)
    settings: dict[str, Any] = {
        "classes": classes,
        "positive": positive,
        "warnings": [f"Threshold {frozen.text}, {frozen.origin}."],
        "name": predictions.stem,
        "role": "unstated",
        "resamples": resamples,
        "seed": seed,
        "interval": interval.value,
        "prevalence": prevalence,
        "by": groupings,
    }
    if ranked:
        if frozen.single is None:
            raise InputError(f"{predictions} has {len(frozen.distinct)} thresholds; scores of one scale have one")
        evaluation = evaluate_scores(table, threshold=frozen.single, **settings)
    else:
        table = table.assign(**{THRESHOLD: frozen.values})
        evaluation = evaluate_at_own_thresholds(table, conformal=conformal, **settings)
    _tell(evaluation, predictions, out, chosen)


def _streamed(
    predictions: Path,
    out: Path | None,
    positive: str,
    threshold: float | None,
    score_column: str | None,
    resamples: int,
    seed: int,
    prevalence: float | None,
) -> Evaluation:
    """Evaluate a table in passes; temporary files are on the disk of the report, or on that of the system's."""
    import tempfile

    from medsharp.evaluation.streamed import evaluate_streamed

    if prevalence is not None and not 0 < prevalence < 1:
        raise InputError(f"--prevalence {prevalence:g} is not a share between 0 and 1")
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")  # before the work, which may be long
    folder = Path(tempfile.gettempdir()) if out is None else out.resolve()
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    with progress_bar() as report:
        return evaluate_streamed(
            predictions, folder=folder, positive=positive, threshold=threshold, score=score_column,
            resamples=resamples, seed=seed, prevalence=prevalence, progress=report,
        )  # fmt: skip


def _tell(evaluation: Evaluation, predictions: Path, out: Path | None, formats: tuple[str, ...]) -> None:
    """Print the figures, and write the report where one was asked for."""
    from medsharp.evaluation import write_evaluation
    from medsharp.evaluation.notes import refusal_notes
    from medsharp.evaluation.report import left_over

    content = evaluation.as_dict()
    origin = next(note for note in content["notes"] if note.startswith("Threshold "))
    title = escape(f"At t{origin[1:].rstrip('.')}")
    console.print(figures_table({predictions.stem: content["figures"]}, title))
    counted, unit = content["intervals"]["clusters"], content["intervals"]["unit"]
    note(f"{content['counts']['images']} images; intervals are for new cases like these {counted} {unit}")
    for sentence in refusal_notes(content["counts"]):
        note(sentence)
    reader_notes([content])
    if out is not None:
        written = write_evaluation(out, [evaluation], {}, formats=formats)
        for path in written:
            note(f"report: {path}")
        for path in left_over(out, written):
            note(f"{path} is of an earlier run; this one was not asked for that format")
