"""The exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of a network that `update_parameters` moves towards it, batch-norm statistics included.

    `average <- d average + (1 - d) weight` with `d = min(decay, (1 + t) / (10 + t))` at update t: without the second
    term the random initial weights would weigh on short trainings. B. Polyak, A. Juditsky, "Acceleration of Stochastic
    Approximation by Averaging", 1992; the growing decay is that of TensorFlow's ExponentialMovingAverage.
    """

    @torch.no_grad()
    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        if averages[0].is_floating_point():
            share = 1 - min(decay, (1 + int(count)) / (10 + int(count)))
            torch._foreach_lerp_(list(averages), list(weights), share)
        else:  # counters
            torch._foreach_copy_(list(averages), list(weights))

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)
