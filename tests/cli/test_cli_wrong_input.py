"""What a user gets for wrong input: one sentence, exit code 2, no traceback; and quick, light help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import refused, run

from medsharp.bundle import default_bundle
from medsharp.cli._cluster_models import models_on
from medsharp.cli._pieces import pieces_on
from medsharp.errors import InputError


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from medsharp.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'monai', 'timm', 'gradio', 'matplotlib', 'pandas', 'sklearn', 'onnxruntime', 'numpy'}\n"
        "heavy |= {'scipy', 'statsmodels'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_has_help() -> None:
    for command in ("train", "export", "predict", "evaluate", "score", "serve", "demo", "data"):
        assert run(command, "--help").exit_code == 0


def test_print_config_shows_the_defaults_of_the_optimizer() -> None:
    result = run("train", "--optimizer", "wsam", "--print-config", "--set", "optimizer.lr=3e-4")
    assert result.exit_code == 0, result.output
    for word in ("rho: 0.05", "gamma: 0.9", "lr: 0.0003", "epochs: 30"):
        assert word in result.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "schedule.epoch=3"], ["schedule.epoch", "epochs"]),
        (["--set", "optimizer.lr=-1"], ["optimizer.lr", "-1"]),
        (["--optimizer", "wsma"], ["wsma", "wsam"]),
        (["--set", "network.name=resnet81"], ["resnet81", "resnet"]),
        (["--set", "optimizer.rhoo=0.1"], ["rhoo", "rho"]),
        (["--set", "optimizer.rho=-0.1"], ["rho", "-0.1"]),
        (["--config", "nowhere.yaml"], ["nowhere.yaml"]),
        (["--data", "nowhere"], ["nowhere"]),
        (["--resume", "nowhere"], ["nowhere"]),
        (["--resume", "nowhere", "--optimizer", "sam"], ["--resume"]),
    ],
)
def test_train_refuses(arguments: list[str], words: list[str]) -> None:
    refused(run("train", *arguments), *words)


def test_train_refuses_a_folder_without_images(tmp_path: Path) -> None:
    refused(run("train", "--data", tmp_path), str(tmp_path.name))


def test_train_refuses_one_class_only(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "benign").symlink_to(workspace / "Dataset_BUSI_with_GT" / "benign")
    refused(run("train", "--data", tmp_path / "only"), "only")


@pytest.mark.parametrize("command", ["predict", "evaluate", "serve"])
def test_missing_bundle_is_named(command: str, tmp_path: Path) -> None:
    more = {"predict": ["image.png"], "evaluate": ["--data", "x"], "serve": []}[command]
    refused(run(command, tmp_path / "no-bundle", *more), "no-bundle")


def test_export_of_a_missing_run_names_it(tmp_path: Path) -> None:
    refused(run("export", tmp_path / "no-run", "--out", tmp_path / "bundle"), "no-run")


def test_score_of_a_table_without_probabilities_names_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("image,label\na.png,benign\n")
    refused(run("score", path), "predictions.csv")


def test_split_writes_a_manifest_and_never_overwrites(workspace: Path, tmp_path: Path) -> None:
    arguments = ["data", "split", workspace / "Dataset_BUSI_with_GT", "--out", tmp_path / "split"]
    assert run(*arguments).exit_code == 0
    before = (tmp_path / "split" / "manifest.csv").read_bytes()
    refused(run(*arguments), "manifest.csv")
    assert (tmp_path / "split" / "manifest.csv").read_bytes() == before


def test_phantom_command_writes_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert run("data", "phantom", "--out", tmp_path / name, "--patients", "3", "--size", "64").exit_code == 0
    first, second = (
        {file.relative_to(tmp_path / name): file.read_bytes() for file in (tmp_path / name).rglob("*.png")}
        for name in ("one", "two")
    )
    assert first == second
    assert len(first) >= 6


def test_training_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "training"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "timm", None)
    result = run("train", "--print-config")
    refused(result, "pip install 'medsharp[train]'")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("predict", "b", "m.csv", "--gpus-each", "1"), "--gpus-each is of a cluster; give --ray too"),
        (("predict", "b", "m.csv", "--out", "o.csv", "--merge", "--ray"), "--merge joins what was predicted"),
        (("predict", "b", "a.png", "--out", "o.parquet"), "o.parquet: a table of Parquet takes a manifest, not images"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    command: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("m.csv", "a.png"):
        (tmp_path / name).touch()
    result = run(*command)
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.output.split())
    assert not (tmp_path / "o.parquet").exists()


@pytest.mark.parametrize(
    ("gpus", "cpus", "option"), [(0.5, None, "--gpus-each"), (None, 2, "--cpus-each"), (None, 1, "--cpus-each")]
)
def test_runs_on_this_machine_refuse_what_is_of_a_cluster(gpus: float | None, cpus: int | None, option: str) -> None:
    with pytest.raises(InputError, match=f"{option} is of a cluster; give --ray too"), pieces_on(None, gpus, cpus, ""):
        pass
    with pieces_on(None, None, None, "cpu,cpu") as pieces:
        assert pieces is None


def test_bundles_on_this_machine_refuse_what_is_of_a_cluster() -> None:
    with pytest.raises(InputError, match="--gpus-each is of a cluster"), models_on(None, [], "auto", 1.0, {}):
        pass


@pytest.mark.parametrize(
    "words",
    [
        ["score", "s3://bucket/p.csv"],
        ["score", "s3://bucket/p.csv", "--stream"],
        ["compare", "s3://bucket/a.csv", "s3://bucket/b.csv"],
        ["predict", "BUNDLE", "s3://bucket/scans"],
        ["predict", "BUNDLE", "s3://bucket/scan.png"],
        ["evaluate", "BUNDLE", "--data", "s3://bucket/scans"],
        ["recalibrate", "BUNDLE", "--data", "s3://bucket/manifest.csv", "--out", "new"],
        ["data", "audit", "s3://bucket/manifest.csv", "--out", "new"],
    ],
)
def test_url_where_none_is_read_is_named_as_it_was_typed(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a path it would be `s3:/bucket`."""
    monkeypatch.chdir(tmp_path)
    url = next(word for word in words if "://" in word)
    refused(run(*(str(default_bundle()) if word == "BUNDLE" else word for word in words)), f"{url}: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "x.png", "--out", "s3://bucket/o.csv"],
        ["predict", "manifest.csv", "--out=gs://bucket/o.parquet"],
        ["predict", "x.png", "--heatmaps", "s3://bucket/maps"],
        ["evaluate", "bundle", "--data", "x", "--out", "az://bucket/report"],
        ["bench", "evaluation", "--json", "https://host/f.json"],
    ],
)
def test_results_go_to_this_machine_and_not_to_a_url(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path of `s3://bucket/o.csv` is a folder `s3:` here."""
    monkeypatch.chdir(tmp_path)
    refused(run(*words), "://")
    assert "results are written to this machine" in " ".join(run(*words).output.split())
    assert list(tmp_path.iterdir()) == []
