"""The seven corruptions of BreastMNIST-C equal its definition: RGB, Pillow, then grey."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from medsharp.data.phantom import simulate_image
from medsharp.robustness.corruptions import CORRUPTIONS, corrupt, list_corruptions
from medsharp.robustness.corruptions.motion import blur_along


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return simulate_image("B", "malignant", np.random.default_rng(3), size=224).pixels


def _pixelated(rgb: Image.Image, scale: float) -> Image.Image:
    small = rgb.resize((int(rgb.width * scale), int(rgb.height * scale)), Image.Resampling.BOX)
    return small.resize(rgb.size, Image.Resampling.BOX)


def _jpeg(rgb: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    rgb.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


DEFINITIONS: dict[str, tuple[Callable[..., Image.Image], tuple[float, ...]]] = {
    "pixelate": (_pixelated, (0.30, 0.25, 0.20, 0.15, 0.10)),
    "jpeg_compression": (_jpeg, (50, 30, 15, 10, 7)),
    "brightness_up": (lambda rgb, c: ImageEnhance.Brightness(rgb).enhance(c), (1.4, 1.5, 1.6, 1.8, 2.0)),
    "brightness_down": (lambda rgb, c: ImageEnhance.Brightness(rgb).enhance(c), (0.55, 0.5, 0.45, 0.4, 0.3)),
    "contrast_down": (lambda rgb, c: ImageEnhance.Contrast(rgb).enhance(c), (0.9, 0.8, 0.7, 0.6, 0.4)),
}


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", DEFINITIONS)
def test_deterministic_corruptions_equal_the_definition_to_a_grey_level(
    name: str, severity: int, image: np.ndarray
) -> None:
    function, values = DEFINITIONS[name]
    rgb = Image.fromarray(image).convert("RGB")
    expected = np.asarray(function(rgb, values[severity - 1]).convert("L")).astype(int)
    assert np.abs(corrupt(image, name, severity) - expected).max() <= 1


def test_the_seven_have_its_names_in_its_order() -> None:
    assert list_corruptions("medmnist-c") == (
        "pixelate",
        "jpeg_compression",
        "speckle_noise",
        "motion_blur",
        "brightness_up",
        "brightness_down",
        "contrast_down",
    )


def test_speckle_noise_has_the_deviation_that_averaging_three_channels_leaves() -> None:
    grey = np.full((256, 256), 120, dtype=np.uint8)
    for severity, scale in enumerate((0.10, 0.15, 0.20, 0.25, 0.30), start=1):
        noisy = corrupt(grey, "speckle_noise", severity, seed=severity).astype(float)
        weights = np.array([0.299, 0.587, 0.114])
        assert noisy.std() == pytest.approx(120 * scale * np.sqrt((weights**2).sum()), rel=0.03)
        # It rounds down each channel: half a grey level is lost on average.
        assert noisy.mean() == pytest.approx(119.5, abs=0.3)


def test_speckle_noise_on_rgb_is_independent_over_channels() -> None:
    noisy = corrupt(np.full((128, 128, 3), 120, dtype=np.uint8), "speckle_noise", 3).astype(float)
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.03


# What ImageMagick 6.9.11 (Q16) makes of the image below: radius, sigma and angle to grey levels.
IMAGEMAGICK = {
    (5, 5, 30): [
        [183, 159, 146, 136, 137, 147, 165, 178, 178, 167, 156, 144, 131, 131, 131],
        [193, 169, 141, 113, 114, 115, 123, 135, 149, 154, 142, 130, 118, 118, 118],
        [207, 190, 154, 105, 83, 87, 82, 81, 95, 118, 127, 114, 102, 102, 102],
        [205, 201, 179, 133, 98, 76, 49, 52, 51, 59, 68, 78, 87, 87, 87],
        [207, 203, 197, 169, 133, 94, 46, 49, 54, 70, 78, 88, 97, 97, 97],
        [189, 206, 201, 195, 181, 140, 68, 45, 50, 74, 92, 101, 110, 110, 110],
        [135, 164, 180, 197, 188, 172, 123, 97, 74, 69, 87, 105, 125, 125, 125],
        [96, 125, 156, 191, 182, 172, 129, 103, 77, 67, 85, 104, 123, 123, 123],
        [91, 74, 105, 161, 175, 164, 129, 111, 84, 70, 83, 102, 121, 121, 121],
        [133, 116, 98, 103, 117, 130, 120, 102, 84, 79, 92, 105, 119, 119, 119],
        [133, 116, 98, 103, 117, 130, 120, 102, 84, 79, 92, 105, 119, 119, 119],
        [133, 116, 98, 103, 117, 130, 120, 102, 84, 79, 92, 105, 119, 119, 119],
    ],
    (9, 7, -40): [
        [201, 188, 182, 175, 180, 183, 185, 184, 183, 181, 165, 156, 148, 148, 148],
        [201, 188, 182, 175, 180, 183, 185, 184, 183, 181, 165, 156, 148, 148, 148],
        [201, 188, 182, 175, 180, 183, 185, 184, 183, 181, 165, 156, 148, 148, 148],
        [196, 183, 177, 181, 186, 188, 172, 171, 170, 158, 142, 133, 140, 140, 140],
        [187, 184, 188, 192, 179, 163, 147, 136, 125, 113, 111, 118, 124, 124, 124],
        [183, 190, 193, 198, 168, 152, 135, 115, 103, 91, 104, 111, 117, 117, 117],
        [178, 185, 175, 178, 148, 124, 116, 96, 97, 77, 90, 96, 110, 110, 110],
        [159, 156, 160, 163, 137, 131, 123, 103, 84, 64, 84, 97, 111, 111, 111],
        [140, 150, 155, 152, 142, 136, 137, 98, 78, 59, 84, 98, 112, 112, 112],
        [147, 153, 167, 144, 140, 124, 125, 86, 72, 65, 90, 104, 114, 114, 114],
        [173, 166, 144, 122, 112, 114, 115, 91, 83, 76, 98, 107, 117, 117, 117],
        [188, 148, 129, 99, 105, 107, 111, 94, 86, 78, 97, 106, 116, 116, 116],
    ],
}


@pytest.mark.parametrize("setting", IMAGEMAGICK)
def test_motion_blur_equals_imagemagick_to_a_grey_level(setting: tuple[float, float, float]) -> None:
    cells = np.random.default_rng(7).integers(0, 256, (4, 5))
    image = np.kron(cells, np.ones((3, 3))).astype(np.uint8)
    expected = np.array(IMAGEMAGICK[setting])
    difference = np.abs(blur_along(image, *setting) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02


def test_motion_blur_keeps_what_does_not_change_along_the_motion() -> None:
    stripes = np.repeat(np.arange(64, dtype=np.uint8)[:, None] * 4, 64, axis=1)
    assert (np.abs(blur_along(stripes, 9, 7, 0.0).astype(int) - stripes) <= 1).all()
    assert (blur_along(stripes, 9, 7, 45.0)[:40] > stripes[:40]).all()


def test_motion_blur_draws_angles_between_minus_and_plus_45_degrees() -> None:
    image = np.zeros((64, 64), dtype=np.uint8)
    image[32, 50] = 255
    apply = CORRUPTIONS["motion_blur"]
    for seed in range(20):
        rows, columns = np.nonzero(apply(image, 5, np.random.default_rng(seed)))
        assert (np.abs(rows - 32) <= np.abs(columns - 50) + 1).all()
        assert (columns <= 50).all()
