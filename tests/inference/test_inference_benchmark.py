"""The benchmark of heat maps: a map of what decides is told from one that is not, on a network that is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.data.manifest import Manifest, read_manifest
from medsharp.inference import Predictor
from medsharp.inference.benchmark import FRACTIONS, measure_explanations
from medsharp.preprocess import PreprocessSpec


@pytest.fixture
def lesions(tmp_path: Path, images: np.ndarray) -> Path:
    """Wide images with a blob of unequal size, of two patients each, and masks of the blob; three have none."""
    folder = tmp_path / "hospital"
    folder.mkdir()
    rows = ["image,label,patient,mask"]
    for number in range(15):
        pixels, mask = images[number].copy()[:40], np.zeros((40, 64), dtype=np.uint8)
        blob = (slice(10, 20 + number % 5), slice(20, 44))
        pixels[blob], mask[blob] = 250, 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
        Image.fromarray(mask).save(folder / f"mask{number}.png")
        named = f"mask{number}.png" if number < 12 else ""
        rows.append(f"{number}.png,{'malignant' if number % 3 == 0 else 'benign'},P{number // 2},{named}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


class _Bright:
    """A session whose positive logit is the mean brightness, with its exact map of 8 x 8 places, or an empty one."""

    outputs = ("logits", "features", "cam")
    device, precision, why = "cpu", "fp32", ""

    def __init__(self, sign: float = 1.0) -> None:
        self.sign = sign

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        places = images.reshape(len(images), 8, 8, 8, 8).mean(axis=(2, 4)) / 20
        cam = np.stack([np.zeros_like(places), places], axis=1).astype(np.float32)
        logits = cam.mean(axis=(2, 3))
        return {"logits": logits, "features": logits, "cam": self.sign * cam}


def measured(predictor: Predictor, manifest: Manifest, session: _Bright, images: int = 60):  # type: ignore[no-untyped-def]
    return measure_explanations(
        Predictor(predictor.folder, predictor.spec, session),  # type: ignore[arg-type]
        manifest,
        images=images,
    )


def test_a_true_map_lies_in_the_lesion_and_covering_what_it_shows_lowers_the_answer(
    predictor: Predictor, lesions: Path
) -> None:
    found = measured(predictor, read_manifest(lesions), _Bright())
    assert found.images == 12  # those with a mask
    assert found.area[0] == pytest.approx(np.mean([(10 + n % 5) * 24 / (40 * 64) for n in range(12)]), rel=0.1)
    for of_class in (0, 1):
        assert found.share_for[of_class][0] > 2 * found.area[0]
        assert found.share_against[of_class][0] < found.area[0]
    assert found.share_for[0] != found.share_for[1]
    assert found.pointing[0] == 1
    assert found.contradictions == 0
    most, random, against = (np.array(found.curves[order])[:, 0] for order in found.curves)
    assert (most < random).all()
    assert (random[:5] < against[:5]).all()
    assert (np.diff(most) < 0)[:3].all()
    assert len(most) == len(FRACTIONS)
    for figures in (*found.share_for, *found.curves["at random"]):
        assert figures[1] <= figures[0] <= figures[2]
        assert figures[1] < figures[2]


def test_a_map_that_is_the_wrong_way_round_is_found_out(predictor: Predictor, lesions: Path) -> None:
    found = measured(predictor, read_manifest(lesions), _Bright(-1.0))
    for of_class in (0, 1):
        assert found.share_for[of_class][0] < found.area[0] < found.share_against[of_class][0]
    assert found.curves["most for first"][2][0] > found.curves["most against first"][2][0]


def test_maps_of_a_bundle_that_crops_to_the_lesion_are_measured_where_it_looks(
    predictor: Predictor, lesions: Path
) -> None:
    model = Predictor(predictor.folder, predictor.spec, _Bright())  # type: ignore[arg-type]
    model.preprocessing = PreprocessSpec(64, "lesion", margin=0.5)
    found = measure_explanations(model, read_manifest(lesions))
    # Wide blobs with half of their width around them, but no further than the image of 40 rows and 64 columns.
    shares = [(10 + n % 5) * 24 / (48 * min(40, 10 + n % 5 + 10 + 12)) for n in range(12)]
    assert found.area[0] == pytest.approx(np.mean(shares), rel=0.1)
    assert found.share_for[0][0] > 1.5 * found.area[0]


def test_each_class_has_as_many_images_and_few_are_enough(predictor: Predictor, lesions: Path) -> None:
    assert measured(predictor, read_manifest(lesions), _Bright(), images=4).images == 4
    labels = read_manifest(lesions).included["label"]
    assert (labels[:12] == "malignant").sum() == 4  # two of the four would be one in a plain draw


def test_the_command_writes_what_it_prints_and_needs_masks(bundle: Path, lesions: Path, tmp_path: Path) -> None:
    command = ["bench", "saliency", str(bundle), "--data", str(lesions), "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--images", "6", "--json", str(tmp_path / "out.json")])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["images"] == 6
    assert f"{written['area'][0]:.3f}" in result.output
    assert f"{written['curves']['at random'][1][0]:.2f}" in result.output
    (lesions / "manifest.csv").write_text("image,label\n0.png,benign\n1.png,malignant\n")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert "names no lesion masks" in result.output


def test_the_benchmark_of_speed_pairs_each_figure_with_its_yardstick(
    bundle: Path, images: np.ndarray, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(images[number]).save(folder / f"{number}.png")
    command = ["bench", "inference", str(bundle), "--images", str(folder), "--files", "7", "--repeats", "1"]
    result = CliRunner().invoke(
        app, [*command, "--batch", "2", "--predictions", "40", "--json", str(tmp_path / "out.json")]
    )
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "out.json").read_text())
    names = [pair["what"] for pair in written["pairs"]]
    assert names == [
        "bytes to answer, one image",
        "7 files",
        "network, batch 1",
        "network, batch 2",
        "medsharp predict IMAGE",
    ]
    for pair in written["pairs"]:
        over = pair["seconds"] / pair["beside"]
        assert pair["ratio"] == pytest.approx(over if pair["at_most"] else 1 / over)
        assert pair["is_met"] == (
            pair["ratio"] <= pair["target"] if pair["at_most"] else pair["ratio"] >= pair["target"]
        )
    assert written["memory"]["predictions"] == 40
    assert written["memory"]["after"] > 2**20
    (tmp_path / "none").mkdir()
    result = CliRunner().invoke(app, ["bench", "inference", str(bundle), "--images", str(tmp_path / "none")])
    assert result.exit_code == 2


def test_the_yardstick_of_pytorch_is_the_network_of_the_bundle() -> None:
    from medsharp.bundle import default_bundle, read_bundle
    from medsharp.export.eager import Eager

    spec = read_bundle(default_bundle(), verify=False)
    images = np.random.default_rng(0).integers(0, 256, (2, spec.preprocess.size, spec.preprocess.size), dtype=np.uint8)
    found = Eager(spec)(images)
    assert found["logits"].shape == (2, 2)
    assert found["features"].shape == (2, 1280)


def test_the_yardstick_of_pytorch_has_every_design_of_the_bundle() -> None:
    from medsharp.bundle import default_bundle, read_bundle
    from medsharp.export.eager import Eager

    spec = read_bundle(default_bundle(), verify=False)
    first, *others = spec.training.members
    narrow = {"network.name": "resnet10_w16", "network.pooling": "average"}
    last = others[-1].model_copy(update={"differences": narrow})
    training = spec.training.model_copy(
        update={"network": "efficientnet_lite0 and resnet10_w16", "members": (first, *others[:-1], last)}
    )
    eager = Eager(spec.model_copy(update={"training": training}))
    designs = [(type(member.backbone).__name__, member.lesion is not None) for member in eager.network.members]
    assert designs == [*[("EfficientNet", True)] * len(others), ("ResNet", False)]
    images = np.zeros((1, spec.preprocess.size, spec.preprocess.size), dtype=np.uint8)
    assert eager(images)["logits"].shape == (1, 2)


def test_pairs_are_measured_in_turn_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    from medsharp.inference.benchmark import speed

    clock, calls = 0.0, []
    lasting = {"a": iter([9.0, 1.0, 5.0, 2.0]), "b": iter([9.0, 4.0, 4.0, 40.0])}

    def work(name: str) -> None:
        nonlocal clock
        calls.append(name)
        clock += next(lasting[name])

    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock)
    assert speed.in_turn(lambda: work("a"), lambda: work("b"), 3) == (2.0, 4.0)
    assert calls == ["a", "b", "b", "a", "a", "b", "b", "a"]
