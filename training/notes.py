"""Sentences on how a training begins or goes on, for a person."""

from __future__ import annotations

from medsharp.config import TrainConfig
from medsharp.networks import Classifier
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
