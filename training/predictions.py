"""Logits of a split, how good they are, and the table of predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from medsharp.config import DataConfig
from medsharp.data.manifest import name_of
from medsharp.data.pipeline import ImageDataset, make_loader
from medsharp.data.sharing import Division
from medsharp.evaluation import auroc
from medsharp.evaluation.frozen import threshold_columns
from medsharp.evaluation.statistics.operating_point import largest_threshold
from training.precision import full_precision
from training.processes import ALONE, Processes

_SENSITIVITY = 0.95
"""On the validation images, as `medsharp export` takes it where it is not told."""

_KEPT = ["image", "patient", "site", "label", "split", "group", "device", "birads"]


@dataclass(frozen=True)
class Best:
    """The best epoch so far: highest validation AUROC, ties by lower loss."""

    auroc: float = -math.inf
    loss: float = math.inf
    epoch: int = -1

    def beaten_by(self, value: float, loss: float) -> bool:
        """Whether an AUROC and a loss are better than these."""
        return (value, -loss) > (self.auroc, -self.loss)


@full_precision()
@torch.inference_mode()
def predict_logits(
    network: nn.Module,
    dataset: ImageDataset,
    device: torch.device,
    batch_size: int,
    classes: int,
    processes: Processes = ALONE,
) -> Tensor:
    """Return float32 logits [N, C] on the CPU, computed in full precision and eval mode.

    Of several processes each computes those of its own images, and all return those of all.
    """
    training = network.training
    network.eval()
    division = Division(processes.count)
    loader = make_loader(dataset, batch_size=batch_size, shuffle=False, division=division, process=processes.rank)
    logits = torch.zeros(len(dataset), classes)
    for batch in loader:
        logits[batch["index"]] = network(batch["image"].to(device)).float().cpu()
    network.train(training)
    # An image is of one process, and 0 in all others: their sum is exact.
    return processes.sum(logits)


def judge(logits: Tensor, dataset: ImageDataset, data: DataConfig) -> tuple[float, float]:
    """Return the AUROC of the positive class against the rest, and the plain cross entropy.

    Logits that are not finite get the worst of both, 0 and infinity.
    """
    labels = torch.tensor([data.classes.index(label) for label in dataset.table["label"]])
    loss = F.cross_entropy(logits, labels)
    if not torch.isfinite(loss):
        return 0.0, math.inf
    positive = data.classes.index(data.positive)
    # Log odds rather than probabilities, which tie where they round to 0 or 1.
    rest = logits[:, torch.arange(len(data.classes)) != positive]
    scores = logits[:, positive] - rest.logsumexp(dim=1)
    return auroc((labels == positive).numpy(), scores.numpy()), float(loss)


def prediction_table(logits: Tensor, dataset: ImageDataset, data: DataConfig) -> pd.DataFrame:
    """Return a row an image: what the manifest says, then `p_<class>` and `logit_<class>`."""
    table = dataset.table[_KEPT].assign(image=[name_of(row) for row in dataset.table.to_dict("records")])
    shares = logits.softmax(dim=1)
    for number, name in enumerate(data.classes):
        table[f"p_{name}"] = shares[:, number].numpy()
        table[f"logit_{name}"] = logits[:, number].numpy()
    return table


def with_threshold(table: pd.DataFrame, data: DataConfig) -> pd.DataFrame:
    """Return a run's predictions with the threshold that its validation images fix, in every row.

    It is of the probabilities as they stand in the table, before any temperature. Where the validation images are of
    one class or have no finite answer there is none.
    """
    decides = table[table["split"] == "val"]
    scores = decides[f"p_{data.positive}"].to_numpy(dtype=float)
    positives = (decides["label"] == data.positive).to_numpy(dtype=bool)
    threshold, origin = None, "the validation images allow none"
    if len(set(positives)) == 2 and np.isfinite(scores).all():
        threshold = largest_threshold(scores, positives, _SENSITIVITY)
        origin = f"sensitivity {_SENSITIVITY:g} on the run's {len(decides)} validation images"
    return table.assign(**threshold_columns(threshold, data.positive, origin))
