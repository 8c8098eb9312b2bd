"""`medsharp robustness`: bundles under corruption, with a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from medsharp.cli._cluster_models import models_on
from medsharp.cli._console import (
    DEVICE_HELP,
    GPUS_HELP,
    LIMIT_HELP,
    RANGE_HELP,
    RAY_HELP,
    console,
    heading,
    interval,
    note,
    progress_bar,
)
from medsharp.cli._data_options import SOURCE_HELP, sources_of
from medsharp.quantities import counted

if TYPE_CHECKING:
    from medsharp.cluster import ClusterModel
    from medsharp.robustness import HandOut


def robustness(
    bundles: Annotated[list[Path], typer.Argument(help="Bundle folders; several are compared on the same images.")],
    data: Annotated[list[str], typer.Option(help="Manifest, also at a URL, or data set folder; may be repeated.")],
    source: Annotated[
        list[str] | None, typer.Option(help=SOURCE_HELP + " Once for all, or once for each --data.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the page, the figures and what is kept to go on.")] = Path(
        "robustness"
    ),
    corruptions: Annotated[
        list[str] | None,
        typer.Option(
            help="Name, family (medmnist-c, ultrasound, annotation) or glob such as 'gain_*'; may be repeated. "
            "All by default."
        ),
    ] = None,
    images: Annotated[
        int | None, typer.Option(min=4, help="How many of each data set, each class in its share. All by default.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, max=100_000, help="Bootstrap resamples of patients.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of the choice of images, their noise and the resamples.")] = 0,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails", help="Show corruptions on an image of the data: it is patient data.")
    ] = False,
    adversarial: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Attack the first bundle by FGSM and PGD too: the run folder that it was exported from. Needs "
            "medsharp\\[train].",
        ),
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "auto",
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    value_range: Annotated[str | None, typer.Option("--range", metavar="LOW,HIGH", help=RANGE_HELP)] = None,
    ray: Annotated[str | None, typer.Option(metavar="[ADDRESS]", help=RAY_HELP)] = None,
    gpus_each: Annotated[float | None, typer.Option(min=0, help=GPUS_HELP)] = None,
) -> None:
    """Corrupt images as scanners, operators and archives do, and see what becomes of the decisions.

    What was predicted is kept in --out: stopped with Ctrl-C, the same command goes on there.
    """
    from medsharp.config import read_limits
    from medsharp.images import read_range
    from medsharp.inference import Predictor
    from medsharp.robustness import example_image, measure_robustness, write_robustness
    from medsharp.robustness.corruptions import find_corruptions

    chosen = find_corruptions(corruptions or ["*"])
    declared = None if value_range is None else read_range(value_range, "--range")
    loaded: dict[str, Any] = {"limits": read_limits(limit or ()), "value_range": declared}
    # On a cluster its actors predict; here images are chosen, attacked and figures made.
    here = device if ray is None else "cpu"
    predictors = [Predictor.load(bundle, device=here, **loaded) for bundle in bundles]
    adversary = None
    if adversarial is not None:
        from training.attacked import Adversary

        adversary = Adversary(adversarial)
    controls = sum(entry.control_of is not None for entry in chosen)
    beside = f" and {counted(controls, 'control')}" if controls else ""
    heading(f"{counted(len(chosen) - controls, 'corruption')}{beside} at five severities on {', '.join(data)}")
    with models_on(ray, bundles, device, gpus_each, loaded) as models, progress_bar() as report:
        content, first = measure_robustness(
            predictors,
            data,
            chosen,
            out,
            sources=sources_of(source, data),
            images=images,
            resamples=resamples,
            seed=seed,
            adversary=adversary,
            hand_out=_hand_out(models),
            progress=report,
        )
    example, shown = (first, "an image of the data") if thumbnails else (example_image(), "a simulated image")
    # Those that move tissue are left out where a bundle crops to the lesion.
    applied = {entry["name"] for entry in content["corruptions"]}
    for entry in chosen:
        if entry.name not in applied:
            note(f"{entry.name} left out: it moves the lesion, to which a bundle crops")
    write_robustness(
        out, content, [entry for entry in chosen if entry.name in applied], example, shown=shown, private=thumbnails
    )
    for entry in content["datasets"]:
        _show(entry)
    console.print(f"page: [bold]{escape(str(out / 'robustness.html'))}[/]", soft_wrap=True)


def _hand_out(models: list[ClusterModel]) -> HandOut | None:
    if not models:
        return None
    from medsharp.cluster import ModelWork

    return ModelWork(models)


def _show(entry: dict[str, Any]) -> None:
    from medsharp.evaluation.comparison.page import difference_text

    for sentence in entry["notes"]:
        note(sentence)
    for name, why in entry["apart"].items():
        note(f"{name} is counted apart, in no mean: {why}")
    for model in entry["models"]:
        for sentence in model["notes"]:
            console.print(f"[bold red]{escape(model['name'])}: {escape(sentence)}[/]", soft_wrap=True)
        console.print(_worst(entry["name"], model))
        summary = model["summary"]
        note(f"AUROC clean {interval(model['clean']['auroc'])}, mean of all corruptions {interval(summary['auroc'])}")
        for test in model["annotations"]:
            note(test["sentence"])
        if model["idle"]:
            note(f"next to nothing changed even at severity 5 under {', '.join(model['idle'])}")
        note(f"decisions that flip, mean of all corruptions: {interval(summary['flips'])}")
    for comparison in entry["comparisons"]:
        note(
            f"{comparison['second']} minus {comparison['first']}: mean AUROC {difference_text(comparison['auroc'])}, "
            f"flips {difference_text(comparison['flips'])}"
        )


def _worst(data: str, model: dict[str, Any]) -> Table:
    from medsharp.evaluation.comparison.page import difference_text

    table = Table(title=f"{model['name']} on {data}: the worst cases. Not for diagnostic use", title_justify="left")
    for name in ("corruption", "severity", "AUROC (95 % interval)", "change", "flips"):
        table.add_column(name)
    for case in model["summary"]["worst"]:
        table.add_row(
            case["corruption"],
            str(case["severity"]),
            interval(case["auroc"]),
            difference_text(case["auroc_change"]),
            interval(case["flips"]),
        )
    return table
