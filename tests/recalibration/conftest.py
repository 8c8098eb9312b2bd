"""A simulated local hospital, and a bundle that a few lines of arithmetic make, wrongly calibrated there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy.special import expit

from medsharp.bundle import (
    FORMAT,
    BundleSpec,
    CheckLimit,
    HeldOut,
    InputCheck,
    OperatingPoint,
    Preprocessing,
    TrainingRecord,
    digest_of,
    read_bundle,
    write_spec,
)
from medsharp.data.phantom import write_phantom
from medsharp.files import sha256_file
from medsharp.inference.card import write_card
from medsharp.inference.external import open_external
from medsharp.inference.leaks import write_hashes
from medsharp.inference.predictor import Predictor

SIDE = 64
TEMPERATURE = 1.6
THRESHOLD = 0.11
RULE = "largest threshold with sensitivity >= 0.9 on internal validation images, laid half way down to the next lower"


def _graph(scale: float, bias: float, positive: int) -> onnx.ModelProto:
    """`logits` of the positive class `scale * (brightness - brightness of the middle) + bias`, 0.3 of the other."""
    constants = {
        "starts": np.array([0, 0, SIDE // 4, SIDE // 4]),
        "ends": np.array([2**31, 1, 3 * SIDE // 4, 3 * SIDE // 4]),
        "scale": np.array(scale, np.float32),
        "bias": np.array(bias, np.float32),
        "nought": np.array(0, np.float32),
        "other": np.array(0.3, np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["grey", "starts", "ends"], ["middle"]),
        helper.make_node("GlobalAveragePool", ["grey"], ["all_mean"]),
        helper.make_node("GlobalAveragePool", ["middle"], ["middle_mean"]),
        helper.make_node("Flatten", ["all_mean"], ["all"]),
        helper.make_node("Flatten", ["middle_mean"], ["inner"]),
        helper.make_node("Sub", ["all", "inner"], ["darkness"]),
        helper.make_node("Mul", ["darkness", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["margin"]),
        helper.make_node("Mul", ["margin", "nought"], ["zero"]),
        helper.make_node("Add", ["zero", "other"], ["rest"]),
        helper.make_node("Concat", ["rest", "margin"] if positive else ["margin", "rest"], ["logits"], axis=1),
        helper.make_node("Concat", ["all", "inner"], ["features"], axis=1),
        helper.make_node("AveragePool", ["grey"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Neg", ["pooled"], ["dark"]),
        helper.make_node("Concat", ["pooled", "dark"] if positive else ["dark", "pooled"], ["cam"], axis=1),
    ]
    outputs = {"logits": ["batch", 2], "features": ["batch", 2], "cam": ["batch", 2, 4, 4]}
    graph = helper.make_graph(
        nodes,
        "darkness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The local hospital: 150 simulated patients with one or two images each."""
    folder = tmp_path_factory.mktemp("hospitals") / "local"
    write_phantom(folder, hospital="B", patients=150, size=SIDE)
    return folder


@pytest.fixture(scope="session")
def trained_on(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images that the bundle says it was trained on."""
    folder = tmp_path_factory.mktemp("hospitals") / "own"
    write_phantom(folder, hospital="A", patients=100, size=SIDE, seed=5)
    return folder


@pytest.fixture(scope="session")
def make_bundle(trained_on: Path) -> Callable[..., Path]:
    """Makes the bundle; `scale` and `bias` say how wrongly it is calibrated."""

    def make(
        out: Path,
        *,
        scale: float = 0.25,
        bias: float = -1.5,
        classes: tuple[str, ...] = ("benign", "malignant"),
        hashes: bool = True,
        rule: str = RULE,
    ) -> Path:
        out.mkdir(parents=True)
        number = classes.index("malignant")
        if len(classes) == 2:
            (out / "model.onnx").write_bytes(_graph(scale, bias, number).SerializeToString())
        else:
            (out / "model.onnx").write_bytes(b"never opened")
        point = OperatingPoint(
            threshold=THRESHOLD, rule=rule, sensitivity=0.95, specificity=0.4, images=60, positives=20
        )
        spec = BundleSpec(
            format=FORMAT,
            name=out.name,
            created="2026-01-02",
            medsharp="0.1.0",
            classes=classes,
            positive="malignant",
            preprocess=Preprocessing(size=SIDE, crop="none", fit="stretch"),
            temperature=TEMPERATURE,
            operating_point=point,
            # Its images are too small for the check of every bundle.
            checks={"not_ultrasound": CheckLimit(limit=-1000.0, false_alarms=0.0, images=1)},
            input_check=InputCheck(
                feature_mean=(80.0, 80.0), feature_scale=(40.0, 40.0), distance_limit=9.0, brightness=(1.0, 254.0)
            ),
            heatmap_reference=100.0,
            outputs=("logits", "features", "cam"),
            training=TrainingRecord(
                dataset="own", images={"train": 100}, network="darkness", optimizer={"name": "none"}
            ),
            held_out=(HeldOut(site="C", images=50, patients=40, positives=20, threshold=THRESHOLD, figures={}),),
            files={},
        )
        rng = np.random.default_rng(3)
        odds = rng.normal(-0.5, 2, 60)
        positive = rng.random(60) < expit(odds)
        other = next(name for name in classes if name != "malignant")
        table = pd.DataFrame({"label": np.where(positive, "malignant", other)})
        for name in classes:
            table[f"p_{name}"] = (expit(odds) if name == "malignant" else expit(-odds) / (len(classes) - 1)).round(6)
        numbered = [f"image {n}" for n in range(60)]
        table.assign(image=numbered).to_csv(out / "validation.csv", index=False)
        table.assign(image=numbered, patient=numbered, split="test").to_csv(out / "internal.csv", index=False)
        (out / "parity.json").write_text('{"images": 3}\n')
        (out / "metadata.json").write_text(
            '{"name": "x", "version": "0", "changelog": {}, "eval_metrics": {"internal_sensitivity": {"value": 0.5}}}\n'
        )
        if hashes and len(classes) == 2:
            write_spec(out, spec.model_copy(update={"files": {"model.onnx": sha256_file(out / "model.onnx")}}))
            files = {"validation.csv", "internal.csv", "parity.json", "metadata.json"}
            aside = {name: (out / name).read_bytes() for name in files}
            for name in files:
                (out / name).unlink()
            manifest = open_external(trained_on, Predictor.load(out, device="cpu"))
            for name, content in aside.items():
                (out / name).write_bytes(content)
            table = manifest.table.assign(split=np.where(np.arange(len(manifest.table)) % 4 == 0, "val", "train"))
            write_hashes(out, manifest.replace(table=table))
        elif hashes:
            (out / "training_images.sha256").write_text("")
            (out / "training_images.dhash").write_text("")
        write_card(out, spec)
        names = sorted(path.name for path in out.iterdir() if path.name != "bundle.yaml")
        write_spec(out, spec.model_copy(update={"files": {name: sha256_file(out / name) for name in names}}))
        assert digest_of(read_bundle(out))
        return out

    return make


@pytest.fixture(scope="session")
def parent(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "parent")
