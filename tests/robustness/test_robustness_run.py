"""A run: what is predicted, that it can be stopped and goes on, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsharp.errors import InputError
from medsharp.preprocess import PreprocessSpec, preprocess
from medsharp.robustness import Interrupted, measure_robustness, predict_corrupted, prepare, take_sample
from medsharp.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt, find_corruptions, fingerprint

SIDE = 96
CLASSES = ("benign", "malignant")
FEW = find_corruptions(["gain_down", "calipers"])


def measure(predictors: list[Any], data: Path, out: Path, **options: Any) -> dict[str, Any]:
    content, _ = measure_robustness(predictors, [data], options.pop("corruptions", FEW), out, resamples=100, **options)
    return content


def test_corrupts_the_stored_pixels_with_the_seed_of_the_image(hospital: Path, toy: Callable[..., Any]) -> None:
    sample, model = take_sample(hospital, CLASSES, "malignant"), toy()
    with ThreadPoolExecutor(2) as pool:
        (found,) = predict_corrupted(sample, [model], "haze", 3, 7, pool)
    expected = np.stack([corrupt(sample.pixels(i), "haze", 3, sample.seed(i, 7)) for i in range(len(sample))])
    margin = model.session.margin(expected.astype(np.float32)).astype(np.float64)
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-margin)), atol=1e-6)


def test_the_order_of_images_changes_no_noise(hospital: Path) -> None:
    whole = take_sample(hospital, CLASSES, "malignant")
    part = take_sample(hospital, CLASSES, "malignant", images=10, seed=3)
    places = {name: place for place, name in enumerate(whole.rows["image"])}
    for place, name in enumerate(part.rows["image"]):
        assert part.seed(place, 1) == whole.seed(places[name], 1)


def test_a_choice_of_images_keeps_the_shares_of_the_classes(hospital: Path) -> None:
    whole = take_sample(hospital, CLASSES, "malignant")
    for images in (8, 15, len(whole) - 1):
        part = take_sample(hospital, CLASSES, "malignant", images=images, seed=1)
        assert len(part) == images
        expected = whole.labels("malignant").mean() * images
        assert abs(part.labels("malignant").sum() - expected) <= 1


def test_a_model_that_reads_calipers_is_found_out(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    content = measure([toy("annotations", "reader"), toy("lesion", "looker")], hospital, tmp_path / "out")
    reader, looker = ({a["corruption"]: a for a in m["annotations"]} for m in content["datasets"][0]["models"])
    assert set(reader) == {"calipers"}
    last = reader["calipers"]["severities"][4]
    assert last["flips"]["negative"]["value"] > 0.8
    assert last["flips"]["to_negative"]["value"] == 0
    assert last["flips"]["to_positive"]["value"] > 0.5
    assert looker["calipers"]["severities"][4]["flips"]["all"]["value"] < 0.2


def test_two_models_see_the_same_images_and_equal_models_do_not_differ(
    hospital: Path, tmp_path: Path, toy: Callable[..., Any]
) -> None:
    content = measure([toy(name="one"), toy(name="two")], hospital, tmp_path / "out")
    (comparison,) = content["datasets"][0]["comparisons"]
    assert (comparison["first"], comparison["second"]) == ("one", "two")
    for key in ("auroc", "balanced_accuracy", "flips"):
        assert comparison[key]["value"] == 0
        assert comparison[key]["reason"] == "it is the same in every resample"


def test_a_second_start_predicts_nothing_again_and_says_the_same(
    hospital: Path, tmp_path: Path, toy: Callable[..., Any]
) -> None:
    first, second = toy(), toy()
    before = measure([first], hospital, tmp_path / "out")
    assert first.session.images == before["datasets"][0]["images"] * (1 + len(FEW) * 5)
    after = measure([second], hospital, tmp_path / "out")
    assert second.session.images == 0
    assert json.dumps(before) == json.dumps(after)


@pytest.mark.parametrize(("file", "same"), [("MODEL_CARD.md", True), ("model.onnx", False), ("checks.npz", False)])
def test_a_card_that_is_written_anew_makes_no_other_model(
    file: str, same: bool, hospital: Path, tmp_path: Path, toy: Callable[..., Any]
) -> None:
    first, second = toy(), toy()
    second.spec = second.spec.model_copy(update={"files": {**second.spec.files, file: "0" * 64}})
    before = measure([first], hospital, tmp_path / "out")
    if not same:
        with pytest.raises(InputError, match="a run with other bundles"):
            measure([second], hospital, tmp_path / "out")
        return
    after = measure([second], hospital, tmp_path / "out")
    assert second.session.images == 0
    one, other = (content["datasets"][0]["models"][0] for content in (before, after))
    assert one["answers_digest"] == other["answers_digest"]
    assert one["digest"] != other["digest"]


def test_more_corruptions_are_added_to_a_folder(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    before, model = measure([toy()], hospital, tmp_path / "out"), toy()
    content = measure([model], hospital, tmp_path / "out", corruptions=find_corruptions(["gain_*", "calipers"]))
    assert model.session.images == before["datasets"][0]["images"] * 5
    assert len(content["datasets"][0]["models"][0]["cells"]) == 20  # calipers bring their control


def _otherwise(image: np.ndarray, rng: np.random.Generator, *, decibels: float) -> np.ndarray:
    return np.maximum(image, 3) - np.uint8(2)


@pytest.mark.parametrize("changed", [{"apply": _otherwise}, {"levels": tuple({"decibels": -n} for n in range(1, 6))}])
def test_answers_of_another_definition_are_predicted_again_and_others_are_kept(
    changed: dict[str, Any], hospital: Path, tmp_path: Path, toy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = measure([toy()], hospital, tmp_path / "out")
    fingerprint.cache_clear()
    monkeypatch.setitem(CORRUPTIONS, "gain_down", replace(CORRUPTIONS["gain_down"], **changed))
    model = toy()
    after = measure([model], hospital, tmp_path / "out")
    fingerprint.cache_clear()
    assert model.session.images == 5 * before["datasets"][0]["images"]
    cells = [entry["datasets"][0]["models"][0]["cells"] for entry in (before, after)]
    kept = [[cell for cell in part if cell["corruption"] != "gain_down"] for part in cells]
    assert kept[0] == kept[1]


def test_an_interrupted_run_goes_on_where_it_was(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    calls = 0

    def stop(done: int, total: int, what: str) -> None:
        nonlocal calls
        calls += what.startswith("corrupting")
        if calls == 4:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="the same command goes on"):
        measure([toy()], hospital, tmp_path / "out", progress=stop)
    kept = sorted((tmp_path / "out").rglob("*.npy"))
    assert len(kept) == 4
    assert not list((tmp_path / "out").rglob("*.part"))
    model = toy()
    resumed = measure([model], hospital, tmp_path / "out")
    assert model.session.images == resumed["datasets"][0]["images"] * 12
    assert json.dumps(resumed) == json.dumps(measure([toy()], hospital, tmp_path / "whole"))


def test_a_damaged_cell_is_predicted_again(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    before = measure([toy()], hospital, tmp_path / "out")
    for file, content in zip(sorted((tmp_path / "out").rglob("*.npy"))[:3], (b"", b"junk", None), strict=True):
        file.write_bytes(file.read_bytes()[:100] if content is None else content)
    model = toy()
    assert json.dumps(measure([model], hospital, tmp_path / "out")) == json.dumps(before)
    assert model.session.images == 3 * before["datasets"][0]["images"]


@pytest.mark.parametrize(
    ("changed", "word"), [({"seed": 1}, "seed"), ({"images": 12}, "images"), ({"name": "other"}, "bundles")]
)
def test_the_folder_of_another_run_is_refused(
    changed: dict[str, Any], word: str, hospital: Path, tmp_path: Path, toy: Callable[..., Any]
) -> None:
    measure([toy()], hospital, tmp_path / "out")
    name = changed.pop("name", "toy")
    with pytest.raises(InputError, match=f"a run with other {word} .*choose another --out"):
        measure([toy(name=name)], hospital, tmp_path / "out", **changed)


def test_other_data_in_the_same_folder_is_refused(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    measure([toy()], hospital, tmp_path / "out")
    rows = (hospital / "manifest.csv").read_text().splitlines()
    (tmp_path / "less").mkdir()
    (tmp_path / "less" / "manifest.csv").write_text("\n".join(rows[:-3]) + "\n")
    for name in ("images", "masks"):
        shutil.copytree(hospital / name, tmp_path / "less" / name)
    with pytest.raises(InputError, match="a run with other data"):
        measure([toy()], tmp_path / "less", tmp_path / "out")


def test_a_folder_that_is_no_run_is_refused_and_left_alone(
    hospital: Path, tmp_path: Path, toy: Callable[..., Any]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="is no robustness run"):
        measure([toy()], hospital, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_damaged_settings_are_told(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    measure([toy()], hospital, tmp_path / "out")
    (tmp_path / "out" / "settings.json").write_text("{")
    with pytest.raises(InputError, match=r"settings\.json is damaged"):
        measure([toy()], hospital, tmp_path / "out")


def test_bundles_of_different_classes_are_refused(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    other = toy()
    other.spec = other.spec.model_copy(update={"classes": ("benign", "malignant", "normal")})
    with pytest.raises(InputError, match="different classes"):
        measure([toy(), other], hospital, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_one_class_no_labels_and_tiny_images_are_told(tmp_path: Path, toy: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    for label, side in (("benign", 40), ("malignant", 20)):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 255, (side, side)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    with pytest.raises(InputError, match="one class only"):
        measure([toy()], tmp_path / "data", tmp_path / "out")
    names = [f"benign/{number}.png" for number in range(4)]
    (tmp_path / "data" / "manifest.csv").write_text("image,label\n" + "".join(f"{name},\n" for name in names))
    with pytest.raises(InputError, match="4 images have no label"):
        measure([toy()], tmp_path / "data" / "manifest.csv", tmp_path / "out")


def test_training_images_among_the_data_are_told(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    model = toy()
    model.folder = tmp_path / "bundle"
    model.folder.mkdir()
    hashes = take_sample(hospital, CLASSES, "malignant").rows["sha256"]
    (model.folder / "training_images.sha256").write_text("\n".join(hashes[:3]) + "\n")
    (note,) = measure([model], hospital, tmp_path / "out")["datasets"][0]["models"][0]["notes"]
    assert note.startswith("LEAK: the model was trained on 3 of these images")


def test_a_leak_is_told_by_its_row_in_the_manifest(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    model = toy()
    model.folder = tmp_path / "bundle"
    model.folder.mkdir()
    part = take_sample(hospital, CLASSES, "malignant", images=8, seed=0)
    name, digest = part.rows["image"].iloc[-1], part.rows["sha256"].iloc[-1]
    (model.folder / "training_images.sha256").write_text(digest + "\n")
    (note,) = measure([model], hospital, tmp_path / "out", images=8)["datasets"][0]["models"][0]["notes"]
    lines = (hospital / "manifest.csv").read_text().splitlines()
    (row,) = [number for number, line in enumerate(lines, start=1) if line.startswith(f"{name},")]
    assert f"such as row {row}, {name}" in note


def test_data_sets_that_share_images_are_refused(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    shutil.copytree(hospital, tmp_path / "again")
    with pytest.raises(InputError, match="the same file is in two data sets"):
        measure_robustness([toy()], [hospital, tmp_path / "again"], FEW, tmp_path / "out", resamples=100)
    assert not (tmp_path / "out").exists()


def test_two_runs_do_not_share_a_folder(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    model = toy()
    first: list[str] = []

    def start_another(done: int, total: int, what: str) -> None:
        if what.startswith("corrupting") and not first:
            with pytest.raises(InputError, match=r"another run is writing to .*; wait for it or choose another --out"):
                measure([toy()], hospital, tmp_path / "out")
            first.append(what)

    measure([model], hospital, tmp_path / "out", progress=start_another)
    assert first
    measure([model], hospital, tmp_path / "out")  # and the lock is given back


def test_every_cell_has_every_severity(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    (entry,) = measure([toy()], hospital, tmp_path / "out")["datasets"]
    cells = [(cell["corruption"], cell["severity"]) for cell in entry["models"][0]["cells"]]
    assert cells == [(c.name, s) for c in FEW for s in SEVERITIES]
    assert entry["simulated"]
    assert entry["images"] == sum(entry["labels"].values())


def test_a_model_that_crops_to_the_lesion_gets_no_corruption_that_moves_it(
    hospital: Path, tmp_path: Path, toy: Callable[..., Any]
) -> None:
    model = toy()
    model.preprocessing = PreprocessSpec(SIDE, "lesion")
    content = measure([model], hospital, tmp_path / "out", corruptions=find_corruptions(["zoom_in", "gain_up"]))
    assert [entry["name"] for entry in content["corruptions"]] == ["gain_up"]
    with pytest.raises(InputError, match="takes no corruption that moves it"):
        measure([model], hospital, tmp_path / "none", corruptions=find_corruptions(["zoom_in", "crop"]))


def test_what_a_model_that_crops_to_the_lesion_sees_is_the_lesion(hospital: Path) -> None:
    sample, spec = take_sample(hospital, CLASSES, "malignant"), PreprocessSpec(SIDE, "lesion")
    (seen,) = prepare(0, sample, [spec], "gain_up", 2, 0)
    pixels = corrupt(sample.pixels(0), "gain_up", 2, sample.seed(0, 0))
    np.testing.assert_array_equal(seen, preprocess(pixels, spec, lesion=sample.lesion(0)))
