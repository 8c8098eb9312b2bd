"""The optimizers' benchmark: who is in the table, what the figures are made of, what is refused. No times."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from medsharp.cli import app
from medsharp.optim import list_optimizers, optimizer_info
from training.benchmark import workload
from training.benchmark.contestants import choose
from training.benchmark.memory import LiveTensors
from training.benchmark.spread import Spread

SMALL = ["--network", "resnet10_w16", "--image-size", "32", "--batch-size", "8", "--rounds", "1", "--threads", "1"]
METHODS = [name for name in list_optimizers() if optimizer_info(name).sharpness_aware]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["bench", "optim", *map(str, arguments)], env={"COLUMNS": "250"})


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict]:
    path = tmp_path_factory.mktemp("bench") / "optim.json"
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workload, "CACHE_BYTES", 4)  # emptying the caches serves the times only
        result = run(*SMALL, "--no-rivals", "--json", path)
    assert result.exit_code == 0, result.output
    assert torch.get_num_threads() == threads
    return result.output, json.loads(path.read_text())


def test_table_has_every_method_beside_the_base(measured: tuple[str, dict]) -> None:
    output, document = measured
    assert [row["name"] for row in document["rows"] if row["by"] == "medsharp"] == ["sgd", *METHODS]
    assert [row["name"] for row in document["rows"] if row["by"] != "medsharp"] == ["sam"]
    for name in METHODS:
        assert f" {name} " in output
    assert "resnet10_w16" in output
    assert document["header"]["threads"] == 1


def test_steps_take_time_and_figures_are_ordered(measured: tuple[str, dict]) -> None:
    for row in measured[1]["rows"]:
        for key in ("units", "units_cpu"):
            assert 0 < row[key]["low"] <= row[key]["median"] <= row[key]["high"]
        assert (row["overhead"] is None) == (row["overhead_in_bare"] is None) == (row["name"] == "sgd")
        if row["by"] == "bare calls":
            assert row["overhead_in_bare"] == {"median": 1, "low": 1, "high": 1}


def test_memory_is_that_of_the_copies_a_method_keeps(measured: tuple[str, dict]) -> None:
    memory = {row["name"]: row["memory"] for row in measured[1]["rows"] if row["by"] == "medsharp"}
    bare = next(row["memory"] for row in measured[1]["rows"] if row["by"] == "bare calls")
    assert memory["sgd"] == 0
    # Batch-norm statistics and temporaries of one tensor come on top of whole copies.
    for copies in (bare, *(memory[name] for name in ("sam", "usam", "stablesam", "gcsam", "msam"))):
        assert copies == pytest.approx(1, abs=0.1)
    for name in ("gsam", "wsam", "crsam"):
        assert memory[name] == pytest.approx(2, abs=0.1)


def test_the_yardstick_takes_the_steps_of_sam() -> None:
    weights = []
    for contestant in choose(["sam"], "sgd", rivals=False)[1:]:
        load = workload.Workload("resnet10_w16", 8, 32, torch.device("cpu"), "fp32", channels_last=False)
        step = contestant.make(load.network, False)
        for _ in range(3):
            step(load.closure(per_sample=False))
        weights.append(torch.cat([parameter.detach().view(-1) for parameter in load.params]))
    assert len(weights) == 2
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-7)


def test_markdown_is_a_table() -> None:
    result = run(*SMALL, "--no-rivals", "--optimizer", "sam", "--markdown")
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 3
    assert len({row.count("|") for row in rows}) == 1


@pytest.mark.skipif(importlib.util.find_spec("pytorch_optimizer") is None, reason="needs pytorch_optimizer")
def test_rivals_stand_beside_ours(tmp_path: Path) -> None:
    names = ["sam", "gcsam", "gsam", "wsam", "fsam", "looksam", "bayesiansam"]
    path = tmp_path / "optim.json"
    options = [word for name in names for word in ("--optimizer", name)]
    result = run(*SMALL, *options, "--json", path)
    assert result.exit_code == 0, result.output
    rows = json.loads(path.read_text())["rows"][2:]
    assert [row["name"] for row in rows] == [name for name in names for _ in range(2)]
    assert [row["by"] for row in rows] == ["medsharp", "pytorch_optimizer"] * len(names)
    assert all(row["ours_over_theirs"]["median"] > 0 for row in rows[::2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--optimizer", "wsma"], ["wsma", "wsam"]),
        (["--base", "sam"], ["--base", "adamw", "sam"]),
        (["--network", "resnet81"], ["resnet81", "resnet"]),
        (["--json", "."], ["--json", "folder"]),
    ],
)
def test_wrong_input_is_one_sentence(arguments: list[str], words: list[str]) -> None:
    result = run(*arguments)
    sentence = " ".join(result.stderr.split())
    assert result.exit_code == 2, result.output
    assert sentence.startswith("error: ")
    assert "Traceback" not in result.output
    for word in words:
        assert word in sentence


def test_cuda_without_a_device_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    result = run(*SMALL, "--device", "cuda")
    assert result.exit_code == 2
    assert "--device cuda" in result.stderr


def test_a_method_that_repeats_itself_is_measured_over_a_cycle() -> None:
    weights = {c.name: c.weights for c in choose(["sam", "looksam", "eigensam", "xsam"], "sgd", rivals=False)}
    assert weights["sam"] == [1]
    assert weights["looksam"] == [0.2] * 5
    assert weights["eigensam"] == weights["xsam"] == [0.01, 0.99]


def test_live_tensors_counts_memory_once_and_while_it_lives() -> None:
    old = torch.zeros(1000)
    with LiveTensors() as live:
        new = torch.ones(1000)
        new.add_(old)
        new[10:].view(-1)
        old.mul_(2)
        assert live.peak == 4000
        other = new + 1
        assert live.peak == 8000
        del new, other
        torch.ones(500)
        assert live.peak == 8000
        live.forget_peak()
        assert live.peak < 4000


def test_spread_is_median_and_quartiles() -> None:
    assert Spread.of([4, 1, 3, 2, 5]) == Spread(3, 2, 4)
