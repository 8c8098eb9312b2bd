"""The training loop."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from medsharp import runs
from medsharp.config import TrainConfig, dump_config
from medsharp.data.manifest import Manifest, write_manifest
from medsharp.data.pipeline import ImageDataset, make_dataset, make_loader
from medsharp.errors import InputError
from medsharp.evaluation import auroc
from medsharp.files import atomic_path, write_text
from medsharp.networks import create_network
from medsharp.optim import SharpnessAware, create_optimizer
from medsharp.preprocess import PreprocessSpec
from medsharp.runs import Run
from training.checkpoint import append_line, keep_lines, load_state, save_state, save_weights
from training.environment import describe_environment
from training.objective import Objective
from training.settings import optimizer_options, resolve_config

Events = Callable[[dict[str, Any]], None]
"""Told what happens, as dictionaries: `{"kind": "cache", "done", "total", "what"}`, `{"kind": "batch", "epoch", "done",
"total", "loss", "images_per_second"}`, `{"kind": "epoch", "best": bool, ...the line of metrics.jsonl}`."""


class Interrupted(KeyboardInterrupt):
    """Training was stopped by the user; the message says how to go on."""


@dataclass
class _Best:
    """The best epoch so far: highest AUROC, ties by lower loss."""

    auroc: float = -math.inf
    loss: float = math.inf
    epoch: int = -1

    def beaten_by(self, value: float, loss: float) -> bool:
        return (value, -loss) > (self.auroc, -self.loss)


def train(
    config: TrainConfig, manifest: Manifest, *, out: str | Path, resume: bool = False, events: Events | None = None
) -> Run:
    """Train a network and leave a run folder.

    Every epoch ends with a checkpoint, from which a killed run continues, on the same CPU, to the very same weights:
    order and augmentation depend on (seed, epoch, index) only, and the state of every random generator is kept.

    Args:
        config: What to train and how.
        manifest: With splits filled in.
        out: The run folder to make, or to continue.
        resume: Continue a run; `config` must be the one it was started with.
        events: Called with what happens, see `Events`.

    Raises:
        InputError: The folder is in use, exists already, or was started with other settings; the data cannot be read;
            the loss is not finite for a whole epoch.
        Interrupted: The user stopped it; the last whole epoch is saved.
    """
    config = resolve_config(config)
    folder = Path(out)
    with _locked(folder):
        run = _open_run(folder, config, manifest, resume)
        if resume and run.finished:
            return run
        epoch = 0
        try:
            trainer = _Trainer(config, manifest, folder, events or (lambda event: None))
            for epoch in range(trainer.resume() if resume else 0, config.schedule.epochs):
                trainer.run_epoch(epoch)
            trainer.finish()
        except KeyboardInterrupt as interrupt:
            raise Interrupted(
                f"stopped in epoch {epoch + 1}; continue with: medsharp train --resume {folder}"
            ) from interrupt
    return run


class _Trainer:
    """All that lives as long as a training does."""

    def __init__(self, config: TrainConfig, manifest: Manifest, folder: Path, events: Events) -> None:
        self.config = config
        self.folder = folder
        self.events = events
        self.best = _Best()
        self.begun = time.monotonic()
        self.device = select_device(config.run.device)
        self.classes = config.data.classes
        torch.manual_seed(config.seed)

        data = config.data
        self.masks = config.loss.mask_weight > 0
        spec = PreprocessSpec(data.image_size, data.crop, data.fit)
        common: dict[str, Any] = {"spec": spec, "classes": self.classes, "progress": self._cached}
        self.training = make_dataset(
            manifest.of_split("train"),
            manifest,
            augmentation=data.augmentation,
            seed=config.seed,
            masks=self.masks,
            **common,
        )
        self.validation = make_dataset(manifest.of_split("val"), manifest, **common)
        self.test = make_dataset(manifest.of_split("test"), manifest, **common)
        size = config.schedule.batch_size
        self.loader = make_loader(
            self.training,
            batch_size=size,
            shuffle=True,
            seed=config.seed,
            workers=config.run.workers,
            # Batch norm cannot learn from a batch of one.
            drop_last=len(self.training) > size and len(self.training) % size == 1,
        )

        network = create_network(
            config.network.name,
            num_classes=len(self.classes),
            image_size=data.image_size,
            pretrained=config.network.pretrained,
            checkpoint=config.network.checkpoint,
            drop_rate=config.network.drop_rate,
            drop_path_rate=config.network.drop_path_rate,
        )
        network.set_normalization(*self.training.statistics())
        labels = self.training.table["label"]
        counts = torch.tensor([float((labels == name).sum()) for name in self.classes])
        self.objective = Objective(network, config.loss, counts, data.image_size).to(self.device)
        if config.run.channels_last:
            self.objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network = network
        self.ema: AveragedModel | None = None
        if config.run.ema_decay is not None:
            average = get_ema_multi_avg_fn(config.run.ema_decay)
            self.ema = AveragedModel(network, multi_avg_fn=average, use_buffers=True)

        optimizer = config.optimizer
        options = optimizer_options(optimizer)
        self.clip = config.run.clip_grad_norm
        self.optimizer = create_optimizer(
            optimizer.name,
            self.objective,
            base=optimizer.base,
            lr=optimizer.lr,
            weight_decay=optimizer.weight_decay,
            **options,
        )
        if isinstance(self.optimizer, SharpnessAware):
            # It clips what is applied; a gradient clipped in the closure would distort differences between passes.
            self.optimizer.max_grad_norm = self.clip
        self.skipped = 0

    @property
    def judged(self) -> torch.nn.Module:
        """The network that is validated and kept: the moving average where there is one."""
        return self.network if self.ema is None else self.ema.module

    def run_epoch(self, epoch: int) -> None:
        """Train an epoch, validate, and save."""
        begun = time.monotonic()
        self.training.set_epoch(epoch)
        self.objective.train()
        skipped_before = self._skipped()
        steps = len(self.loader)
        losses, seen, waited = [], 0, 0.0
        ready = time.monotonic()
        for number, batch in enumerate(self.loader):
            waited += time.monotonic() - ready
            batch = self._to_device(batch)
            self._set_rate(epoch * steps + number, steps)
            losses.append(float(self.optimizer.step(lambda batch=batch: self._closure(batch)).detach()))  # type: ignore[misc]
            if self.ema is not None:
                self.ema.update_parameters(self.network)
            seen += len(batch["label"])
            ready = time.monotonic()
            self.events(
                {
                    "kind": "batch",
                    "epoch": epoch,
                    "done": number + 1,
                    "total": steps,
                    "loss": losses[-1],
                    "images_per_second": seen / (ready - begun),
                }
            )
        trained = time.monotonic() - begun
        skipped = self._skipped() - skipped_before
        if skipped == steps:
            raise InputError(
                f"the loss was not finite in any step of epoch {epoch + 1}; lower optimizer.lr or optimizer.rho"
            )
        value, loss = self.validate()
        better = self.best.beaten_by(value, loss)
        if better:
            self.best = _Best(value, loss, epoch)
        record = {
            "epoch": epoch,
            "train_loss": _finite_mean(losses),
            "val_loss": loss,
            "val_auroc": value,
            "lr": self.optimizer.param_groups[0]["lr"],
            "images_per_second": round(seen / trained, 2),
            "data_wait_share": round(waited / trained, 4),
            "seconds": round(time.monotonic() - begun, 3),
            "skipped_steps": skipped,
        }
        self._save(epoch, record, better)
        self.events({"kind": "epoch", "best": better, **record})

    def validate(self) -> tuple[float, float]:
        """Return AUROC of the positive class and cross entropy on the validation images."""
        logits = self._logits(self.validation)
        labels = torch.tensor([self.classes.index(label) for label in self.validation.table["label"]])
        positive = self.classes.index(self.config.data.positive)
        scores = logits.softmax(dim=1)[:, positive]
        loss = torch.nn.functional.cross_entropy(logits, labels)
        if not torch.isfinite(loss):
            return 0.0, math.inf
        return auroc((labels == positive).numpy(), scores.numpy()), float(loss)

    def finish(self) -> None:
        """Write the predictions of the best weights and what the run ran on."""
        network = Run(self.folder).load_network().to(self.device)
        tables = []
        for dataset in (self.validation, self.test):
            logits = self._logits(dataset, network)
            kept = ["image", "patient", "site", "label", "split", "group", "device", "birads"]
            table = dataset.table[kept].copy()
            shares = logits.softmax(dim=1)
            for number, name in enumerate(self.classes):
                table[f"p_{name}"] = shares[:, number].numpy()
                table[f"logit_{name}"] = logits[:, number].numpy()
            tables.append(table)
        environment = describe_environment(self.config.seed, self.device)
        environment |= {"best": asdict(self.best), "seconds": round(time.monotonic() - self.begun, 1)}
        write_text(self.folder / runs.ENVIRONMENT, json.dumps(environment, indent=1))
        with atomic_path(self.folder / runs.PREDICTIONS) as temporary:
            pd.concat(tables).to_csv(temporary, index=False, lineterminator="\n", float_format="%.9g")

    def resume(self) -> int:
        """Load the last checkpoint; return the epoch to go on with."""
        path = self.folder / runs.LAST_STATE
        if not path.exists():
            keep_lines(self.folder / runs.METRICS, 0)
            return 0
        state = load_state(path)
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.best = _Best(**state["best"])
        self.skipped = state["skipped"]
        torch.set_rng_state(state["rng"])
        if self.device.type == "cuda" and state["cuda_rng"] is not None:
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)
        keep_lines(self.folder / runs.METRICS, state["epoch"] + 1)
        return state["epoch"] + 1

    def _closure(self, batch: dict[str, Tensor]) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.run.precision == "bf16"):
            loss = self.objective(batch)
        loss.backward()
        if not isinstance(self.optimizer, SharpnessAware):
            limit = self.clip if self.clip is not None else math.inf
            norm = torch.nn.utils.clip_grad_norm_(self.objective.parameters(), limit)
            if not torch.isfinite(norm):
                # Without gradients the step leaves weights and state alone, as the sharpness-aware ones do.
                self.optimizer.zero_grad(set_to_none=True)
                self.skipped += 1
        return loss

    def _set_rate(self, step: int, steps_per_epoch: int) -> None:
        schedule = self.config.schedule
        factor = rate_factor(
            step,
            schedule.epochs * steps_per_epoch,
            round(schedule.warmup_epochs * steps_per_epoch),
            schedule.final_lr_ratio,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.optimizer.lr * factor

    @torch.inference_mode()
    def _logits(self, dataset: ImageDataset, network: torch.nn.Module | None = None) -> Tensor:
        """Return float32 logits [N, C] on the CPU, in full precision and eval mode."""
        network = network or self.judged
        training = network.training
        network.eval()
        loader = make_loader(dataset, batch_size=self.config.schedule.batch_size, shuffle=False)
        logits = torch.cat([network(self._to_device(batch)["image"]).float().cpu() for batch in loader])
        network.train(training)
        return logits

    def _save(self, epoch: int, record: dict[str, Any], better: bool) -> None:
        # last.pt comes last: whatever a kill leaves behind before it is written again, the same, by the resumed run.
        if better or not (self.folder / runs.BEST_WEIGHTS).exists():
            save_weights(self.folder / runs.BEST_WEIGHTS, self.judged.state_dict())
        save_weights(self.folder / runs.LAST_WEIGHTS, self.judged.state_dict())
        append_line(self.folder / runs.METRICS, record)
        cuda = self.device.type == "cuda"
        save_state(
            self.folder / runs.LAST_STATE,
            {
                "epoch": epoch,
                "objective": self.objective.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "ema": None if self.ema is None else self.ema.state_dict(),
                "best": asdict(self.best),
                "skipped": self._skipped(),
                "rng": torch.get_rng_state(),
                "cuda_rng": torch.cuda.get_rng_state(self.device) if cuda else None,
            },
        )

    def _skipped(self) -> int:
        return self.skipped + (self.optimizer.skipped if isinstance(self.optimizer, SharpnessAware) else 0)

    def _to_device(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        moved = {key: value.to(self.device, non_blocking=True) for key, value in batch.items()}
        if self.config.run.channels_last:
            moved["image"] = moved["image"].contiguous(memory_format=torch.channels_last)
        return moved

    def _cached(self, done: int, total: int, what: str) -> None:
        self.events({"kind": "cache", "done": done, "total": total, "what": what})


def rate_factor(step: int, steps: int, warmup: int, final: float) -> float:
    """Return the share of the learning rate at a step: linear warm-up, then a cosine down to `final`.

    Args:
        step: From 0 to `steps - 1`.
        steps: Steps in all.
        warmup: Steps of the warm-up; the first of them is not 0.
        final: Share at the end.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def select_device(name: str) -> torch.device:
    """Return the device of `auto`, `cpu` or `cuda`.

    Raises:
        InputError: `cuda` was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError("run.device = 'cuda': PyTorch finds no CUDA device here; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and available else "cpu")


def _open_run(folder: Path, config: TrainConfig, manifest: Manifest, resume: bool) -> Run:
    text = dump_config(config)
    if resume:
        run = Run.load(folder)
        if dump_config(run.config) != text:
            raise InputError(f"{folder} was started with other settings; resume it with its own config.yaml")
        return run
    taken = [file.name for file in folder.iterdir() if file.name != _LOCK]
    if taken:
        how = f"continue it with: medsharp train --resume {folder}" if runs.CONFIG in taken else "choose another folder"
        raise InputError(f"{folder} exists already; {how}")
    write_manifest(manifest, folder)
    write_text(folder / runs.CONFIG, text)
    return Run.load(folder)


_LOCK = ".lock"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the run folder {folder}: {error.strerror}") from error
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"another training is writing to {folder}; wait for it or choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def _finite_mean(values: list[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan
