"""A run as a loss over fixed images: its weights, its data, its own loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from medsharp.data.dealing import choose_by_class
from medsharp.data.pipeline import make_dataset, make_loader
from medsharp.errors import InputError
from medsharp.progress import Progress
from medsharp.runs import Run
from medsharp.sharpness import Problem
from training.datasets import class_counts
from training.losses import Objective

if TYPE_CHECKING:
    import pandas as pd

Split = Literal["train", "val", "test"]

MOST_IMAGES = 128
"""That are taken where nobody says how many."""


@dataclass(frozen=True)
class RunProblem:
    """The loss of a run over some images of a split, and what a reader must know of it.

    Attributes:
        problem: The loss; its network is an `Objective`.
        split: Of the run's manifest.
        images: How many were taken.
        available: How many the split has.
        loss: Label smoothing, the weight of each class, and notes on what is left out.
    """

    problem: Problem
    split: str
    images: int
    available: int
    loss: dict[str, Any]


def open_run(folder: str | Path) -> Run:
    """Open a run that is trained to its end.

    Raises:
        InputError: It is no run folder, or not trained to its end.
    """
    run = Run.load(folder)
    if not run.finished:
        raise InputError(f"{run.folder} is not trained to its end; medsharp train --resume {run.folder}")
    return run


def rows_of_split(run: Run, split: Split, images: int | None = None) -> tuple[pd.DataFrame, int]:
    """Return the rows of a run's manifest that are of a split, and how many of them are to be taken.

    Args:
        run: Whose manifest.
        split: Which rows.
        images: As for `problem_of`.

    Raises:
        InputError: The split is empty or has fewer.
    """
    rows = run.manifest.of_split(split)
    if not len(rows):
        raise InputError(f"{run.folder} has no images in split '{split}'")
    if images is not None and images > len(rows):
        raise InputError(f"--images {images}: split '{split}' of {run.folder} has {len(rows)} images")
    return rows, min(len(rows), images or MOST_IMAGES)


def problem_of(
    run: Run,
    split: Split = "train",
    *,
    images: int | None = None,
    batch: int = 32,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> RunProblem:
    """Make the loss of a run's kept weights over images of a split.

    It is the loss that was minimised, with label smoothing and class weights, less what is random or belongs to
    another task: images are not augmented, batch norm uses its running statistics, nothing is dropped, and the loss of
    an auxiliary lesion mask is left out. Images stand in a random order, so that micro-batches are mixed.

    Args:
        run: Trained to its end.
        split: Which images.
        images: How many, each class in its share; 128 by default, or all where there are fewer.
        batch: Images at a time. Where one batch holds them all, its graph is kept, which makes products cheaper.
        seed: Of the choice and the order.
        dtype: In which to compute.
        device: Where to compute.
        progress: Called with images done, images in all and what is being done.

    Raises:
        InputError: The split is empty or has fewer images, or an image cannot be read.
    """
    config = run.config
    rows, wanted = rows_of_split(run, split, images)
    rng = np.random.default_rng([seed, 0x5AD])
    chosen = rng.permutation(choose_by_class(rows["label"].to_numpy(dtype=str), wanted, rng))[:wanted]
    dataset = make_dataset(
        rows.iloc[chosen],
        run.manifest,
        spec=config.data.preprocessing(),
        classes=config.data.classes,
        cache=config.data.cache,
        limits=config.data.limits.limits(),
        progress=progress,
    )
    network = run.load_network()
    if network.lesion is not None:
        network.lesion.requires_grad_(False)  # learned from masks alone: no gradient of the logits reaches it
    loss = config.loss.model_copy(update={"mask_weight": 0.0})
    objective = Objective(network, loss, class_counts(run.manifest.of_split("train"), config))
    batches = list(make_loader(dataset, batch_size=batch, shuffle=False))
    problem = Problem(objective, batches, _losses, dtype=dtype, device=device, keep_graph=len(batches) == 1)
    return RunProblem(problem, split, len(dataset), len(rows), _about(objective, config.data.classes, run))


def _losses(objective: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return objective(batch)


def _about(objective: Objective, classes: tuple[str, ...], run: Run) -> dict[str, Any]:
    weights = objective.class_weights
    values = [1.0] * len(classes) if weights is None else [round(float(weight), 6) for weight in weights]
    notes = ["no augmentation", "batch norm by its running statistics", "nothing is dropped"]
    if run.config.loss.mask_weight > 0:
        notes.append("without the loss of lesion masks")
    return {
        "name": "cross entropy",
        "label_smoothing": objective.label_smoothing,
        "class_weights": dict(zip(classes, values, strict=True)),
        "notes": notes,
    }
