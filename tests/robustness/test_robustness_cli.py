"""`medsharp robustness` from end to end, on a simulated hospital with a tiny bundle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import refused
from typer.testing import CliRunner, Result

from medsharp.bundle import TrainingRecord
from medsharp.cli import app
from medsharp.inference import Predictor, predict_manifest
from medsharp.preprocess import PreprocessSpec
from medsharp.robustness import take_sample

SIDE = 64


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of 64 pixels."""
    pytest.importorskip("onnxscript")
    import torch

    from medsharp.export import export_network
    from medsharp.networks import create_network

    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    export_network(
        create_network("resnet10_w16", num_classes=2, image_size=SIDE).eval(),
        out,
        classes=("benign", "malignant"),
        positive="malignant",
        preprocess_spec=PreprocessSpec(size=SIDE),
        validation_images=np.random.default_rng(0).integers(0, 255, (16, SIDE, SIDE)).astype(np.uint8),
        validation_labels=np.arange(16) % 2,
        training=TrainingRecord(dataset="noise", images={"val": 16}, network="resnet10_w16", optimizer={"name": "sam"}),
    )
    return out


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["robustness", *(str(argument) for argument in arguments)])


def test_writes_page_figures_table_and_sheet(bundle: Path, hospital: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--corruptions", "calipers", "--corruptions", "gain_*", "--images", "20", "--resamples", "100")
    result = run(bundle, bundle, "--data", hospital, "--out", out, *options)
    assert result.exit_code == 0, result.output
    assert "Not for diagnostic use" in result.stdout
    document = json.loads((out / "robustness.json").read_text(encoding="utf-8"))
    assert [model["name"] for model in document["datasets"][0]["models"]] == ["tiny", "tiny 2"]
    assert document["datasets"][0]["images"] == 20
    expected = [("gain_up", None), ("gain_down", None), ("calipers", None), ("calipers_off_lesion", "calipers")]
    assert [(entry["name"], entry["control_of"]) for entry in document["corruptions"]] == expected
    for name in ("robustness.html", "robustness.csv", "contact_sheet.png"):
        assert (out / name).stat().st_size > 0
    again = run(bundle, bundle, "--data", hospital, "--out", out, *options)
    assert again.exit_code == 0, again.output
    assert json.loads((out / "robustness.json").read_text(encoding="utf-8"))["datasets"] == document["datasets"]


def test_clean_answers_are_those_of_predict(bundle: Path, hospital: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(bundle, "--data", hospital, "--out", out, "--corruptions", "zoom_in").exit_code == 0
    (clean,) = out.rglob("clean-0-*.npy")
    predictor = Predictor.load(bundle, device="cpu")
    table = predict_manifest(predictor, take_sample(hospital, predictor.spec.classes, "malignant").manifest)
    np.testing.assert_allclose(np.load(clean)[:, 1], table["p_malignant"], atol=1e-6)


def test_the_page_shows_the_data_only_when_asked(bundle: Path, hospital: Path, tmp_path: Path) -> None:
    options = ("--data", hospital, "--out", tmp_path / "out", "--corruptions", "pixelate", "--images", "8")
    run(bundle, *options)
    before = (tmp_path / "out" / "contact_sheet.png").read_bytes()
    assert "Pictures show a simulated image" in (tmp_path / "out" / "robustness.html").read_text(encoding="utf-8")
    assert run(bundle, *options, "--thumbnails").exit_code == 0
    assert (tmp_path / "out" / "contact_sheet.png").read_bytes() != before
    for name in ("robustness.html", "contact_sheet.png"):
        assert (tmp_path / "out" / name).stat().st_mode & 0o077 == 0
    assert "Pictures show an image of the data" in (tmp_path / "out" / "robustness.html").read_text(encoding="utf-8")


def test_wrong_names_folders_and_bundles_are_one_sentence(bundle: Path, hospital: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(run(bundle, "--data", hospital, "--out", out, "--corruptions", "caliper"), "'caliper'", "calipers")
    refused(run(tmp_path / "none", "--data", hospital, "--out", out), "does not exist")
    refused(run(bundle, "--data", tmp_path / "none", "--out", out), "none")
    refused(run(bundle, "--data", hospital, "--out", hospital), "is no robustness run", "--out")
    refused(run(bundle, "--data", hospital, "--out", out, "--adversarial", hospital), "A")
    refused(run(bundle, "--data", hospital, "--out", out, "--limit", "max_side=50"), "no image can be used", "96")
    assert not out.exists()


INTERRUPTED = """
import os, signal, sys
from medsharp.cli import main
from medsharp.robustness import predicting

told, predict, done = int(sys.argv.pop(1)), predicting.predict_corrupted, []

def predict_five(*arguments):
    if len(done) == 5:
        os.write(told, b"!")
        sys.stdin.read()  # until the signal comes
    done.append(arguments)
    return predict(*arguments)

predicting.predict_corrupted = predict_five
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
main()
"""
"""The command, which says through a pipe that it has predicted five cells and then waits for Ctrl-C."""


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(bundle: Path, hospital: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = [str(bundle), "--data", str(hospital), "--out", str(out), "--corruptions", "gain_*"]
    arguments += ["--resamples", "100"]
    heard, told = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(told), "robustness", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=[told],
    )
    os.close(told)
    # Nothing is heard where the command ended before.
    assert os.read(heard, 1) == b"!", process.communicate()
    os.close(heard)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130, stderr
    assert "the same command goes on" in " ".join(stderr.split())
    assert "Traceback" not in stderr
    kept = list(out.rglob("*.npy"))
    assert len(kept) == 5
    assert not (out / "robustness.json").exists()
    for file in kept:
        os.utime(file, (0, 0))
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert [file.stat().st_mtime for file in kept] == [0] * 5
    assert len(list(out.rglob("*.npy"))) == 11


def test_bench_tells_the_cost_of_every_corruption_and_of_the_network(bundle: Path, tmp_path: Path) -> None:
    from medsharp.robustness.corruptions import list_corruptions

    options = ["--patients", "4", "--size", "64", "--repeats", "1", "--json", str(tmp_path / "cost.json")]
    result = CliRunner().invoke(app, ["bench", "robustness", str(bundle), *options])
    assert result.exit_code == 0, result.output
    cost = json.loads((tmp_path / "cost.json").read_text(encoding="utf-8"))
    assert set(cost["corruptions"]) == set(list_corruptions())
    assert min(cost["inference"], cost["preprocess"], cost["together"], *cost["corruptions"].values()) > 0
    assert "% of the network" in result.stdout
