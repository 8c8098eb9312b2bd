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

from medsharp.bundle import CHECKS, TRAINING_HASHES, BundleSpec, InputCheck, read_bundle, write_spec
from medsharp.data.phantom.simulate import simulate_image
from medsharp.data.sources import open_dataset
from medsharp.evaluation.report.wording import percent
from medsharp.export import refit
from medsharp.export.checks import answer_limits
from medsharp.files import sha256_file
from medsharp.inference import Predictor
from medsharp.inference.checks.registry import IMAGE_CHECKS
from medsharp.networks import Classifier, create_network

OWN, NORMAL, FOREIGN = 180, 30, 12

_PICTURE = [check.key for check in IMAGE_CHECKS]


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
    assert list(after.checks) == [*_PICTURE, "no_lesion", "distance", "energy"]
    assert {after.checks[key].images for key in _PICTURE} == {OWN}
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


def test_limits_of_every_bundle_stay_and_their_rates_are_of_the_bundles_own_images(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    """A third of the images is narrower than `small` asks for, and a sixth is of flat colour patches."""
    changed = tmp_path / "changed"
    shutil.copytree(data, changed)
    table = pd.read_csv(changed / "manifest.csv", dtype=str, keep_default_na=False)
    for number in range(OWN):
        file = changed / f"{number:03d}.png"
        pixels = np.asarray(Image.open(file))
        if number % 3 == 0:
            Image.fromarray(pixels[:, :60]).save(file)
        elif number % 6 == 1:
            coloured = np.stack([pixels] * 3, axis=-1)
            coloured[10:50, 10:50] = (250, 30, 20)
            Image.fromarray(coloured).save(file)
    table["sha256"] = [sha256_file(changed / name) for name in table["image"]]
    table.to_csv(changed / "manifest.csv", index=False)
    theirs = tmp_path / "theirs"
    shutil.copytree(bundle, theirs)
    (theirs / TRAINING_HASHES).write_text("".join(f"{digest}\n" for digest in table["sha256"][:OWN]))
    spec = read_bundle(theirs, verify=False)
    files = {**spec.files, TRAINING_HASHES: sha256_file(theirs / TRAINING_HASHES)}
    write_spec(theirs, spec.model_copy(update={"files": files}))
    result = run("checks", theirs, "--data", changed, "--out", tmp_path / "new")
    assert result.exit_code == 0, result.output
    checks = read_bundle(tmp_path / "new").checks
    assert (checks["small"].limit, checks["small"].false_alarms) == (64, 1 / 3)
    assert (checks["coloured"].limit, checks["coloured"].false_alarms) == (0.02, 1 / 6)
    assert (checks["too_small"].limit, checks["too_small"].false_alarms) == (32, 0)


@pytest.mark.parametrize("how", ["export", "checks"])
def test_card_tells_each_check_with_its_limit_and_rates(bundle: Path, data: Path, tmp_path: Path, how: str) -> None:
    folder = bundle
    if how == "checks":
        run("checks", bundle, "--data", data, "--out", tmp_path / "new")
        folder = tmp_path / "new"
    spec = read_bundle(folder)
    card = (folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    section = card.split("## Input checks")[1].split("\n## ")[0]
    rows = {line.split("`")[1]: line for line in section.splitlines() if line.startswith("| `")}
    assert list(rows) == list(spec.checks)
    for key, one in spec.checks.items():
        assert f" {one.limit:.4g} | {percent(one.false_alarms, 1)} of {one.images} |" in rows[key]
    assert "| refused |" in rows["mostly_black"]
    assert "above 0.9 |" in rows["mostly_black"]
    assert "| cautioned |" in rows["small"]
    assert "below 64 |" in rows["small"]
    if how == "checks":
        found = spec.checks["no_lesion"].found
        assert found is not None
        assert f"| {percent(found, 1)} of {NORMAL}, each by a fit that left it out |" in rows["no_lesion"]


def test_bundle_from_before_gets_the_intervals_of_what_its_threshold_reached(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    exported = read_bundle(bundle)
    without = {"sensitivity_interval": None, "specificity_interval": None}
    older = exported.model_copy(update={"operating_point": exported.operating_point.model_copy(update=without)})
    shutil.copytree(bundle, tmp_path / "older")
    write_spec(tmp_path / "older", older)
    assert run("checks", tmp_path / "older", "--data", data, "--out", tmp_path / "new").exit_code == 0
    assert read_bundle(tmp_path / "new").operating_point == exported.operating_point
    # A point that was chosen elsewhere has no interval of these images.
    moved = older.operating_point.model_copy(update={"sensitivity": 0.5})
    shutil.copytree(bundle, tmp_path / "moved")
    write_spec(tmp_path / "moved", older.model_copy(update={"operating_point": moved}))
    assert run("checks", tmp_path / "moved", "--data", data, "--out", tmp_path / "other").exit_code == 0
    assert read_bundle(tmp_path / "other").operating_point == moved


def test_bundle_from_before_there_were_checks_speaks_by_its_own_limits_until_it_has_them(
    bundle: Path, data: Path, tmp_path: Path
) -> None:
    spec = read_bundle(bundle)
    assert spec.input_check is None
    assert "input_check" not in (bundle / "bundle.yaml").read_text(encoding="utf-8")
    image = data / "000.png"
    features = Predictor.load(bundle).session.output_shapes["features"][1]
    former = {"feature_mean": (0.0,) * features, "feature_scale": (1.0,) * features}
    limits = InputCheck(**former, distance_limit=1e-6, brightness=(0.0, 255.0))
    shutil.copytree(bundle, tmp_path / "former")
    write_spec(tmp_path / "former", spec.model_copy(update={"checks": {}, "input_check": limits}))
    (before,) = Predictor.load(tmp_path / "former").predict([image])
    assert [one.check for one in before.findings] == ["distance"]
    assert before.findings[0].sentence == "unlike the training images"
    assert run("checks", tmp_path / "former", "--data", data, "--out", tmp_path / "new").exit_code == 0
    after = Predictor.load(tmp_path / "new")
    assert after.spec.input_check is None
    assert not after.predict([image])[0].findings


def test_export_learns_of_images_without_a_lesion(
    export: Callable[..., BundleSpec], network: Classifier, images: np.ndarray, tmp_path: Path
) -> None:
    twice = np.concatenate([images, 255 - images])
    options: dict[str, Any] = {"validation_images": twice, "validation_labels": np.arange(80) % 2}
    plain = export(network, tmp_path / "plain", **options)
    assert list(plain.checks) == [*_PICTURE, "distance", "energy"]
    once = export(network, tmp_path / "once", without_lesion=images[:1, ::-1], **options)
    assert (once.checks["no_lesion"].without, once.checks["no_lesion"].found) == (1, None)
    card = (tmp_path / "once" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "--no-lesion WITHOUT_LESION" in card
    assert "| `no_lesion` |" in card
    card = (tmp_path / "plain" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "--no-lesion" not in card
    assert "| `no_lesion` |" not in card
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
