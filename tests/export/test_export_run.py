from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from medsharp.bundle import BundleSpec, read_bundle
from medsharp.cli import app
from medsharp.config import dump_config, load_config
from medsharp.data.duplicates import tie_duplicates
from medsharp.data.manifest import DatasetInfo, Manifest, make_table, read_manifest, write_manifest
from medsharp.errors import InputError
from medsharp.export import export_run
from medsharp.inference import Predictor, predict_manifest
from medsharp.inference.card import add_external_figures
from medsharp.inference.external import evaluate_manifest
from medsharp.networks import Classifier, create_network

COUNT = 60


def write_images(folder: Path, count: int, seed: int) -> Manifest:
    """Speckle of 70 x 90, two images a patient; a dark blob in the malignant ones."""
    rng = np.random.default_rng(seed)
    rows = []
    (folder / "images").mkdir(parents=True)
    for number in range(count):
        malignant = number // 2 % 2 == 1
        pixels = rng.rayleigh(60.0, size=(70, 90)) * np.linspace(0.5 + rng.random(), 0.5 + rng.random(), 90)
        if malignant:
            pixels[20:45, 20:50] *= 0.1
        name = f"images/Doe-{number}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
        label = "malignant" if malignant else "benign"
        rows.append({"image": name, "label": label, "patient": f"MRN{number // 2}", "birads": "4", "note": str(number)})
    return Manifest(make_table(rows), DatasetInfo("Speckle", ("benign", "malignant"), licence="CC0"), folder)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What training leaves, by hand: an untrained network, 30 patients, two images excluded."""
    data, run = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("run") / "first"
    manifest = tie_duplicates(write_images(data, COUNT, seed=0))
    table = manifest.table
    table["split"] = (["train"] * 4 + ["val"] * 4 + ["test"] * 4) * (COUNT // 12)
    table.loc[[0, 1], "exclude"] = ["unreadable: Doe-0.png is 1 x 1", "contradictory duplicate of images/Doe-9.png"]
    write_manifest(manifest.replace(table=table), run)
    (run / "checkpoints").mkdir()
    overrides = ["data.image_size=64", "network.name=resnet10_w16", "optimizer.rho=0.05", "data.path=/home/doe/data"]
    (run / "config.yaml").write_text(dump_config(load_config(overrides=overrides)))
    network: Classifier = create_network("resnet10_w16", num_classes=2, image_size=64)
    save_file(network.state_dict(), run / "checkpoints" / "best.safetensors")
    (run / "predictions.csv").write_text("written last\n")
    return run


@pytest.fixture(scope="session")
def bundle(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BundleSpec]:
    out = tmp_path_factory.mktemp("bundles") / "speckle"
    return out, export_run(run_folder, out)


def test_run_becomes_a_bundle_that_verifies_and_predicts_as_the_run(
    run_folder: Path, bundle: tuple[Path, BundleSpec]
) -> None:
    import torch

    from medsharp.images import read_image
    from medsharp.preprocess import preprocess
    from medsharp.runs import Run

    out, spec = bundle
    assert read_bundle(out) == spec
    manifest = read_manifest(run_folder)
    files = [manifest.path(name) for name in manifest.of_split("test")["image"]]
    inputs = np.stack([preprocess(read_image(file).pixels, spec.preprocess.spec()) for file in files])
    with torch.inference_mode():
        logits = Run.load(run_folder).load_network()(torch.from_numpy(inputs[:, None]))
    expected = torch.softmax(logits.double() / spec.temperature, dim=1)[:, 1].numpy()
    found = [p.positive_probability for p in Predictor.load(out, device="cpu").predict(files)]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    with (out / "internal.csv").open(newline="") as stream:
        frozen = [float(row["p_malignant"]) for row in csv.DictReader(stream)]
    np.testing.assert_allclose(frozen, expected, atol=1e-4)


def test_choices_come_from_the_validation_images(bundle: tuple[Path, BundleSpec]) -> None:
    _, spec = bundle
    assert (spec.operating_point.images, spec.operating_point.positives) == (20, 10)
    assert spec.training.images == {"train": 18, "val": 20, "test": 20}


def test_bundle_tells_no_name_and_no_path(bundle: tuple[Path, BundleSpec]) -> None:
    out, spec = bundle
    assert spec.training.excluded == {"unreadable": 1, "contradictory duplicate": 1}
    for file in out.iterdir():
        content = file.read_bytes()
        assert b"Doe" not in content
        assert not re.search(rb"doe(?!s\b)", content)  # what a card says of images may have "does"
        assert b"MRN" not in content


def test_card_repeats_all_settings_of_the_run(run_folder: Path, bundle: tuple[Path, BundleSpec]) -> None:
    card = (bundle[0] / "MODEL_CARD.md").read_text()
    settings = yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])
    given = yaml.safe_load((run_folder / "config.yaml").read_text())
    given["data"]["path"] = settings["data"]["path"] = ""
    assert settings == given
    assert "CC0" in card


def test_card_of_a_run_on_an_audited_manifest_gives_the_audit_too(
    run_folder: Path, bundle: tuple[Path, BundleSpec], tmp_path: Path
) -> None:
    assert "medsharp data audit" not in (bundle[0] / "MODEL_CARD.md").read_text()
    audited = tmp_path / "audited"
    shutil.copytree(run_folder, audited)
    manifest = read_manifest(audited)
    write_manifest(manifest.replace(notes=["audit: 3 of 60 images left out: colour Doppler", "12 are tied"]), audited)
    assert read_manifest(audited).notes == ("audit: 3 of 60 images left out: colour Doppler",)
    export_run(audited, tmp_path / "b")
    commands = "medsharp data audit DATA --out AUDIT\nmedsharp train --data AUDIT --config settings.yaml --out RUN"
    assert commands in (tmp_path / "b" / "MODEL_CARD.md").read_text()


def test_progress_counts_the_images_read(run_folder: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    export_run(run_folder, tmp_path / "b", progress=lambda *step: steps.append(step))
    assert [step[:2] for step in steps] == [*((n, 20) for n in range(1, 21)), *((n, 20) for n in range(1, 21))]


def test_image_that_is_gone_is_named_and_nothing_is_written(run_folder: Path, tmp_path: Path) -> None:
    manifest = read_manifest(run_folder)
    gone = manifest.path(manifest.of_split("val")["image"].iloc[0])
    content = gone.read_bytes()
    gone.unlink()
    try:
        with pytest.raises(InputError, match=gone.name):
            export_run(run_folder, tmp_path / "b")
    finally:
        gone.write_bytes(content)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("crop", "named", "other"), [("scan", "serve", "predict"), ("lesion", "predict", "serve")])
def test_command_names_what_the_bundle_is_good_for_next(
    run_folder: Path, tmp_path: Path, crop: str, named: str, other: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    manifest = read_manifest(run)
    write_manifest(manifest.replace(table=manifest.table.assign(box="20,20,50,45")), run)
    (run / "config.yaml").write_text(dump_config(load_config(run / "config.yaml", [f"data.crop={crop}"])))
    result = CliRunner().invoke(app, ["export", str(run), "--out", str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    assert f"medsharp {named} " in result.output
    assert f"medsharp {other} " not in result.output


def test_run_without_weights_says_how_to_get_them(run_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    (copy / "checkpoints" / "best.safetensors").unlink()
    with pytest.raises(InputError, match="medsharp train --resume"):
        export_run(copy, tmp_path / "b")
    with pytest.raises(InputError, match="does not exist"):
        export_run(tmp_path / "nowhere", tmp_path / "b")


def test_weights_that_the_run_keeps_are_exported(run_folder: Path, tmp_path: Path) -> None:
    import torch

    copy = tmp_path / "copy"
    shutil.copytree(run_folder, copy)
    settings = (copy / "config.yaml").read_text()
    assert "keep: best" in settings
    (copy / "config.yaml").write_text(settings.replace("keep: best", "keep: last"))
    torch.manual_seed(7)
    last = create_network("resnet10_w16", num_classes=2, image_size=64).eval()
    save_file(last.state_dict(), copy / "checkpoints" / "last.safetensors")  # beside others as the best
    result = CliRunner().invoke(app, ["export", str(copy), "--out", str(tmp_path / "b")])
    assert result.exit_code == 0, result.output
    pixels = np.random.default_rng(0).integers(0, 255, (3, 64, 64), dtype=np.uint8)
    with torch.no_grad():
        expected = last(torch.from_numpy(pixels[:, None])).numpy()
    logits = Predictor.load(tmp_path / "b").session.run(pixels)["logits"]
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_manifest_is_predicted_in_its_order_with_its_columns(bundle: tuple[Path, BundleSpec], tmp_path: Path) -> None:
    manifest = write_images(tmp_path, 10, seed=5)
    (tmp_path / "images" / "Doe-3.png").write_bytes(b"no image")
    table = manifest.table.iloc[::-1].reset_index(drop=True)
    table.loc[2, "exclude"] = "Doppler"
    found = predict_manifest(Predictor.load(bundle[0], device="cpu"), manifest.replace(table=table))
    expected = table.drop(index=2)
    assert list(found["image"]) == list(expected["image"])
    for column in ("label", "patient", "birads", "note"):
        assert list(found[column]) == list(expected[column])
    assert list(found.columns[:6]) == ["image", "patient", "site", "label", "p_benign", "p_malignant"]
    failed = found["image"] == "images/Doe-3.png"
    assert list(found["error"] != "") == list(failed)
    assert found.loc[failed, "p_malignant"].isna().all()
    np.testing.assert_allclose(found.loc[~failed, ["p_benign", "p_malignant"]].sum(axis=1), 1)


def test_external_figures_join_the_card_and_the_bundle_verifies_again(
    bundle: tuple[Path, BundleSpec], tmp_path: Path
) -> None:
    copy, data = tmp_path / "copy", tmp_path / "data"
    shutil.copytree(bundle[0], copy)
    write_manifest(write_images(data, 20, seed=9), data)
    evaluation, _ = evaluate_manifest(
        Predictor.load(copy, device="cpu"), data, out=tmp_path / "evaluation", resamples=100
    )
    spec = add_external_figures(copy, [evaluation])
    assert read_bundle(copy) == spec
    card = (copy / "MODEL_CARD.md").read_text()
    assert f"{evaluation.as_dict()['figures']['auroc']['value']:.3f}" in card
    assert "(external)" in card
