"""The graph of several networks, and of an image and its mirror image: what each output is, in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from medsharp.bundle import Average, TrainingRecord
from medsharp.errors import InputError
from medsharp.export.export import export_network
from medsharp.export.gates import Decisions, compare_with_float32, compare_with_float64
from medsharp.export.graph import write_onnx
from medsharp.export.members import Ensemble, shrinking
from medsharp.inference.session import Session
from medsharp.networks import Classifier, create_network
from medsharp.preprocess import PreprocessSpec

from .runs import SIZE, member_network


@pytest.fixture(scope="module")
def members() -> list[Classifier]:
    return [member_network(seed) for seed in (0, 2)]


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Speckle, brighter to one side, dark at another place in each, uint8 [12, 64, 64]: no mirror image is like it."""
    rng = np.random.default_rng(1)
    pixels = rng.rayleigh(60.0, size=(12, SIZE, SIZE)) * np.linspace(0.3, 1.4, SIZE)
    for number in range(12):
        pixels[number, 3 * number : 3 * number + 20, 5:25] *= 0.15
    return np.clip(pixels, 0, 255).astype(np.uint8)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=-1, keepdims=True)


def outputs_of(network: Classifier, pixels: np.ndarray) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        found = network.forward_all(torch.from_numpy(np.ascontiguousarray(pixels)[:, None]))
    return {name: value.numpy() for name, value in found.items()}


def exported(ensemble: Ensemble, path: Path, **options: str) -> Session:
    write_onnx(ensemble.eval(), path, {}, **options)  # type: ignore[arg-type]
    return Session(path, device="cpu")


@pytest.mark.parametrize(
    ("average", "flip"), [("probabilities", False), ("probabilities", True), ("logits", False), ("logits", True)]
)
def test_outputs_are_the_means_that_they_are_said_to_be(
    members: list[Classifier], pictures: np.ndarray, tmp_path: Path, average: Average, flip: bool
) -> None:
    session = exported(Ensemble(members, average=average, flip=flip), tmp_path / "m.onnx")
    found = session.run(pictures)
    straight = [outputs_of(member, pictures) for member in members]
    mirrored = [outputs_of(member, pictures[:, :, ::-1]) for member in members] if flip else []
    answers = [*straight, *mirrored]
    assert session.outputs == ("logits", "features", "cam")
    logits = np.stack([answer["logits"] for answer in answers])
    # The two means are told apart by these members.
    of_shares, of_logits = softmax(logits).mean(axis=0), softmax(logits.mean(axis=0))
    assert np.abs(of_shares - of_logits).max() > 0.02
    np.testing.assert_allclose(
        softmax(found["logits"]), of_shares if average == "probabilities" else of_logits, atol=1e-5
    )
    if average == "logits":
        np.testing.assert_allclose(found["logits"], logits.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(found["features"], np.mean([one["features"] for one in answers], axis=0), atol=1e-5)
    maps = [one["cam"] for one in straight] + [one["cam"][..., ::-1] for one in mirrored]
    np.testing.assert_allclose(found["cam"], np.mean(maps, axis=0), atol=1e-4)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_smaller_copies_are_answered_too(
    members: list[Classifier], pictures: np.ndarray, tmp_path: Path, average: Average
) -> None:
    session = exported(Ensemble(members, average=average, flip=True, sizes=[32, SIZE, 48]), tmp_path / "m.onnx")
    found = session.run(pictures)
    sizes = {size: resized(pictures, size) for size in (SIZE, 48, 32)}  # maps are of 2, 2 and 1 places
    straight = [outputs_of(member, copy) for member in members for copy in sizes.values()]
    mirrored = [outputs_of(member, copy[:, :, ::-1]) for member in members for copy in sizes.values()]
    logits = np.stack([one["logits"] for one in (*straight, *mirrored)])
    if average == "logits":
        np.testing.assert_allclose(found["logits"], logits.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(
        softmax(found["logits"]),
        softmax(logits).mean(axis=0) if average == "probabilities" else softmax(logits.mean(axis=0)),
        atol=1e-5,
    )
    for left_out in range(len(logits)):  # each view counts
        without = np.delete(logits, left_out, axis=0).mean(axis=0)
        assert np.abs(without - logits.mean(axis=0)).max() > 0.06
    features = [one["features"] for one in (*straight, *mirrored)]
    np.testing.assert_allclose(found["features"], np.mean(features, axis=0), atol=1e-4)
    side = found["cam"].shape[-1]
    maps = [spread(one["cam"], side) for one in straight] + [spread(one["cam"][..., ::-1], side) for one in mirrored]
    np.testing.assert_allclose(found["cam"], np.mean(maps, axis=0), atol=3e-3)


def resized(pixels: np.ndarray, size: int) -> np.ndarray:
    """Images shrunk by Pillow, in float32."""
    shape = (size, size)
    return np.stack(
        [np.asarray(Image.fromarray(one.astype(np.float32)).resize(shape, Image.Resampling.BILINEAR)) for one in pixels]
    )


def spread(maps: np.ndarray, side: int) -> np.ndarray:
    """A map on a grid of `side`: each place the mean of 60 x 60 points in it."""
    points = (np.arange(side * 60) + 0.5) / (side * 60)
    own = (points * maps.shape[-1]).astype(int)
    fine = maps[..., own[:, None], own[None]]
    return fine.reshape(*maps.shape[:-2], side, 60, side, 60).mean(axis=(-3, -1))


@pytest.mark.parametrize(("sizes", "grids"), [((160, 96), (5, 3)), ((192, 160), (6, 5)), ((96, 33), (3, 2))])
def test_map_over_sizes_explains_the_mean_of_logits_exactly(
    members: list[Classifier], tmp_path: Path, sizes: tuple[int, ...], grids: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (4, sizes[0], sizes[0]), dtype=np.uint8)
    shapes = [outputs_of(members[0], pixels[:, :size, :size])["cam"].shape[-1] for size in sizes]
    assert tuple(shapes) == grids
    ensemble = Ensemble(members, average="logits", flip=True, sizes=sizes).eval()
    session = exported(ensemble, tmp_path / "m.onnx", weights="fp16")
    found = session.run(pixels)
    assert found["cam"].shape[-2:] == (grids[0], grids[0])
    explained = found["cam"].mean(axis=(2, 3)) + ensemble.mean_bias().detach().numpy()
    np.testing.assert_allclose(explained, found["logits"], atol=1e-4)
    whole = exported(ensemble, tmp_path / "whole.onnx")
    np.testing.assert_allclose(softmax(found["logits"]), softmax(whole.run(pixels)["logits"]), atol=5e-3)


def test_image_is_shrunk_as_training_shrinks_it() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (1, 192, 192), dtype=np.uint8)
    matrix = shrinking(192, 160).double().numpy()
    assert matrix.shape == (160, 192)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(matrix @ pixels[0] @ matrix.T, resized(pixels, 160)[0], atol=1e-2)


@pytest.mark.parametrize("smaller", [[64], [96], [48, 0], [-3]])
def test_size_that_is_not_smaller_is_a_programming_error(smaller: list[int], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="are not all between 0 and 64"):
        export_network(
            member_network(0),
            tmp_path / "b",
            classes=("benign", "malignant"),
            positive="malignant",
            preprocess_spec=PreprocessSpec(SIZE),
            validation_images=np.zeros((2, SIZE, SIZE), np.uint8),
            validation_labels=np.array([0, 1]),
            training=TrainingRecord(dataset="", images={}, network="", optimizer={}),
            smaller=smaller,
        )


def test_size_that_a_network_does_not_take_is_refused() -> None:
    network = create_network("test_vit", num_classes=2, image_size=64).eval()
    with pytest.raises(InputError, match=r"a network does not take images of 50 x 50 pixels: .*50"):
        Ensemble([network], sizes=[64, 50])


def test_flipped_answer_is_the_same_for_an_image_and_its_mirror_image(
    members: list[Classifier], pictures: np.ndarray, tmp_path: Path
) -> None:
    session = exported(Ensemble(members[:1], flip=True), tmp_path / "m.onnx")
    one, other = session.run(pictures), session.run(pictures[:, :, ::-1])
    np.testing.assert_allclose(one["logits"], other["logits"], atol=1e-5)
    np.testing.assert_allclose(one["cam"], other["cam"][..., ::-1], atol=1e-4)
    plain = outputs_of(members[0], pictures)["logits"]
    assert np.abs(softmax(plain) - softmax(one["logits"])).max() > 0.01


def test_one_network_that_sees_one_view_keeps_its_logits(
    members: list[Classifier], pictures: np.ndarray, tmp_path: Path
) -> None:
    session = exported(Ensemble(members[1:2]), tmp_path / "m.onnx")
    np.testing.assert_allclose(session.run(pictures)["logits"], outputs_of(members[1], pictures)["logits"], atol=1e-5)


def test_graph_of_a_member_by_itself_gives_its_answer_over_its_views(
    members: list[Classifier], pictures: np.ndarray, tmp_path: Path
) -> None:
    paths = write_onnx(Ensemble(members, flip=True).eval(), tmp_path / "all.onnx", {}, members_to=tmp_path)
    assert Session(tmp_path / "all.onnx", device="cpu").outputs == ("logits", "features", "cam")
    for path, member in zip(paths, members, strict=True):
        session = Session(path, device="cpu")
        views = [outputs_of(member, view)["logits"] for view in (pictures, pictures[:, :, ::-1])]
        shares = softmax(session.run(pictures)[session.outputs[0]])
        np.testing.assert_allclose(shares, softmax(np.stack(views)).mean(axis=0), atol=1e-5)
        assert path.stat().st_size < 0.6 * (tmp_path / "all.onnx").stat().st_size


def test_half_weights_halve_the_file_and_hardly_move_probabilities(
    members: list[Classifier], pictures: np.ndarray, tmp_path: Path
) -> None:
    ensemble = Ensemble(members)
    whole = exported(ensemble, tmp_path / "whole.onnx")
    half = exported(ensemble, tmp_path / "half.onnx", weights="fp16")
    assert (tmp_path / "half.onnx").stat().st_size < 0.55 * (tmp_path / "whole.onnx").stat().st_size
    moved = np.abs(softmax(whole.run(pictures)["logits"]) - softmax(half.run(pictures)["logits"])).max()
    assert 0 < moved < 5e-3
    labels = np.arange(len(pictures)) % 2
    decisions = Decisions(labels, positive=1, temperature=1.0, threshold=0.5)
    record = compare_with_float32(half, whole.run(pictures), pictures, decisions, file="m", precision="fp16")
    assert record.failure is None
    assert record.as_dict()["limit"]["probabilities"] == 5e-3
    assert record.as_dict()["largest_difference"]["probabilities"] == pytest.approx(moved, abs=1e-5)
    # It computes in float32: only weights are float16, and each goes through a Cast.
    graph = onnx.load(tmp_path / "half.onnx").graph
    stored = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT16}
    readers = [node.op_type for node in graph.node if stored & set(node.input)]
    assert readers == ["Cast"] * len(stored)
    assert record.as_dict()["largest_difference"]["logits"] > 1e-4
    # Rounded weights are not the network's: held to float64 as if they were, they fail.
    exact = compare_with_float64(ensemble, half, pictures, decisions, file="m")
    assert exact.failure is not None
    assert exact.failure.name == "logits"


def test_weight_that_half_precision_cannot_hold_stays_whole(members: list[Classifier], tmp_path: Path) -> None:
    network = member_network(0)
    with torch.no_grad():
        network.backbone.get_parameter("layer1.0.conv1.weight")[0, 0, 0, 0] = 1e5
    session = exported(Ensemble([network]), tmp_path / "m.onnx", weights="fp16")
    kinds = [
        tensor.data_type for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer if np.prod(tensor.dims) > 2000
    ]
    assert kinds.count(onnx.TensorProto.FLOAT) == 1
    assert np.isfinite(session.run(np.zeros((1, SIZE, SIZE), np.uint8))["logits"]).all()


def test_half_weights_that_move_a_probability_too_far_are_refused(pictures: np.ndarray, tmp_path: Path) -> None:
    network = member_network(0, spread=2e3)
    odds = float(np.diff(outputs_of(network, pictures[:1])["logits"])[0, 0])
    with torch.no_grad():
        network.backbone.get_parameter("fc.bias")[1] -= odds  # the first picture is at the edge
    with pytest.raises(InputError, match=r"differ by .* in probabilities, more than 0\.005"):
        export_network(
            network,
            tmp_path / "b",
            classes=("benign", "malignant"),
            positive="malignant",
            preprocess_spec=PreprocessSpec(SIZE),
            validation_images=pictures,
            validation_labels=np.arange(len(pictures)) % 2,
            training=TrainingRecord(dataset="", images={}, network="", optimizer={}),
            weights="fp16",
        )
    assert list(tmp_path.iterdir()) == []


def test_members_of_several_designs_have_no_common_map_and_features_side_by_side(
    members: list[Classifier], pictures: np.ndarray
) -> None:
    torch.manual_seed(4)
    wider = create_network("resnet10_w32", num_classes=2, image_size=SIZE).eval()
    ensemble = Ensemble([members[0], wider], flip=True).eval()
    with torch.inference_mode():
        found = ensemble.forward_all(torch.from_numpy(pictures[:, None]))
    parts = [
        (outputs_of(one, pictures)["features"] + outputs_of(one, pictures[:, :, ::-1])["features"]) / 2
        for one in (members[0], wider)
    ]
    np.testing.assert_allclose(found["features"].numpy(), np.concatenate(parts, axis=1), atol=1e-5)
    assert parts[0].shape != parts[1].shape
    # Both maps are exact and of one size here, so that their mean is still there.
    assert found["cam"].shape == (12, 2, 2, 2)
    members[0].exact_cam = False
    try:
        assert not Ensemble([members[0], wider]).has_cam
    finally:
        members[0].exact_cam = True
