"""What holds for every corruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsharp.data.phantom import simulate_image
from medsharp.errors import InputError
from medsharp.robustness.corruptions import CORRUPTIONS, corrupt, find_corruptions, list_corruptions, markdown_table
from medsharp.robustness.corruptions.scan import scan_mask

NAMES = list_corruptions()
DOCS = Path(__file__).parents[2] / "docs" / "robustness.md"


@pytest.fixture(scope="module")
def phantoms() -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    return [simulate_image(site, label, rng).pixels for site in "ABC" for label in ("benign", "malignant")]


@pytest.mark.parametrize("name", NAMES)
def test_shape_and_type_are_kept_and_the_input_too(name: str, phantoms: list[np.ndarray]) -> None:
    for shape in ((32, 32), (32, 45), (97, 64), (301, 40)):
        image = np.resize(phantoms[0], shape)
        before = image.copy()
        for severity in (1, 5):
            changed = corrupt(image, name, severity, seed=1)
            assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grey", [0, 255])
def test_black_and_white_images_are_taken(name: str, grey: int) -> None:
    assert corrupt(np.full((40, 40), grey, dtype=np.uint8), name, 5).shape == (40, 40)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bytes_and_read_only_input_is_taken(name: str, phantoms: list[np.ndarray]) -> None:
    image = phantoms[1].copy()
    image.flags.writeable = False
    np.testing.assert_array_equal(corrupt(image, name, 3, seed=(5, 6)), corrupt(image, name, 3, seed=(5, 6)))


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("speckle_noise", "video_compression")])
def test_grey_given_as_rgb_stays_grey_and_equal(name: str, phantoms: list[np.ndarray]) -> None:
    rgb = np.repeat(phantoms[2][..., None], 3, axis=-1)
    changed = corrupt(rgb, name, 4, seed=3)
    assert changed.shape == rgb.shape
    assert (changed[..., 0] == changed[..., 1]).all()
    assert (changed[..., 1] == changed[..., 2]).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_higher_severity_changes_the_image_more(name: str, phantoms: list[np.ndarray]) -> None:
    images = [(seed, image) for seed in range(4) for image in phantoms]
    distances = [
        np.mean(
            [np.abs(corrupt(i, name, severity, seed=(k, n)).astype(int) - i).mean() for n, (k, i) in enumerate(images)]
        )
        for severity in (1, 2, 3, 4, 5)
    ]
    assert distances[0] > 0.05
    assert (np.diff(distances) > 0).all(), distances


LEAST = {
    "speckle_noise": 3.0,
    "calipers": 0.3,
    "calipers_off_lesion": 0.3,
    "body_marker": 1.0,
    "body_marker_patch": 0.5,
    "burned_in_text": 2.0,
}
"""Grey levels. The first is MedMNIST-C's and stays as weak as it is; the others change a small part of the image."""


@pytest.mark.parametrize("name", NAMES)
def test_no_corruption_is_idle_at_severity_5_at_the_size_of_a_networks_input(
    name: str, phantoms: list[np.ndarray]
) -> None:
    def small(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(pixels).resize((128, 128), Image.Resampling.BILINEAR), dtype=float)

    changes = [np.abs(small(corrupt(image, name, 5, seed=n)) - small(image)).mean() for n, image in enumerate(phantoms)]
    assert np.mean(changes) > LEAST.get(name, 4.0)


@pytest.mark.parametrize(
    "name",
    ["speckle_noise", "motion_blur", "speckle_statistics", "time_gain", "acoustic_shadow", "reverberation", "haze",
     "frame_averaging", "crop", "calipers", "burned_in_text", "body_marker"],
)  # fmt: skip
def test_another_seed_or_severity_draws_another_stream(name: str, phantoms: list[np.ndarray]) -> None:
    one, other = (corrupt(phantoms[3], name, 3, seed=seed) for seed in (1, 2))
    assert (one != other).any()


def test_black_borders_are_border_and_a_cyst_is_not() -> None:
    image = np.full((192, 192), 90, dtype=np.uint8)
    image[:, :40] = 0
    image[80:120, 90:130] = 0
    mask = scan_mask(image)
    assert mask[100, 10] == 0
    assert mask[100, 110] == 1
    brighter = corrupt(image, "gain_up", 5)
    assert brighter[100, 10] == 0
    assert brighter[100, 110] == 68


SHADOWS = {
    "beneath a tumour": lambda y, x: (np.abs(x - 96) < 25 + 6 * np.sin(y / 7)) & (y > 90),
    "in a lower corner": lambda y, x: y + 0.6 * x > 190 + 8 * np.sin(x / 9),
    "all deep tissue": lambda y, x: y + 12 * np.sin(x / 11) > 130,
}


@pytest.mark.parametrize("name", ["gain_up", "dynamic_range_wide"])
@pytest.mark.parametrize("where", SHADOWS)
def test_a_deep_shadow_that_reaches_the_edge_is_no_border_and_leaves_no_black_blob(where: str, name: str) -> None:
    rows, columns = np.indices((192, 192))
    image = (70 + (rows * 37 + columns * 53) % 60).astype(np.uint8)
    shadow = SHADOWS[where](rows, columns)
    image[shadow] = 1
    image[:, :20] = 0  # a border as well
    changed = corrupt(image, name, 5)
    assert (changed[shadow & (columns >= 28)] > 15).mean() > 0.99
    assert (changed[:, :14] == 0).all()


def test_oblique_sides_that_open_with_depth_and_a_level_bottom_are_borders() -> None:
    rows, columns = np.indices((192, 192))
    image = (70 + (rows * 37 + columns * 53) % 60).astype(np.uint8)
    wedge = columns < 50 - 0.3 * rows
    image[wedge], image[160:] = 0, 0
    image[170:176, 60:90] = 255  # text below the scan
    mask = scan_mask(image)
    assert mask[wedge & (columns < 40 - 0.3 * rows)].max() < 0.5
    assert mask[168:].max() == 0
    assert mask[60:150, 60:].min() == 1


def test_gain_is_in_decibels_of_a_60_db_display() -> None:
    grey = np.full((64, 64), 100, dtype=np.uint8)
    assert (corrupt(grey, "gain_up", 1) == round(100 + 3 * 255 / 60)).all()
    assert (corrupt(grey, "gain_down", 2) == round(100 - 6 * 255 / 60)).all()


def test_depth_attenuation_follows_its_law() -> None:
    grey = np.full((200, 64), 200, dtype=np.uint8)
    changed = corrupt(grey, "depth_attenuation", 5)
    np.testing.assert_allclose(changed[:, 3], 200 * np.exp(-3 * (np.arange(200) + 0.5) / 200), atol=0.51)


def test_full_speckle_has_the_deviation_of_a_rayleigh_envelope_in_decibels() -> None:
    grey = np.full((256, 256), 128, dtype=np.uint8)
    decibels = (corrupt(grey, "speckle_statistics", 5, seed=1).astype(float) - 128) * 60 / 255
    assert decibels.std() == pytest.approx(5.57, abs=0.4)


def test_blurs_act_along_their_axis_only() -> None:
    stripes = np.repeat((np.arange(128) % 8 * 30).astype(np.uint8)[:, None], 128, axis=1)
    np.testing.assert_array_equal(corrupt(stripes, "lateral_blur", 5), stripes)
    assert corrupt(stripes, "axial_blur", 5).std() < stripes.std() / 2


def test_names_families_and_globs_choose() -> None:
    assert [entry.name for entry in find_corruptions(["gain_*"])] == ["gain_up", "gain_down"]
    assert len(find_corruptions(["medmnist-c"])) == 7
    assert [entry.name for entry in find_corruptions(["zoom_in", "pixelate"])] == ["pixelate", "zoom_in"]
    assert len(find_corruptions(["annotation"])) == 8, "an annotation brings its control"
    assert [entry.name for entry in find_corruptions(["body_marker_patch"])] == ["body_marker", "body_marker_patch"]
    assert len(find_corruptions(["*"])) == len(CORRUPTIONS)


def test_wrong_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"did you mean .*calipers"):
        corrupt(np.zeros((64, 64), dtype=np.uint8), "caliper")
    with pytest.raises(InputError, match=r"no corruption 'gian_\*'.*gain_"):
        find_corruptions(["gian_*"])


@pytest.mark.parametrize(
    "image", [np.zeros((31, 64), np.uint8), np.zeros((64, 64), np.float32), np.zeros((64, 64, 4), np.uint8)]
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="expected uint8 pixels"):
        corrupt(image, "pixelate")


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_other_severities_are_refused(severity: int) -> None:
    with pytest.raises(InputError, match=f"severity {severity} is not one of"):
        corrupt(np.zeros((64, 64), np.uint8), "pixelate", severity)


def test_every_corruption_has_five_levels_and_says_what_it_is() -> None:
    for entry in CORRUPTIONS.values():
        assert len(entry.levels) == 5
        assert len({tuple(level.items()) for level in entry.levels}) == 5, entry.name
        assert entry.description.endswith(".")
        assert entry.source


def test_the_docs_hold_the_table_of_the_registry() -> None:
    assert markdown_table() in DOCS.read_text(encoding="utf-8"), (
        "docs/robustness.md: put in what medsharp.robustness.corruptions.markdown_table() gives"
    )


def test_the_docs_show_a_sheet_of_a_simulated_image_of_modest_size() -> None:
    picture = DOCS.parent / "images" / "corruptions.jpg"
    assert f"images/{picture.name}" in DOCS.read_text(encoding="utf-8")
    assert 0 < picture.stat().st_size < 500_000
    with Image.open(picture) as sheet:
        assert sheet.height == len(CORRUPTIONS) * (88 + 20)
