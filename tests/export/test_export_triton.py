"""A model repository that Triton's own schema accepts, and that says what the graph is."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tritonclient
from google.protobuf import text_format

from medsharp.bundle import digest_of, read_bundle
from medsharp.inference.session import Session

from .runs import SIZE, run_export


def schema() -> Any:
    """Triton's `model_config.proto`, read by its file: the package around it would want gRPC."""
    path = Path(tritonclient.__file__).parent / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_graph_becomes_a_model_that_the_schema_accepts(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "models" / "other").mkdir(parents=True)
    result = run_export(
        run_folder, "--out", tmp_path / "lesions", "--triton", tmp_path / "models", "--precision", "fp32,fp16"
    )
    assert result.exit_code == 0, result.output
    spec = read_bundle(tmp_path / "lesions")
    folders = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert folders == ["lesions", "lesions_fp16", "other"]
    types = schema()
    for name, file in (("lesions", "model.onnx"), ("lesions_fp16", "model.fp16.onnx")):
        folder = tmp_path / "models" / name
        config = text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), types.ModelConfig())
        # Triton takes the model by its folder's name, and refuses another in the configuration.
        assert config.name == name
        assert config.backend == "onnxruntime"
        assert (folder / "1" / "model.onnx").read_bytes() == (tmp_path / "lesions" / file).read_bytes()
        assert (folder / "labels.txt").read_text().split() == list(spec.classes)
        assert config.max_batch_size >= max(config.dynamic_batching.preferred_batch_size)
        assert config.dynamic_batching.max_queue_delay_microseconds > 0
        graph = onnx.load(folder / "1" / "model.onnx").graph
        (image,) = config.input
        assert (image.name, image.data_type, list(image.dims)) == (
            graph.input[0].name,
            types.TYPE_UINT8,
            [1, SIZE, SIZE],
        )
        found = Session(folder / "1" / "model.onnx", device="cpu").run(np.zeros((3, SIZE, SIZE), np.uint8))
        outputs = {output.name: (output.data_type, tuple(output.dims)) for output in config.output}
        assert outputs == {key: (types.TYPE_FP32, values.shape[1:]) for key, values in found.items()}
        assert [output.label_filename for output in config.output if output.name == "logits"] == ["labels.txt"]
        said = {key: value.string_value for key, value in config.parameters.items()}
        assert float(said["temperature"]) == spec.temperature
        assert float(said["threshold"]) == spec.operating_point.threshold
        assert said["bundle_digest"] == digest_of(spec)
        assert "Not for diagnostic use" in said["intended_use"]


def named(model: Path, name: str) -> Path:
    """Copy a model beside itself under another name, as Triton wants it: in the configuration too."""
    copy = model.with_name(name)
    shutil.copytree(model, copy)
    config = (copy / "config.pbtxt").read_text(encoding="utf-8")
    (copy / "config.pbtxt").write_text(config.replace(f'name: "{model.name}"', f'name: "{name}"'), encoding="utf-8")
    return copy


def test_only_graphs_of_the_bundle_that_is_replaced_are_removed(run_folder: Path, tmp_path: Path) -> None:
    models, bundle = tmp_path / "models", tmp_path / "lesions"
    to = ("--out", bundle, "--triton", models)
    assert run_export(run_folder, *to, "--precision", "fp32,fp16").exit_code == 0
    # The fp32 graph of a bundle of that name, and other software's: neither is the int8 graph of this one.
    foreign = named(models / "lesions", "lesions_int8")
    mine = (foreign / "config.pbtxt").read_bytes()

    def there() -> list[str]:
        return sorted(path.name for path in models.iterdir())

    (models / "lesions").rename(tmp_path / "aside")
    shutil.rmtree(bundle)
    assert run_export(run_folder, *to).exit_code == 0
    # Nobody said to replace anything.
    assert there() == ["lesions", "lesions_fp16", "lesions_int8"]
    again = run_export(run_folder, *to, "--overwrite")
    assert again.exit_code == 0, again.output
    # What the bundle has no longer does not go on answering for it.
    assert there() == ["lesions", "lesions_int8"]
    before = digest_of(read_bundle(bundle))
    result = run_export(run_folder, *to, "--overwrite", "--precision", "int8")
    assert result.exit_code == 2, result.output
    assert digest_of(read_bundle(bundle)) == before
    assert "is another model than the int8 graph of a bundle" in " ".join(result.output.split())
    (models / "lesions_fp16").mkdir()
    (models / "lesions_fp16" / "config.pbtxt").write_text('name: "lesions_fp16"\nbackend: "python"\n')
    assert run_export(run_folder, *to, "--overwrite").exit_code == 0
    assert there() == ["lesions", "lesions_fp16", "lesions_int8"]
    assert (foreign / "config.pbtxt").read_bytes() == mine


def test_model_that_is_there_is_refused_before_anything_is_computed(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "models" / "b_fp16").mkdir(parents=True)
    result = run_export(run_folder, "--out", tmp_path / "b", "--triton", tmp_path / "models", "--precision", "fp16")
    assert result.exit_code == 2
    assert "b_fp16 exists already" in " ".join(result.stderr.split())
    assert not (tmp_path / "b").exists()
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "models" / "deep"):
        result = run_export(run_folder, "--out", tmp_path / "b", "--triton", place)
        assert result.exit_code == 2
        assert f"--triton {place}: {tmp_path / 'file'} is a file; give a folder" in " ".join(result.stderr.split())
        assert not (tmp_path / "b").exists()


def test_model_never_takes_the_place_of_its_bundle(run_folder: Path, tmp_path: Path) -> None:
    bundle, same = tmp_path / "b", tmp_path / "link"
    same.symlink_to(tmp_path)
    bundle.mkdir()
    (bundle / "mine.txt").write_text("kept")
    result = run_export(run_folder, "--out", bundle, "--triton", same, "--overwrite")
    assert result.exit_code == 2
    assert "the bundle's folder" in " ".join(result.stderr.split())
    assert [file.name for file in bundle.iterdir()] == ["mine.txt"]
