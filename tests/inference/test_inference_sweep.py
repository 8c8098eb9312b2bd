"""The sweep of `medsharp bench inference`: every runtime and precision at every size of batch, and the host's share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from medsharp.bundle import read_bundle
from medsharp.cli import app
from medsharp.errors import InputError
from medsharp.export.eager import Eager
from medsharp.inference import Predictor
from medsharp.inference.benchmark import Swept, median_seconds, sweep, sweep_network, sweep_predictor


@pytest.fixture
def pictures(images: np.ndarray, tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        Image.fromarray(images[number]).save(tmp_path / "pictures" / f"{number}.png")
    return tmp_path / "pictures"


def test_the_median_leaves_out_the_first_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 11.0, 20.0, 25.0, 30.0, 32.0])
    monkeypatch.setattr(sweep.time, "perf_counter", lambda: next(clock))
    calls: list[int] = []
    assert median_seconds(lambda: calls.append(1), 3) == 2.0
    assert len(calls) == 4


def test_seconds_are_of_an_image_and_the_rest_of_an_answer_is_the_hosts(
    predictor: Predictor, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch takes a tenth of a second an image in the network, and two and a half times that in all."""
    seen: list[int] = []

    def timed(work: Any, repeats: int) -> float:
        assert repeats == 7
        found = work()
        if isinstance(found, list):  # predictions
            assert all(one.error is None for one in found)
            return 0.25 * len(found)
        seen.append(len(found["logits"]))
        return 0.1 * seen[-1]

    monkeypatch.setattr(sweep, "median_seconds", timed)
    contents = [path.read_bytes() for path in sorted(pictures.iterdir())]
    found = sweep_predictor(predictor, contents, [5, 1], 7)
    assert seen == [5, 1]
    assert [(one.runtime, one.precision, one.batch) for one in found] == [
        ("ONNX Runtime, cpu", "fp32", 5),
        ("ONNX Runtime, cpu", "fp32", 1),
    ]
    for one in found:
        assert one.seconds == pytest.approx(0.1)
        assert one.host_share == pytest.approx(0.6)
    alone = sweep_network("other", "fp16", predictor.session.run, predictor.preprocessing.size, [2], 7)
    assert alone == [Swept("other", "fp16", 2, pytest.approx(0.1), None)]  # type: ignore[arg-type]


def test_the_command_sweeps_what_the_bundle_has_beside_pytorch(
    bundle: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[bool] = []

    def compile_(function: Any, *, dynamic: bool) -> Any:
        compiled.append(dynamic)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    command = ["bench", "inference", str(bundle), "--images", str(pictures), "--repeats", "1", "--compiled"]
    result = CliRunner().invoke(app, [*command, "--sweep", "2, 1,2", "--json", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "out.json").read_text())["sweep"]
    runtimes = ("ONNX Runtime, cpu", "PyTorch, eager, cpu", "PyTorch, compiled, cpu")
    assert [(one["runtime"], one["batch"]) for one in written] == [(name, size) for name in runtimes for size in (2, 1)]
    assert compiled == [False]
    assert all(one["seconds"] > 0 and one["precision"] == "fp32" for one in written)
    assert all(0 <= one["host_share"] < 1 for one in written[:2])
    assert all(one["host_share"] is None for one in written[2:])


@pytest.mark.parametrize("text", ["0", "1,,2", "a", "-1", "4097", "1;8", ""])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    result = CliRunner().invoke(app, ["bench", "inference", "--sweep", text], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "write sizes of batches from 1 to 4096" in " ".join(result.stderr.split())


@pytest.mark.parametrize("options", [["--compiled"], ["--compiled", "--sweep", "1", "--no-torch"]])
def test_compiled_is_of_a_sweep_beside_pytorch(options: list[str]) -> None:
    result = CliRunner().invoke(app, ["bench", "inference", *options], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "--compiled needs --sweep, and PyTorch" in " ".join(result.stderr.split())


def test_a_machine_that_cannot_compile_says_so(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def unable(*images: object) -> None:
        raise TorchDynamoException("no C++ compiler\nwas found")

    monkeypatch.setattr(torch, "compile", lambda function, **options: unable)
    spec = read_bundle(bundle)
    with pytest.raises(InputError, match="PyTorch cannot compile Ensemble here: no C\\+\\+ compiler was found"):
        Eager(spec, compiled=True)(np.zeros((1, 64, 64), dtype=np.uint8))
