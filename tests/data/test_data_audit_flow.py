"""Colour Doppler is what the table says, or flow in the tissue; nothing that excludes a whole hospital passes."""

from __future__ import annotations

import io
import stat
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from scipy import ndimage
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.data import Manifest, open_dataset, read_manifest
from medsharp.data.audit import Action, Audit, audit_datasets
from medsharp.data.audit.flow import measure_colour
from medsharp.data.manifest import DatasetInfo, make_table
from medsharp.data.phantom.drawings import draw_body_marker, draw_calipers, draw_flow, draw_text, join_views
from medsharp.data.phantom.simulate import simulate_image
from medsharp.data.sources import busuclm
from medsharp.images import Box
from medsharp.images.decoded import LEAST_FLOW

SIZE = 256
DOPPLER = (3, 17)
"""Images of the made-up set that show flow."""


@lru_cache
def screen(number: int, size: int = SIZE) -> Image.Image:
    """Not to be drawn on: each is made once."""
    rng = np.random.default_rng([7, number])
    label = ("benign", "malignant")[number % 2]
    return Image.fromarray(simulate_image("ABC"[number % 3], label, rng, size).pixels).convert("RGB")


def with_marker(image: Image.Image, number: int) -> Image.Image:
    """Of 80 x 78 pixels, in one of the four corners."""
    marked = image.copy()
    gap = number % 9
    top = gap if number % 4 < 2 else image.height - 78 - gap
    left = gap if number % 2 else image.width - 80 - gap
    draw_body_marker(marked, Box(top, left, top + 78, left + 80), np.random.default_rng(number))
    return marked


def with_flow(image: Image.Image, number: int) -> Image.Image:
    flowing = image.copy()
    third = image.width // 3
    box = Box(third, third, third + third, third + third + number)
    draw_flow(flowing, box, np.random.default_rng(number))
    return flowing


def jpeg(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=75)
    return Image.open(stream).convert("RGB")


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of BUS-UCLM: colour images with a body marker in a corner, a few of them with a Doppler window."""
    folder = tmp_path_factory.mktemp("uclm")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    lines = ["Image,Label,Doppler,Marks,Combined"]
    for number in range(24):
        image = with_marker(screen(number), number)
        if number in DOPPLER:
            image = with_flow(image, number)
        name = f"P{number // 2:02d}_{number:03d}.png"
        image.save(folder / "images" / name)
        Image.new("RGB", image.size, (0, 255, 0)).save(folder / "masks" / name)
        label = ("Benign", "Malignant")[number % 2]
        lines.append(f"{name},{label},{'Yes' if number in DOPPLER else 'No'},No,{'Yes' if number == 5 else 'No'}")
    (folder / "INFO.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def without(manifest: Manifest, *columns: str) -> Manifest:
    return manifest.replace(table=manifest.table.drop(columns=list(columns)))


def images_of(audit: Audit, kind: str) -> set[int]:
    return {int(finding.image[-7:-4]) for finding in audit.findings if finding.kind == kind}


def test_a_marker_in_the_corner_is_no_flow_and_the_hospital_stays(hospital: Path) -> None:
    manifest = busuclm.read(hospital)
    for given in (manifest, without(manifest, "doppler", "combined", "marks")):
        audit = audit_datasets([given])
        assert images_of(audit, "doppler") == set(DOPPLER)
        assert len(audit.after[0].included) == 24 - len(DOPPLER)
        assert audit.suspensions == ()


def test_the_column_of_the_source_wins_and_is_named(hospital: Path) -> None:
    manifest = busuclm.read(hospital)
    table = manifest.table.copy()
    table.loc[[0, DOPPLER[0]], "doppler"] = ["yes", "no"]
    audit = audit_datasets([manifest.replace(table=table)])
    assert images_of(audit, "doppler") == {0, DOPPLER[1]}
    details = {finding.image[-7:-4]: finding.detail for finding in audit.findings if finding.kind == "doppler"}
    assert details["000"] == "the column doppler says yes"
    assert audit.after[0].table.loc[0, "exclude"] == "colour Doppler, as the column doppler says yes"
    colour = {int(f.image[-7:-4]): f.detail for f in audit.findings if f.kind == "colour"}
    assert "but the column doppler says no" in colour[DOPPLER[0]]
    assert images_of(audit, "dual-view") == {5}
    assert [f.detail for f in audit.findings if f.kind == "dual-view"] == ["the column combined says yes"]


@pytest.mark.parametrize(
    ("cells", "flagged", "unread"),
    [
        (["1", "0", "0.0", "1.0"], [0, 3], 0),
        (["TRUE", "false", "No", "Y"], [0, 3], 0),
        (["x", "", "", "X"], [0, 3], 0),  # boxes that were not ticked
        (["Doppler", "", "", ""], [0], 0),
        (["maybe", "no", "left", "yes"], [3], 2),
        (["", "", "", ""], [], 0),
    ],
)
def test_every_way_of_saying_yes_and_no_is_read_and_others_are_counted(
    tmp_path: Path, cells: list[str], flagged: list[int], unread: int
) -> None:
    for number in range(4):
        screen(number).save(tmp_path / f"{number:03d}.png")
    rows = [{"image": f"{n:03d}.png", "label": "benign", "Doppler": cell} for n, cell in enumerate(cells)]
    audit = audit_datasets([Manifest(make_table(rows), DatasetInfo("x", ("benign",)), tmp_path)])
    assert sorted(images_of(audit, "doppler")) == flagged
    said = [finding.detail for finding in audit.findings if finding.kind == "column"]
    assert len(said) == (unread > 0)
    if unread:
        assert f"the column Doppler has {unread} cells that are neither yes nor no" in said[0]


def sepia(image: Image.Image) -> Image.Image:
    grey = np.arange(256) / 255
    table = np.stack([grey**0.8, grey * 0.85, grey**1.4 * 0.7], axis=-1)
    return Image.fromarray((255 * table).astype(np.uint8)[np.asarray(image.convert("L"))])


def blue_grey(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image) * [0.75, 0.85, 1.0]).astype(np.uint8))


def deep_blue(image: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(image) * [0.3, 0.5, 1.0]).astype(np.uint8))


def drawn_in_red(image: Image.Image) -> Image.Image:
    marked, side = image.copy(), image.width
    ends = [(side // 3, side // 2), (2 * side // 3, side // 2)]
    draw_calipers(marked, ends, arm=side // 50, colour=(255, 40, 40), dotted=True, thickness=1 + side // 300)
    draw_text(marked, (side // 3, side * 3 // 4), "RT BREAST 10H", height=side // 24, colour=(80, 90, 255))
    return marked


def with_colour_bar(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image).copy()
    height, width = pixels.shape[:2]
    level = np.linspace(1, 0, height // 3)[:, None]
    bar = np.concatenate([level * [[255, 40, 0]], level[::-1] * [[0, 40, 255]]])[:, None].astype(np.uint8)
    pixels[height // 6 : height // 6 + len(bar), width - 14 - width // 40 : width - 14] = bar
    return Image.fromarray(pixels)


@pytest.mark.parametrize("change", [sepia, blue_grey, deep_blue, drawn_in_red, with_colour_bar, lambda image: image])
@pytest.mark.parametrize("size", [256, 480])
def test_colour_that_is_no_flow_is_none_and_flow_under_it_is(
    change: Callable[[Image.Image], Image.Image], size: int
) -> None:
    for number in range(3):
        plain = change(screen(number, size))
        for picture in (plain, with_marker(plain, number)):
            assert measure_colour(np.asarray(picture)).flow < 4e-4
        assert measure_colour(np.asarray(with_flow(plain, number))).flow >= 4e-4
    if change is sepia:
        assert measure_colour(np.asarray(jpeg(sepia(screen(1, size))))).tinted


def test_a_red_part_belongs_to_the_pale_marker_that_it_touches() -> None:
    """Its own place is no corner, and lit tissue is beside it."""
    rgb = np.asarray(screen(1)).copy()
    rgb[190:250, 6:76] = (220, 180, 150)
    rgb[178:191, 50:76] = (230, 20, 20)
    assert measure_colour(rgb).flow == 0.0
    apart = rgb.copy()
    apart[190:250, 6:76] = 90
    assert measure_colour(apart).flow > LEAST_FLOW


def enlarged(image: Image.Image, side: int) -> np.ndarray:
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def test_large_images_are_judged_alike_and_looked_at_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dilated and labelled has at most 2048 pixels a side, and no element grows with the image."""
    shapes, elements = [], []
    for name in ("binary_dilation", "binary_erosion", "binary_opening"):
        plain = getattr(ndimage, name)

        def spied(mask: np.ndarray, structure: Any = None, *, plain: Any = plain, **options: Any) -> Any:
            shapes.append(mask.shape)
            elements.append(0 if structure is None else np.size(structure))
            return plain(mask, structure, **options)

        monkeypatch.setattr(ndimage, name, spied)
    flowing, marked = with_flow(screen(1), 1), with_marker(drawn_in_red(screen(2)), 2)
    expected = measure_colour(enlarged(flowing, 1100)).flow
    assert expected > 10 * LEAST_FLOW
    assert max(max(shape) for shape in shapes) == 1100
    assert max(elements) <= 9
    assert measure_colour(enlarged(flowing, 3000)).flow == pytest.approx(expected, rel=0.1)
    assert measure_colour(enlarged(marked, 3000)).flow == 0.0
    assert max(max(shape) for shape in shapes) == 1500
    assert max(elements) <= 9


def test_reduced_are_all_rows_of_a_large_image() -> None:
    """By a whole number, in strips, of which the last is lower."""
    rgb = enlarged(with_flow(screen(1), 1), 4200)[:3137, 90:]
    for picture in (rgb, np.ascontiguousarray(rgb.swapaxes(0, 1))):
        assert measure_colour(picture) == measure_colour(np.asarray(Image.fromarray(picture).reduce(3)))


def test_thin_images_are_looked_at_too() -> None:
    strip = np.zeros((16, 9000, 3), dtype=np.uint8)
    strip[:, :, 0] = np.linspace(60, 250, 9000)
    for picture in (strip, np.ascontiguousarray(strip.swapaxes(0, 1))):
        assert measure_colour(picture).coloured > 0.7


def write_dicom(file: Path, rgb: np.ndarray) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PlanarConfiguration = *rgb.shape[:2], 3, 0
    dataset.PhotometricInterpretation = "RGB"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = rgb.tobytes()
    dataset.save_as(file, enforce_file_format=True)


def test_the_same_pixels_have_the_same_findings_as_dicom_and_as_png(tmp_path: Path) -> None:
    pictures = [with_flow(screen(1), 1), with_marker(screen(2), 2), sepia(screen(3)), drawn_in_red(screen(4))]
    found = {}
    for kind in ("png", "dcm"):
        rows = []
        for number, picture in enumerate(pictures):
            name = f"{kind}{number}.{kind}"
            if kind == "png":
                picture.save(tmp_path / name)
            else:
                write_dicom(tmp_path / name, np.asarray(picture))
            rows.append({"image": name, "label": "benign"})
        audit = audit_datasets([Manifest(make_table(rows), DatasetInfo(kind, ("benign",)), tmp_path)])
        found[kind] = sorted((f.image[3:4], f.kind, f.detail, str(f.action)) for f in audit.findings)
    assert found["png"] == found["dcm"]
    assert {kind for _, kind, _, _ in found["png"]} >= {"doppler", "colour"}


@pytest.fixture
def mostly_doppler(tmp_path: Path) -> Path:
    """Two classes of six images; a third of the benign ones, and all malignant ones, show flow."""
    for number in range(12):
        picture = screen(100 + number)
        if number % 2 or number < 4:
            picture = with_flow(picture, number)
        file = tmp_path / "data" / ("benign", "malignant")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture.save(file)
    return tmp_path / "data"


def test_a_kind_that_excludes_more_than_a_fifth_is_announced_and_not_applied(
    mostly_doppler: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["data", "audit", str(mostly_doppler), "--out", str(out)])
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "NOT APPLIED: data: colour Doppler on 8 of 12 images (67%)" in said
    assert "--accept doppler" in said
    manifest = read_manifest(out)
    assert (manifest.table["exclude"] == "").all()
    assert Counter(manifest.table["flags"].str.contains("doppler")) == {True: 8, False: 4}
    page = (out / "audit.html").read_text(encoding="utf-8")
    assert "Not applied: data: colour Doppler on 8 of 12 images" in page
    assert ",exclude" not in (out / "findings.csv").read_text(encoding="utf-8")


def test_accepted_kinds_are_applied_and_a_class_that_is_lost_is_told(mostly_doppler: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["data", "audit", str(mostly_doppler), "--out", str(out), "--accept", "doppler"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "accepted: data: colour Doppler on 8 of 12 images" in said
    assert "no image of class malignant stays, of 6" in said
    assert (read_manifest(out).table["exclude"] == "colour Doppler").sum() == 8
    assert "no image of class malignant stays" in (out / "audit.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("accept", "sentence"),
    [
        ("dopler", "did you mean doppler?"),
        ("calipers", "it excludes no image"),
        ("exact,nothing", "no kind of finding has that name"),
    ],
)
def test_accepting_what_does_not_exclude_is_a_sentence(
    mostly_doppler: Path, tmp_path: Path, accept: str, sentence: str
) -> None:
    command = ["data", "audit", str(mostly_doppler), "--out", str(tmp_path / "out"), "--accept", accept]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert not (tmp_path / "out").exists()


def test_accepting_without_a_policy_that_excludes_is_a_sentence(mostly_doppler: Path, tmp_path: Path) -> None:
    command = ["data", "audit", str(mostly_doppler), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, [*command, "--accept", "exact", "--policy", "report"])
    assert result.exit_code == 2
    assert "--accept changes nothing with --policy report" in " ".join(result.stderr.split())


def test_copies_that_are_too_many_stay_in_one_group(tmp_path: Path) -> None:
    for number in range(10):
        file = tmp_path / "data" / ("benign", "malignant")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        screen(200 + number).convert("L").save(file)
        if number < 6:
            screen(200 + number).convert("L").save(file.with_suffix(".bmp"))
    held = audit_datasets([open_dataset(tmp_path / "data")])
    assert [(s.kind, s.count, s.images) for s in held.suspensions] == [("exact", 6, 16)]
    assert {finding.action for finding in held.findings if finding.kind == "exact"} == {Action.group}
    table = held.after[0].table
    assert (table["exclude"] == "").all()
    assert table["group"].nunique() == 10
    accepted = audit_datasets([open_dataset(tmp_path / "data")], accept=["exact"])
    assert (accepted.after[0].table["exclude"] != "").sum() == 6


def test_an_image_with_another_reason_is_left_out_all_the_same(mostly_doppler: Path) -> None:
    Image.new("RGB", (90, 90), (7, 7, 7)).save(mostly_doppler / "benign" / "flat.png")
    audit = audit_datasets([open_dataset(mostly_doppler)])
    assert [s.kind for s in audit.suspensions] == ["doppler"]
    assert list(audit.after[0].table["exclude"][lambda column: column != ""]) == ["constant image"]


def test_what_holds_thumbnails_is_for_its_owner_alone_and_the_same_again(mostly_doppler: Path, tmp_path: Path) -> None:
    texts = []
    for out in (tmp_path / "one", tmp_path / "two"):
        result = CliRunner().invoke(app, ["data", "audit", str(mostly_doppler), "--out", str(out)])
        assert result.exit_code == 0, result.output
        assert stat.S_IMODE(out.stat().st_mode) == 0o700
        for name in ("audit.html", "findings.csv"):
            assert stat.S_IMODE((out / name).stat().st_mode) == 0o600
        texts.append((out / "findings.csv").read_text() + (out / "manifest.csv").read_text())
    assert texts[0] == texts[1]
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o755)
    (shared / "notes.txt").write_text("mine")
    result = CliRunner().invoke(app, ["data", "audit", str(mostly_doppler), "--out", str(shared)])
    assert result.exit_code == 0, result.output
    assert stat.S_IMODE((shared / "audit.html").stat().st_mode) == 0o600
    assert (shared / "notes.txt").read_text() == "mine"


def test_views_that_are_joined_are_stated_or_seen(tmp_path: Path) -> None:
    pixels = [np.asarray(screen(300 + number).convert("L")) for number in range(2)]
    Image.fromarray(join_views(pixels[0], pixels[1], 6)).save(tmp_path / "000.png")
    for said, expected in (("", {0}), ("no", set()), ("yes", {0})):
        rows = [{"image": "000.png", "label": "benign", "combined": said}]
        audit = audit_datasets([Manifest(make_table(rows), DatasetInfo("x", ("benign",)), tmp_path)])
        assert images_of(audit, "dual-view") == expected
