"""`medsharp evaluate`: a bundle on hospitals it never saw, with a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from medsharp.cli._cluster_models import models_on
from medsharp.cli._console import (
    ANYWAY_HELP,
    BY_HELP,
    DEVICE_HELP,
    GPUS_HELP,
    LIMIT_HELP,
    RANGE_HELP,
    RAY_HELP,
    IntervalKind,
    console,
    figures_table,
    heading,
    note,
    progress_bar,
    reader_notes,
)
from medsharp.cli._data_options import CLASS_HELP, LABEL_FROM_HELP, SOURCE_HELP, rule_of, sources_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from medsharp.cluster import ClusterModel
    from medsharp.data.sources import LabelRule
    from medsharp.evaluation.grouping import Grouping
    from medsharp.inference import Predictor


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder, as `medsharp export` makes it.")],
    data: Annotated[list[str], typer.Option(help="Manifest, also at a URL, or data set folder; may be repeated.")],
    out: Annotated[Path, typer.Option(help="Folder for the report and the predictions.")] = Path("evaluation"),
    source: Annotated[
        list[str] | None, typer.Option(help=SOURCE_HELP + " Once for all, or once for each --data.")
    ] = None,
    label_from: Annotated[str | None, typer.Option(metavar="COLUMN", help=LABEL_FROM_HELP)] = None,
    malignant: Annotated[str | None, typer.Option(metavar="VALUES", help=CLASS_HELP.format(name="malignant"))] = None,
    benign: Annotated[str | None, typer.Option(metavar="VALUES", help=CLASS_HELP.format(name="benign"))] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="html, md, json, csv; repeated or joined by commas. Default: html,json."),
    ] = None,
    robustness: Annotated[
        Path | None,
        typer.Option(help="robustness.json of `medsharp robustness`, for its summary; by default the one in --out."),
    ] = None,
    thumbnails: Annotated[
        bool,
        typer.Option("--thumbnails", help="Show the images it got wrong in the page: patient data, then in red."),
    ] = False,
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
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    inpaint: Annotated[
        bool | None,
        typer.Option("--inpaint/--no-inpaint", help="Remove calipers and text first, or not; default: as the bundle."),
    ] = None,
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    value_range: Annotated[str | None, typer.Option("--range", metavar="LOW,HIGH", help=RANGE_HELP)] = None,
    answer_anyway: Annotated[
        bool,
        typer.Option(
            "--answer-anyway",
            help=ANYWAY_HELP
            + " Here: in the table of predictions. Figures with and without them are given either way.",
        ),
    ] = False,
    card: Annotated[
        bool, typer.Option("--card", help="Write the figures into the bundle's MODEL_CARD.md too.")
    ] = False,
    ray: Annotated[str | None, typer.Option(metavar="[ADDRESS]", help=RAY_HELP)] = None,
    gpus_each: Annotated[float | None, typer.Option(min=0, help=GPUS_HELP)] = None,
) -> None:
    """Measure a bundle on external data: the threshold stays as frozen, intervals come from resampling patients."""
    from medsharp.config import read_limits
    from medsharp.evaluation.grouping import parse_groupings
    from medsharp.evaluation.report import parse_formats, read_robustness
    from medsharp.images import read_range
    from medsharp.inference import Predictor

    chosen, groupings = parse_formats(formats), parse_groupings(by or ())
    sources, rule = sources_of(source, data), rule_of(label_from, malignant, benign)
    # Read before anything is predicted, so that a wrong file costs no time.
    degradation = read_robustness(robustness, out)
    declared = None if value_range is None else read_range(value_range, "--range")
    loaded: dict[str, Any] = {
        "limits": read_limits(limit or ()),
        "inpaint": inpaint,
        "value_range": declared,
        "answer_anyway": answer_anyway,
    }
    # On a cluster its actors predict; here the figures are made.
    predictor = Predictor.load(bundle, device=device if ray is None else "cpu", **loaded)
    with models_on(ray, [bundle], device, gpus_each, loaded) as models:
        written = evaluate_data(
            predictor,
            bundle,
            data,
            out,
            sources=sources,
            rule=rule,
            resamples=resamples,
            seed=seed,
            interval=interval,
            prevalence=prevalence,
            by=groupings,
            card=card,
            formats=chosen,
            robustness=degradation,
            thumbnails=thumbnails,
            model=models[0] if models else None,
        )
    for path in written:
        console.print(f"report: [bold]{escape(str(path))}[/]", soft_wrap=True)


def evaluate_data(
    predictor: Predictor,
    bundle: Path,
    data: Sequence[str],
    out: Path,
    *,
    sources: Sequence[str | None] | None = None,
    rule: LabelRule | None = None,
    resamples: int = 2000,
    seed: int = 0,
    interval: IntervalKind = IntervalKind.percentile,
    prevalence: float | None = None,
    by: Sequence[Grouping] = (),
    card: bool = False,
    formats: Sequence[str] = ("html", "json"),
    robustness: dict[str, Any] | None = None,
    thumbnails: bool = False,
    model: ClusterModel | None = None,
) -> tuple[Path, ...]:
    """Predict and evaluate each data set, write the report, print the figures; return the files of the report."""
    from contextlib import ExitStack

    from medsharp.bundle import answers_digest_of
    from medsharp.data.leaks import assert_no_leak
    from medsharp.evaluation import write_evaluation
    from medsharp.evaluation.grouping import assert_columns
    from medsharp.evaluation.notes import alarming
    from medsharp.evaluation.report import left_over
    from medsharp.evaluation.report.wording import titled
    from medsharp.inference.card import add_external_figures
    from medsharp.inference.external import evaluate_internal, evaluate_manifest, list_external, tie_external
    from medsharp.inference.ready import ReadyImages

    evaluations = []
    options: dict[str, Any] = {
        "resamples": resamples,
        "seed": seed,
        "interval": interval.value,
        "prevalence": prevalence,
        "by": by,
    }
    listed = [
        list_external(path, predictor, source=source, rule=rule, stored=True)
        for path, source in zip(data, sources or [None] * len(data), strict=True)
    ]
    columns = sorted({str(column) for manifest in listed for column in manifest.table})
    assert_columns(by, columns, " and ".join(manifest.info.name for manifest in listed))
    internal = evaluate_internal(predictor.spec, bundle, **options)
    if internal is not None:
        evaluations.append(internal)
    # Refused images are predicted too, here and on a cluster: the figures with and without them are given.
    manifests, ready = [], ReadyImages(predictor.answering_anyway())
    anyway = None if model is None else model.answering_anyway()
    # Copies of images in object stores, which are read again for leaks and pictures; on a cluster its tasks read.
    with ExitStack() as copies:
        for path, manifest in zip(data, listed, strict=True):
            heading(f"Reading {path}")
            with progress_bar() as report:
                if anyway is None:
                    here = copies.enter_context(manifest.at_hand(progress=report))
                    manifests.append(tie_external(here, predictor, ready=ready, progress=report))
                else:
                    manifests.append(anyway.tie(manifest, ready=ready, progress=report))
            for sentence in manifests[-1].notes:
                note(sentence)
        # Before anything is told: hospitals that share images are not two hospitals.
        assert_no_leak(*manifests)
        for path, manifest in zip(data, manifests, strict=True):
            heading(f"Evaluating on {path}")
            with progress_bar() as report:
                taken = [evaluation.as_dict()["name"] for evaluation in evaluations]
                evaluation, _ = evaluate_manifest(
                    predictor,
                    manifest,
                    out=out,
                    taken=taken,
                    thumbnails=thumbnails,
                    ready=ready,
                    progress=report,
                    **options,
                )
            evaluations.append(evaluation)
    digests = {"digest": predictor.digest, "answers_digest": answers_digest_of(predictor.spec)}
    spec = predictor.spec.model_dump(mode="json") | digests
    written = write_evaluation(out, evaluations, spec, formats=formats, robustness=robustness)
    for file in left_over(out, written):
        note(f"{file} is of an earlier run; this one was not asked for that format")
    for evaluation in evaluations:
        for sentence in evaluation.as_dict()["notes"]:
            style = "bold red" if alarming(sentence) else "yellow"
            console.print(f"[{style}]{escape(evaluation.as_dict()['name'])}: {escape(sentence)}[/]", soft_wrap=True)
    if card:
        add_external_figures(bundle, [e for e in evaluations if e.as_dict()["role"] == "external"])
        note(f"{bundle / 'MODEL_CARD.md'} has the external figures")
    figures = {titled(entry): entry["figures"] for entry in (e.as_dict() for e in evaluations)}
    console.print(figures_table(figures, "Not for diagnostic use"))
    reader_notes([e.as_dict() for e in evaluations])
    return written
