"""Sentences on how a training begins or goes on, for a person."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from medsharp.config import TrainConfig
from medsharp.data.sharing import Division
from medsharp.networks import Classifier
from medsharp.optim.micro_batches import dealt
from medsharp.runs import Run
from training.schedule import rate_factor


def notes_on_weights(run: Run, network: Classifier, config: TrainConfig) -> list[str]:
    """Say where initial weights come from, and how grey values are normalised; nothing of random ones."""
    origin = run.origin
    if origin is None:
        return []
    notes = [f"starts from {origin.sentence()}", *origin.notes]
    if network.normalization == "image":
        return [*notes, "each image is normalised by its own mean and deviation"]
    mean, std = float(network.mean), float(network.std)
    whose = ""
    if network.normalization == "weights" and config.network.mean is None:
        whose = ", those of the weights"
        if origin.assumed:
            whose = f", timm's for this network, as {origin.file} states none; network.mean and network.std say others"
    return [*notes, f"grey values are normalised by mean {mean:.4g} and deviation {std:.4g}{whose}"]


def notes_on_length(before: int, config: TrainConfig, epoch: int, steps: int) -> list[str]:
    """Say what becomes of the learning rate where a run trains longer, or less long, than it was meant to.

    Args:
        before: Epochs that it was meant for.
        config: With those it is meant for now.
        epoch: That it goes on with.
        steps: Of an epoch.
    """
    section, lr = config.schedule, config.optimizer.lr
    if before == section.epochs or epoch == section.epochs:
        return []
    last = lr * rate_factor(epoch * steps - 1, steps, section.model_copy(update={"epochs": before}))
    coming = lr * rate_factor(epoch * steps, steps, section)
    return [
        f"schedule.epochs was {before} and is {section.epochs}: the learning rate was {last:.3g} and goes on at "
        f"{coming:.3g}, as a run of {section.epochs} epochs has it by now; the epochs before are those of the other "
        "schedule, so that this is not such a run"
    ]


def notes_on_parts(
    begun: Mapping[str, int] | None, division: Division, config: TrainConfig, network: nn.Module, epoch: int
) -> list[str]:
    """Say what becomes of a run that goes on with other parts of a batch than it had, and so as another training.

    Args:
        begun: The `Division` that it had, as plain values; None for a new run, and for old ones.
        division: That it goes on with.
        config: Of the run.
        network: That it trains.
        epoch: That it goes on with.
    """
    if begun is None or epoch == config.schedule.epochs:
        return []
    before = Division(**begun)
    old, new = (sorted(_sizes_of_parts(one, config)) for one in (before, division))
    if old == new:
        return []
    layers = list(network.modules())
    reasons = []
    if _micro_batch(config) is not None:
        reasons.append("the method climbs for each part by itself")
    if any(isinstance(layer, _BatchNorm) for layer in layers):
        if not config.run.sync_batch_norm:
            reasons.append("batch norm normalises each part by its own images")
        elif before.accumulation > 1:  # the first parts of all processes together, then the second ones
            reasons.append("batch norm normalises other images together")
    if any(getattr(layer, rate, 0.0) for layer in layers for rate in ("drop_rate", "drop_prob")) or any(
        isinstance(layer, _DropoutNd) and layer.p > 0 for layer in layers
    ):
        reasons.append("dropout draws for each part by itself")
    if not reasons:
        return []
    return [
        f"{_counted(before.processes, 'process', 'processes')} had a batch of {config.schedule.batch_size} images in "
        f"{_counted(len(old), 'part', 'parts')}, and {division.processes} "
        f"{'has' if division.processes == 1 else 'have'} it in {len(new)}: "
        f"{' and '.join(reasons)}, so that this is another training from here on than the one that was begun; "
        f"resume it by {_counted(before.processes, 'process', 'processes')} for the same weights"
    ]


def _sizes_of_parts(division: Division, config: TrainConfig) -> list[int]:
    """Return how many images each part of a whole batch has that is evaluated by itself."""
    micro_batch = _micro_batch(config)
    shares = [division.share(config.schedule.batch_size, process) for process in range(division.processes)]
    if micro_batch is None:
        return [part.counted for share in shares for part in share]
    own = [sum(part.counted for part in share) for share in shares]
    return [rows.stop - rows.start for images in own for rows in dealt(images, micro_batch)]


def _micro_batch(config: TrainConfig) -> int | None:
    micro_batch: int | None = config.optimizer.hyperparameters().get("micro_batch")
    return micro_batch


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
