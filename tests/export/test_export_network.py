from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch

from medsharp.bundle import BundleSpec, TrainingRecord, read_bundle
from medsharp.data.manifest import make_table
from medsharp.errors import InputError
from medsharp.evaluation import read_predictions
from medsharp.inference import Predictor
from medsharp.networks import Classifier, create_network
from medsharp.weights_origin import WeightsOrigin

Export = Callable[..., BundleSpec]


Exported = tuple[Path, BundleSpec]


def folder_is_clean(parent: Path) -> bool:
    return not list(parent.iterdir())


def test_bundle_holds_what_it_must_and_verifies(exported: Exported) -> None:
    folder, spec = exported
    assert sorted(spec.files) == [
        "MODEL_CARD.md",
        "internal.csv",
        "metadata.json",
        "model.onnx",
        "parity.json",
        "training_images.dhash",
        "training_images.sha256",
        "validation.csv",
    ]
    assert read_bundle(folder) == spec
    assert spec.name == "speckle"
    assert spec.outputs == ("logits", "features", "cam")
    assert (spec.operating_point.images, spec.operating_point.positives) == (40, 20)
    assert spec.operating_point.sensitivity >= 0.95


def test_graph_is_one_file_that_takes_uint8_of_any_batch_in_a_current_opset(exported: Exported) -> None:
    folder, _ = exported
    assert [path.name for path in folder.glob("model*")] == ["model.onnx"]
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    (image,) = model.graph.input
    assert image.name == "image"
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    dims = image.type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"
    assert [dim.dim_value for dim in dims[1:]] == [1, 64, 64]
    assert {entry.domain: entry.version for entry in model.opset_import}[""] >= 18
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert (said["classes"], said["positive"], said["precision"]) == ("benign,malignant", "malignant", "fp32")
    assert (said["network"], said["optimizer"], said["data"]) == ("resnet10_w16", "wsam", "Speckle")
    assert json.loads(said["preprocess"])["size"] == 64
    assert "Not for diagnostic use" in said["intended_use"]
    assert not {"temperature", "threshold"} & said.keys()  # an update changes them, and not the file


def test_runtime_gives_the_properties_back(exported: Exported) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported[0] / "model.onnx"), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["positive"] == "malignant"


def test_card_tells_what_each_graph_was_held_to(exported: Exported) -> None:
    card = (exported[0] / "MODEL_CARD.md").read_text()
    (row,) = [line for line in card.split("## Graphs")[1].splitlines() if line.startswith("| fp32 |")]
    record = json.loads((exported[0] / "parity.json").read_text())["graphs"]["fp32"]
    assert "| `model.onnx` | PyTorch in float64 | 32 |" in row
    for name, limit in record["limit"].items():
        assert f"{name} {record['largest_difference'][name]:.1g} ({limit:.1g})" in row


def test_tables_keep_apart_what_the_network_is_sure_of(
    export: Export, tmp_path: Path, network: Classifier, images: np.ndarray
) -> None:
    """Of separated classes most probabilities are 0 or 1 to six digits, and tied to them the AUROC would be lower."""
    head = network.backbone.get_classifier()  # type: ignore[operator]
    with torch.no_grad():
        logits = network(torch.from_numpy(images[:, None]))
        odds = logits[:, 1] - logits[:, 0]
        middle, factor = float(odds.quantile(0.5)), 60 / float(odds.std())  # between the twentieth and the next
        head.weight *= factor
        head.bias.copy_(factor * head.bias + torch.tensor([factor * middle, 0.0]))
    labels = (odds > middle).long().numpy()
    rows = make_table([{"image": f"{number}.png", "label": "benign"} for number in range(40)])
    # Internal labels are others, so that the rank of each image counts.
    rows["label"] = np.where(np.arange(40) % 3 == 0, "malignant", "benign")
    out = tmp_path / "b"
    export(network, out, validation_labels=labels, internal=rows, internal_images=images)
    for name in ("internal.csv", "validation.csv"):
        table = read_predictions(out / name)
        assert ((table["p_malignant"] < 1e-7) | (table["p_benign"] < 1e-7)).mean() > 0.5
        found = np.log(table["p_malignant"]) - np.log(table["p_benign"])
        assert found.to_numpy() == pytest.approx(factor * (odds - middle).numpy(), abs=1e-2)


def test_card_says_whom_to_cite(export: Export, tmp_path: Path, network: Classifier) -> None:
    record = TrainingRecord(
        dataset="Speckle", citation="Doe et al., 2026", images={}, network="resnet10_w16", optimizer={"name": "sam"}
    )
    export(network, tmp_path / "b", training=record)
    card = " ".join((tmp_path / "b" / "MODEL_CARD.md").read_text().split())
    assert (
        "## Citation Whoever publishes figures of this model cites the data it was trained on: Doe et al., 2026."
        in card
    )


def test_graph_names_no_file_of_the_machine_that_wrote_it(exported: Exported) -> None:
    folder, _ = exported
    written = (folder / "model.onnx").read_bytes()
    assert b".py" not in written
    assert str(Path.home()).encode() not in written


def assert_equal_on_fresh_images(network: Classifier, folder: Path, outputs: tuple[str, ...]) -> None:
    session = Predictor.load(folder, device="cpu").session
    assert session.outputs == outputs
    for count in (1, 2, 5):
        fresh = np.random.default_rng(count).integers(0, 256, (count, 64, 64), dtype=np.uint8)
        with torch.inference_mode():
            expected = network.forward_all(torch.from_numpy(fresh[:, None]))
        found = session.run(fresh)
        for key in outputs:
            np.testing.assert_allclose(found[key], expected[key].numpy(), atol=1e-4)


def test_onnx_equals_torch_on_images_it_was_not_checked_with(exported: Exported, network: Classifier) -> None:
    assert_equal_on_fresh_images(network, exported[0], ("logits", "features", "cam"))


def test_network_of_tokens_is_exported_without_a_map(export: Export, tmp_path: Path) -> None:
    torch.manual_seed(1)
    options = {"img_size": 64, "depth": 1, "in_chans": 1, "num_classes": 2}
    network = Classifier(timm.create_model("vit_tiny_patch16_224", **options), 64).eval()
    export(network, tmp_path / "b")
    assert_equal_on_fresh_images(network, tmp_path / "b", ("logits", "features"))


def test_normalization_of_each_image_by_itself_is_part_of_the_graph(export: Export, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = create_network("resnet10_w16", num_classes=2, image_size=64, normalization="image").eval()
    export(network, tmp_path / "b")
    assert_equal_on_fresh_images(network, tmp_path / "b", ("logits", "features", "cam"))


def test_parity_record_says_what_was_compared(exported: Exported) -> None:
    record = json.loads((exported[0] / "parity.json").read_text())
    assert record["batches"] == [1, 2, 5]
    assert list(record["graphs"]) == ["fp32"]
    graph = record["graphs"]["fp32"]
    assert (graph["file"], graph["reference"], graph["images"]) == ("model.onnx", "PyTorch in float64", 32)
    assert graph["written"] is True
    named = {"logits", "logits from cam", "probabilities", *(f"logits in batches of {size}" for size in (1, 2, 5))}
    assert graph["limit"].keys() == named
    assert graph["largest_difference"].keys() == named | {
        "features",
        "cam",
        "probabilities of PyTorch in float32",
    }
    assert all(graph["largest_difference"][name] <= graph["limit"][name] for name in named)
    assert graph["limit"]["probabilities"] == 1e-5


def test_cam_averages_to_the_logits(exported: Exported, network: Classifier, images: np.ndarray) -> None:
    outputs = Predictor.load(exported[0], device="cpu").session.run(images)
    bias = network.backbone.get_classifier().bias.detach().numpy()  # type: ignore[operator]
    np.testing.assert_allclose(outputs["cam"].mean(axis=(2, 3)) + bias, outputs["logits"], atol=1e-4)


@pytest.mark.parametrize("weight", ["fc.weight", "fc.bias"])
def test_network_that_onnx_does_not_reproduce_is_not_written(
    export: Export, network: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight: str
) -> None:
    from medsharp.export import graph

    def write_then_change(ensemble: Any, *args: Any, **options: Any) -> list[Path]:
        paths = graph.write_onnx(ensemble, *args, **options)
        with torch.no_grad():
            network.backbone.get_parameter(weight).add_(1e-3)
        return paths

    monkeypatch.setattr("medsharp.export.export.write_onnx", write_then_change)
    with pytest.raises(InputError, match="ONNX Runtime and PyTorch differ"):
        export(network, tmp_path / "b")
    assert folder_is_clean(tmp_path)


def test_network_whose_map_does_not_explain_it_is_not_written(
    export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Classifier
) -> None:
    right = Classifier._cam
    monkeypatch.setattr(Classifier, "_cam", lambda self, maps: right(self, maps) * 1.01)
    with pytest.raises(InputError, match="logits from cam"):
        export(network, tmp_path / "b")
    assert folder_is_clean(tmp_path)


def test_network_that_gives_nan_is_not_written(export: Export, network: Classifier, tmp_path: Path) -> None:
    with torch.no_grad():
        network.backbone.get_parameter("fc.bias").fill_(float("nan"))
    with pytest.raises(InputError, match="nan"):
        export(network, tmp_path / "b")
    assert folder_is_clean(tmp_path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"validation_images": np.zeros((0, 64, 64), np.uint8), "validation_labels": np.zeros(0, int)},
            "there are no internal",
        ),
        ({"validation_labels": np.zeros(40, int)}, "one class only"),
        ({"sensitivity": 0.0}, "sensitivity"),
    ],
    ids=["no images", "one class", "no sensitivity"],
)
def test_validation_data_that_decides_nothing_is_refused_and_nothing_is_written(
    export: Export, network: Classifier, tmp_path: Path, values: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        export(network, tmp_path / "b", **values)
    assert folder_is_clean(tmp_path)


def test_existing_bundle_is_kept_unless_told_to_replace_it(export: Export, network: Classifier, tmp_path: Path) -> None:
    first = export(network, tmp_path / "b")
    with pytest.raises(InputError, match="exists already"):
        export(network, tmp_path / "b")
    with pytest.raises(InputError, match="one class only"):
        export(network, tmp_path / "b", overwrite=True, validation_labels=np.zeros(40, int))
    assert read_bundle(tmp_path / "b") == first
    replaced = export(network, tmp_path / "b", overwrite=True, sensitivity=0.5)
    assert read_bundle(tmp_path / "b") == replaced != first


def test_exporter_is_silent_and_a_bundle_without_test_images_says_so(
    export: Export, network: Classifier, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = export(network, tmp_path / "b")
    assert capfd.readouterr() == ("", "")
    assert "internal.csv" not in spec.files
    assert json.loads((tmp_path / "b" / "metadata.json").read_text())["eval_metrics"] == {}
    assert "without an internal test split" in (tmp_path / "b" / "MODEL_CARD.md").read_text()


def test_patients_that_are_not_known_are_not_invented(
    export: Export, network: Classifier, images: np.ndarray, tmp_path: Path
) -> None:
    rows = make_table(
        [{"image": f"{n}.png", "label": ("benign", "malignant")[n % 2], "group": f"scan {n // 4}"} for n in range(40)]
    )
    export(network, tmp_path / "b", internal=rows, internal_images=images)
    table = read_predictions(tmp_path / "b" / "internal.csv")
    assert (table["patient"] == "").all()
    assert table["group"].nunique() == 10


def test_internal_predictions_carry_no_name_and_keep_what_belongs_together(
    exported: Exported, images: np.ndarray
) -> None:
    folder, _ = exported
    for file in folder.iterdir():
        content = file.read_bytes()
        assert b"Jane" not in content
        assert b"MRN" not in content
    with (folder / "internal.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len({row["image"] for row in rows}) == len(images)
    patients = [row["patient"] for row in rows]
    assert [patients.index(patient) for patient in patients] == [number // 2 * 2 for number in range(len(images))]
    found = Predictor.load(folder, device="cpu").predict_pixels(list(images))
    assert [float(row["p_malignant"]) for row in rows] == pytest.approx(
        [p.positive_probability for p in found], abs=1e-4
    )


def test_hidden_names_cannot_be_found_again_by_hashing_likely_ones(exported: Exported) -> None:
    with (exported[0] / "internal.csv").open(newline="") as stream:
        hidden = next(csv.DictReader(stream))["patient"]
    for name in ("sha256", "sha1", "md5", "blake2b"):
        assert not hashlib.new(name, b"MRN0").hexdigest().startswith(hidden)
    assert hashlib.blake2b(b"MRN0", digest_size=len(hidden) // 2).hexdigest() != hidden


def test_card_and_metadata_give_figures_with_intervals_and_the_warning(exported: Exported) -> None:
    folder, spec = exported
    card = (folder / "MODEL_CARD.md").read_text()
    metadata = json.loads((folder / "metadata.json").read_text())
    auroc = metadata["eval_metrics"]["internal_auroc"]
    assert f"| AUROC | {auroc['value']:.3f} ({auroc['low']:.3f} to {auroc['high']:.3f}) |" in card
    assert "Not for diagnostic use" in card
    assert "ot for diagnostic use" in metadata["intended_use"]
    assert f"{spec.operating_point.threshold:.4f}" in card
    assert "Speckle" in card


# The keys that the MONAI bundle specification calls mandatory, and those of a tensor's format.
MANDATORY = {
    "version": str,
    "monai_version": str,
    "pytorch_version": str,
    "numpy_version": str,
    "optional_packages_version": dict,
    "required_packages_version": dict,
    "task": str,
    "description": str,
    "authors": str,
    "copyright": str,
    "network_data_format": dict,
    "schema": str,
    "changelog": dict,
    "references": list,
}
TENSOR = {
    "type": str,
    "format": str,
    "num_channels": int,
    "spatial_shape": list,
    "dtype": str,
    "value_range": list,
    "is_patch_data": bool,
    "channel_def": dict,
}


def test_metadata_has_every_key_that_monai_demands(exported: Exported) -> None:
    metadata = json.loads((exported[0] / "metadata.json").read_text())
    assert {key: kind for key, kind in MANDATORY.items() if not isinstance(metadata.get(key), kind)} == {}
    formats = metadata["network_data_format"]
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert {key: kind for key, kind in TENSOR.items() if not isinstance(tensor.get(key), kind)} == {}
    assert formats["inputs"]["image"]["dtype"] == "uint8"
    assert formats["outputs"]["pred"]["channel_def"] == {"0": "benign", "1": "malignant"}


def test_metadata_claims_no_licence_and_no_author_that_nobody_stated(
    export: Export, exported: Exported, tmp_path: Path, network: Classifier
) -> None:
    own = json.loads((exported[0] / "metadata.json").read_text())
    assert own["authors"] == "whoever trained it"
    assert own["copyright"] == "of the weights: not stated; of the training data: not stated"
    record = {"dataset": "X", "licence": "CC0", "images": {}, "network": "resnet10_w16", "optimizer": {"name": "sam"}}
    origin = WeightsOrigin(kind="file", name="w", licence="CC BY-NC 4.0")
    export(network, tmp_path / "b", training=TrainingRecord(**record, elsewhere=origin, validated_on="Y"))
    theirs = json.loads((tmp_path / "b" / "metadata.json").read_text())
    assert theirs["authors"] == "not stated"
    assert theirs["copyright"] == "of the weights: CC BY-NC 4.0; of the training data: CC0"
    assert "medsharp authors" not in json.dumps([own, theirs])
    assert "Apache" not in json.dumps([own, theirs])


@pytest.mark.filterwarnings("ignore")
def test_monais_own_tool_verifies_the_metadata(exported: Exported, tmp_path: Path) -> None:
    """`verify_metadata` takes the schema that lies there and downloads none: here, the keys that are mandatory."""
    from monai.bundle import verify_metadata

    kinds = {str: "string", dict: "object", list: "array", int: "integer", bool: "boolean"}
    tensor = {
        "type": "object",
        "required": list(TENSOR),
        "properties": {key: {"type": kinds[kind]} for key, kind in TENSOR.items()},
    }
    tensors = {"type": "object", "minProperties": 1, "additionalProperties": tensor}
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": list(MANDATORY),
        "properties": {key: {"type": kinds[kind]} for key, kind in MANDATORY.items()},
    }
    schema["properties"]["network_data_format"] = {
        "type": "object",
        "required": ["inputs", "outputs"],
        "properties": {"inputs": tensors, "outputs": tensors},
    }
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    verify_metadata(meta_file=str(exported[0] / "metadata.json"), filepath=str(tmp_path / "schema.json"))
    wrong = json.loads((exported[0] / "metadata.json").read_text())
    del (
        wrong["network_data_format"]["inputs"]["image"]["modality"],
        wrong["network_data_format"]["inputs"]["image"]["dtype"],
    )
    (tmp_path / "metadata.json").write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match="Failed validating"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(tmp_path / "schema.json"))
