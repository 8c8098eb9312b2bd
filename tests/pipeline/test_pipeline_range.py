"""A data set's declared range reaches every place where its images are read; without one it is said or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.config import DataConfig, load_config
from medsharp.data.audit import Policy, audit_datasets
from medsharp.data.duplicates import tie_duplicates
from medsharp.data.manifest import read_manifest, write_manifest
from medsharp.data.phantom import simulate_image
from medsharp.data.pipeline import make_dataset
from medsharp.data.prepare import prepare_manifest
from medsharp.data.sources import open_dataset
from medsharp.errors import InputError
from medsharp.images import ValueRange, read_image
from medsharp.inference import Predictor, predict_manifest
from medsharp.inference.external import evaluate_manifest
from medsharp.preprocess import PreprocessSpec
from medsharp.robustness.sample import take_sample

BUNDLE = Path(__file__).parents[2] / "models" / "busi-resnet18"
CLASSES = ("benign", "malignant")
SPEC = PreprocessSpec(64, "none")
RANGE = ValueRange(0.0, 4080.0)
WRONG = "range: [0, 9000]\n"
"""Of a manifest, which an option goes before."""


@pytest.fixture(scope="module")
def scans() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [simulate_image("A", CLASSES[number % 2], rng).pixels for number in range(8)]


Hospital = Callable[..., Path]


@pytest.fixture
def hospital(tmp_path: Path, scans: list[np.ndarray]) -> Hospital:
    """Make a hospital of 8 images with values of 12 bits in 16, or the same of 8 bits."""

    def make(name: str, *, bits: int = 12, declared: str = "") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        rows = ["image,label,patient"]
        for number, scan in enumerate(scans):
            values = scan.astype(np.uint16) * 16 if bits == 12 else scan
            Image.fromarray(values).save(folder / f"{number}.png")
            rows.append(f"{number}.png,{CLASSES[number % 2]},P{number}")
        (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
        about = f"name: hospital\nclasses: [benign, malignant]\n{declared}"
        (folder / "manifest.yaml").write_text(about)
        return folder

    return make


DECLARED = "range: [0, 4080]\n"


def test_range_is_read_kept_and_checked(hospital: Hospital, tmp_path: Path) -> None:
    manifest = read_manifest(hospital("declared", declared=DECLARED))
    assert manifest.info.range == RANGE
    write_manifest(manifest, tmp_path / "again")
    assert read_manifest(tmp_path / "again").info.range == RANGE
    plain = read_manifest(hospital("plain"))
    assert plain.info.range is None
    write_manifest(plain, tmp_path / "plain-again")
    assert "\nrange:" not in (tmp_path / "plain-again" / "manifest.yaml").read_text()
    with pytest.raises(InputError, match=r"manifest\.yaml: range: .* must be two numbers"):
        read_manifest(hospital("wrong", declared="range: [4080, 0]\n"))


def test_option_goes_before_the_manifest(hospital: Hospital) -> None:
    folder = hospital("declared", declared="range: [0, 65535]\n")
    assert open_dataset(folder, value_range=RANGE).info.range == RANGE
    assert open_dataset(folder).info.range == (0.0, 65535.0)
    assert load_config(None, [f"data.path={folder}", "data.range=[0, 4080]"]).data.value_range() == RANGE
    with pytest.raises(InputError, match="black, then the larger one of white"):
        load_config(None, ["data.range=[4080, 0]"])


def pixels(folder: Path, **options: Any) -> np.ndarray:
    manifest = read_manifest(folder)
    return np.stack(list(make_dataset(manifest.table, manifest, spec=SPEC, classes=CLASSES, **options).images))


def test_training_sees_the_declared_greys(hospital: Hospital) -> None:
    eight = pixels(hospital("eight", bits=8))
    assert np.array_equal(pixels(hospital("declared", declared=DECLARED)), eight)
    assert pixels(hospital("undeclared")).mean() < eight.mean() / 10


def test_cache_notices_another_range(hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = hospital("data")
    dark = pixels(folder, cache="disk")
    (folder / "manifest.yaml").write_text(f"classes: [benign, malignant]\n{DECLARED}")
    assert pixels(folder, cache="disk").mean() > 10 * dark.mean()


def test_duplicates_leaks_and_audit_see_the_declared_greys(hospital: Hospital) -> None:
    eight, twelve = (
        tie_duplicates(read_manifest(folder))
        for folder in (hospital("eight", bits=8), hospital("declared", declared=DECLARED))
    )
    assert list(eight.table["dhash"]) == list(twelve.table["dhash"])
    assert twelve.notes == eight.notes
    found = audit_datasets([read_manifest(twelve.root)], policy=Policy.report).findings
    assert not [finding for finding in found if finding.kind == "values"]


def test_missing_range_is_announced_to_training_and_in_the_audit(hospital: Hospital) -> None:
    folder = hospital("undeclared")
    config = DataConfig(path=str(folder), fractions=(0.5, 0.25, 0.25))
    notes = prepare_manifest(config).notes
    assert [note for note in notes if note.startswith("8 of 8 images: upper bits unused; declare it")]
    assert not [note for note in prepare_manifest(config.model_copy(update={"range": RANGE})).notes if "unused" in note]
    found = audit_datasets([read_manifest(folder)], policy=Policy.report).findings
    assert [finding.detail for finding in found if finding.kind == "values"] == ["upper bits unused"] * 8


def test_images_of_different_scales_in_one_data_set_are_announced(hospital: Hospital, scans: list[np.ndarray]) -> None:
    folder = hospital("floats", bits=8)
    for number, scan in enumerate(scans):
        values = scan.astype(np.float32) / (255 if number else 1)
        Image.fromarray(values).save(folder / f"{number}.png.tif")
    text = (folder / "manifest.csv").read_text().replace(".png", ".png.tif")
    (folder / "manifest.csv").write_text(text)
    notes = tie_duplicates(read_manifest(folder)).notes
    said = "scaled in different ways (range 0 to 1 assumed for 7, range 0 to 255 assumed for 1)"
    assert [note for note in notes if said in note]


def test_prediction_evaluation_and_robustness_see_the_declared_greys(hospital: Hospital, tmp_path: Path) -> None:
    eight, twelve = hospital("eight", bits=8), hospital("declared", declared=DECLARED)
    predictor = Predictor.load(BUNDLE)
    wanted = predict_manifest(predictor, read_manifest(eight))
    found = predict_manifest(predictor, read_manifest(twelve))
    assert list(found["p_malignant"]) == list(wanted["p_malignant"])
    undeclared = hospital("undeclared")
    told = Predictor.load(BUNDLE, value_range=RANGE)
    evaluation, _ = evaluate_manifest(told, undeclared, out=tmp_path / "out", resamples=100, thumbnails=True)
    plain, _ = evaluate_manifest(predictor, eight, out=tmp_path / "plain", resamples=100, thumbnails=True)
    assert evaluation.as_dict()["figures"] == plain.as_dict()["figures"]
    assert evaluation.thumbnails == plain.thumbnails
    samples = [take_sample(folder, CLASSES, "malignant") for folder in (eight, twelve)]
    assert all(np.array_equal(samples[0].pixels(place), samples[1].pixels(place)) for place in range(8))
    assert (
        take_sample(undeclared, CLASSES, "malignant", value_range=RANGE).key
        != take_sample(undeclared, CLASSES, "malignant").key
    )


def test_option_scales_plain_files(hospital: Hospital, tmp_path: Path) -> None:
    files = [hospital(name, bits=bits) / "1.png" for name, bits in (("eight", 8), ("twelve", 12))]
    tables = []
    for file, more in zip(files, ([], ["--range", "0,4080"]), strict=True):
        out = tmp_path / f"{file.parent.name}.csv"
        heat = tmp_path / f"heat-{file.parent.name}"
        command = ["predict", str(BUNDLE), str(file), "--out", str(out), "--heatmaps", str(heat), *more]
        assert CliRunner().invoke(app, command).exit_code == 0
        tables.append(out.read_text().splitlines()[1].split(",")[1:3])
    assert tables[0] == tables[1]
    heats = [read_image(next((tmp_path / f"heat-{name}").iterdir())).pixels for name in ("eight", "twelve")]
    assert np.array_equal(*heats)


def test_option_of_robustness_reaches_the_images(hospital: Hospital, tmp_path: Path) -> None:
    figures = []
    for folder, more in ((hospital("eight", bits=8), []), (hospital("twelve", declared=WRONG), ["--range", "0,4080"])):
        out = tmp_path / f"robustness-{folder.name}"
        command = ["robustness", str(BUNDLE), "--data", str(folder), "--corruptions", "axial_blur"]
        told = CliRunner().invoke(app, [*command, "--resamples", "100", "--out", str(out), *more])
        assert told.exit_code == 0, told.output
        table = pd.read_csv(out / "robustness.csv")
        figures.append(table.select_dtypes("number"))
    assert len(figures[0]) > 1
    pd.testing.assert_frame_equal(*figures)


def test_option_of_predict_and_evaluate_reaches_a_manifest(hospital: Hospital, tmp_path: Path) -> None:
    found = []
    for folder, more in ((hospital("eight", bits=8), []), (hospital("twelve", declared=WRONG), ["--range", "0,4080"])):
        rows, report = tmp_path / f"{folder.name}.csv", tmp_path / f"report-{folder.name}"
        bundle = str(BUNDLE)
        predict = ["predict", bundle, str(folder / "manifest.csv"), "--out", str(rows), *more]
        evaluate = ["evaluate", bundle, "--data", str(folder), "--resamples", "100", "--out", str(report), *more]
        for command in (predict, evaluate):
            told = CliRunner().invoke(app, command)
            assert told.exit_code == 0, told.output
        figures = json.loads((report / "evaluation.json").read_text())["datasets"][-1]["figures"]
        found.append((list(pd.read_csv(rows)["p_malignant"]), figures))
    assert found[0] == found[1]


@pytest.mark.parametrize("command", ["prepare", "audit"])
def test_option_of_what_writes_a_manifest_is_kept_in_it(command: str, hospital: Hospital, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = CliRunner().invoke(
        app, ["data", command, str(hospital("twelve", declared=WRONG)), "--range", "0,4080", "--out", str(out)]
    )
    assert told.exit_code == 0, told.output
    assert read_manifest(out).info.range == RANGE
    assert "declare" not in told.output


def test_option_of_serve_reaches_the_predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[Any] = []
    monkeypatch.setattr("serve.run", lambda bundles, load, **options: served.append(load(bundles[0])))
    told = CliRunner().invoke(app, ["serve", str(BUNDLE), "--range", "0,4080"])
    assert told.exit_code == 0, told.output
    assert served[0].value_range == RANGE
