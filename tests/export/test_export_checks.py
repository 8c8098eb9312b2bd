"""Limits of the input checks reach the bundle, from export and from `medsharp checks`, and the predictor from there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import refused, run
from PIL import Image

from medsharp.bundle import CHECKS, BundleSpec, read_bundle, write_spec
from medsharp.data.phantom.simulate import simulate_image
from medsharp.data.sources import open_dataset
from medsharp.export import refit
from medsharp.export.checks import answer_limits
from medsharp.files import sha256_file
from medsharp.inference import Predictor
from medsharp.networks import Classifier, create_network

OWN, NORMAL, FOREIGN = 180, 30, 12


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated images of two a patient: of the bundle's own, without a lesion, and of others."""
    folder = tmp_path_factory.mktemp("hospital")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(OWN + NORMAL + FOREIGN):
        kind = ("malignant", "benign", "benign")[number % 3]
        pixels = simulate_image("B", kind, rng, size=96).pixels
        label = "normal" if OWN <= number < OWN + NORMAL else kind
        if label == "normal":
            pixels = (pixels * 0.6 + 60).astype(np.uint8)  # what a network without training can see
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
        digest = sha256_file(folder / f"{number:03d}.png")
        rows.append((f"{number:03d}.png", label, f"P{number // 2}", digest, "train" if number < OWN else ""))
    table = pd.DataFrame(rows, columns=["image", "label", "patient", "sha256", "split"])
    table.to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="session")
def bundle(data: Path, export: Callable[..., BundleSpec], tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = create_network("resnet10_w16", num_classes=2, image_size=64).eval()
    folder = tmp_path_factory.mktemp("bundles") / "mine"
    manifest = open_dataset(data)
    export(network, folder, seen=replace(manifest, table=manifest.table[manifest.table["split"] == "train"]))
    return folder


def test_command_fits_checks_on_the_bundles_own_images_and_leaves_answers_as_they_are(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    before = read_bundle(bundle)
    result = run("checks", bundle, "--data", data, "--out", tmp_path / "new")
    assert result.exit_code == 0, result.output
    after = read_bundle(tmp_path / "new")
    assert set(after.files) == {*before.files, CHECKS}
    assert list(after.checks) == ["not_ultrasound", "dark", "bright", "no_lesion", "distance", "energy"]
    assert {after.checks[key].images for key in ("not_ultrasound", "dark", "bright")} == {OWN}
    assert 0.4 * OWN < after.checks["distance"].images < 0.6 * OWN  # the other half of the patients
    assert after.checks["no_lesion"].without == NORMAL
    assert after.operating_point == before.operating_point
    # A class that the model can answer is no sign that there is none.
    result = run("checks", bundle, "--data", data, "--out", tmp_path / "own", "--no-lesion", "benign")
    assert result.exit_code == 0, result.output
    assert "no_lesion" not in read_bundle(tmp_path / "own").checks
    files = sorted(data.glob("*.png"))[:: OWN // 9]
    old, new = (Predictor.load(folder, answer_anyway=True) for folder in (bundle, tmp_path / "new"))
    for one, other in zip(old.predict(files), new.predict(files), strict=True):
        assert one.positive_probability == other.positive_probability


def test_whose_the_weights_are_stays_as_it_was_said(bundle: Path, data: Path, tmp_path: Path) -> None:
    said = {"authors": "Hospital X", "copyright": "CC BY 4.0"}
    shutil.copytree(bundle, tmp_path / "theirs")
    file = tmp_path / "theirs" / "metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **said}), encoding="utf-8")
    spec = read_bundle(bundle)
    write_spec(
        tmp_path / "theirs", spec.model_copy(update={"files": {**spec.files, "metadata.json": sha256_file(file)}})
    )
    result = run("checks", tmp_path / "theirs", "--data", data, "--out", tmp_path / "new")
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "new" / "metadata.json").read_text(encoding="utf-8"))
    assert {key: written[key] for key in said} == said


def test_patients_of_several_data_sets_are_not_taken_for_each_other(
    bundle: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def kept(features: np.ndarray, logits: np.ndarray, labels: np.ndarray, clusters: np.ndarray, *more: Any) -> Any:
        seen.append(clusters)
        return answer_limits(features, logits, labels, clusters, *more)

    monkeypatch.setattr(refit, "answer_limits", kept)
    whole = open_dataset(data)
    parts = [replace(whole, table=whole.table.iloc[at]) for at in (slice(0, 100), slice(190, None), slice(100, 180))]
    refit.refit_checks(bundle, tmp_path / "new", parts)
    (clusters,) = seen
    assert len(clusters) == OWN
    assert len(np.unique(clusters)) == OWN // 2


def test_limits_of_the_bundle_reach_its_predictions(bundle: Path, data: Path, tmp_path: Path) -> None:
    run("checks", bundle, "--data", data, "--out", tmp_path / "new")
    predictor = Predictor.load(tmp_path / "new")
    normal = [data / f"{number:03d}.png" for number in range(OWN, OWN + NORMAL)]
    found = [[finding for finding in one.findings if finding.check == "no_lesion"] for one in predictor.predict(normal)]
    assert sum(map(bool, found)) >= NORMAL // 2
    limit = predictor.spec.checks["no_lesion"].limit
    assert all(finding.limit == limit < finding.value for one in found for finding in one)
    inverted = 255 - np.asarray(Image.open(normal[0]))
    assert {one.check for one in predictor.predict_pixels([inverted])[0].findings} & {"bright", "not_ultrasound"}


def test_export_learns_of_images_without_a_lesion(
    export: Callable[..., BundleSpec], network: Classifier, images: np.ndarray, tmp_path: Path
) -> None:
    twice = np.concatenate([images, 255 - images])
    options: dict[str, Any] = {"validation_images": twice, "validation_labels": np.arange(80) % 2}
    plain = export(network, tmp_path / "plain", **options)
    assert list(plain.checks) == ["not_ultrasound", "dark", "bright", "distance", "energy"]
    once = export(network, tmp_path / "once", without_lesion=images[:1, ::-1], **options)
    assert (once.checks["no_lesion"].without, once.checks["no_lesion"].found) == (1, None)
    card = (tmp_path / "once" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "--no-lesion WITHOUT_LESION" in card
    assert "--no-lesion" not in (tmp_path / "plain" / "MODEL_CARD.md").read_text(encoding="utf-8")
    taught = export(network, tmp_path / "taught", without_lesion=images[:20, ::-1], **options)
    assert taught.checks["no_lesion"].without == 20
    assert CHECKS in read_bundle(tmp_path / "taught").files


def test_wrong_input_is_one_sentence_and_leaves_nothing(bundle: Path, data: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    table = pd.read_csv(data / "manifest.csv").iloc[OWN:]
    for name in table["image"]:
        (foreign / name).write_bytes((data / name).read_bytes())
    table.to_csv(foreign / "manifest.csv", index=False)
    refused(run("checks", bundle, "--data", foreign, "--out", tmp_path / "new"), "0 images of the data are among those")
    refused(run("checks", bundle, "--data", data, "--out", foreign), "exists already")
    options = ("--out", tmp_path / "new", "--no-lesion")
    refused(run("export", tmp_path / "run", *options, tmp_path / "nowhere"), "nowhere")
    lesions = pd.read_csv(data / "manifest.csv").iloc[:OWN]
    lesions.to_csv(data / "lesions.csv", index=False)
    refused(run("export", tmp_path / "run", *options, data / "lesions.csv"), "no image labelled normal")
    assert not (tmp_path / "new").exists()
