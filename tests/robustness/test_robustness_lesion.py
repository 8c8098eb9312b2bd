"""What is done where the lesion is: calipers at its edge, their control beside it, and no crop that cuts it away."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medsharp.data.phantom import simulate_image
from medsharp.errors import InputError
from medsharp.preprocess import PreprocessSpec, preprocess
from medsharp.robustness import measure_robustness, prepare, take_sample
from medsharp.robustness.corruptions import SEVERITIES, corrupt, find_corruptions
from medsharp.robustness.corruptions.geometry import held

CLASSES = ("benign", "malignant")
SHAPE = (180, 240)


def ellipse(y: float, x: float, tall: float, wide: float, turned: float = 0.0) -> np.ndarray:
    rows, columns = np.indices(SHAPE)
    along = (columns - x) * np.cos(turned) + (rows - y) * np.sin(turned)
    across = (rows - y) * np.cos(turned) - (columns - x) * np.sin(turned)
    return (along / wide) ** 2 + (across / tall) ** 2 <= 1


LESIONS = {
    "at the left": ellipse(60, 45, 12, 30, 0.5),
    "low at the right": ellipse(140, 200, 20, 26),
    "tall": ellipse(90, 120, 40, 14),
    "wide": ellipse(80, 120, 45, 100),
}


def crosses(lesion: np.ndarray | None, name: str, severity: int, seed: int) -> np.ndarray:
    """Return where crosses and dots are, bool [H, W]; the image is darkest in the middle."""
    grey = np.full(SHAPE, 90, dtype=np.uint8)
    grey[80:100, 110:130] = 60
    return corrupt(grey, name, severity, seed=seed, lesion=lesion) == 255


@pytest.mark.parametrize("where", LESIONS)
def test_calipers_measure_the_lesion_from_edge_to_edge(where: str) -> None:
    lesion = LESIONS[where]
    rows, columns = np.nonzero(lesion)
    for seed in range(5):
        drawn = crosses(lesion, "calipers", 4, seed)
        found = np.argwhere(drawn)
        arm = 0.025 * min(SHAPE) + 2
        assert rows.min() - arm <= found[:, 0].min() <= rows.min() + 0.35 * np.ptp(rows)
        assert columns.min() - arm <= found[:, 1].min() <= columns.min() + 0.35 * np.ptp(columns)
        assert rows.max() + arm >= found[:, 0].max() >= rows.max() - 0.35 * np.ptp(rows)
        assert columns.max() + arm >= found[:, 1].max() >= columns.max() - 0.35 * np.ptp(columns)
        # One pair is the long axis, so the crosses reach nearly as far as the lesion is long.
        assert np.hypot(*(found.max(axis=0) - found.min(axis=0))) > 0.85 * max(np.ptp(rows), np.ptp(columns))


@pytest.mark.parametrize("where", LESIONS)
def test_the_first_pair_is_the_long_axis(where: str) -> None:
    lesion = LESIONS[where]
    points = np.argwhere(lesion)
    longest = max(np.ptp(points @ [np.sin(turn), np.cos(turn)]) for turn in np.linspace(0, np.pi, 60))
    for seed in range(5):
        found = np.argwhere(crosses(lesion, "calipers", 1, seed))
        assert np.hypot(*np.ptp(found, axis=0)) > 0.93 * longest


@pytest.mark.parametrize("where", [name for name in LESIONS if name != "wide"])
def test_the_control_of_calipers_has_the_same_ink_and_touches_no_lesion(where: str) -> None:
    lesion = LESIONS[where]
    for seed in range(5):
        for severity in SEVERITIES:
            on, off = (crosses(lesion, name, severity, seed) for name in ("calipers", "calipers_off_lesion"))
            assert (on & lesion).any()
            assert not (off & lesion).any()
            assert off.sum() == on.sum()


def test_a_lesion_as_wide_as_the_image_is_touched_as_little_as_can_be() -> None:
    lesion = LESIONS["wide"]
    on, off = (crosses(lesion, name, 5, 1) for name in ("calipers", "calipers_off_lesion"))
    assert (off & lesion).sum() < (on & lesion).sum()


def test_the_control_of_calipers_is_elsewhere_where_the_lesion_is_not_known() -> None:
    for seed in range(5):
        on, off = (crosses(None, name, 3, seed) for name in ("calipers", "calipers_off_lesion"))
        assert on[85:95, 110:130].any()
        assert not (on & off).any()


def test_text_and_its_patch_are_in_a_corner_that_has_least_of_the_lesion() -> None:
    grey = np.full(SHAPE, 90, dtype=np.uint8)
    lesion = ellipse(50, 70, 30, 50) | ellipse(130, 160, 20, 40)
    for seed in range(8):
        for name in ("burned_in_text", "burned_in_text_patch"):
            rows, columns = np.nonzero(corrupt(grey, name, 4, seed=seed, lesion=lesion) != 90)
            assert (rows.mean() < 90) != (columns.mean() < 120), "one of the two corners without a lesion"


def windows(lesion: np.ndarray, name: str, severity: int, seed: int) -> float:
    """Return which share of the lesion's pixels is still on the image, by ramps that tell where it is from."""
    rows, columns = np.indices(SHAPE)
    shown = [corrupt((part * 255 / part.max()).astype(np.uint8), name, severity, seed=seed, lesion=lesion).astype(float)
             * part.max() / 255 for part in (rows, columns)]  # fmt: skip
    inside = (rows >= shown[0].min() - 1) & (rows <= shown[0].max() + 1)
    inside &= (columns >= shown[1].min() - 1) & (columns <= shown[1].max() + 1)
    return float((inside & lesion).sum() / lesion.sum())


@pytest.mark.parametrize("name", ["crop", "zoom_in"])
@pytest.mark.parametrize("where", LESIONS)
def test_a_known_lesion_is_never_cut_away(where: str, name: str) -> None:
    lesion = LESIONS[where]
    for seed in range(8 if name == "crop" else 1):
        for severity in SEVERITIES:
            assert windows(lesion, name, severity, seed) >= 0.88


def side_shown(lesion: np.ndarray, name: str, seed: int) -> float:
    """Return the side of the window at severity 5 over that of the image."""
    ramp = np.tile(np.linspace(0, 255, SHAPE[1]), (SHAPE[0], 1)).astype(np.uint8)
    shown = corrupt(ramp, name, 5, seed=seed, lesion=lesion).astype(float)
    return float(np.ptp(shown) / 255)


def test_a_lesion_aside_does_not_make_crop_and_zoom_milder() -> None:
    lesion = ellipse(150, 205, 15, 20)
    assert side_shown(lesion, "zoom_in", 0) == pytest.approx(1 / 1.75, abs=0.02)
    for seed in range(8):
        assert side_shown(lesion, "crop", seed) == pytest.approx(0.55, abs=0.02)


def test_without_a_mask_a_crop_does_cut_lesions_away() -> None:
    lesion = LESIONS["at the left"]
    image = np.where(lesion, 255, 0).astype(np.uint8)
    cut = [(corrupt(image, "crop", 5, seed=seed) > 128).sum() == 0 for seed in range(20)]
    assert any(cut)


def test_a_crop_that_spares_the_lesion_still_grows_with_severity_and_keeps_its_corner() -> None:
    lesion = ellipse(40, 50, 15, 20)
    image = simulate_image("B", "benign", np.random.default_rng(2), size=240).pixels[: SHAPE[0]]
    for seed in range(6):
        changes = [
            np.abs(corrupt(image, "crop", s, seed=seed, lesion=lesion).astype(int) - image).mean() for s in (1, 3, 5)
        ]
        assert changes == sorted(changes)


def test_the_share_that_a_window_holds_is_counted_in_pixels_of_the_lesion() -> None:
    lesion = np.zeros((100, 100), dtype=bool)
    lesion[40:60, 40:60] = True
    assert held(lesion, 0.5, 0.0, 0.0) == 0.25
    assert held(lesion, 0.5, 0.5, 0.5) == 1.0
    assert held(lesion, 0.5, 1.0, 0.5) == 0.5


def test_a_lesion_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"a lesion of bool \[64, 64\], not bool \[32, 64\]"):
        corrupt(np.zeros((64, 64), np.uint8), "crop", 3, lesion=np.zeros((32, 64), bool))


def copied(hospital: Path, folder: Path, **columns: Callable[[pd.DataFrame], Any]) -> Path:
    shutil.copytree(hospital, folder)
    table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    for name, made in columns.items():
        table[name] = made(table)
    table.to_csv(folder / "manifest.csv", index=False)
    return folder


def test_masks_and_boxes_of_the_manifest_arrive(hospital: Path, tmp_path: Path) -> None:
    sample = take_sample(hospital, CLASSES, "malignant")
    area = sample.lesion_area(3)
    mask = np.asarray(Image.open(hospital / sample.rows["mask"].iloc[3])) > 127
    np.testing.assert_array_equal(area, mask)
    boxed = take_sample(
        copied(hospital, tmp_path / "boxed", mask=lambda t: "", box=lambda t: "10,20,40,50"), CLASSES, "malignant"
    )
    area = boxed.lesion_area(0)
    assert area is not None
    assert area.sum() == 30 * 30
    assert area[20:50, 10:40].all()
    bare = take_sample(copied(hospital, tmp_path / "bare", mask=lambda t: ""), CLASSES, "malignant")
    assert bare.lesion_area(0) is None
    assert (sample.unknown_lesions(), bare.unknown_lesions()) == (0, len(bare))
    assert len({sample.key, boxed.key, bare.key}) == 3, "answers kept for other lesions are not taken"


@pytest.mark.parametrize("name", ["calipers", "calipers_off_lesion", "burned_in_text", "crop", "zoom_in"])
def test_what_is_predicted_is_corrupted_by_the_mask(name: str, hospital: Path) -> None:
    sample, spec = take_sample(hospital, CLASSES, "malignant"), PreprocessSpec(96, "none")
    changed = 0
    for place in range(12):
        (seen,) = prepare(place, sample, [spec], name, 5, 3)
        by_mask, without = (
            preprocess(corrupt(sample.pixels(place), name, 5, sample.seed(place, 3), lesion=area), spec)
            for area in (sample.lesion_area(place), None)
        )
        np.testing.assert_array_equal(seen, by_mask)
        changed += bool((by_mask != without).any())
    assert changed > 3


def test_other_pixels_of_a_mask_are_another_sample(hospital: Path, tmp_path: Path) -> None:
    folder = copied(hospital, tmp_path / "moved")
    before = take_sample(folder, CLASSES, "malignant")
    key = before.key
    file = folder / before.rows["mask"].iloc[0]
    Image.fromarray(np.roll(np.asarray(Image.open(file)), 5, axis=0)).save(file)
    assert take_sample(folder, CLASSES, "malignant").key != key


def test_another_box_beside_a_mask_is_another_sample(hospital: Path, tmp_path: Path) -> None:
    """A model that crops to the lesion looks at the box; a column without boxes is none, and earlier runs go on."""
    keys = [
        take_sample(copied(hospital, tmp_path / name, **columns), CLASSES, "malignant").key
        for name, columns in {
            "none": {},
            "empty": {"box": lambda t: ""},
            "one": {"box": lambda t: ["10,20,40,50", *[""] * (len(t) - 1)]},
            "another": {"box": lambda t: ["10,20,40,51", *[""] * (len(t) - 1)]},
            "elsewhere": {"box": lambda t: ["", "10,20,40,50", *[""] * (len(t) - 2)]},
        }.items()
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


CUTTING = find_corruptions(["crop", "zoom_in", "gain_down"])


def test_without_masks_what_cuts_tissue_away_is_counted_apart(
    hospital: Path, tmp_path: Path, toy: Callable[..., Any]
) -> None:
    some = copied(hospital, tmp_path / "some", mask=lambda t: [*t["mask"][:-3], "", "", ""])
    found = {}
    for name, data in (("all", hospital), ("some", some)):
        content, _ = measure_robustness(
            [toy(), toy(name="two")], [data], CUTTING, tmp_path / name / "out", resamples=100
        )
        found[name] = content["datasets"][0]
    assert found["all"]["apart"] == {}
    apart = found["some"]["apart"]
    assert set(apart) == {"crop", "zoom_in"}
    assert apart["crop"].startswith(f"the lesion is not known on 3 of {found['some']['images']} images")
    for name, cells in (("all", 15), ("some", 5)):
        model = found[name]["models"][0]
        counted = [c for c in model["cells"] if name == "all" or c["corruption"] == "gain_down"]
        assert len(model["cells"]) == 15
        assert len(counted) == cells
        expected = np.mean([c["figures"]["auroc"]["value"] for c in counted])
        assert model["summary"]["auroc"]["value"] == pytest.approx(expected)
        assert {w["corruption"] for w in model["summary"]["worst"]} == {c["corruption"] for c in counted}
        assert set(found[name]["comparisons"][0]["corruptions"]) == {c["corruption"] for c in counted}


def test_a_run_of_nothing_that_counts_says_so(hospital: Path, tmp_path: Path, toy: Callable[..., Any]) -> None:
    bare = copied(hospital, tmp_path / "bare", mask=lambda t: "")
    models = [toy(), toy(name="two")]
    content, _ = measure_robustness(models, [bare], find_corruptions(["crop"]), tmp_path / "out", resamples=100)
    entry = content["datasets"][0]
    assert entry["models"][0]["summary"]["auroc"]["value"] is None
    assert entry["models"][0]["summary"]["auroc"]["reason"] == "no corruption counts here"
    assert entry["comparisons"] == []


def test_images_whose_lesion_leaves_no_room_for_the_control_are_counted(
    hospital: Path, tmp_path: Path, toy: Callable[..., Any]
) -> None:
    folder = copied(hospital, tmp_path / "wide")
    names = take_sample(folder, CLASSES, "malignant").rows["mask"]
    rows, columns = np.indices((96, 96))
    for number, name in enumerate(names):
        lesion = (rows - 40) ** 2 + (columns - 48) ** 2 < (200 if number < 2 else 8) ** 2
        Image.fromarray(np.where(lesion, 255, 0).astype(np.uint8)).save(folder / name)
    content, _ = measure_robustness([toy()], [folder], find_corruptions(["calipers"]), tmp_path / "out", resamples=100)
    assert content["datasets"][0]["lesions"] == {"known": len(names), "unknown": 0, "crowded": 2}
    content, _ = measure_robustness([toy()], [folder], find_corruptions(["gain_up"]), tmp_path / "out", resamples=100)
    assert content["datasets"][0]["lesions"]["crowded"] is None
