"""The equations of the learning rate, of rho and of the moving average, and what of them arrives in a run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from medsharp.config import ScheduleConfig, TrainConfig
from medsharp.data.manifest import Manifest
from medsharp.optim import SAM, list_optimizers, optimizer_info
from training import Interrupted, Run, train
from training.average import moving_average
from training.schedule import Schedule, rate_factor


def test_learning_rate_warms_up_linearly_and_falls_as_a_cosine() -> None:
    schedule = ScheduleConfig(epochs=5, warmup_epochs=1, final_lr_ratio=0.1)
    factors = [rate_factor(step, 4, schedule) for step in range(20)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0
    assert factors[-1] == pytest.approx(0.1)
    middle = 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 6 / 15))
    assert factors[10] == pytest.approx(middle)
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[4:]))


@pytest.mark.parametrize(("epochs", "warmup"), [(2, 2.0), (2, 5.0), (5, 4.75), (1, 1.0)])
def test_last_step_has_the_last_rate_though_the_warm_up_takes_all(epochs: int, warmup: float) -> None:
    schedule = ScheduleConfig(epochs=epochs, warmup_epochs=warmup, final_lr_ratio=0.1)
    steps = 4 * epochs
    factors = [rate_factor(step, 4, schedule) for step in range(steps)]
    assert factors[-1] == pytest.approx(0.1)
    assert factors[-2] == 1.0
    assert factors[0] == pytest.approx(1 / (steps - 1))
    assert rate_factor(0, 1, ScheduleConfig(epochs=1, warmup_epochs=warmup)) == 1.0


def radii(**options: Any) -> list[float]:
    """What rho is in each of 20 steps, whose highest is 0.4, with a learning rate of 0.1 at most."""
    optimizer = SAM([nn.Parameter(torch.zeros(1))], torch.optim.SGD, lr=0.1, rho=0.4)
    schedule = Schedule(optimizer, 0.1, 0.4, ScheduleConfig(epochs=5, **options), 4)
    seen = []
    for step in range(20):
        schedule.set(step)
        (group,) = optimizer.param_groups
        assert schedule.now() == {"lr": group["lr"], "rho": group["rho"]}
        assert group["lr"] == pytest.approx(0.1 * rate_factor(step, 4, schedule.config))
        seen.append(group["rho"])
    return seen


def test_rho_falls_along_a_line_or_a_cosine_or_not_at_all() -> None:
    assert radii(rho="constant", final_rho_ratio=0.2) == [0.4] * 20
    line = radii(rho="linear", final_rho_ratio=0.25)
    assert line == pytest.approx([0.4 - 0.3 * step / 19 for step in range(20)])
    cosine = radii(rho="cosine")
    assert cosine == pytest.approx([0.2 * (1 + math.cos(math.pi * step / 19)) for step in range(20)], abs=1e-12)


def test_rho_follows_the_learning_rate_between_its_ends() -> None:
    schedule = ScheduleConfig(epochs=5, warmup_epochs=1, final_lr_ratio=0.1)
    rates = [rate_factor(step, 4, schedule) for step in range(20)]
    expected = [0.4 * (0.5 + 0.5 * (rate - 0.1) / 0.9) for rate in rates]  # Zhuang et al., ICLR 2022, section 4.1
    assert radii(rho="lr", final_rho_ratio=0.5, warmup_epochs=1, final_lr_ratio=0.1) == pytest.approx(expected)
    # A learning rate that does not fall takes rho nowhere.
    assert radii(rho="lr", warmup_epochs=0, final_lr_ratio=1.0) == pytest.approx([0.4] * 20)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_rho_of_a_single_step_is_the_first(kind: str) -> None:
    optimizer = SAM([nn.Parameter(torch.zeros(1))], torch.optim.SGD, lr=0.1, rho=0.4)
    schedule = Schedule(optimizer, 0.1, 0.4, ScheduleConfig(epochs=1, rho=kind), 1)  # type: ignore[arg-type]
    schedule.set(0)
    assert schedule.now()["rho"] == 0.4


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "lr"])
def test_run_records_rho_and_resumes_to_the_same(
    kind: str, squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["kind"] == "batch" and (event["epoch"], event["done"]) == (1, 2):
            raise KeyboardInterrupt

    config = configure(
        optimizer={"name": "gsam", "rho": 0.2},
        schedule={"rho": kind, "final_rho_ratio": 0.1},
        run={"precision": "fp32"},
    )
    whole = train(config, squares, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, squares, out=tmp_path / "stopped", events=stop)
    run = Run.load(tmp_path / "stopped")
    train(run.config, run.manifest, out=run.folder, resume=True)
    first, second = (load_file(folder / "checkpoints/last.safetensors") for folder in (whole.folder, run.folder))
    assert all(torch.equal(first[key], second[key]) for key in first)
    recorded = [record["rho"] for record in whole.metrics()]
    assert recorded == [record["rho"] for record in run.metrics()]
    last = {"constant": 0.2, "linear": 0.02, "cosine": 0.02, "lr": 0.02}[kind]
    assert recorded[-1] == pytest.approx(last)
    assert (recorded[0] == recorded[1]) == (kind == "constant")


@pytest.mark.parametrize("name", list_optimizers())
def test_every_method_comes_to_a_rho_of_nothing(
    name: str, squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    config = configure(optimizer={"name": name}, schedule={"epochs": 1, "rho": "linear"})
    run = train(config, squares, out=tmp_path / "run")
    (record,) = run.metrics()
    has_rho = "rho" in {entry.name for entry in optimizer_info(name).hyperparameters}
    assert record["rho"] == (0.0 if has_rho else None)
    assert record["skipped_steps"] == 0


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
