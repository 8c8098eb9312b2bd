"""The training loop."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
import torch
from torch import Tensor

from medsharp import runs
from medsharp.config import Precision, TrainConfig, dump_config, validate_config
from medsharp.data.manifest import Manifest
from medsharp.data.pipeline import ImageDataset, make_loader
from medsharp.data.sharing import SharedBatches
from medsharp.errors import InputError
from medsharp.files import atomic_path, write_text
from medsharp.networks import BY_IMAGE, Classifier, create_network
from medsharp.runs import Run
from training.checkpoint import add_metrics, keep_metrics, load_state, save_state, save_weights
from training.datasets import check_splits, make_datasets, notes_on_masks
from training.environment import describe_environment
from training.events import Events
from training.learner import Learner
from training.notes import notes_on_length, notes_on_parts, notes_on_weights
from training.precision import choose_precision
from training.predictions import Best, judge, predict_logits, prediction_table, with_threshold
from training.processes import ALONE, Processes
from training.reproducibility import deterministic_on_cpu, seed_everything
from training.run_folder import taken
from training.settings import check_batch_norm, check_config
from training.strategy import (
    check_division,
    division_of,
    least_images,
    losses_of_all,
    mean_of_finite,
)


class DivergedError(InputError):
    """Nothing of an epoch could be learned with these settings: no loss or gradient was finite."""


def train(
    config: TrainConfig,
    manifest: Manifest,
    *,
    out: str | Path,
    resume: bool = False,
    events: Events | None = None,
    device: str | None = None,
    processes: Processes = ALONE,
) -> Run:
    """Train a network and leave a run folder.

    Every epoch ends with a checkpoint, from which a killed run continues, on the same CPU, to the very same weights:
    order, augmentation and dropout of an epoch depend on (seed, epoch) only. Resuming a finished run changes nothing.
    The global random generators are seeded. What is refused before the first checkpoint leaves nothing behind.

    Several processes train together where all of them call this with `processes` as `torchrun_processes` gives them,
    and never because of a variable of the environment. The first alone reads and writes the run folder.

    Args:
        config: What to train and how.
        manifest: With splits filled in.
        out: The run folder to make, or to continue.
        resume: Continue a run; config and manifest must be those it was started with, `Run.load(out)` has them.
        events: Called with what happens, see `Events`; of several processes, in the first.
        device: In place of `run.device`, which stays as it is in the run folder.
        processes: That train together, and which of them this is.

    Raises:
        InputError: The folder is in use, exists already, or was started with other settings; the data cannot be read;
            the disk is full.
        DivergedError: Nothing of an epoch could be learned.
        Interrupted: The user stopped it; the last whole epoch is saved.
    """
    with processes.agreed():
        check_config(config)
        chosen = processes.device(device or config.run.device)
        check_splits(manifest, config)
    if events is None or not processes.leads:
        events = _ignore
    folder = Path(out)
    with ExitStack() as stack:
        with processes.agreed():
            run = stack.enter_context(taken(folder, config, manifest, resume)) if processes.leads else Run(folder)
            state = _state_of(run) if processes.leads else None
        stack.enter_context(deterministic_on_cpu(chosen))
        # The configuration as the folder has it: what was chosen on another machine stays chosen.
        values = processes.of_first(run.config.model_dump(mode="json") if processes.leads else None)
        state = processes.of_first(state)
        trained = 0
        if not processes.of_first(run.finished):
            trainer = _Trainer(validate_config(values or {}), manifest, folder, chosen, events, processes, state)
            del state
            for epoch in range(trainer.start(), config.schedule.epochs):
                trainer.run_epoch(epoch)
                trained += 1
            trainer.finish()
        if processes.leads:
            about = json.loads((folder / runs.ENVIRONMENT).read_text(encoding="utf-8"))
            kept = about.get("kept", about["best"])  # runs finished before there was a choice kept the best
            end = {"epochs": config.schedule.epochs, "trained": trained}
            events({"kind": "end", **end, "kept_epoch": kept["epoch"], "val_auroc": kept["auroc"]})
    return run


def _ignore(event: dict[str, Any]) -> None:
    """Tell nobody."""


def _state_of(run: Run) -> dict[str, Any] | None:
    """Return what a run goes on from; None where it is not begun, or finished."""
    path = run.folder / runs.LAST_STATE
    return load_state(path) if path.exists() and not run.finished else None


class _Trainer:
    """All that lives as long as a training does.

    Args:
        config: As the run folder has it.
        manifest: With splits.
        folder: The run folder, locked.
        device: To train on.
        events: Told what happens.
        processes: That train together.
        state: What the run goes on from; None for one that begins.
    """

    def __init__(
        self,
        config: TrainConfig,
        manifest: Manifest,
        folder: Path,
        device: torch.device,
        events: Events,
        processes: Processes,
        state: dict[str, Any] | None,
    ) -> None:
        self.folder = folder
        self.state_path = folder / runs.LAST_STATE
        self.device = device
        self.events = events
        self.processes = processes
        self.state = state
        self.best = Best()
        self.lengths = [config.schedule.epochs]
        seed_everything(config.seed)

        self.datasets = self._datasets(config, manifest)
        self.training = self.datasets["train"]
        with processes.agreed():
            self.network = self._network(config)
            self.begun: Mapping[str, int] | None = (state or {}).get("division")
            self.division = division_of(config, processes.count, self.begun)
            check_batch_norm(config, self.network)
            check_division(config, self.network, self.division)
            if self.network.normalization == "image":
                self.network.set_normalization(*BY_IMAGE)
            elif self.network.normalization != "weights":
                self.network.set_normalization(*self.training.statistics())
        size, images = config.schedule.batch_size, len(self.training)
        self.loader = make_loader(
            self.training,
            batch_size=size,
            shuffle=True,
            seed=config.seed,
            workers=config.run.workers,
            sampling=config.data.sampling,
            # Batch norm learns nothing from a batch of one.
            drop_last=images > size and images % size == 1,
            division=self.division,
            process=processes.rank,
            least=least_images(config, self.network, self.division),
        )
        self.batches = cast(SharedBatches, self.loader.batch_sampler)
        self.number = 0
        self.config, self.precision_reason = self._with_precision(config)
        self.learner = Learner(
            self.network, self.config, self.training, self.division, len(self.loader), device, processes
        )

    def _datasets(self, config: TrainConfig, manifest: Manifest) -> dict[str, ImageDataset]:
        """Decode the splits: on each machine one process first, so that the others find what it has cached."""
        datasets: dict[str, ImageDataset] = {}
        for first in (True, False) if self.processes.count > 1 else (True,):
            with self.processes.agreed():
                if (self.processes.local_rank == 0) == first:
                    datasets = make_datasets(config, manifest, self.events)
        return datasets

    def _network(self, config: TrainConfig) -> Classifier:
        # Of a run that has begun, weights and normalisation come from there; of others than the first process, from it.
        begun = self.state is not None or not self.processes.leads
        section = config.network.without_weights() if begun else config.network
        return create_network(
            section.name,
            num_classes=len(config.data.classes),
            image_size=config.data.image_size,
            pretrained=section.pretrained,
            checkpoint=section.checkpoint,
            drop_rate=section.drop_rate,
            drop_path_rate=section.drop_path_rate,
            normalization=section.normalization,
            mean=section.mean,
            std=section.std,
            pooling=section.pooling,
        )

    def _with_precision(self, config: TrainConfig) -> tuple[TrainConfig, str]:
        """Settle `auto` for good, in the run folder too: wherever the run is resumed, it goes on as it began."""
        if config.run.precision != "auto":
            return config, ""
        name, reason = self.processes.of_first(self._chosen_precision(config) if self.processes.leads else ("fp32", ""))
        settled = config.model_copy(update={"run": config.run.model_copy(update={"precision": name})})
        with self.processes.agreed():
            if self.processes.leads:
                write_text(self.folder / runs.CONFIG, dump_config(settled))
        return settled, reason

    def _chosen_precision(self, config: TrainConfig) -> tuple[Precision, str]:
        chosen = choose_precision(self.device, self.network, config.data.image_size)
        return chosen.name, chosen.reason

    def start(self) -> int:
        """Go on from the state where there is one; return the epoch to go on with."""
        epoch = 0
        epochs = before = self.config.schedule.epochs
        if self.state is not None:
            self.learner.load_state_dict(self.state)
            self.best = Best(**self.state["best"])
            epoch = self.state["epoch"] + 1
            self.lengths = self.state.get("lengths", self.lengths)
            before = self.lengths[-1]
            self.lengths = self.lengths if before == epochs else [*self.lengths, epochs]
            self.state = None
        elif self.processes.of_first(self.network.origin is not None):
            # Kept from the first: no resumption shall need the hub, the package or the file again.
            with self.processes.agreed():
                if self.processes.leads and self.network.origin is not None:
                    write_text(self.folder / runs.ORIGIN, self.network.origin.model_dump_json(indent=1) + "\n")
            self._save_state(epoch - 1)
        with self.processes.agreed():
            if self.processes.leads:
                keep_metrics(self.folder / runs.METRICS, epoch)
                self._settle_best(epoch - 1)
        self.events(
            {
                "kind": "start",
                "epoch": epoch,
                "epochs": epochs,
                "steps": len(self.loader),
                "images": len(self.training),
                "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
                "device": self.device.type,
                "precision": self.config.run.precision,
                "precision_reason": self.precision_reason,
                "processes": self.processes.count,
                "notes": [
                    *notes_on_weights(Run(self.folder), self.network, self.config),
                    *notes_on_masks(self.training),
                    *notes_on_length(before, self.config, epoch, len(self.loader)),
                    *notes_on_parts(self.begun, self.division, self.config, self.network, epoch),
                ],
            }
        )
        return epoch

    def run_epoch(self, epoch: int) -> None:
        """Train an epoch, validate, and save."""
        begun = time.monotonic()
        skipped_before = self.learner.optimizer.skipped
        steps = len(self.loader)
        losses: list[Tensor] = []
        sizes: list[int] = []
        waited = 0.0
        self.training.set_epoch(epoch)
        self.learner.begin_epoch(epoch)
        for number, (batch, wait) in enumerate(self._batches(epoch)):
            self.learner.schedule.set(epoch * steps + number)
            self.number = number
            losses.append(self._step(batch))
            sizes.append(self.batches.size(number))
            self.learner.end_step()
            waited += wait
            self.events(
                {
                    "kind": "batch",
                    "epoch": epoch,
                    "done": number + 1,
                    "total": steps,
                    "loss": float(losses[-1]),
                    "images_per_second": sum(sizes) / (time.monotonic() - begun),
                    "wait_seconds": waited,
                }
            )
        trained = time.monotonic() - begun
        skipped = self.learner.optimizer.skipped - skipped_before
        if skipped == steps and not self.learner.looks_for_scale:
            raise DivergedError(
                f"loss or gradient was not finite in any step of epoch {epoch + 1}; "
                "start a new run with a lower optimizer.lr, or with run.precision=fp32"
            )
        judged = self.learner.end_epoch()
        value, loss = judge(self._logits(judged, "val"), self.datasets["val"], self.config.data)
        better = self.best.beaten_by(value, loss)
        if better:
            self.best = Best(value, loss, epoch)
        record = {
            "epoch": epoch,
            "train_loss": mean_of_finite(losses_of_all(losses, self.processes), sizes),
            "val_loss": loss,
            "val_auroc": value,
            **self.learner.schedule.now(),
            "images_per_second": float(f"{sum(sizes) / trained:.4g}"),
            "wait_seconds": round(waited, 4),
            "wait_share": round(waited / trained, 4),
            "seconds": round(time.monotonic() - begun, 3),
            "skipped_steps": skipped,
        }
        self._save(epoch, record, judged.state_dict(), better)
        self.events({"kind": "epoch", "best": better, **record})

    def finish(self) -> None:
        """Write what the run ran on, and the predictions of the weights it keeps, which make it finished."""
        run = Run(self.folder)
        with self.processes.agreed():
            network = run.load_network() if self.processes.leads else self._network(self.config)
        network.load_state_dict(self.processes.of_first(network.state_dict()))
        network.eval().to(self.device)
        logits = {split: self._logits(network, split) for split in ("val", "test") if split in self.datasets}
        with self.processes.agreed():
            if self.processes.leads:
                self._write_end(run, logits)

    def _write_end(self, run: Run, logits: Mapping[Literal["val", "test"], Tensor]) -> None:
        data = self.config.data
        tables = [prediction_table(values, self.datasets[split], data) for split, values in logits.items()]
        records = run.metrics()
        seconds = sum(record["seconds"] for record in records)
        best, last = asdict(self.best), records[-1]
        kept = {"best": best, "last": {"auroc": last["val_auroc"], "loss": last["val_loss"], "epoch": last["epoch"]}}
        about = describe_environment(self.config.seed, self.device, self.config.run.precision, self.processes.count)
        if len(self.lengths) > 1:
            about["epochs_before"] = self.lengths[:-1]
        about |= {"best": best, "kept": {"which": run.kept, **kept[run.kept]}, "seconds": round(seconds, 3)}
        write_text(self.folder / runs.ENVIRONMENT, json.dumps(about, indent=1) + "\n")
        with atomic_path(self.folder / runs.PREDICTIONS) as temporary:
            table = with_threshold(pd.concat(tables), data)
            table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.9g")

    def _batches(self, epoch: int) -> Iterator[tuple[dict[str, Tensor], float]]:
        """Give the batches of an epoch on the device, each with the seconds that it was waited for."""
        ready = time.monotonic()
        batches = iter(self.loader)
        # Now, because a loader draws from the generator when its workers start, which a resumed run does once more.
        seed_everything(self.config.seed, epoch + 1)
        # The next batch is made while a step runs; the noise of images does not come from the global generator, so that
        # it does not matter who draws first.
        with ThreadPoolExecutor(max_workers=1) as ahead:
            coming = ahead.submit(next, batches, None)
            while (batch := coming.result()) is not None:
                coming = ahead.submit(next, batches, None)
                # One channel is in either memory format as it is; the weights decide that of the feature maps.
                moved = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
                yield moved, time.monotonic() - ready
                ready = time.monotonic()

    def _step(self, batch: dict[str, Tensor]) -> Tensor:
        """Take an optimizer step on this process's share of a batch; return its share of the loss before the step."""
        return self.learner.step.take(batch, self.batches.shares(self.number))

    def _logits(self, network: torch.nn.Module, split: str) -> Tensor:
        data, size = self.config.data, self.config.schedule.batch_size
        return predict_logits(network, self.datasets[split], self.device, size, len(data.classes), self.processes)

    def _save(self, epoch: int, record: dict[str, Any], weights: dict[str, Tensor], better: bool) -> None:
        # The state comes last: what a kill leaves before it is written again by the resumed run. That one may train the
        # epoch otherwise (a GPU does) and find it no better: best weights wait under another name for the state.
        by_validation = self.config.schedule.keep == "best"
        with self.processes.agreed():
            if self.processes.leads:
                if by_validation and (better or not (self.folder / runs.BEST_WEIGHTS).exists()):
                    save_weights(self._waiting_weights(epoch), weights)
                save_weights(self.folder / runs.LAST_WEIGHTS, weights)
                add_metrics(self.folder / runs.METRICS, record)
        self._save_state(epoch)
        with self.processes.agreed():
            if self.processes.leads:
                self._settle_best(epoch)

    def _waiting_weights(self, epoch: int | str) -> Path:
        """Where the best weights of an epoch wait until the state knows of them."""
        best = self.folder / runs.BEST_WEIGHTS
        return best.with_name(f"{best.stem}-{epoch}{best.suffix}")

    def _settle_best(self, epoch: int) -> None:
        """Take the weights that wait for the state of this epoch, which is there; drop those of epochs lost."""
        waiting = self._waiting_weights(epoch)
        if waiting.exists():
            waiting.replace(self.folder / runs.BEST_WEIGHTS)
        for lost in waiting.parent.glob(self._waiting_weights("*").name):
            lost.unlink()

    def _save_state(self, epoch: int) -> None:
        """Save what resuming after an epoch needs; -1 is before the first."""
        state = {
            "epoch": epoch,
            **self.learner.state_dict(),
            "division": asdict(self.division),
            "best": asdict(self.best),
            "lengths": self.lengths,
        }
        with self.processes.agreed():
            if self.processes.leads:
                save_state(self.state_path, state)
