"""`metadata.json` in the schema of MONAI bundles, and the properties of an ONNX file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from medsharp import __version__
from medsharp.bundle import BundleSpec, TrainingRecord
from medsharp.evaluation import Evaluation
from medsharp.preprocess import PreprocessSpec

NOT_STATED = "not stated"
"""What a bundle says where nobody said it."""

INTENDED_USE = "Research only. Not for diagnostic use."

_METRICS = ("auroc", "sensitivity", "specificity", "brier", "calibration_slope")


def onnx_properties(
    classes: Sequence[str], positive: str, preprocess: PreprocessSpec, training: TrainingRecord
) -> dict[str, str]:
    """Return what an ONNX file says of itself, for whoever has that file alone.

    Temperature and threshold are not among it: an update changes them in `bundle.yaml`, and a file that says other ones
    would be believed.
    """
    said = {
        "medsharp": __version__,
        "intended_use": INTENDED_USE,
        "classes": ",".join(classes),
        "positive": positive,
        "preprocess": json.dumps(asdict(preprocess)),
        "precision": "fp32",
        "network": training.network,
        "optimizer": str(training.optimizer.get("name", "")),
        "data": training.dataset,
        "licence_of_data": training.licence,
        "git_commit": str(training.environment.get("git_commit") or ""),
    }
    return {key: value for key, value in said.items() if value}


def monai_metadata(spec: BundleSpec, internal: Evaluation | None = None) -> dict[str, Any]:
    """Return the metadata of a bundle as MONAI's tools read it (schema of 2024-07-25).

    Args:
        spec: What the bundle is.
        internal: Its figures on the internal test split.
    """
    figures = internal.as_dict()["figures"] if internal is not None else {}
    size = spec.preprocess.size
    classes = {str(number): name for number, name in enumerate(spec.classes)}
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "meta_schema_20240725.json",
        "version": spec.medsharp,
        "changelog": {spec.medsharp: spec.changelog},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"onnxruntime-gpu": "1.31.1"},
        # Mandatory in older editions of the specification.
        "optional_packages_version": {},
        "name": spec.name,
        "task": "breast-ultrasound classification",
        "description": f"{spec.network} trained with {spec.optimizer} on {spec.learned_from}: "
        f"{' or '.join(spec.classes)}",
        "authors": _authors(spec.training),
        "copyright": _copyright(spec.training),
        "data_source": f"{spec.training.dataset}. {spec.training.citation}",
        "data_type": "png, jpeg, dicom",
        "image_classes": "grey B-mode breast ultrasound, 8 bit",
        "label_classes": ", ".join(spec.classes),
        "pred_classes": ", ".join(spec.classes),
        "eval_metrics": {f"internal_{name}": _numbers(figures[name]) for name in _METRICS if name in figures},
        **({"eval_data": internal.as_dict()["name"]} if internal is not None else {}),
        "intended_use": INTENDED_USE,
        "references": [spec.training.citation] if spec.training.citation else [],
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "US",
                    "num_channels": 1,
                    "spatial_shape": [size, size],
                    "dtype": "uint8",
                    "value_range": [0, 255],
                    "is_patch_data": False,
                    "channel_def": {"0": "image"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "logits",
                    "num_channels": len(spec.classes),
                    "spatial_shape": [1, 1],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": classes,
                }
            },
        },
    }


def _authors(training: TrainingRecord) -> str:
    """Return who made the weights: their maker is nobody that this software knows, and it never is its authors."""
    if training.elsewhere is None:
        return "whoever trained it"
    return training.elsewhere.url or NOT_STATED


def _copyright(training: TrainingRecord) -> str:
    """Return under which licence the weights are, where somebody stated one."""
    licence = "" if training.elsewhere is None else training.elsewhere.licence
    return f"of the weights: {licence or NOT_STATED}; of the training data: {training.licence or NOT_STATED}"


def _numbers(figure: dict[str, Any]) -> dict[str, float]:
    """Return value, low and high, without what does not exist for these data."""
    return {key: figure[key] for key in ("value", "low", "high") if figure[key] is not None}
