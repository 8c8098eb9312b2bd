"""`medsharp train` on the screen: what it says, once, and which method's settings it takes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import yaml
from command_line import run
from rich.console import Console
from typer.testing import Result

from medsharp.cli import _training_progress

SMALL = [
    *("--set", "data.image_size=32", "--set", "data.cache=memory", "--set", "network.name=resnet10_w16"),
    *("--set", "schedule.epochs=1", "--set", "run.device=cpu"),
]


@pytest.fixture(scope="module")
def training(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("runs") / "run"
    return run("train", "--data", workspace / "Dataset_BUSI_with_GT", *SMALL, "--out", out), out


def test_training_tells_each_split_once(training: tuple[Result, Path]) -> None:
    result, _ = training
    assert result.exit_code == 0, result.output
    for split in ("train", "val", "test"):
        assert sum(line.strip().startswith(f"{split}: ") for line in result.output.splitlines()) == 1


def test_training_tells_its_precision_and_why(training: tuple[Result, Path]) -> None:
    result, out = training
    precision = yaml.safe_load((out / "config.yaml").read_text())["run"]["precision"]
    assert precision in {"bf16", "fp32"}
    (line,) = (line for line in result.output.splitlines() if "precision" in line)
    assert line.strip().startswith(f"device cpu, precision {precision} (")
    assert json.loads((out / "environment.json").read_text())["precision"] == precision


def test_run_is_said_to_be_resumed_in_the_precision_it_has(training: tuple[Result, Path]) -> None:
    _, out = training
    (out / "predictions.csv").unlink()
    result = run("train", "--resume", out)
    precision = yaml.safe_load((out / "config.yaml").read_text())["run"]["precision"]
    assert f"device cpu, precision {precision}\n" in result.output


@pytest.mark.parametrize(("rate", "number"), [(1234.4, "1,234"), (12.3, "12"), (3.14, "3.1"), (0.0421, "0.042")])
def test_slow_training_is_not_said_to_stand_still(rate: float, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = f"  {number} images/s"
    written = io.StringIO()
    monkeypatch.setattr(_training_progress, "console", Console(file=written, width=200))
    told = {"epoch": 0, "train_loss": 0.5, "val_loss": 0.5, "val_auroc": 0.5, "images_per_second": rate, "best": False}
    with _training_progress.TrainingProgress(2) as events:
        events({"kind": "epoch", **told})
        bar = {"kind": "batch", "epoch": 0, "done": 1, "total": 2, "loss": 0.5, "images_per_second": rate}
        events(bar)
        assert shown in next(task.fields["detail"] for task in events.bars.tasks)
    assert shown in written.getvalue()


def commands(app_help: str) -> list[str]:
    return [
        line.split()[1] for line in app_help.splitlines() if line.startswith("│ ") and line[2] != "-" and line[2] != " "
    ]


def test_help_shows_no_type_for_flags_and_that_of_other_options() -> None:
    top = run("--help").output
    assert {"train", "evaluate", "bench", "data"} <= set(commands(top))
    pages = [top]
    for name in commands(top):
        pages.append(run(name, "--help").output)
        if name in {"bench", "data"}:
            pages += [run(name, below, "--help").output for below in commands(pages[-1])]
    assert len(pages) > 15
    for page in pages:
        assert "--help" in page
        assert "bool" not in page.lower()
    assert any("KEY=VALUE" in page for page in pages)
    assert any("<path>" in page.lower() or " path " in page.lower() for page in pages)


def printed(*arguments: str | Path) -> dict[str, dict[str, object]]:
    result = run("train", "--print-config", *arguments)
    assert result.exit_code == 0, result.output
    return yaml.safe_load(result.output)["optimizer"]


def test_method_chosen_on_the_command_line_takes_its_own_defaults() -> None:
    recipe = Path(__file__).parents[2] / "configs" / "busi.yaml"
    assert printed("--config", recipe)["sam"]["rho"] == 0.05
    assert printed("--config", recipe, "--optimizer", "asam")["asam"]["rho"] == 0.5
    assert printed("--config", recipe, "--optimizer", "asam", "--set", "optimizer.rho=0.7")["asam"]["rho"] == 0.7
    assert printed("--config", recipe, "--optimizer", "sgd")["sgd"]["momentum"] == 0.9
    refused = run("train", "--config", recipe, "--optimizer", "sgd", "--set", "optimizer.rho=0.7")
    assert refused.exit_code == 2
    assert "unknown key 'optimizer.rho' for sgd" in refused.stderr


def test_printed_configuration_is_one_that_can_be_given(tmp_path: Path) -> None:
    arguments = ["--optimizer", "esam", "--set", "optimizer.beta=0.6", "--set", "optimizer.looksam.k=3"]
    first = run("train", "--print-config", *arguments).output
    (tmp_path / "mine.yaml").write_text(first)
    assert run("train", "--print-config", "--config", tmp_path / "mine.yaml").output == first
    assert "precision: auto" in first


def test_a_folder_keeps_its_name_whatever_is_in_it() -> None:
    """Names go through YAML, where a line break in single quotes would be a blank."""
    names = [
        "nl\nx",
        "two\n\nlines ",
        "tab\tx",
        'it\'s "it"',
        "2024",
        "on",
        "C:\\new",
        "Größe \u2028 \x85",
        "\U0001f600",
        "a: #b",
    ]
    every = [part for name in names for part in ("--data", name)]
    assert yaml.safe_load(run("train", *every, "--print-config").stdout)["data"]["path"] == names
    for name in names[:2]:
        assert yaml.safe_load(run("train", "--data", name, "--print-config").stdout)["data"]["path"] == name
