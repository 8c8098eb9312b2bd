"""A bundle as a model repository of NVIDIA's Triton Inference Server: a folder a graph, each with `config.pbtxt`.

The layout and the keys are those of Triton's `model_config.proto`. A client decodes, crops and resizes as
`medsharp.preprocess` does, and makes probabilities of logits as the parameters say: a server knows neither.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from medsharp.bundle import MODELS, BundleSpec, Precision, digest_of
from medsharp.errors import InputError
from medsharp.files import atomic_folder, write_text
from medsharp.inference.session import Session

CONFIG = "config.pbtxt"
LABELS = "labels.txt"
_PARAMETER = re.compile(r'key: "(\w+)"\s+value \{\s+string_value: "([^"\n]*)"')
"""A parameter of a configuration, as `configuration` writes it."""
_MOST_TOGETHER = 64
_PREFERRED = (8, 16, 32, 64)
_DELAY = 2000
"""Microseconds that a request waits for others to share a batch with, beside tens of milliseconds of computing."""


class Name(str):
    """A value of an enumeration, which is written without quotes."""


Value = str | int | Mapping[str, "Value"] | Sequence["Value"]


def model_folders(name: str, precisions: Sequence[Precision], repository: Path) -> dict[Precision, Path]:
    """Return the folder of each precision's graph: the bundle's name, with the precision where it is not fp32."""
    return {one: repository / (name if one == "fp32" else f"{name}_{one}") for one in precisions}


def check_repository(
    bundle: Path, precisions: Sequence[Precision], repository: Path, *, overwrite: bool = False
) -> None:
    """Check that the models of a bundle can be laid there, before anything is computed.

    Raises:
        InputError: The repository is or lies in a file, has a model of that name (with `overwrite`: one that is no
            bundle's graph of that precision), or the bundle's own folder is where a model would lie.
    """
    there = next(path for path in (repository, *repository.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"--triton {repository}: {there} is a file; give a folder")
    bundle = bundle.resolve()
    for precision, folder in model_folders(bundle.name, precisions, repository).items():
        if folder.resolve() == bundle:
            raise InputError(f"--triton {repository}: the model would lie in {bundle}, the bundle's folder")
        if folder.exists() and not overwrite:
            raise InputError(f"{folder} exists already; choose another --out or --triton, or give --overwrite")
        if (folder / CONFIG).exists() and not _is_graph(folder, precision):
            raise InputError(
                f"{folder} is another model than the {precision} graph of a bundle, and --overwrite does not replace "
                "it; choose another --out or --triton"
            )


def write_repository(bundle: Path, spec: BundleSpec, repository: Path, *, overwrite: bool = False) -> list[Path]:
    """Write a model for each graph of a bundle: `<name>/config.pbtxt`, `labels.txt` and `1/model.onnx`.

    Args:
        bundle: Its folder.
        spec: What it is.
        repository: Triton's model repository; other models in it are left alone.
        overwrite: Replace models of the same names, and remove those of precisions that the bundle has no longer.

    Returns:
        The models' folders.

    Raises:
        InputError: As `check_repository` raises it.
    """
    there = [precision for precision, file in MODELS.items() if file in spec.files]
    folders = model_folders(spec.name, there, repository)
    check_repository(bundle, there, repository, overwrite=overwrite)
    gone = model_folders(spec.name, [name for name in MODELS if name not in there], repository)
    for precision, out in gone.items():
        # Of the bundle that is replaced, which had that precision: it would go on answering beside the new ones.
        if overwrite and not out.is_symlink() and _is_graph(out, precision):
            _remove(out)
    for precision, out in folders.items():
        with atomic_folder(out, overwrite=overwrite) as folder:
            model = bundle / MODELS[precision]
            write_text(folder / CONFIG, configuration(out.name, spec, precision, _output_shapes(model, spec)))
            write_text(folder / LABELS, "".join(f"{name}\n" for name in spec.classes))
            (folder / "1").mkdir()
            shutil.copyfile(model, folder / "1" / "model.onnx")
    return list(folders.values())


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise InputError(f"cannot remove {folder}, which the bundle has no longer: {error.strerror}") from error


def _is_graph(folder: Path, precision: Precision) -> bool:
    """Whether a model is a bundle's graph of that precision: a bundle named `x_int8` has another under that name."""
    try:
        said = dict(_PARAMETER.findall((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError):  # there is none, or it is none of ours
        return False
    return "bundle_digest" in said and said.get("precision") == precision


def configuration(name: str, spec: BundleSpec, precision: Precision, shapes: Mapping[str, Sequence[int]]) -> str:
    """Return `config.pbtxt` of one graph.

    Args:
        name: The model's, which is its folder's.
        spec: The bundle.
        precision: Of the graph.
        shapes: Of what the graph returns for one image, by name.
    """
    size = spec.preprocess.size
    outputs: list[Value] = []
    for output, shape in shapes.items():
        one: dict[str, Value] = {"name": output, "data_type": Name("TYPE_FP32"), "dims": list(shape)}
        outputs.append(one | {"label_filename": LABELS} if output == "logits" else one)
    values: dict[str, Value] = {
        "name": name,
        "backend": "onnxruntime",
        "max_batch_size": _MOST_TOGETHER,
        "input": [{"name": "image", "data_type": Name("TYPE_UINT8"), "dims": [1, size, size]}],
        "output": outputs,
        "dynamic_batching": {"preferred_batch_size": list(_PREFERRED), "max_queue_delay_microseconds": _DELAY},
        "instance_group": [{"count": 1, "kind": Name("KIND_AUTO")}],
        "parameters": [
            {"key": key, "value": {"string_value": text}} for key, text in _parameters(spec, precision).items()
        ],
    }
    return "# Not for diagnostic use. Probabilities are softmax(logits / temperature).\n" + _text(values)


def _parameters(spec: BundleSpec, precision: Precision) -> dict[str, str]:
    return {
        "medsharp": spec.medsharp,
        "bundle_digest": digest_of(spec),
        "precision": precision,
        "classes": ",".join(spec.classes),
        "positive": spec.positive,
        "temperature": repr(spec.temperature),
        "threshold": repr(spec.operating_point.threshold),
        "preprocess": json.dumps(spec.preprocess.model_dump()),
        "intended_use": "Research only. Not for diagnostic use.",
    }


def _output_shapes(model: Path, spec: BundleSpec) -> dict[str, tuple[int, ...]]:
    side = spec.preprocess.size
    found = Session(model, device="cpu").run(np.zeros((1, side, side), np.uint8))
    return {name: values.shape[1:] for name, values in found.items()}


def _text(values: Mapping[str, Value], indent: str = "") -> str:
    """Return a message in protobuf's text format."""
    lines = []
    for key, value in values.items():
        # A repeated message or number is the same field several times.
        for one in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
            if isinstance(one, Mapping):
                lines.append(f"{indent}{key} {{\n{_text(one, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{key}: {_scalar(one)}\n")
    return "".join(lines)


def _scalar(value: Value) -> str:
    quoted = isinstance(value, str) and not isinstance(value, Name)
    return json.dumps(value, ensure_ascii=False) if quoted else str(value)
