"""`medsharp demo`: the main job, end to end, on simulated hospitals."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from medsharp.cli._console import console, heading, note, progress_bar
from medsharp.errors import InputError
from medsharp.yaml_text import load_yaml

EXTERNAL = ("B", "C")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path("medsharp-demo"),
    optimizer: Annotated[str, typer.Option(help="Any optimizer that `medsharp train` knows.")] = "wsam",
    patients: Annotated[int, typer.Option(min=40, max=100_000, help="Simulated patients of hospital A.")] = 400,
    epochs: Annotated[int, typer.Option(min=1, max=1000)] = 40,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train on simulated hospital A, export, evaluate on hospitals B and C that training never saw, write a report.

    Runs where it stopped when started again; about three minutes on two cores. No data is needed, none is downloaded.
    """
    from medsharp.cli.evaluate import evaluate_data
    from medsharp.cli.export import tell_choices
    from medsharp.cli.train import prepare, run_training
    from medsharp.config import validate_config
    from medsharp.data.phantom import write_phantom
    from medsharp.export import export_run
    from medsharp.files import write_text
    from medsharp.inference import Predictor
    from medsharp.runs import Run
    from training import check_config

    begun = time.monotonic()
    choices = {"optimizer": optimizer, "patients": patients, "epochs": epochs, "seed": seed}
    _same_choices(out, choices)
    config = validate_config(_settings(out, choices), "demo")
    check_config(config)
    console.print("[yellow]Everything here is simulated: the figures say nothing about any real hospital.[/]")

    heading("1/4  Simulating hospitals A (for training), B and C (never seen in training)")
    write_text(out / "demo.yaml", yaml.safe_dump(choices))
    with progress_bar() as report:
        for hospital in ("A", *EXTERNAL):
            folder = _hospital(out, hospital)
            if not folder.exists():
                count = patients if hospital == "A" else max(40, patients // 2)
                write_phantom(folder, hospital=hospital, patients=count, seed=seed, progress=report)

    heading(f"2/4  Training with {optimizer} on hospital A")
    run = out / "run"
    if (run / "config.yaml").exists():
        started = Run.load(run)
        if not started.finished:
            run_training(started.config, started.manifest, run, resume=True)
    else:
        run_training(config, prepare(config), run)

    heading("3/4  Exporting to ONNX; temperature and operating point are fixed on hospital A's validation images")
    bundle = out / "bundle"
    with progress_bar() as report:
        spec = export_run(run, bundle, overwrite=True, progress=report)
    tell_choices(spec)

    heading("4/4  Evaluating on hospitals B and C")
    data = [str(_hospital(out, hospital)) for hospital in EXTERNAL]
    report_path, *_ = evaluate_data(Predictor.load(bundle), bundle, data, out / "evaluation", seed=seed)

    note(f"finished in {time.monotonic() - begun:.0f} s")
    console.print(f"report: [bold]{report_path}[/]", soft_wrap=True)
    console.print(f"serve the model: [bold]medsharp serve {bundle}[/]", soft_wrap=True)


def _hospital(out: Path, name: str) -> Path:
    return out / "data" / f"hospital-{name}"


def _settings(out: Path, choices: dict[str, Any]) -> dict[str, Any]:
    return {
        "seed": choices["seed"],
        "data": {"path": str(_hospital(out, "A")), "image_size": 128, "augmentation": "standard"},
        "network": {"name": "resnet18_w32"},
        "optimizer": {"name": choices["optimizer"]},
        "schedule": {"epochs": choices["epochs"], "warmup_epochs": min(2, choices["epochs"] / 4)},
        "loss": {"mask_weight": 0.5},
    }


def _same_choices(out: Path, choices: dict[str, Any]) -> None:
    record = out / "demo.yaml"
    if record.exists():
        try:
            before = load_yaml(record.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{record} is not YAML: {' '.join(str(error).split())}") from error
        if before != choices:
            raise InputError(f"{out} holds a demo with other settings; give --out another folder or remove {out}")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} exists and is not a demo's folder; give --out another folder")
