"""Settings as a bundle tells them, and what two bundles that are made in the same way agree in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medsharp.bundle import Combination, TrainingRecord
from medsharp.config import TrainConfig

_FREE = (
    "data.path",
    "data.source",
    "data.cache",
    "data.leave_site",
    "data.folds",
    "data.fold",
    "run.device",
    "run.workers",
    "seed",
)
"""Settings that say on what, where and from which chance a network was trained, and not how."""


def folders_of(config: TrainConfig) -> list[str]:
    """Return what the data folders are called in a bundle."""
    count = len(config.data.paths)
    return ["DATA"] if count == 1 else [f"DATA{number}" for number in range(1, count + 1)]


def told(config: TrainConfig) -> dict[str, Any]:
    """Return the settings as a bundle tells them: without folders of the machine that it was made on."""
    values = config.model_dump(mode="json")
    values["data"]["path"] = folders_of(config) if len(config.data.paths) > 1 else "DATA"
    if config.network.checkpoint is not None:
        values["network"]["checkpoint"] = Path(config.network.checkpoint).name
    return values


def flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Return nested values by `section.key`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{before}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def making_of(training: TrainingRecord, combination: Combination | None, weights: str, size: int) -> dict[str, Any]:
    """Return what two bundles that are made in the same way agree in: settings, data, and how answers are combined."""
    settings = {name: value for name, value in flat(training.config).items() if name not in _FREE}
    answers = combination
    if answers is None or answers.answers == 1:  # of one answer no mean is taken
        answers = Combination(members=1, average="probabilities", flip=False)
    said = {"data": training.dataset, "weights": weights, "input size": size, "sizes": list(answers.sizes) or [size]}
    return settings | answers.model_dump() | said
