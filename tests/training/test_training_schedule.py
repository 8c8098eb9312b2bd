"""The equations of the learning rate and of the moving average."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from medsharp.config import ScheduleConfig
from training.average import moving_average
from training.schedule import rate_factor


def test_learning_rate_warms_up_linearly_and_falls_as_a_cosine() -> None:
    schedule = ScheduleConfig(epochs=5, warmup_epochs=1, final_lr_ratio=0.1)
    factors = [rate_factor(step, 4, schedule) for step in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[-1] == pytest.approx(0.1)
    middle = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 6 / 15))
    assert factors[10] == pytest.approx(middle)
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[4:]))


def test_average_follows_its_equation_with_a_decay_that_grows_to_the_limit() -> None:
    network = nn.BatchNorm1d(1)
    average = moving_average(network, decay=0.3)
    expected = 0.0
    for count, value in enumerate([4.0, 8.0, -2.0, 6.0, 1.0]):
        with torch.no_grad():
            network.weight.fill_(value)
            network.running_mean.fill_(value)  # type: ignore[union-attr]
            network.num_batches_tracked.fill_(count)  # type: ignore[union-attr]
        average.update_parameters(network)
        decay = 0.0 if count == 0 else min(0.3, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
        assert average.module.weight.item() == pytest.approx(expected)
        assert average.module.running_mean.item() == pytest.approx(expected)
        assert int(average.module.num_batches_tracked) == count
