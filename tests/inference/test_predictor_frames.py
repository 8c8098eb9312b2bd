"""Clips, lesions, limits and inpainting: what a prediction was made of is what was asked for, and is said."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage
from typer.testing import CliRunner

from medsharp.bundle import read_bundle
from medsharp.cli import app
from medsharp.data.manifest import read_manifest
from medsharp.errors import InputError
from medsharp.images import Box, ImageLimits
from medsharp.inference import Given, Predictor, predict_manifest
from medsharp.inference.external import evaluate_manifest, open_external
from medsharp.inference.session import Session
from medsharp.preprocess import PreprocessSpec, preprocess


@pytest.fixture
def clip(images: np.ndarray) -> bytes:
    """A DICOM clip of three frames, of which the second is the sharpest."""
    blurred = np.asarray(Image.fromarray(images[0]).resize((16, 16), Image.Resampling.BOX).resize((64, 64)))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UltrasoundMultiFrameImageStorage, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Rows = dataset.Columns = 64
    dataset.NumberOfFrames, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = np.stack([blurred, images[0], blurred // 2]).tobytes()
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.fixture
def scans(tmp_path: Path, images: np.ndarray) -> Path:
    """A folder with three images; the lesion of the first has a mask, that of the second a box."""
    for number in range(3):
        Image.fromarray(images[number]).save(tmp_path / f"{number}.png")
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[20:40, 20:44] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    (tmp_path / "manifest.csv").write_text(
        'image,label,mask,box\n0.png,benign,mask.png,\n1.png,malignant,,"20,20,44,40"\n2.png,benign,,\n'
    )
    return tmp_path


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What networks are given, batch by batch."""
    batches: list[np.ndarray] = []
    original = Session.run

    def run(session: Session, inputs: np.ndarray) -> dict[str, np.ndarray]:
        batches.append(inputs)
        return original(session, inputs)

    monkeypatch.setattr(Session, "run", run)
    return batches


@pytest.fixture
def looking_at_lesions(predictor: Predictor) -> Predictor:
    other = Predictor(predictor.folder, predictor.spec, predictor.session)
    other.preprocessing = PreprocessSpec(64, "lesion", margin=0.25)
    return other


def test_sharpest_frame_is_predicted_and_said(predictor: Predictor, clip: bytes, images: np.ndarray) -> None:
    (answer,) = predictor.predict([clip], names=["scan.dcm"])
    (plain,) = predictor.predict_pixels([images[0]])
    assert answer.positive_probability == plain.positive_probability
    assert (answer.name, answer.frame) == ("scan.dcm", 2)
    assert "frame 2 of 3, the sharpest" in answer.flags


def test_every_frame_or_one_is_predicted_under_its_number(
    predictor: Predictor, clip: bytes, images: np.ndarray
) -> None:
    picture = io.BytesIO()
    Image.fromarray(images[1]).save(picture, format="PNG")
    sources, names = [clip, picture.getvalue()], ["scan.dcm", "scan.png"]
    every = predictor.predict(sources, names=names, frames="all", batch_size=2)
    assert [answer.name for answer in every] == ["scan.dcm#1", "scan.dcm#2", "scan.dcm#3", "scan.png"]
    assert [answer.source for answer in every] == ["scan.dcm"] * 3 + ["scan.png"]
    one, missing = predictor.predict(sources, names=names, frames=3)
    assert one.name == "scan.dcm#3"
    assert one.positive_probability == pytest.approx(every[2].positive_probability)
    assert missing.error == "scan.png has one frame; there is no frame 3"


def test_command_writes_a_row_and_a_heat_map_a_frame(bundle: Path, clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_bytes(clip)
    out, maps = tmp_path / "predictions.csv", tmp_path / "maps"
    command = ["predict", str(bundle), str(tmp_path / "scan.dcm"), "--out", str(out), "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--frames", "all", "--heatmaps", str(maps)])
    assert result.exit_code == 0, result.output
    names = pd.read_csv(out)["image"]
    assert [name.rsplit("#")[1] for name in names] == ["1", "2", "3"]
    assert sorted(file.name for file in maps.iterdir()) == [f"0000{n}-scan-frame-{n}.png" for n in (1, 2, 3)]
    wrong = CliRunner().invoke(app, [*command, "--frames", "0"])
    assert "--frames 0: write sharpest, all, or the number" in " ".join(wrong.output.split())


def test_manifest_of_clips_gives_a_row_a_frame(predictor: Predictor, clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_bytes(clip)
    (tmp_path / "manifest.csv").write_text("image,label,patient\nscan.dcm,benign,P1\n")
    table = predict_manifest(predictor, read_manifest(tmp_path), frames="all")
    assert list(table["image"]) == ["scan.dcm#1", "scan.dcm#2", "scan.dcm#3"]
    assert set(table["patient"]) == {"P1"}


def test_a_row_of_a_manifest_is_the_frame_that_it_names(
    predictor: Predictor, clip: bytes, tmp_path: Path, images: np.ndarray
) -> None:
    (tmp_path / "scan.dcm").write_bytes(clip)
    Image.fromarray(images[1]).save(tmp_path / "still.png")
    rows = ["scan.dcm,benign,3", "still.png,benign,", "scan.dcm,malignant,1"]
    (tmp_path / "manifest.csv").write_text("\n".join(["image,label,frame", *rows]) + "\n")
    (tmp_path / "clip.dcm").write_bytes(clip)
    every = predictor.predict([tmp_path / "clip.dcm"], frames="all")
    table = predict_manifest(predictor, read_manifest(tmp_path))
    assert list(table["image"]) == ["scan.dcm#3", "still.png", "scan.dcm#1"]
    assert list(table["label"]) == ["benign", "benign", "malignant"]
    expected = [every[2].positive_probability, every[0].positive_probability]
    assert list(table["p_malignant"][[0, 2]]) == pytest.approx(expected)
    assert list(table["error"]) == ["", "", ""]


def test_columns_of_a_manifest_never_hide_those_of_a_prediction(
    predictor: Predictor, images: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(images[1]).save(tmp_path / "1.png")
    (tmp_path / "manifest.csv").write_text("image,label,flags,side\n1.png,benign,text; tiny,left\n")
    table = predict_manifest(predictor, read_manifest(tmp_path))
    assert table.columns.is_unique
    assert (table["manifest_flags"][0], table["side"][0]) == ("text; tiny", "left")
    assert table["threshold_side"][0] in ("above", "below")


def test_a_frame_for_each_source_must_be_as_many(predictor: Predictor, clip: bytes) -> None:
    assert [one.frame for one in predictor.predict([clip, clip], frames=[1, 3])] == [1, 3]
    with pytest.raises(InputError, match="1 frames for 2 images"):
        predictor.predict([clip, clip], frames=[1])


def test_frame_0_is_none_and_not_the_sharpest(predictor: Predictor, clip: bytes) -> None:
    of_all = predictor.predict([clip], frames=0)
    of_each = list(predictor.stream([Given(clip, frames=0)]))
    assert len(of_all) == len(of_each) == 1
    for prediction in (*of_all, *of_each):
        assert prediction.error is not None
        assert prediction.error.endswith("there is no frame 0")


def test_pictures_of_failures_are_of_the_frame_that_failed(
    predictor: Predictor, clip: bytes, images: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "scan.dcm").write_bytes(clip)
    for number in range(2, 6):
        Image.fromarray(images[number]).save(tmp_path / f"{number}.png")
    rows = [f"{number}.png,{('benign', 'malignant')[number % 2]}," for number in range(2, 6)]
    (answer,) = predictor.predict([clip], frames=3)
    wrong = "benign" if answer.side == "above" else "malignant"
    rows.append(f"scan.dcm,{wrong},3")
    (tmp_path / "manifest.csv").write_text("\n".join(["image,label,frame", *rows]) + "\n")
    manifest = open_external(tmp_path, predictor)
    evaluation, _ = evaluate_manifest(predictor, manifest, out=tmp_path / "out", resamples=100, thumbnails=True)
    listed = [image["image"] for kind in evaluation.as_dict()["failures"].values() for image in kind["images"]]
    assert "scan.dcm#3" in listed
    assert set(evaluation.thumbnails) == set(listed)


def test_limits_are_the_predictors(bundle: Path, clip: bytes) -> None:
    strict = Predictor.load(bundle, device="cpu", limits=ImageLimits(max_frames=2))
    (answer,) = strict.predict([clip], names=["scan.dcm"])
    assert answer.error == "scan.dcm has 3 frames; the most is 2"


def test_command_takes_limits_and_names_a_wrong_one(bundle: Path, clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_bytes(clip)
    command = ["predict", str(bundle), str(tmp_path / "scan.dcm"), "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--limit", "max_frames=2"])
    assert result.exit_code == 2
    for wrong, words in (
        ("max_frame=2", "did you mean max_frames"),
        ("max_frames", "write it as key=value"),
        ("max_frames=0", "max_frames=0"),
        ("max_frames=many", "max_frames=many"),
        ("max_frames=[", "'[' is not a number"),
        ("max_frames=2026-13-45", "'2026-13-45' is not a number"),
    ):
        result = CliRunner().invoke(app, [*command, "--limit", wrong])
        assert result.exit_code == 2
        assert words in " ".join(result.output.split())


def test_box_is_refused_where_the_bundle_does_not_look_at_it(bundle: Path, clip: bytes, tmp_path: Path) -> None:
    (tmp_path / "scan.dcm").write_bytes(clip)
    result = CliRunner().invoke(app, ["predict", str(bundle), str(tmp_path / "scan.dcm"), "--box", "1,2,30,40"])
    assert result.exit_code == 2
    assert "does not crop to the lesion; leave --box out" in " ".join(result.output.split())


def test_lesion_is_found_by_mask_or_box_and_without_them_said(looking_at_lesions: Predictor, scans: Path) -> None:
    table = predict_manifest(looking_at_lesions, read_manifest(scans))
    assert list(table["error"])[:2] == ["", ""]
    assert table["error"][2] == "2.png: crop: lesion needs a mask or a box, and the manifest names neither"


def test_box_outside_one_image_does_not_stop_the_others(looking_at_lesions: Predictor, scans: Path) -> None:
    (scans / "manifest.csv").write_text(
        'image,label,mask,box\n0.png,benign,mask.png,\n1.png,malignant,,"200,20,244,40"\n'
    )
    table = predict_manifest(looking_at_lesions, read_manifest(scans))
    assert table["error"][0] == ""
    assert table["error"][1].startswith("1.png: box '200,20,244,40'")
    assert table["p_malignant"].notna().tolist() == [True, False]


def test_network_sees_the_lesion_that_was_given(
    looking_at_lesions: Predictor, scans: Path, images: np.ndarray, seen: list[np.ndarray]
) -> None:
    box = Box(20, 20, 40, 44)
    (answer,) = looking_at_lesions.predict([scans / "0.png"], lesion=lambda *_: box)
    assert np.array_equal(seen[0][0], preprocess(images[0], looking_at_lesions.preprocessing, lesion=box))
    heatmap = answer.heatmap()
    assert heatmap is not None
    assert heatmap.shape == (64, 64)
    assert heatmap[:12].max() == 0  # nothing is said of what the network did not see


def test_image_alone_is_told_how_to_give_the_lesion(looking_at_lesions: Predictor, scans: Path) -> None:
    (answer,) = looking_at_lesions.predict([scans / "0.png"])
    assert answer.error is not None
    assert "--box" in answer.error


def test_page_refuses_a_model_that_looks_at_lesions(looking_at_lesions: Predictor) -> None:
    from serve import create_app

    with pytest.raises(InputError, match="looks at the lesion only"):
        create_app(looking_at_lesions)


def test_inpainting_can_be_switched_whatever_the_bundle_says(
    bundle: Path, images: np.ndarray, seen: list[np.ndarray]
) -> None:
    marked = np.repeat(np.repeat(images[0], 4, axis=0), 4, axis=1) // 2
    marked[60, 52:69] = marked[52:69, 60] = 255  # a caliper
    answers = [Predictor.load(bundle, device="cpu", inpaint=on).predict_pixels([marked])[0] for on in (True, False)]
    assert np.array_equal(seen[0][0], preprocess(marked, PreprocessSpec(64, inpaint=True)))
    assert np.array_equal(seen[1][0], preprocess(marked, PreprocessSpec(64)))
    assert not np.array_equal(seen[0], seen[1])
    assert ["calipers and text inpainted" in answer.flags for answer in answers] == [True, False]


def test_new_keys_change_no_digest_of_a_bundle_written_before(bundle: Path) -> None:
    spec = read_bundle(bundle)
    assert set(spec.model_dump(mode="json")["preprocess"]) == {"size", "crop", "fit"}
    lesion = spec.preprocess.model_copy(update={"crop": "lesion", "inpaint": True})
    assert set(lesion.model_dump(mode="json")) == {"size", "crop", "fit", "margin", "inpaint"}
    assert lesion.spec() == PreprocessSpec(64, "lesion", "letterbox", 0.2, True)


def test_evaluation_can_remove_calipers_and_text_first(bundle: Path, images: np.ndarray, tmp_path: Path) -> None:
    rows = ["image,label,patient"]
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{('benign', 'malignant')[number % 2]},P{number}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    out = tmp_path / "evaluation"
    command = ["evaluate", str(bundle), "--data", str(tmp_path), "--out", str(out), "--resamples", "100"]
    result = CliRunner().invoke(app, [*command, "--format", "json", "--device", "cpu", "--inpaint"])
    assert result.exit_code == 0, result.output
    (table,) = [pd.read_csv(file) for file in out.glob("predictions-*.csv")]
    assert table["flags"].str.contains("calipers and text inpainted").all()
