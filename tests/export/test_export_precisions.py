"""What a graph must reproduce before it is written, and graphs of lower precision beside it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from medsharp.bundle import BundleSpec, read_bundle
from medsharp.errors import InputError
from medsharp.export import gates
from medsharp.export.gates import Decisions, compare_with_float32, compare_with_float64
from medsharp.export.graph import write_onnx
from medsharp.export.members import Ensemble
from medsharp.export.precisions import attends, outer_nodes, write_half, write_int8
from medsharp.inference import Predictor
from medsharp.inference.session import Session
from medsharp.networks import Classifier, create_network

from .runs import SIZE, member_network, run_export

Export = Callable[..., BundleSpec]


def speckle(count: int, seed: int = 5) -> np.ndarray:
    """Speckle of many strengths, brighter to the right, uint8 [count, 64, 64]."""
    rng = np.random.default_rng(seed)
    strengths = rng.uniform(15, 110, size=(count, 1, 1)) * np.linspace(0.6, 1.3, SIZE)
    return np.clip(rng.rayleigh(strengths, size=(count, SIZE, SIZE)), 0, 255).astype(np.uint8)


def logits64(network: Ensemble, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return copy.deepcopy(network).double()(torch.from_numpy(images[:, None])).numpy()


class Answers:
    """Stands for a session: another one's answers, changed."""

    def __init__(self, session: Session, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
        self.session, self.change, self.outputs = session, change, session.outputs

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return self.change(self.session.run(images))


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ensemble, Path]:
    """A network whose log odds spread by 2, and its graph."""
    ensemble = Ensemble([member_network(0)]).eval()
    path = tmp_path_factory.mktemp("graph") / "m.onnx"
    write_onnx(ensemble, path, {})
    return ensemble, path


def decisions_on(network: Ensemble, images: np.ndarray, temperature: float = 1.0) -> Decisions:
    odds = np.diff(logits64(network, images) / temperature)[:, 0]
    labels = (odds + np.random.default_rng(0).normal(size=len(odds)) > np.quantile(odds, 0.6)).astype(int)
    scores = 1 / (1 + np.exp(-odds))
    return Decisions(labels, 1, temperature, float(np.quantile(scores[labels == 1], 0.05)))


def test_float32_is_held_to_float64_by_the_spread_of_the_logits(graph: tuple[Ensemble, Path]) -> None:
    ensemble, path = graph
    images = speckle(100)
    chosen = images[np.linspace(0, 99, 32).astype(int)]
    expected = logits64(ensemble, chosen)
    spread = expected.std(axis=0).max()
    decisions = decisions_on(ensemble, images)
    parity = compare_with_float64(ensemble, Session(path, device="cpu"), images, decisions, file="m")
    assert parity.failure is None
    assert parity.images == 32
    record = parity.as_dict()
    assert record["limit"]["logits"] == pytest.approx(1e-4 * spread, rel=1e-9)
    served = Session(path, device="cpu").run(chosen)["logits"]
    assert record["largest_difference"]["logits"] == pytest.approx(np.abs(served - expected).max(), abs=1e-9)

    def moved(by: float) -> Any:
        def change(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return found | {"logits": found["logits"] + np.float32([by, 0])}

        return compare_with_float64(ensemble, Answers(Session(path, device="cpu"), change), images, decisions, file="m")  # type: ignore[arg-type]

    assert moved(1.2e-4 * spread).failure.name == "logits"
    # Probabilities are held to 1e-5: a quarter of the shift where the probability is a half.
    assert moved(0.8e-4 * spread).failure.name == "probabilities"
    assert moved(1e-5).failure is None


def test_sound_network_of_large_logits_is_not_refused_for_float32s_own_rounding(tmp_path: Path) -> None:
    network = member_network(0, spread=800.0)
    ensemble = Ensemble([network]).eval()
    write_onnx(ensemble, tmp_path / "m.onnx", {})
    images = speckle(60)
    parity = compare_with_float64(
        ensemble, Session(tmp_path / "m.onnx", device="cpu"), images, decisions_on(ensemble, images, 800.0), file="m"
    )
    assert parity.as_dict()["largest_difference"]["logits"] > 1e-4
    assert parity.failure is None


@pytest.mark.parametrize("size", [1, 2, 5])
def test_graph_that_answers_otherwise_in_another_batch_is_refused(graph: tuple[Ensemble, Path], size: int) -> None:
    ensemble, path = graph

    def change(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return found | {"logits": found["logits"] + (0.1 if len(found["logits"]) == size else 0)}

    images = speckle(40)
    session: Any = Answers(Session(path, device="cpu"), change)
    parity = compare_with_float64(ensemble, session, images, decisions_on(ensemble, images), file="m")
    assert parity.failure is not None
    assert "in batches of" in parity.failure.name


def changed(session: Session, images: np.ndarray, decisions: Decisions, precision: str, odds: np.ndarray) -> Any:
    """Compare with a graph whose log odds are moved by so much, image by image [N]."""
    reference = session.run(images)
    moved = reference | {"logits": reference["logits"] + np.stack([np.zeros(len(odds)), odds], 1)}

    class Fixed(Answers):
        def run(self, given: np.ndarray) -> dict[str, np.ndarray]:
            place = [int(np.flatnonzero((images == one).all(axis=(1, 2)))[0]) for one in given]
            return {name: values[place] for name, values in moved.items()}

    fixed: Any = Fixed(session, lambda found: found)
    return compare_with_float32(fixed, reference, images, decisions, file="m", precision=precision)


def test_lower_precision_is_held_to_its_gates_on_all_validation_images(graph: tuple[Ensemble, Path]) -> None:
    ensemble, path = graph
    session, images = Session(path, device="cpu"), speckle(200)
    decisions = decisions_on(ensemble, images, temperature=2.0)
    scores = decisions.probabilities(session.run(images)["logits"])[:, 1]
    margin = np.abs(scores - decisions.threshold)
    odds = np.zeros(200)
    last = int(np.argmin(np.where(scores < decisions.threshold, margin, np.inf)))
    odds[last] = 2.5 * 2.0  # over the threshold, and far
    one = changed(session, images, decisions, "int8", odds)
    assert one.images == 200
    assert one.as_dict()["largest_difference"]["decisions"] == pytest.approx(1 / 200)
    assert one.failure is None
    nearest = np.argsort(np.where(scores < decisions.threshold, margin, np.inf))[:3]
    odds[:] = 0
    odds[nearest] = 2 * 2 * margin[nearest].max() / (scores * (1 - scores))[nearest].min()
    three = changed(session, images, decisions, "int8", odds)
    assert three.failure.name == "decisions"
    assert three.failure.value == pytest.approx(3 / 200)
    assert three.failure.limit == 0.01
    # The same changes are none of fp16's gate where probabilities hardly move, and refused where one does.
    assert changed(session, images, decisions, "fp16", np.full(200, 0.004)).failure is None
    odds[:] = 0
    odds[last] = 0.2
    assert changed(session, images, decisions, "fp16", odds).failure.name == "probabilities"


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 1e-3), ("int8", 1e-2)])
def test_auroc_is_a_gate(
    graph: tuple[Ensemble, Path], precision: str, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble, path = graph
    session, images = Session(path, device="cpu"), speckle(120)
    decisions = decisions_on(ensemble, images)
    monkeypatch.setitem(gates.PROBABILITY, precision, 1.0)
    monkeypatch.setitem(gates.DECISIONS, precision, 1.0)
    noise = np.random.default_rng(1).normal(scale=2, size=120)
    parity = changed(session, images, decisions, precision, noise)
    assert parity.failure.name == "auroc"
    assert parity.failure.limit == limit
    # Odds that keep their order keep the AUROC.
    assert "auroc" not in {
        one.name for one in changed(session, images, decisions, precision, np.full(120, 1.0)).gates if not one.passes
    }


@pytest.mark.parametrize(
    ("average", "flip", "normalization"),
    [("probabilities", False, "dataset"), ("probabilities", True, "image"), ("logits", True, "dataset")],
)
def test_half_graph_computes_in_float16_between_its_first_and_last_product(
    tmp_path: Path, average: Any, flip: bool, normalization: Any
) -> None:
    members = [member_network(seed) for seed in range(3)]
    for member in members:
        member.normalization = normalization
    write_onnx(Ensemble(members, average=average, flip=flip, sizes=(64, 48)).eval(), tmp_path / "m.onnx", {"a": "b"})
    write_half(tmp_path / "m.onnx", tmp_path / "h.onnx")
    model = onnx.load(tmp_path / "h.onnx")
    convolutions = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert {kinds[name] for name in convolutions} == {TensorProto.FLOAT16}
    assert {output.type.tensor_type.elem_type for output in model.graph.output} == {TensorProto.FLOAT}
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {entry.key: entry.value for entry in model.metadata_props} == {"a": "b", "precision": "fp16"}
    assert (tmp_path / "h.onnx").stat().st_size < 0.6 * (tmp_path / "m.onnx").stat().st_size
    images = speckle(6)
    whole, half = (Session(tmp_path / name, device="cpu") for name in ("m.onnx", "h.onnx"))
    for size in (1, 5):
        one, other = whole.run(images[:size]), half.run(images[:size])
        shares = [np.exp(found["logits"]) / np.exp(found["logits"]).sum(1, keepdims=True) for found in (one, other)]
        assert 0 < np.abs(shares[0] - shares[1]).max() < 5e-3
        assert {name: values.shape for name, values in one.items()} == {n: v.shape for n, v in other.items()}


def test_what_is_before_the_first_and_after_the_last_product_stays_in_float32(tmp_path: Path) -> None:
    write_onnx(Ensemble([member_network(0), member_network(1)]).eval(), tmp_path / "m.onnx", {})
    model = onnx.load(tmp_path / "m.onnx")
    outer = set(outer_nodes(model))
    kinds = [(node.op_type, node.name in outer) for node in model.graph.node]
    assert {name for name, out in kinds if out} >= {"Softmax", "Log", "Sub", "Div", "Cast"}
    assert not {name for name, out in kinds if out} & {"Conv", "Gemm", "Relu"}


def test_int8_is_calibrated_per_channel_and_spares_the_first_layers(
    graph: tuple[Ensemble, Path], tmp_path: Path
) -> None:
    _, path = graph
    images = speckle(40)
    write_int8(path, tmp_path / "q.onnx", speckle(32, seed=9))
    write_int8(path, tmp_path / "spared.onnx", speckle(32, seed=9), spared=0.5)
    whole = onnx.load(tmp_path / "q.onnx").graph
    weights = [tensor for tensor in whole.initializer if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 4]
    assert len(weights) == sum(node.op_type == "Conv" for node in whole.node)
    assert all(np.abs(onnx.numpy_helper.to_array(tensor)).max() <= 64 for tensor in weights)
    scales = {tensor.name: tensor for tensor in whole.initializer}
    per_channel = [
        scales[node.input[1]].dims
        for node in whole.node
        if node.op_type == "DequantizeLinear" and node.input[0] in {tensor.name for tensor in weights}
    ]
    assert per_channel
    assert all(len(dims) == 1 and dims[0] > 1 for dims in per_channel)
    spared = onnx.load(tmp_path / "spared.onnx").graph
    products = [n for n in onnx.load(path).graph.node if n.op_type in ("Conv", "Gemm", "MatMul", "Einsum")]
    first = {n.input[1] for n in products[: round(0.5 * len(products))]}
    last = {n.input[1] for n in products[round(0.5 * len(products)) :] if n.op_type == "Conv"}
    kept = {tensor.name for tensor in spared.initializer if tensor.data_type == TensorProto.FLOAT}
    assert first <= kept
    assert last
    assert not last & kept
    odds = [np.diff(Session(file, device="cpu").run(images)["logits"])[:, 0] for file in (path, tmp_path / "q.onnx")]
    assert np.corrcoef(*odds)[0, 1] > 0.7  # of an untrained network, whose weights of the head are large


def test_transformer_is_quantised_in_its_products_alone(
    graph: tuple[Ensemble, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = create_network("test_vit", num_classes=2, image_size=64).eval()
    write_onnx(Ensemble([network]).eval(), tmp_path / "m.onnx", {})
    assert attends(onnx.load(tmp_path / "m.onnx"))
    asked: list[Any] = []
    from onnxruntime import quantization

    quantize = quantization.quantize_static

    def spied(*args: Any, **options: Any) -> None:
        asked.append(options.get("op_types_to_quantize"))
        quantize(*args, **options)

    monkeypatch.setattr(quantization, "quantize_static", spied)
    write_int8(tmp_path / "m.onnx", tmp_path / "q.onnx", speckle(16))
    write_int8(graph[1], tmp_path / "c.onnx", speckle(16))
    assert asked == [["Conv", "Gemm", "MatMul"], None]
    images = speckle(20)
    whole, integer = (Session(tmp_path / name, device="cpu").run(images)["logits"] for name in ("m.onnx", "q.onnx"))
    assert 0 < np.abs(whole - integer).max() < 0.5 * whole.std(axis=0).max()
    assert np.corrcoef(whole[:, 0], integer[:, 0])[0, 1] > 0.95


def test_convolutional_network_does_not_attend(graph: tuple[Ensemble, Path]) -> None:
    assert not attends(onnx.load(graph[1]))


def test_command_writes_the_precisions_that_pass_and_says_why_another_is_not(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gates.DECISIONS, "int8", -1.0)
    result = run_export(run_folder, "--out", tmp_path / "b", "--precision", "fp32,fp16,int8")
    assert result.exit_code == 0, result.output
    spec = read_bundle(tmp_path / "b")
    assert {"model.onnx", "model.fp16.onnx"} <= spec.files.keys()
    assert "model.int8.onnx" not in spec.files
    assert not (tmp_path / "b" / "model.int8.onnx").exists()
    said = " ".join(result.stderr.split() + result.stdout.split())
    assert "int8 was not written: it differs from ONNX Runtime in float32 by" in said
    record = json.loads((tmp_path / "b" / "parity.json").read_text())["graphs"]
    assert {name: graph["written"] for name, graph in record.items()} == {"fp32": True, "fp16": True, "int8": False}
    assert record["int8"]["limit"]["decisions"] == -1.0
    assert record["int8"]["left_in_float32"] == 0.5
    assert record["fp16"]["images"] == spec.operating_point.images


def test_int8_is_calibrated_on_training_images(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[np.ndarray] = []

    def kept(model: Path, path: Path, images: np.ndarray, *, spared: float = 0.0) -> None:
        given.append(images)
        write_int8(model, path, images, spared=spared)

    monkeypatch.setattr("medsharp.export.parity.write_int8", kept)
    monkeypatch.setattr(gates, "DECISIONS", {"int8": 0.2})
    monkeypatch.setattr(gates, "AUROC", {"int8": 0.2})
    result = run_export(run_folder, "--out", tmp_path / "b", "--precision", "int8")
    assert result.exit_code == 0, result.output
    spec = read_bundle(tmp_path / "b")
    assert {"model.onnx", "model.int8.onnx"} <= spec.files.keys()
    from medsharp.runs import Run

    run = Run.load(run_folder)
    learned = run.manifest.of_split("train")
    assert len(given[0]) == min(64, len(learned))
    predictor = Predictor.load(tmp_path / "b", device="cpu")
    files = [run.manifest.path(name) for name in learned["image"]]
    from medsharp.images import read_image

    inputs = {predictor.prepare(read_image(file)).pixels.tobytes() for file in files}
    assert {image.tobytes() for image in given[0]} <= inputs


@pytest.mark.parametrize(
    ("text", "words"),
    [("fp8", "--precision 'fp8' is not one of fp32, fp16, int8"), (",", "--precision ','"), ("fp32;int8", "fp32;int8")],
)
def test_unknown_precision_is_refused_before_anything_is_read(tmp_path: Path, text: str, words: str) -> None:
    result = run_export(tmp_path / "nothing", "--out", tmp_path / "b", "--precision", text)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_int8_without_training_images_is_refused(export_network_with: Export, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="int8 is calibrated on training images, and there are none"):
        export_network_with(member_network(0), tmp_path / "b", precisions=("fp32", "int8"))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def export_network_with(request: pytest.FixtureRequest) -> Export:
    found: Export = request.getfixturevalue("export")
    return found


def test_network_whose_logits_are_no_numbers_is_refused_at_once(export_network_with: Export, tmp_path: Path) -> None:
    network: Classifier = member_network(0)
    with torch.no_grad():
        network.backbone.get_parameter("fc.bias")[1] = float("inf")
    with pytest.raises(InputError, match=r"logits of 40 of 40 validation images are no finite numbers .*inf"):
        export_network_with(network, tmp_path / "b")
