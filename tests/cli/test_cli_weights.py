"""`medsharp train` with weights from elsewhere: what it says of them, and what it refuses before it looks at data."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import timm
import torch
import yaml
from typer.testing import CliRunner, Result

from medsharp.cli import app
from medsharp.config import load_config


def train(*settings: str, options: tuple[str, ...] = ()) -> Result:
    pairs = [
        part for setting in ("data.image_size=64", "network.name=test_resnet", *settings) for part in ("--set", setting)
    ]
    return CliRunner().invoke(app, ["train", *pairs, *options], env={"COLUMNS": "200"})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    torch.save({"state_dict": timm.create_model("test_resnet").state_dict()}, tmp_path / "theirs.pth")
    return tmp_path / "theirs.pth"


def test_printed_configuration_names_the_weights_and_stays_loadable(weights: Path, tmp_path: Path) -> None:
    result = train(f"network.checkpoint={weights}", options=("--print-config",))
    assert result.exit_code == 0, result.output
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert f"# starts from weights of the file theirs.pth (licence unknown; sha256 {digest})" in result.stdout
    assert "conv1.0.weight of theirs.pth is of three colours, which were summed for grey images" in result.stdout
    (tmp_path / "printed.yaml").write_text(result.stdout)
    assert load_config(tmp_path / "printed.yaml").network.checkpoint == str(weights)
    assert not train(options=("--print-config",)).stdout.count("#")
    assert yaml.safe_load(result.stdout)["network"]["normalization"] == "auto"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("network.checkpoint=nowhere.pth",), "checkpoint nowhere.pth does not exist"),
        (
            ("network.checkpoint={weights}", "network.name=test_vit"),
            "theirs.pth does not fit this network: its names",
        ),
        (("network.checkpoint={weights}", "network.pretrained=true"), "are two sources of weights; give one of them"),
        (("network.normalization=weights",), "normalization is 'weights', and there are none: give pretrained"),
        (("network.mean=0.5",), "mean and std go together"),
        (("network.mean=127", "network.std=50"), "network.mean = 127: Input should be less than or equal to 1"),
        (("network.mean=0.5", "network.std=0"), "network.std = 0"),
        (("network.mean=0.5", "network.std=0.5", "network.normalization=image"), "and normalization is 'image'"),
        (("network.name=resnet10_w16", "network.pretrained=true"), "network resnet10_w16 has no published weights"),
        (("network.name=resnet18.nobody",), "unknown weights 'nobody' of network resnet18"),
    ],
)
def test_wrong_weights_are_refused_before_the_data_are_looked_at(
    settings: tuple[str, ...], words: str, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    filled = [setting.format(weights=weights) for setting in settings]
    result = train(*filled, options=("--data", str(tmp_path / "no such data"), "--out", str(out)))
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not out.exists()
