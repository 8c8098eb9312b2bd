"""The audit finds what is wrong with a data set, and its policy does what it says."""

from __future__ import annotations

import csv
import re
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.data import Manifest, open_dataset, read_manifest, tie_duplicates
from medsharp.data.audit import Action, Audit, Policy, audit_datasets, write_audit
from medsharp.data.audit import report as page
from medsharp.data.audit.views import is_dual_view
from medsharp.errors import InputError
from medsharp.preprocess import find_drawings


def scan(seed: int, size: tuple[int, int] = (150, 190)) -> Image.Image:
    """A picture of dim structure at many scales, as no two seeds have it."""
    rng = np.random.default_rng(seed)
    layers = [gaussian_filter(rng.normal(size=size), sigma) * sigma for sigma in (1.2, 2.5, 5, 12)]
    return Image.fromarray((70 + 22 * sum(layers)).clip(0, 160).astype(np.uint8))


def write(root: Path, images: dict[str, Image.Image]) -> Path:
    for name, image in images.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name)
    return root


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """Sixteen good images of two classes."""
    labels = ("benign", "malignant")
    return write(tmp_path / "hospital", {f"{labels[n % 2]}/{n:02d}.png": scan(n) for n in range(16)})


def audited(root: Path, policy: Policy = Policy.strict) -> Audit:
    return audit_datasets([open_dataset(root)], policy=policy)


def kinds(audit: Audit) -> dict[str, int]:
    return dict(Counter(finding.kind for finding in audit.findings))


def row(manifest: Manifest, image: str) -> dict[str, str]:
    return manifest.table.set_index("image").loc[image].to_dict()


def test_good_images_have_no_finding(hospital: Path) -> None:
    audit = audited(hospital)
    assert audit.findings == ()
    assert (audit.after[0].table["exclude"] == "").all()
    assert (audit.after[0].table["flags"] == "").all()
    assert audit.after[0].table["group"].nunique() == 16
    assert audit.after[0].notes == ("audit: 16 of 16 images stay",)


def test_every_kind_of_trouble_with_one_image_is_found(hospital: Path) -> None:
    doppler = scan(40).convert("RGB")
    ImageDraw.Draw(doppler).ellipse((60, 60, 80, 80), fill=(220, 30, 20))
    green = scan(41).convert("RGB")
    ImageDraw.Draw(green).line((10, 10, 60, 10), fill=(90, 220, 60), width=2)
    dual = Image.new("L", (250, 150))
    dual.paste(scan(42).resize((122, 150)), (0, 0))
    dual.paste(scan(43).resize((122, 150)), (128, 0))
    write(
        hospital,
        {
            "benign/doppler.png": doppler,
            "benign/green.png": green,
            "benign/dual.png": dual,
            "benign/tiny.png": scan(44, (50, 70)),
            "benign/wide.png": scan(45, (80, 200)),
            "benign/flat.png": Image.new("L", (90, 90), 7),
            "benign/00_mask.png": Image.new("L", (60, 60), 255),
            "benign/02_mask.png": Image.new("L", (190, 150), 0),
        },
    )
    (hospital / "malignant" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (hospital / "benign" / "04_mask.png").write_bytes(b"")
    audit = audited(hospital)
    found = {(finding.kind, finding.image) for finding in audit.findings}
    assert found == {
        ("doppler", "benign/doppler.png"),
        ("colour", "benign/green.png"),
        ("dual-view", "benign/dual.png"),
        ("tiny", "benign/tiny.png"),
        ("shape", "benign/wide.png"),
        ("constant", "benign/flat.png"),
        ("unreadable", "malignant/broken.png"),
        ("mask-size", "benign/00.png"),
        ("mask-doubtful", "benign/00.png"),
        ("mask-empty", "benign/02.png"),
        ("mask-missing", "benign/04.png"),
    }
    after = audit.after[0]
    assert row(after, "benign/doppler.png")["exclude"] == "colour Doppler"
    assert row(after, "benign/flat.png")["exclude"] == "constant image"
    assert row(after, "malignant/broken.png")["exclude"].startswith("unreadable: ")
    assert row(after, "benign/dual.png")["exclude"] == ""
    assert row(after, "benign/dual.png")["flags"] == "dual-view"
    assert len(after.table) == len(audit.before[0].table)


def test_masks_of_images_that_are_stored_turned_are_doubted_where_their_size_does_not_tell(hospital: Path) -> None:
    mask = Image.new("L", (190, 150))
    ImageDraw.Draw(mask).rectangle((60, 60, 80, 80), fill=255)
    for name, orientation in (("00", 3), ("02", 6)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(hospital / "benign" / f"{name}.png").save(hospital / "benign" / f"{name}.png", exif=exif)
        mask.save(hospital / "benign" / f"{name}_mask.png")
    found = [(finding.kind, finding.image) for finding in audited(hospital).findings]
    assert found == [("mask-doubtful", "benign/00.png")]


def test_masks_are_judged_as_training_reads_them(hospital: Path) -> None:
    red = Image.new("RGB", (190, 150))
    ImageDraw.Draw(red).rectangle((60, 60, 80, 80), fill=(255, 0, 0))
    write(hospital, {"benign/00_mask.png": red, "benign/02_mask.png": Image.new("L", (190, 150), 1)})
    huge = (hospital / "benign" / "00_mask.png").read_bytes()
    # A header that tells of 30,000 x 30,000 pixels, which Pillow refuses with an error of its own.
    header = b"IHDR" + (30_000).to_bytes(4, "big") * 2 + huge[24:29]
    (hospital / "benign" / "04_mask.png").write_bytes(
        huge[:12] + header + zlib.crc32(header).to_bytes(4, "big") + huge[33:]
    )
    found = {finding.image: (finding.kind, finding.detail) for finding in audited(hospital).findings}
    assert set(found) == {"benign/02.png", "benign/04.png"}
    assert found["benign/02.png"][0] == "mask-empty"
    assert found["benign/04.png"][0] == "mask-missing"
    assert found["benign/04.png"][1].startswith("04_mask.png ")


def test_limits_reach_the_audit(hospital: Path, tmp_path: Path) -> None:
    write(hospital, {"benign/large.png": scan(50, (300, 400))})
    for limit, reason in (("max_side=350", "unreadable"), ("max_side=400", "")):
        out = tmp_path / limit
        result = CliRunner().invoke(app, ["data", "audit", str(hospital), "--out", str(out), "--limit", limit])
        assert result.exit_code == 0, result.output
        assert row(read_manifest(out), "benign/large.png")["exclude"].split(":")[0] == reason
    result = CliRunner().invoke(app, ["data", "audit", str(hospital), "--out", str(out), "--limit", "max_sides=9"])
    assert result.exit_code == 2
    assert "did you mean max_side" in " ".join(result.stderr.split())


def test_copies_of_every_kind_are_told_apart(hospital: Path) -> None:
    def again(number: int) -> Image.Image:
        return Image.open(hospital / ("benign" if number % 2 == 0 else "malignant") / f"{number:02d}.png")

    write(
        hospital,
        {
            "benign/resaved.bmp": again(0),
            "benign/blurred.png": again(2).filter(ImageFilter.GaussianBlur(0.7)),
            "benign/mirrored.png": again(4).transpose(Image.Transpose.FLIP_LEFT_RIGHT),
            "benign/part.png": again(6).crop((20, 15, 170, 140)),
            "malignant/other_label.png": again(8),
            "malignant/part_of_other_label.png": again(10).crop((20, 15, 170, 140)),
        },
    )
    audit = audited(hospital)
    found = {(f.kind, f.image, f.other_image, f.action) for f in audit.findings}
    assert found == {
        ("exact", "benign/resaved.bmp", "benign/00.png", Action.exclude),
        ("near", "benign/blurred.png", "benign/02.png", Action.group),
        ("mirrored", "benign/mirrored.png", "benign/04.png", Action.group),
        ("crop", "benign/part.png", "benign/06.png", Action.group),
        ("contradictory", "malignant/other_label.png", "benign/08.png", Action.exclude),
        ("contradictory", "malignant/part_of_other_label.png", "benign/10.png", Action.exclude),
    }
    after = audit.after[0]
    assert row(after, "benign/resaved.bmp")["exclude"] == "exact duplicate of benign/00.png"
    assert row(after, "benign/00.png")["exclude"] == ""
    for image in ("malignant/other_label.png", "benign/08.png", "benign/10.png", "malignant/part_of_other_label.png"):
        assert row(after, image)["exclude"].startswith("contradictory duplicate of ")
    for one, other in (("blurred", "02"), ("mirrored", "04"), ("part", "06")):
        assert row(after, f"benign/{one}.png")["group"] == row(after, f"benign/{other}.png")["group"]
    assert row(after, "benign/06.png")["flags"] == "crop"


def test_groups_of_the_audit_are_kept_when_training_ties_again(hospital: Path, tmp_path: Path) -> None:
    part = Image.open(hospital / "benign" / "06.png").crop((20, 15, 170, 140))
    write(hospital, {"benign/part.png": part})
    write_audit(audited(hospital), tmp_path / "out")
    tied = tie_duplicates(open_dataset(tmp_path / "out"))
    assert row(tied, "benign/part.png")["group"] == row(tied, "benign/06.png")["group"]
    assert tied.table["group"].nunique() == 16


def test_report_policy_changes_nothing(hospital: Path, tmp_path: Path) -> None:
    write(hospital, {"malignant/again.png": Image.open(hospital / "benign" / "00.png")})
    audit = audited(hospital, Policy.report)
    assert kinds(audit) == {"contradictory": 1}
    assert audit.findings[0].action is Action.none
    write_audit(audit, tmp_path / "out")
    assert read_manifest(tmp_path / "out").table.equals(audit.before[0].table)
    assert "unchanged" in (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")


def test_picture_in_two_data_sets_is_left_out_of_the_later(hospital: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", {f"{'benign' if n % 2 else 'malignant'}/{n}.png": scan(n) for n in range(50, 56)})
    write(
        other,
        {
            "benign/copy.png": Image.open(hospital / "benign" / "00.png"),
            "benign/part.png": Image.open(hospital / "benign" / "02.png").crop((20, 15, 170, 140)),
            "benign/contra.png": Image.open(hospital / "malignant" / "01.png"),
        },
    )
    audit = audit_datasets([open_dataset(hospital), open_dataset(other)])
    assert kinds(audit) == {"between": 2, "contradictory": 2}
    first, second = audit.after
    assert row(second, "benign/copy.png")["exclude"] == "duplicate of benign/00.png in hospital"
    assert row(second, "benign/part.png")["exclude"] == "duplicate of benign/02.png in hospital"
    assert row(first, "benign/00.png")["exclude"] == ""
    assert row(first, "malignant/01.png")["exclude"] == "contradictory duplicate of benign/contra.png in other"
    assert row(second, "benign/contra.png")["exclude"] == "contradictory duplicate of malignant/01.png in hospital"
    paths = write_audit(audit, tmp_path / "out")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == [
        "out/hospital/manifest.csv",
        "out/other/manifest.csv",
    ]
    assert read_manifest(paths[1]).table["exclude"].ne("").sum() == 3


def test_a_class_that_the_other_data_set_lacks_contradicts_nothing(hospital: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", {f"{'normal' if n % 2 else 'benign'}/{n}.png": scan(n) for n in range(50, 54)})
    write(other, {"normal/copy.png": Image.open(hospital / "benign" / "00.png")})
    assert kinds(audit_datasets([open_dataset(hospital), open_dataset(other)])) == {"between": 1}


def test_a_picture_under_two_patients_is_told_and_ties_them(hospital: Path) -> None:
    write(hospital, {"benign/part.png": Image.open(hospital / "benign" / "06.png").crop((20, 15, 170, 140))})
    lines = ["image,label,patient", "benign/06.png,benign,p1", "benign/part.png,benign,p2", "benign/02.png,benign,p2"]
    lines += ["malignant/01.png,malignant,p3"]
    (hospital / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    audit = audited(hospital)
    (found,) = [finding for finding in audit.findings if finding.kind == "crop"]
    assert "patients p1 and p2" in found.detail
    assert list(audit.after[0].table["group"]) == ["patient p1", "patient p1", "patient p1", "patient p3"]


def test_patients_balance_and_stated_sizes(hospital: Path) -> None:
    write(hospital, {f"x/{number}.png": scan(100 + number, (64, 70)) for number in range(60)})
    lines = ["image,label,patient,device,stated_width,stated_height"]
    for number in range(60):
        label = "malignant" if number < 30 and number % 5 else "benign"
        # 140 x 128 is this image at twice the size; 140 x 100 is another shape.
        stated = "140,100" if number == 7 else "140,128"
        lines.append(f"x/{number}.png,{label},p{number // 2},{'A' if number < 30 else 'B'},{stated}")
    (hospital / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    audit = audited(hospital)
    assert kinds(audit)["patient"] == 30
    assert [f.image for f in audit.findings if f.kind == "table-size"] == ["x/7.png"]
    assert [f.detail for f in audit.findings if f.kind == "balance"] == [
        "device A: 80% of 30 images are malignant, 0% elsewhere",
        "device B: 0% of 30 images are malignant, 80% elsewhere",
    ]
    assert [f.detail.split(";")[0] for f in audit.findings if f.kind == "reduced"] == [
        "60 of 60 images are smaller than the table says"
    ]
    assert {f.detail for f in audit.findings if f.kind == "patient-labels"} >= {"patient p2: malignant 1, benign 1"}


def test_text_and_calipers_are_found_by_their_shape() -> None:
    plain = scan(3)
    assert find_drawings(np.asarray(plain)).letters == find_drawings(np.asarray(plain)).crosses == 0
    text = plain.copy()
    ImageDraw.Draw(text).text((20, 110), "LT BREAST UOQ", fill=250, font_size=12)
    assert find_drawings(np.asarray(text)).letters >= 4
    crossed = plain.copy()
    for x, y in ((40, 60), (120, 70)):
        ImageDraw.Draw(crossed).line((x - 4, y, x + 4, y), fill=255)
        ImageDraw.Draw(crossed).line((x, y - 4, x, y + 4), fill=255)
    assert find_drawings(np.asarray(crossed)).crosses == 2
    assert find_drawings(np.asarray(crossed)).letters == 0


def test_two_scans_in_one_image_are_seen_by_their_gap() -> None:
    one, other = np.asarray(scan(1)), np.asarray(scan(2))
    assert is_dual_view(np.concatenate([one, np.zeros((150, 5), dtype=np.uint8), other], axis=1))
    assert not is_dual_view(one)
    shadow = one.copy()
    shadow[:, 80:110] = 3
    assert not is_dual_view(shadow)


def test_page_stands_alone_and_says_what_it_is(hospital: Path, tmp_path: Path) -> None:
    write(hospital, {"malignant/<b>again & again.png": Image.open(hospital / "benign" / "00.png")})
    write_audit(audited(hospital), tmp_path / "out")
    text = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    for words in (
        "Not for diagnostic use",
        "images of patients",
        "One picture, two labels",
        "&lt;b&gt;again &amp; again",
    ):
        assert words in text
    assert "<b>again" not in text
    assert not re.search(r"(src|href)=[\"'](?!data:|#)", text)
    assert text.count("data:image/jpeg;base64,") == 2
    with (tmp_path / "out" / "findings.csv").open(encoding="utf-8", newline="") as stream:
        (line,) = csv.DictReader(stream)
    assert (line["kind"], line["severity"], line["action"]) == ("contradictory", "error", "exclude")
    assert (line["other_image"], line["distance"]) == ("benign/00.png", "0")


def test_an_interrupt_leaves_nothing(hospital: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(hospital, {"malignant/again.png": Image.open(hospital / "benign" / "00.png")})

    def interrupt(*given: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "_thumbnail", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_audit(audited(hospital), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_command_writes_and_refuses_to_write_over(hospital: Path, tmp_path: Path) -> None:
    write(hospital, {"malignant/again.png": Image.open(hospital / "benign" / "00.png")})
    command = ["data", "audit", str(hospital), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "One picture, two labels" in result.output
    assert "15 of 17 images stay" in result.output
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "audit.html",
        "findings.csv",
        "manifest.csv",
        "manifest.yaml",
    ]
    assert CliRunner().invoke(app, command).exit_code == 2
    again = CliRunner().invoke(app, ["data", "audit", str(hospital), str(hospital), "--out", str(tmp_path / "o2")])
    assert again.exit_code == 2
    assert not (tmp_path / "o2").exists()


def test_nothing_that_can_be_used_is_a_sentence(tmp_path: Path) -> None:
    write(tmp_path, {f"{label}/1.png": Image.new("L", (80, 80), 9) for label in ("benign", "malignant")})
    with pytest.raises(InputError, match="no image can be used"):
        audited(tmp_path)


@pytest.mark.slow
def test_busi_has_one_picture_under_two_labels_and_its_near_duplicates_are_counted(real_data: Path) -> None:
    audit = audited(real_data / "Dataset_BUSI_with_GT")
    contradictory = {(f.other_image, f.image) for f in audit.findings if f.kind == "contradictory"}
    for benign, malignant in ((433, 145), (131, 51), (399, 93), (406, 94)):
        assert (f"benign/benign ({benign}).png", f"malignant/malignant ({malignant}).png") in contradictory
    by_hash = [finding for finding in audit.findings if finding.distance is not None]
    assert 50 <= len(by_hash) <= 60
    assert all(finding.distance <= 10 and finding.similarity > 0.7 for finding in by_hash)
    (same,) = [finding for finding in by_hash if "exact" in finding.detail]
    assert (same.other_image, same.image) == ("benign/benign (433).png", "malignant/malignant (145).png")
    # The colour Doppler images of the set, looked up by eye.
    doppler = {234, 240, 255, 261, 277}
    assert {f.image for f in audit.findings if f.kind == "doppler"} == {
        *(f"benign/benign ({number}).png" for number in doppler),
        "malignant/malignant (196).png",
    }


def test_four_images_of_busbra_are_not_of_the_size_that_its_table_gives(real_data: Path) -> None:
    manifest = open_dataset(real_data / "BUSBRA")
    names = manifest.table["image"]
    odd = {f"Images/bus_{name}.png" for name in ("0856-l", "0857-r", "0912-l", "0990-l")}
    chosen = manifest.table[names.isin(odd) | (names.index % 15 == 0)]
    audit = audit_datasets([manifest.replace(table=chosen)])
    assert {finding.image for finding in audit.findings if finding.kind == "table-size"} == odd
    assert kinds(audit)["reduced"] == 1
