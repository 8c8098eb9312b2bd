"""Reading a run folder: what training leaves, and what export and resumption start from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from medsharp.config import Keep, TrainConfig, load_config
from medsharp.data.manifest import Manifest, read_manifest
from medsharp.errors import InputError
from medsharp.evaluation.predictions import read_predictions
from medsharp.weights_origin import WeightsOrigin

if TYPE_CHECKING:
    from medsharp.networks import Classifier

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
PREDICTIONS = "predictions.csv"
ENVIRONMENT = "environment.json"
ORIGIN = "weights.json"
BEST_WEIGHTS = "checkpoints/best.safetensors"
LAST_WEIGHTS = "checkpoints/last.safetensors"
LAST_STATE = "checkpoints/last.pt"
WEIGHTS = {"best": BEST_WEIGHTS, "last": LAST_WEIGHTS}
"""The file of weights by what `schedule.keep` says."""


@dataclass(frozen=True)
class Run:
    """A run folder.

    It holds `config.yaml` (resolved), `manifest.csv` (as used, with splits), `metrics.jsonl` (a line an epoch),
    `checkpoints/best.safetensors` (with `schedule.keep: best`) and `last.safetensors` (weights), `checkpoints/last.pt`
    (what resuming needs), `predictions.csv` (validation and test, where something is tested, by the weights that are
    kept), `environment.json`, and `weights.json` where the initial weights come from elsewhere.
    """

    folder: Path

    @staticmethod
    def load(folder: str | Path) -> Run:
        """Open a run folder.

        Raises:
            InputError: It is missing, or is no run folder.
        """
        run = Run(Path(folder))
        if not run.folder.is_dir():
            raise InputError(f"run folder {run.folder} does not exist")
        for name in (CONFIG, "manifest.csv"):
            if not (run.folder / name).is_file():
                raise InputError(f"{run.folder} is not a run folder: it has no {name}")
        return run

    @cached_property
    def config(self) -> TrainConfig:
        """The resolved configuration."""
        return load_config(self.folder / CONFIG)

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest as it was used, with splits."""
        return read_manifest(self.folder)

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return (self.folder / PREDICTIONS).is_file()

    @cached_property
    def origin(self) -> WeightsOrigin | None:
        """Where the initial weights come from; None for random ones.

        Raises:
            InputError: The file that says so is damaged.
        """
        path = self.folder / ORIGIN
        if not path.is_file():
            return None
        try:
            return WeightsOrigin.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} is damaged: {str(error).splitlines()[0]}") from error

    def metrics(self) -> list[dict[str, Any]]:
        """One record an epoch: losses, validation AUROC, learning rate, rho, images a second, waiting for data.

        Null where not finite.

        Raises:
            InputError: The file is damaged.
        """
        path = self.folder / METRICS
        if not path.is_file():
            return []
        try:
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not a line of JSON an epoch: {error}") from error

    def predictions(self) -> pd.DataFrame:
        """Return `predictions.csv`: validation and test rows, with `p_<class>` and `logit_<class>` as numbers.

        Raises:
            InputError: Training has not come to its end, or the file is damaged.
        """
        path = self.folder / PREDICTIONS
        if not self.finished:
            raise InputError(f"{self.folder} is not trained to its end; medsharp train --resume {self.folder}")
        table = read_predictions(path, self.config.data.classes)
        for name in self.config.data.classes:
            column = f"logit_{name}"
            if column not in table:
                raise InputError(f"{path} has no column {column}")
            table[column] = pd.to_numeric(table[column], errors="coerce").astype(float)
            if not np.isfinite(table[column]).all():
                raise InputError(f"{path} has a value in {column} that is no finite number")
        if "split" not in table:
            raise InputError(f"{path} has no column split")
        return table

    @property
    def out_of_fold_split(self) -> Literal["test", "val"]:
        """The split that stands for images of the same hospitals that the run did not learn from.

        It is the test split where a fold is tested (`data.fold_role: test`), and the validation split where a fold
        validates, where a hospital is left out (which is then tested, and decides nothing), and where fractions split.
        """
        data = self.config.data
        of_folds = data.folds is not None or data.official_folds is not None
        return "test" if of_folds and data.fold_role == "test" and data.leave_site is None else "val"

    def out_of_fold(self) -> pd.DataFrame:
        """Return the rows of `predictions` that are of `out_of_fold_split`.

        Raises:
            InputError: As `predictions`.
        """
        table = self.predictions()
        return table[table["split"] == self.out_of_fold_split]

    @property
    def kept(self) -> Keep:
        """Which weights stand for the run: those of the best or of the last epoch."""
        return self.config.schedule.keep

    def load_network(self, which: Keep | None = None, *, image_size: int | None = None) -> Classifier:
        """Build the network with the best or the last epoch's weights, in eval mode on the CPU.

        Args:
            which: Those that the run keeps without it.
            image_size: Side of the input in pixels; that of training without it.

        Raises:
            InputError: There are no weights yet, they are damaged, or they do not go with another size.
        """
        from medsharp.networks import create_network, restore_weights

        name = WEIGHTS[which or self.kept]
        if not (self.folder / name).is_file():
            raise InputError(f"{self.folder} has no {name}; train it first: medsharp train --resume {self.folder}")
        section = self.config.network.without_weights()
        trained = self.config.data.image_size
        size = image_size or trained
        network = create_network(
            section.name,
            num_classes=len(self.config.data.classes),
            image_size=size,
            normalization=section.normalization,
            pooling=section.pooling,
        )
        try:
            restore_weights(network, self.folder / name)
        except InputError as error:
            if size == trained:
                raise
            raise InputError(
                f"{section.name} was trained at {trained} x {trained} and does not take {size} x {size}: {error}"
            ) from error
        return network.eval()
