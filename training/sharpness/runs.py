"""Several runs measured on the same terms, and what is written of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from medsharp import __version__
from medsharp.errors import InputError
from medsharp.evaluation.report import plain
from medsharp.progress import Progress
from medsharp.runs import Run
from medsharp.sharpness import Problem, find_rescalings
from training.precision import full_precision
from training.sharpness.landscapes import between_runs, check_between, own_landscape
from training.sharpness.measures import BALLS, Measures, measure
from training.sharpness.run_problem import RunProblem, Split, open_run, problem_of, rows_of_split

DTYPES = {"fp32": torch.float32, "fp64": torch.float64}


@full_precision()
def measure_runs(
    folders: Sequence[str | Path],
    *,
    splits: Sequence[Split] = ("train", "val"),
    images: int | None = None,
    batch: int = 32,
    measures: Measures | None = None,
    micro_batch: int | None = None,
    rescale: float | None = None,
    landscape: int | None = None,
    span: float = 1.0,
    between: bool = False,
    precision: str = "fp32",
    device: torch.device | str = "cpu",
    progress: Callable[[str], Progress] | None = None,
) -> dict[str, Any]:
    """Measure runs, each on the splits of its own manifest.

    Args:
        folders: Of runs that are trained to their end; all are opened before anything is computed.
        splits: Which images.
        images: As for `problem_of`.
        batch: As for `problem_of`.
        measures: What and how hard; its `micro_batch` is replaced.
        micro_batch: m of m-sharpness; by default the batch size that the run was trained with, or all images where
            there are fewer.
        rescale: Also measure the same function with layers multiplied and divided by this factor, on the first split.
        landscape: Also measure each run's own landscape, so many points a side, made odd; on the first split.
        span: How far it reaches to either side.
        between: Also measure the lines between runs and the plane through the first three, by images and loss of the
            first run, `landscape` points a side, 21 without it; on the first split.
        precision: `fp32` or `fp64`.
        device: Where to compute.
        progress: Gives what to call with work done, work in all and what is being done, for the name of a run.

    Returns:
        The content of `sharpness.json`.

    Raises:
        InputError: A folder is no finished run, a split has too few images, a loss is not finite, or no line leads
            between runs.
    """
    measures = measures or Measures()
    runs = [open_run(folder) for folder in folders]
    names = names_of(folders)
    for run in runs:
        for split in splits:
            _check_size(run, split, images, micro_batch)
    if between:
        check_between(runs)
    entries, first = [], None
    for name, run in zip(names, runs, strict=True):
        report = None if progress is None else progress(name)
        parts, own = [], None
        for split in splits:
            opened = problem_of(
                run,
                split,
                images=images,
                batch=batch,
                seed=measures.seed,
                dtype=DTYPES[precision],
                device=device,
                progress=report,
            )
            first = first or opened.problem
            how = replace(measures, micro_batch=min(opened.images, micro_batch or run.config.schedule.batch_size))
            try:
                parts.append(_of_split(opened, measure(opened.problem, how, report)))
                if rescale is not None and split == splits[0]:
                    parts[-1]["rescaled"] = _rescaled(opened.problem, rescale, how, parts[-1]["measures"], report)
                if landscape is not None and split == splits[0]:
                    own = own_landscape(
                        opened.problem, landscape | 1, span, measures.seed, measures.max_products, report
                    )
            except ValueError as error:
                raise InputError(f"{run.folder}, split '{split}': {error}") from error
        entries.append({"name": name, **_about(run), "splits": parts, "landscape": own})
    joined = None
    if between and first is not None:
        report = None if progress is None else progress(f"{len(runs)} runs")
        joined = between_runs(first, runs, names, landscape or 21, report)
    settings = {key: value for key, value in asdict(measures).items() if key not in {"radii", "micro_batch"}}
    settings |= {
        "images": images,
        "batch": batch,
        "m": micro_batch,
        "rescale": rescale,
        "landscape": landscape,
        "span": span,
        "precision": precision,
        "device": str(device),
        "balls": {key: {"scale": b.scale, "norm": b.norm, "rho": measures.radius(key)} for key, b in BALLS.items()},
    }
    return plain(
        {
            "format": 1,
            "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "medsharp": __version__,
            "versions": {"torch": version("torch"), "timm": version("timm")},
            "settings": settings,
            "runs": entries,
            "between": joined,
        }
    )


def names_of(folders: Sequence[str | Path]) -> list[str]:
    """Return a short name of each run that no other has: as many of the last parts of its path as that takes.

    Raises:
        InputError: A folder is given twice.
    """
    parts = [Path(os.path.abspath(folder)).parts for folder in folders]
    if len(set(parts)) < len(parts):
        twice = next(folder for place, folder in enumerate(folders) if parts[place] in parts[:place])
        raise InputError(f"{twice} is given twice")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _check_size(run: Run, split: Split, images: int | None, micro_batch: int | None) -> None:
    """Refuse what is too much for a split before anything is computed."""
    _, taken = rows_of_split(run, split, images)
    if micro_batch is not None and micro_batch > taken:
        raise InputError(f"--m {micro_batch}: {taken} images of {run.folder} are taken")


def _about(run: Run) -> dict[str, Any]:
    return {
        "network": run.config.network.name,
        "optimizer": run.config.optimizer.summary(),
        "seed": run.config.seed,
        "weights": run.kept,
    }


def _of_split(opened: RunProblem, measured: dict[str, Any]) -> dict[str, Any]:
    return {
        "split": opened.split,
        "images": opened.images,
        "available": opened.available,
        "loss": opened.loss,
        "measures": measured,
    }


def _rescaled(
    problem: Problem, factor: float, how: Measures, before: dict[str, Any], progress: Progress | None
) -> dict[str, Any]:
    """Measure the same function by other weights, and compare."""
    images = problem.batches[0]["image"]
    # A copy, as weights are changed on the way, and the problem keeps graphs of what it computed with them.
    pairs = find_rescalings(deepcopy(problem.network), lambda objective: objective.network(images))  # type: ignore[operator]
    result: dict[str, Any] = {"factor": factor, "pairs": [[pair.producer, pair.consumer] for pair in pairs]}
    if not pairs:
        return result | {"ratios": {}}
    other = Problem(
        problem.network, problem.batches, problem.losses, dtype=problem.dtype, device=problem.device, keep_graph=False
    )
    # No layer twice: what one pair multiplies, the next would divide.
    used: set[str] = set()
    for pair in pairs:
        if not used & {pair.producer, pair.consumer}:
            pair.apply(other.network, factor)
            used |= {pair.producer, pair.consumer}
    after = measure(other, replace(how, density_vectors=0, smallest=0, largest=min(1, how.largest)), progress)
    return result | {"measures": after, "ratios": ratios_of(before, after)}


def ratios_of(before: dict[str, Any], after: dict[str, Any]) -> dict[str, float]:
    """Return what became of each measure, by its name and that of the scale or ball, as a factor."""
    flat = [_flat(measured) for measured in (before, after)]
    return {key: flat[1][key] / value for key, value in flat[0].items() if key in flat[1] and value}


def _flat(measured: dict[str, Any]) -> dict[str, float]:
    values = {"loss": measured["loss"]}
    values |= {f"gradient norm, {key}": value for key, value in measured["gradient_norm"].items()}
    values |= {
        f"top eigenvalue, {key}": spectrum["largest"][0]["value"] for key, spectrum in measured["eigenvalues"].items()
    }
    values |= {f"trace, {key}": estimate["value"] for key, estimate in measured["trace"].items()}
    values |= {f"surrogate gap, {key}": gap["value"] for key, gap in measured["surrogate_gap"].items()}
    values |= {f"worst case, {key}": rises[0]["rise"] for key, rises in measured["worst_case"].items()}
    average = {key: each["value"] for key, each in measured["average_case"].items() if each["above_rounding"]}
    return values | {f"average case, {key}": value for key, value in average.items()}
