from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from medsharp.bundle import BundleSpec, OperatingPoint, digest_of, write_spec
from medsharp.data.sources import open_dataset
from medsharp.errors import InputError
from medsharp.images import ValueRange, read_frames, read_image
from medsharp.inference import Given, Predictor
from medsharp.inference.session import Session
from medsharp.networks import Classifier
from medsharp.preprocess import PreprocessSpec, preprocess


def changed(bundle: Path, out: Path, **values: object) -> Path:
    """Copy a bundle with other values in bundle.yaml."""
    shutil.copytree(bundle, out)
    spec = Predictor.load(bundle, device="cpu").spec
    write_spec(out, BundleSpec.model_validate({**spec.model_dump(), **values}))
    return out


def test_probabilities_equal_torch_softmax_with_the_frozen_temperature(
    predictor: Predictor, network: Classifier
) -> None:
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((90, 120), (64, 64), (200, 80))]
    inputs = np.stack([preprocess(picture, predictor.spec.preprocess.spec()) for picture in pictures])
    with torch.inference_mode():
        logits = network(torch.from_numpy(inputs[:, None]))
    expected = torch.softmax(logits.double() / predictor.spec.temperature, dim=1).numpy()
    found = predictor.predict_pixels(pictures)
    np.testing.assert_allclose([list(p.probabilities.values()) for p in found], expected, atol=1e-5)
    assert [p.positive_probability for p in found] == [p.probabilities["malignant"] for p in found]


def test_answers_do_not_depend_on_the_batch(predictor: Predictor, images: np.ndarray, tmp_path: Path) -> None:
    files = []
    for number, pixels in enumerate(images[:5]):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(files[-1])
    ones, all_at_once = predictor.predict(files, batch_size=1), predictor.predict(files, batch_size=32)
    np.testing.assert_allclose(
        [p.positive_probability for p in ones], [p.positive_probability for p in all_at_once], atol=1e-6
    )
    assert [p.name for p in ones] == [str(file) for file in files]


def test_one_bad_source_is_listed_with_its_reason_and_the_others_are_predicted(
    predictor: Predictor, images: np.ndarray, tmp_path: Path
) -> None:
    good = tmp_path / "good.png"
    Image.fromarray(images[0]).save(good)
    text = tmp_path / "text.png"
    text.write_text("no image")
    half = good.read_bytes()[:800]
    done: list[tuple[int, int, str]] = []
    found = predictor.predict(
        [good, text, tmp_path / "missing.png", tmp_path, half, b"", good, good.read_bytes()],
        batch_size=3,
        progress=lambda *step: done.append(step),
    )
    assert [p.error is None for p in found] == [True, False, False, False, False, False, True, True]
    assert found[0].positive_probability == found[6].positive_probability == found[7].positive_probability
    for prediction in found[1:6]:
        assert prediction.name in (prediction.error or "")
        assert math.isnan(prediction.positive_probability)
        assert (prediction.probabilities, prediction.side, prediction.heatmap()) == ({}, None, None)
        assert math.isnan(prediction.margin)
    assert [step[:2] for step in done] == [(3, 8), (6, 8), (8, 8)]


def test_all_sources_bad_gives_only_errors(predictor: Predictor) -> None:
    assert all(p.error for p in predictor.predict([b"", b"x" * 100]))
    assert predictor.predict([]) == []


def test_names_must_match_sources(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="1 names for 2 images"):
        predictor.predict([b"", b""], names=["a"])
    pixels = np.zeros((40, 40), dtype=np.uint8)
    with pytest.raises(InputError, match="1 names for 2 images"):
        predictor.predict_pixels([pixels, pixels], names=["a"])


@pytest.mark.parametrize(
    "one",
    ["a.png", Path("a.png"), b"\x89PNG", bytearray(4), np.zeros((9, 9), dtype=np.uint8), Image.new("L", (9, 9))],
    ids=lambda one: type(one).__name__,
)
def test_a_single_image_is_not_taken_apart(one: Any, predictor: Predictor) -> None:
    for call in (predictor.predict, predictor.stream, predictor.predict_pixels):
        with pytest.raises(
            InputError, match=rf"give a list of images, \[image\] for one, and not a {type(one).__name__}"
        ):
            call(one)


def test_a_single_dataset_is_not_taken_apart(predictor: Predictor) -> None:
    pydicom = pytest.importorskip("pydicom")
    with pytest.raises(InputError, match="not a Dataset by itself"):
        predictor.predict(pydicom.Dataset())


def test_ranges_of_values_must_match_sources(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="1 ranges of values for 2 images"):
        predictor.predict([b"", b""], value_ranges=[ValueRange(0, 100)])


def test_a_range_of_values_may_be_any_pair(bundle: Path, predictor: Predictor, images: np.ndarray) -> None:
    deep = images[0].astype(np.uint16) * 4
    wide: list[Any] = [ValueRange(0.0, 1020.0), (0, 1020), [0, 1020], np.array([0, 1020])]
    loaded = [Predictor.load(bundle, value_range=one).predict([deep])[0] for one in wide]
    given = [predictor.predict([deep], value_ranges=[one])[0] for one in wide]
    streamed = list(predictor.stream([Given(deep, value_range=one) for one in wide]))
    want = predictor.predict([images[0]])[0].positive_probability
    assert [one.positive_probability for one in (*loaded, *given, *streamed)] == [want] * 12


@pytest.mark.parametrize("wrong", [(255, 0), (0, 255, 3), 255, (0, float("nan")), (True, 255), np.zeros((2, 2))])
def test_a_range_that_is_none_is_refused_before_a_file_is_read(predictor: Predictor, wrong: Any) -> None:
    said = "value_range: .* must be two numbers, the values of black and of white"
    with pytest.raises(InputError, match=said):
        Predictor.load("not-there", value_range=wrong)
    with pytest.raises(InputError, match=said):
        predictor.predict(["not-there.png"], value_ranges=[wrong])
    with pytest.raises(InputError, match=said):
        read_image("not-there.png", value_range=wrong)
    with pytest.raises(InputError, match=said):
        next(read_frames("not-there.png", value_range=wrong))
    with pytest.raises(InputError, match=said):
        open_dataset("not-there", value_range=wrong)


def test_pixels_of_the_wrong_kind_are_refused(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="uint8"):
        predictor.predict_pixels([np.zeros((64, 64), dtype=np.float32)])


def test_side_is_above_from_the_threshold_on_and_the_margin_grows_with_the_distance(
    bundle: Path, predictor: Predictor, images: np.ndarray, tmp_path: Path
) -> None:
    score = predictor.predict_pixels([images[0]])[0].positive_probability
    found = []
    for name, threshold in (("at", score), ("above", math.nextafter(score, 1.0)), ("far", 0.2 * score)):
        point = OperatingPoint(threshold=threshold, rule="", sensitivity=1, specificity=0, images=1, positives=1)
        moved = Predictor.load(changed(bundle, tmp_path / name, operating_point=point), device="cpu")
        found.append(moved.predict_pixels([images[0]])[0])
        assert (found[-1].threshold, found[-1].digest) == (threshold, digest_of(moved.spec))
    assert [one.side for one in found] == ["above", "below", "above"]
    assert found[0].margin == 0 > found[1].margin
    odds, threshold = score / (1 - score), 0.2 * score
    assert found[2].margin == pytest.approx(math.log(odds / (threshold / (1 - threshold))))
    assert found[2].margin_points == pytest.approx(80 * score)
    assert {one.model for one in found} == {"speckle"}


def test_three_classes_are_sided_by_the_positive_one(
    make_network: Callable[[str, int], Classifier],
    make_bundle: Callable[..., Path],
    images: np.ndarray,
    tmp_path: Path,
) -> None:
    path = make_bundle(make_network("resnet10_w16", 3), tmp_path / "three", ("benign", "malignant", "normal"))
    predictor = Predictor.load(path, device="cpu")
    found = predictor.predict_pixels(list(images))
    for prediction in found:
        positive = prediction.positive_probability >= predictor.spec.operating_point.threshold
        assert prediction.side == ("above" if positive else "below")
        assert sum(prediction.probabilities.values()) == pytest.approx(1)
    assert any(p.side == "above" for p in found)


def test_unusual_images_are_refused_or_marked_and_ordinary_ones_are_not(
    predictor: Predictor, images: np.ndarray
) -> None:
    black, dark = np.zeros((64, 64), dtype=np.uint8), images[0] // 2
    blank, marked, *plain = predictor.predict_pixels([black, dark, *images])
    assert (blank.status, blank.reasons) == ("refused", ("the image is of one grey: it shows nothing",))
    assert (blank.probabilities, blank.side, blank.heatmap()) == ({}, None, None)
    assert np.isnan(blank.positive_probability)
    assert (marked.status, [finding.check for finding in marked.findings]) == ("cautioned", ["dark"])
    assert marked.positive_probability > 0
    assert all(p.findings == () and p.status == "answered" for p in plain)
    anyway = predictor.answering_anyway().predict_pixels([black])[0]
    assert (anyway.status, anyway.positive_probability > 0) == ("refused", True)


def test_what_decoding_did_is_flagged(predictor: Predictor, tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(rgb).save(tmp_path / "colour.png")
    assert "colour" in predictor.predict([tmp_path / "colour.png"])[0].flags


def test_predictions_do_not_keep_the_pixels(predictor: Predictor) -> None:
    pictures = [np.full((1500, 1500), 90, dtype=np.uint8) for _ in range(4)]
    predictor.predict_pixels(pictures[:1])
    tracemalloc.start()
    try:
        kept = predictor.predict([_png(picture) for picture in pictures])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept[0].error is None
    assert held < 1500 * 1500


def _png(pixels: np.ndarray) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_session_takes_any_batch_of_uint8(bundle: Path, images: np.ndarray, batch: int) -> None:
    outputs = Session(bundle / "model.onnx", device="cpu").run(images[:batch])
    assert {name: array.shape[0] for name, array in outputs.items()} == dict.fromkeys(
        ("logits", "features", "cam"), batch
    )
    assert all(array.dtype == np.float32 for array in outputs.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_an_error_and_auto_says_cpu(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="cuda"):
        Predictor.load(bundle, device="cuda")
    assert Predictor.load(bundle, device="auto").session.device == "cpu"
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_does_not_work_is_an_error_and_auto_falls_back_without_noise(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # A driver answers, but ONNX Runtime cannot use the device: it would go on quietly on the CPU.
    _answer_as_a_gpu(monkeypatch)
    with pytest.raises(InputError, match=r"device cuda: .*onnxruntime"):
        Predictor.load(bundle, device="cuda")
    assert Predictor.load(bundle, device="auto").session.device == "cpu"
    assert capfd.readouterr() == ("", "")


def test_both_runtimes_installed_are_named_when_cuda_fails(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _answer_as_a_gpu(monkeypatch)
    monkeypatch.setattr("medsharp.inference.providers.is_installed", lambda name: True)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(InputError, match="onnxruntime and onnxruntime-gpu are both installed"):
        Predictor.load(bundle, device="cuda")


def _answer_as_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("session", "providers"):
        monkeypatch.setattr(f"medsharp.inference.{module}.has_cuda", lambda: True)


def test_unknown_device_is_refused(bundle: Path) -> None:
    with pytest.raises(InputError, match="'gpu' is not one of auto, cpu, cuda"):
        Predictor.load(bundle, device="gpu")


@pytest.mark.parametrize("content", [b"", b"text", b"\x08\x07\x12\x00garbage"])
def test_corrupt_network_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.onnx") as caught:
        Session(path, device="cpu")
    assert "\n" not in str(caught.value)


def test_serving_path_never_imports_torch(bundle: Path) -> None:
    program = (
        "import sys, numpy as np\n"
        "from medsharp.inference import Predictor, overlay, predict_manifest\n"
        "import medsharp.inference.external\n"
        "picture = np.full((80, 90), 90, np.uint8)\n"
        f"answer = Predictor.load({str(bundle)!r}, device='cpu').predict_pixels([picture])[0]\n"
        "overlay(picture, answer.heatmap())\n"
        "heavy = {'torch', 'monai', 'timm', 'onnx', 'onnxscript', 'matplotlib', 'gradio'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_onnx_runtime_reports_nothing_and_leaves_no_identifier_behind(bundle: Path, tmp_path: Path) -> None:
    program = f"from medsharp.inference import Predictor; Predictor.load({str(bundle)!r}, device='cpu')"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    ended = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert list(tmp_path.iterdir()) == []


def test_bundle_is_checked_on_loading_unless_told_otherwise(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    with (copy / "MODEL_CARD.md").open("a") as card:
        card.write("changed")
    with pytest.raises(InputError, match=r"MODEL_CARD\.md was changed"):
        Predictor.load(copy, device="cpu")
    assert Predictor.load(copy, device="cpu", verify=False).spec == Predictor.load(bundle, device="cpu").spec


def test_spec_gives_the_preprocessing_of_the_export(predictor: Predictor) -> None:
    assert predictor.spec.preprocess.spec() == PreprocessSpec(size=64, crop="scan", fit="letterbox")
