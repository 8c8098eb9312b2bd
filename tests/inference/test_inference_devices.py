"""Devices, precisions and threads: what was asked for is what runs, and what was chosen is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from medsharp import cores
from medsharp.bundle import BundleSpec, read_bundle, write_spec
from medsharp.cli import app
from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.inference import Predictor
from medsharp.inference.bound import BoundRuns, bucket_of
from medsharp.inference.providers import DEVICES, engine_folder, has_cuda
from medsharp.inference.session import Session

no_gpu = pytest.mark.skipif(has_cuda(), reason="there is a CUDA device")


@pytest.fixture(scope="module")
def two_precisions(
    bundle: Path,
    make_network: Callable[..., object],
    make_bundle: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A bundle whose file for fp16 is of another network, so that it shows which was opened."""
    import torch

    from medsharp.networks import Classifier

    folder = tmp_path_factory.mktemp("precisions") / "speckle"
    shutil.copytree(bundle, folder)
    network = make_network("resnet10_w16", 2)
    assert isinstance(network, Classifier)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.05)
    other = make_bundle(network, folder.parent / "other")
    shutil.copy(other / "model.onnx", folder / "model.fp16.onnx")
    spec = read_bundle(bundle)
    files = {**spec.files, "model.fp16.onnx": sha256_file(folder / "model.fp16.onnx")}
    write_spec(folder, BundleSpec.model_validate({**spec.model_dump(), "files": files}))
    return folder


def test_auto_is_the_precision_that_the_operating_point_was_frozen_in(
    two_precisions: Path, predictor: Predictor, images: np.ndarray
) -> None:
    expected = predictor.predict_pixels(list(images[:2]))
    auto = Predictor.load(two_precisions, device="cpu")
    assert [a.probabilities for a in auto.predict_pixels(list(images[:2]))] == [e.probabilities for e in expected]
    assert auto.runs_on == "runs on cpu (as asked for) in fp32, in which the operating point was frozen"


def test_a_precision_that_is_asked_for_is_the_file_that_is_opened(
    two_precisions: Path, predictor: Predictor, images: np.ndarray, tmp_path: Path
) -> None:
    half = Predictor.load(two_precisions, device="cpu", precision="fp16")
    assert half.runs_on == "runs on cpu (as asked for) in fp16"
    found = half.predict_pixels([images[0]])[0].positive_probability
    assert abs(found - predictor.predict_pixels([images[0]])[0].positive_probability) > 1e-6
    from PIL import Image

    Image.fromarray(images[0]).save(tmp_path / "0.png")
    command = ["predict", str(two_precisions), str(tmp_path / "0.png"), "--out", str(tmp_path / "out.csv")]
    result = CliRunner().invoke(app, [*command, "--device", "cpu", "--precision", "fp16"])
    assert result.exit_code == 0, result.output
    assert "runs on cpu (as asked for) in fp16" in " ".join(result.output.split())
    row = (tmp_path / "out.csv").read_text().splitlines()[1].split(",")
    assert float(row[2]) == pytest.approx(found)


def test_a_precision_that_is_not_there_is_one_sentence(two_precisions: Path, bundle: Path) -> None:
    with pytest.raises(InputError, match=r"precision int8: .*speckle has fp32, fp16$"):
        Predictor.load(two_precisions, precision="int8")
    with pytest.raises(InputError, match=r"precision fp16: .*speckle has fp32$"):
        Predictor.load(bundle, precision="fp16")
    with pytest.raises(InputError, match="precision half: give auto or fp32, fp16, int8"):
        Predictor.load(bundle, precision="half")
    result = CliRunner().invoke(app, ["predict", str(bundle), str(bundle), "--precision", "half"])
    assert result.exit_code == 2


@no_gpu
@pytest.mark.parametrize("device", [name for name in DEVICES if name != "cpu"])
def test_an_absent_device_is_an_error_and_not_another_device(bundle: Path, device: str) -> None:
    if DEVICES[device].provider in onnxruntime.get_available_providers() and device in ("openvino", "coreml"):
        pytest.skip(f"this ONNX Runtime has {device}")
    with pytest.raises(InputError, match=f"^device {device}: .*; use cpu or auto$"):
        Session(bundle / "model.onnx", device=device)


@no_gpu
@pytest.mark.parametrize("device", ["openvino", "coreml", "cuda"])
def test_a_device_that_the_runtime_only_claims_to_have_is_an_error(
    bundle: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ONNX Runtime goes on with the CPU where a provider cannot be made.
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [DEVICES[device].provider])
    for module in ("session", "providers"):
        monkeypatch.setattr(f"medsharp.inference.{module}.has_cuda", lambda: True)
    with pytest.raises(InputError, match=DEVICES[device].provider if device != "cuda" else "device cuda"):
        Session(bundle / "model.onnx", device=device)


@no_gpu
def test_auto_says_why_it_took_the_cpu(bundle: Path) -> None:
    assert Predictor.load(bundle).runs_on.startswith("runs on cpu (no NVIDIA GPU answers here) in fp32")


def test_threads_are_those_that_may_be_used_and_not_more_than_help(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for there, used in ((1, 1), (2, 2), (64, 16)):
        monkeypatch.setattr("medsharp.inference.session.usable_cores", lambda there=there: there)
        options = Session(bundle / "model.onnx", device="cpu")._session.get_session_options()
        assert options.intra_op_num_threads == used
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert (
        Session(bundle / "model.onnx", device="cpu", threads=3)._session.get_session_options().intra_op_num_threads == 3
    )


@pytest.mark.parametrize(("quota", "least"), [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 64), ("", 64)])
def test_a_containers_share_of_the_processor_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, least: int
) -> None:
    (tmp_path / "cpu.max").write_text(quota + "\n")
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(cores, "_cores_to_run_on", lambda: 64)
    assert cores.usable_cores() == least


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64, 65, 130])
def test_bound_buffers_give_what_plain_runs_give_for_any_batch(bundle: Path, count: int) -> None:
    session = Session(bundle / "model.onnx", device="cpu")._session
    bound = BoundRuns(session, "cpu", graphs=False)
    rng = np.random.default_rng(count)
    for _ in range(2):  # buffers hold another batch the second time
        images = rng.integers(0, 256, (count, 1, 64, 64), dtype=np.uint8)
        for found, expected in zip(bound.run(images), session.run(None, {"image": images}), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_answers_of_bound_buffers_stay_when_the_next_batch_is_run(bundle: Path, images: np.ndarray) -> None:
    bound = BoundRuns(Session(bundle / "model.onnx", device="cpu")._session, "cpu", graphs=False)
    first = bound.run(images[:2, None])
    before = [value.copy() for value in first]
    bound.run(images[2:4, None])
    assert all(np.array_equal(a, b) for a, b in zip(first, before, strict=True))


def test_batches_are_filled_up_to_powers_of_two() -> None:
    assert [bucket_of(count) for count in (1, 2, 3, 4, 5, 33, 64)] == [1, 2, 4, 4, 8, 64, 64]


def test_engines_are_kept_for_one_gpu_one_version_and_one_network(bundle: Path, tmp_path: Path) -> None:
    model = bundle / "model.onnx"
    other = tmp_path / "model.onnx"
    other.write_bytes(model.read_bytes() + b"\0")
    folder = engine_folder(model, "NVIDIA H200 sm90", "100900")
    assert engine_folder(model, "NVIDIA H200 sm90", "100900") == folder
    others = {
        engine_folder(model, "NVIDIA A100 sm80", "100900"),
        engine_folder(model, "NVIDIA H200 sm90", "101000"),
        engine_folder(other, "NVIDIA H200 sm90", "100900"),
    }
    assert folder not in others
    assert len(others) == 3
    assert " " not in folder.name


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no CUDA device")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_gpu_gives_the_answers_of_the_cpu_for_any_batch(bundle: Path, device: str) -> None:
    try:
        gpu = Session(bundle / "model.onnx", device=device)
    except InputError as error:
        pytest.skip(str(error))
    cpu = Session(bundle / "model.onnx", device="cpu")
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 64, 100, 1):
        images = rng.integers(0, 256, (count, 64, 64), dtype=np.uint8)
        found, expected = gpu.run(images), cpu.run(images)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, atol=2e-4, err_msg=name)


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="no CUDA device")
def test_cuda_graphs_are_captured_for_an_exported_network(bundle: Path) -> None:
    session = Session(bundle / "model.onnx", device="cuda")
    assert session._opened.graphs, session.why
