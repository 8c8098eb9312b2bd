"""The intercept in the graph, and what intercept and slope mean for logits and temperature."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
from command_line import run
from scipy.special import expit, logit

from medsharp.bundle import read_bundle, write_spec
from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.inference import Predictor
from medsharp.inference.session import Session
from medsharp.recalibration import LogOddsUpdate
from medsharp.recalibration.graph import shift_logits

GRAPHS = ("model.fp16.onnx", "model.int8.onnx")
IMAGES = np.random.default_rng(1).integers(0, 255, (4, 64, 64)).astype(np.uint8)


def test_graph_is_shifted_again_and_again_and_nothing_else_changes(parent: Path, tmp_path: Path) -> None:
    model = (parent / "model.onnx").read_bytes()
    for number, shift in enumerate(([0.0, 0.75], [-0.5, 0.25]), 1):
        model = shift_logits(model, shift)
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(model)
        onnx.checker.check_model(onnx.load(path), full_check=True)
    before, after = (Session(path, device="cpu") for path in (parent / "model.onnx", path))
    assert before.outputs == after.outputs
    old, new = before.run(IMAGES), after.run(IMAGES)
    assert new["logits"] - old["logits"] == pytest.approx(np.tile([-0.5, 1.0], (4, 1)), abs=1e-5)
    for name in ("features", "cam"):
        assert np.array_equal(old[name], new[name])


def test_what_else_in_the_graph_reads_the_logits_reads_the_old_ones(parent: Path, tmp_path: Path) -> None:
    model = onnx.load(parent / "model.onnx")
    model.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["copy"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("copy", onnx.TensorProto.FLOAT, ["batch", 2]))
    path = tmp_path / "model.onnx"
    path.write_bytes(shift_logits(model.SerializeToString(), [0, 2]))
    found = Session(path, device="cpu").run(IMAGES)
    assert found["logits"] - found["copy"] == pytest.approx(np.tile([0.0, 2.0], (4, 1)), abs=1e-5)


@pytest.mark.parametrize("content", [b"no model \xff\xff", b""])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"model\.onnx"):
        shift_logits(content, [0, 1])


@pytest.mark.parametrize("classes", [("benign", "malignant"), ("malignant", "benign")])
def test_shift_and_temperature_are_the_update_wherever_the_positive_class_stands(classes: tuple[str, str]) -> None:
    update, temperature = LogOddsUpdate(-0.7, 0.6), 1.4
    logits = np.array([[0.3, 2.0], [1.5, -0.4], [-3.0, 1.0]])
    positive = classes.index("malignant")
    before = (logits[:, positive] - logits[:, 1 - positive]) / temperature
    shifted = logits + update.shift(classes, "malignant", temperature)
    after = (shifted[:, positive] - shifted[:, 1 - positive]) / update.temperature(temperature)
    assert after == pytest.approx(-0.7 + 0.6 * before)
    table = pd.DataFrame({"p_malignant": expit(before), "p_benign": expit(-before)})
    applied = update.applied(table, classes, "malignant")
    assert logit(applied["p_malignant"]).to_numpy() == pytest.approx(after)
    assert (applied["p_malignant"] + applied["p_benign"]).to_numpy() == pytest.approx(1)


def test_rounded_tables_keep_0_and_1_apart_from_all_else() -> None:
    table = pd.DataFrame({"p_malignant": [0.0, 0.5, 1.0], "p_benign": [1.0, 0.5, 0.0]})
    found = LogOddsUpdate(2.0, 0.5).of_rounded(table, ("benign", "malignant"), "malignant")["p_malignant"]
    assert found.iloc[1] == pytest.approx(expit(2.0), abs=1e-6)
    assert 0 < found.iloc[0] < 0.01
    assert 0.99 < found.iloc[2] < 1


def test_tables_with_all_digits_are_updated_as_they_are() -> None:
    odds = np.array([-600.0, -30.0, -18.0, 0.4, 19.0, 33.0])
    table = pd.DataFrame({"p_malignant": expit(odds), "p_benign": expit(-odds)})
    found = LogOddsUpdate(-1.5, 0.05).of_rounded(table, ("benign", "malignant"), "malignant")
    assert found["p_malignant"].to_numpy() == pytest.approx(expit(-1.5 + 0.05 * odds), rel=1e-9)
    assert found["p_benign"].to_numpy() == pytest.approx(expit(1.5 - 0.05 * odds), rel=1e-9)


def test_graphs_of_other_precisions_are_updated_too_and_decide_at_the_same_threshold(
    parent: Path, hospital: Path, tmp_path: Path
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    shutil.copytree(parent, old)
    for number, name in enumerate(GRAPHS, 1):
        # Each rounds its own way, here far enough to tell them apart.
        (old / name).write_bytes(shift_logits((old / "model.onnx").read_bytes(), [0.0, 0.1 * number]))
    spec = read_bundle(parent)
    files = {name: sha256_file(old / name) for name in (*spec.files, *GRAPHS)}
    write_spec(old, spec.model_copy(update={"files": files}))
    result = run("recalibrate", old, "--data", hospital, "--out", new, "--update", "slope", "--resamples", "100")
    assert result.exit_code == 0, result.output
    told = read_bundle(new).updates[-1]
    assert abs(told.intercept) > 0.1
    opened = []
    for precision in ("fp32", "fp16", "int8"):
        before, after = (
            Predictor.load(folder, device="cpu", precision=precision, answer_anyway=True) for folder in (old, new)
        )
        assert after.session.precision == precision
        margins = [
            logit([one.positive_probability for one in model.predict_pixels(list(IMAGES))]) for model in (before, after)
        ]
        assert margins[1] == pytest.approx(told.intercept + told.slope * margins[0], abs=1e-4)
        assert after.predict_pixels(list(IMAGES[:1]))[0].threshold == read_bundle(new).operating_point.threshold
        opened.append(margins[0][0] * spec.temperature)
    assert np.diff(opened) == pytest.approx([0.1, 0.1], abs=1e-4)  # each of its own file


def test_needs_neither_torch_nor_onnx(parent: Path, hospital: Path, tmp_path: Path) -> None:
    code = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "onnx", "monai", "timm", "onnxscript", "torchvision"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Without())
from medsharp.cli import main
main()
"""
    arguments = ["recalibrate", parent, "--data", hospital, "--out", tmp_path / "new", "--resamples", "100"]
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert read_bundle(tmp_path / "new").updates
