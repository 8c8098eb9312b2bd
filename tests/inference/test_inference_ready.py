"""Images predicted in the search for duplicates: the very answers of images decoded again, within the bytes allowed.

What these tests are for: they fail when a frame of a clip is taken for another, the flags of decoding or the place of
the image get lost, the lesion is not cropped to, an image beyond the limit is kept, or an image is decoded twice.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import refused, run
from PIL import Image

from medsharp.data.manifest import Manifest, frame_of, name_of
from medsharp.images import read
from medsharp.inference import Predictor, predict_manifest
from medsharp.inference.external import evaluate_manifest, open_external
from medsharp.inference.ready import ReadyImages
from medsharp.preprocess import PreprocessSpec

SIDE = 64
INPUT = SIDE**2
"""Bytes of a network's input."""


@pytest.fixture
def hospital(tmp_path: Path, images: np.ndarray, save_dicom: Callable[..., object]) -> Path:
    """Pictures of several shapes, one of 16 bits, two frames of a clip and the sharpest of another; masks and boxes."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "hospital"
    folder.mkdir()
    rows = []
    for number in range(12):
        pixels = np.asarray(Image.fromarray(images[number]).resize((70 + 3 * number, 90)))
        if number == 3:
            pixels = np.stack([pixels, pixels, 255 - pixels], axis=-1)  # in colour
        if number == 4:
            pixels = pixels.astype(np.uint16) * 16  # twelve bits, by the manifest's range
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append((f"{number}.png", "", "", "10,20,50,70"))
    mask = np.zeros((90, 70), dtype=np.uint8)
    mask[30:60, 10:40] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    rows[0] = ("0.png", "", "mask.png", "")
    for name in ("a.dcm", "b.dcm"):
        save_dicom(folder / name, name, frames=3)
    rows += [("a.dcm", frame, "", "30,20,70,60") for frame in ("2", "3")] + [("b.dcm", "", "", "25,22,75,64")]
    table = pd.DataFrame(rows, columns=["image", "frame", "mask", "box"])
    table["label"] = ["benign", "malignant", "malignant"] * 5
    table["patient"] = [f"P{n // 2}" for n in range(len(rows))]
    table.iloc[rng.permutation(len(table))].to_csv(folder / "manifest.csv", index=False)
    (folder / "manifest.yaml").write_text("range: [0, 4080]\n")
    return folder


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of each file whose image is decoded, as often as it is."""
    names: list[str] = []
    plain = read.read_bytes

    def counting(source: Path | str | bytes, *rest: object) -> tuple[bytes, str]:
        names.append(Path(str(source)).name)
        return plain(source, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(read, "read_bytes", counting)
    return names


def looking_at(predictor: Predictor, crop: str) -> Predictor:
    other = Predictor(predictor.folder, predictor.spec, predictor.session)
    other.preprocessing = PreprocessSpec(SIDE, "lesion" if crop == "lesion" else "none", margin=0.25)
    return other


def kept_in(ready: ReadyImages, manifest: Manifest) -> list[bool]:
    return [ready.of(manifest, row) is not None for row in manifest.included.to_dict("records")]


@pytest.mark.parametrize("crop", ["none", "lesion"])
def test_what_was_kept_gives_the_answers_of_what_is_decoded_again(
    crop: str, predictor: Predictor, hospital: Path, decoded: list[str]
) -> None:
    model = looking_at(predictor, crop).answering_anyway()  # one in colour is refused
    ready = ReadyImages(model)
    manifest = open_external(hospital, model, ready=ready)
    assert kept_in(ready, manifest) == [True] * 15
    decoded.clear()
    kept = predict_manifest(model, manifest, ready=ready)
    assert decoded == []
    again = predict_manifest(model, manifest)
    assert len(decoded) == 15
    pd.testing.assert_frame_equal(kept, again)
    assert kept["p_malignant"].nunique() == 15  # no image is taken for another
    assert (again["error"] == "").all()
    assert again["reasons"].str.contains("in colour").sum() == 1
    assert again["flags"].str.contains("sharpest").any()


def test_heat_map_frame_and_names_are_those_of_what_is_decoded_again(predictor: Predictor, hospital: Path) -> None:
    predictor = predictor.answering_anyway()
    ready = ReadyImages(predictor)
    manifest = open_external(hospital, predictor, ready=ready)
    rows = manifest.included.to_dict("records")
    files = [manifest.path(row["image"]) for row in rows]
    options = {
        "names": [name_of(row) for row in rows],
        "frames": [frame_of(row) for row in rows],
        "value_ranges": [manifest.range_of(row) for row in rows],
    }
    again = predictor.predict(files, **options)
    for one, other in zip([ready.of(manifest, row) for row in rows], again, strict=True):
        assert one is not None
        assert (one.source, one.frame, one.flags) == (other.source, other.frame, other.flags)
        assert one.probabilities == other.probabilities
        assert np.array_equal(one.heatmap(), other.heatmap())
    assert {one.frame for one in again} >= {None, 2, 3}
    assert len({one.heatmap().shape for one in again}) > 5


def test_no_more_bytes_are_kept_than_allowed_and_the_answers_are_the_same(
    predictor: Predictor, hospital: Path, decoded: list[str]
) -> None:
    ready = ReadyImages(predictor, most_bytes=5 * INPUT + INPUT // 2)
    manifest = open_external(hospital, predictor, ready=ready)
    assert sum(kept_in(ready, manifest)) == 5
    decoded.clear()
    some = predict_manifest(predictor, manifest, ready=ready)
    assert len(decoded) == 10
    pd.testing.assert_frame_equal(some, predict_manifest(predictor, manifest))


def test_image_without_its_lesion_is_not_kept_and_says_so_when_predicted(predictor: Predictor, hospital: Path) -> None:
    table = pd.read_csv(hospital / "manifest.csv", dtype=str, keep_default_na=False)
    table.loc[table["image"] == "7.png", "box"] = ""
    table.to_csv(hospital / "manifest.csv", index=False)
    model = looking_at(predictor, "lesion")
    ready = ReadyImages(model)
    manifest = open_external(hospital, model, ready=ready)
    answers = predict_manifest(model, manifest, ready=ready).set_index("image")
    assert sum(kept_in(ready, manifest)) == 14
    assert answers.loc["7.png", "error"] == "7.png: crop: lesion needs a mask or a box, and the manifest names neither"
    assert (answers["error"] == "").sum() == 14


def test_evaluate_decodes_each_image_once(bundle: Path, hospital: Path, decoded: list[str], tmp_path: Path) -> None:
    options = ["--resamples", "100", "--format", "json", "--device", "cpu"]
    result = run("evaluate", bundle, "--data", hospital, "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.output
    assert Counter(decoded) == {f"{n}.png": 1 for n in range(12)} | {"a.dcm": 2, "b.dcm": 1}


def test_data_sets_whose_names_are_one_file_name_have_a_table_each(
    predictor: Predictor, hospital: Path, tmp_path: Path
) -> None:
    taken: list[str] = []
    rows = (hospital / "manifest.csv").read_text().splitlines()
    for number, name in enumerate(("Site A", "Site-A", "site-a", "Site A 2")):
        folder = tmp_path / str(number) / name
        shutil.copytree(hospital, folder)
        (folder / "manifest.csv").write_text("\n".join(rows[: 13 - number]) + "\n")
        evaluation, _ = evaluate_manifest(predictor, folder, out=tmp_path / "out", taken=taken, resamples=100)
        taken.append(evaluation.as_dict()["name"])
    found = {path.name: len(pd.read_csv(path)) for path in (tmp_path / "out").glob("predictions-*.csv")}
    names = ("Site-A", "Site-A-2", "site-a-3", "Site-A-2-2")
    assert found == {f"predictions-{name}.csv": 12 - number for number, name in enumerate(names)}


def test_evaluate_decodes_nothing_where_a_column_is_not_there(
    bundle: Path, hospital: Path, decoded: list[str], tmp_path: Path
) -> None:
    result = run("evaluate", bundle, "--data", hospital, "--out", tmp_path / "out", "--by", "patiant")
    refused(result, "has no column 'patiant'")
    assert decoded == []
    assert not (tmp_path / "out").exists()
