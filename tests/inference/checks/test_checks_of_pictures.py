"""What checks of the picture find, at their limits, and which of several a person is told."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from medsharp.data.phantom.scanner import HOSPITALS
from medsharp.data.phantom.simulate import simulate_image
from medsharp.data.sources import open_dataset
from medsharp.images import DecodedImage
from medsharp.images.decoded import luminance
from medsharp.inference.checks.benchmark.changes import changed
from medsharp.inference.checks.benchmark.made import FITTED, UNSEEN, made
from medsharp.inference.checks.benchmark.overlays import OVERLAYS
from medsharp.inference.checks.judge import Judge
from medsharp.inference.checks.picture import Picture, reduced
from medsharp.inference.checks.registry import IMAGE_CHECKS
from medsharp.inference.checks.statistics import NAMES, statistics_of
from medsharp.inference.checks.ultrasound import shipped

BY_KEY = {check.key: check for check in IMAGE_CHECKS}


def image(pixels: np.ndarray) -> DecodedImage:
    if pixels.ndim == 2:
        return DecodedImage(pixels, "PNG")
    grey, colours = luminance(pixels)
    return DecodedImage(grey, "PNG", colours=colours)


def scan(seed: int = 0, size: int = 256, hospital: str = "A") -> np.ndarray:
    return simulate_image(hospital, "benign", np.random.default_rng(seed), size).pixels


def value_of(key: str, pixels: np.ndarray) -> float:
    return BY_KEY[key].measure(Picture(image(pixels)))


def keys(pixels: np.ndarray, **limits: float) -> list[str]:
    return [finding.check for finding in Judge(limits).of_image(image(pixels))]


def test_every_check_has_a_key_of_its_own_and_says_what_it_is_for() -> None:
    assert len(BY_KEY) == len(IMAGE_CHECKS)
    for check in IMAGE_CHECKS:
        assert check.sentence[0].islower()
        assert not check.sentence.endswith(".")
        assert check.about
        assert bool(check.advice) == (check.outcome == "refusal")
        assert not check.advice.endswith(".")


def test_limits_belong_to_what_is_within() -> None:
    above, below = BY_KEY["clipped"], BY_KEY["too_small"]
    assert [above.found(value, 0.12) is None for value in (0.11, 0.12, 0.121)] == [True, True, False]
    assert [below.found(value, 32) is None for value in (33, 32, 31)] == [True, True, False]
    finding = below.found(31, 32)
    assert finding is not None
    assert (finding.check, finding.outcome, finding.value, finding.limit) == ("too_small", "refusal", 31, 32)
    assert finding.advice == below.advice


@pytest.mark.parametrize(
    ("key", "pixels", "value"),
    [
        ("too_small", np.zeros((40, 90), np.uint8), 40),
        ("small", np.zeros((90, 40), np.uint8), 40),
        ("blank", np.tile(np.array([100, 106], np.uint8), (50, 30)), 3),
        ("mostly_black", np.repeat(np.array([0, 7, 8, 90], np.uint8), 25).reshape(10, 10), 0.5),
        ("clipped", np.repeat(np.array([249, 250, 255, 90], np.uint8), 25).reshape(10, 10), 0.5),
        ("dark", np.repeat(np.array([0, 40], np.uint8), 50).reshape(10, 10), 20),
    ],
)
def test_values_are_what_they_say(key: str, pixels: np.ndarray, value: float) -> None:
    assert value_of(key, pixels) == pytest.approx(value)


def test_first_refusal_is_told_alone_and_cautions_all() -> None:
    assert keys(np.zeros((20, 20), np.uint8)) == ["too_small"]
    assert keys(np.zeros((50, 50), np.uint8)) == ["blank"]
    light = np.zeros((100, 100), np.uint8)
    light[:20, :20] = 200
    assert keys(light) == ["mostly_black"]
    marked = scan()
    assert keys(marked) == []
    assert keys(marked, dark=255.0, clipped=-1.0) == ["clipped", "dark"]
    assert keys(marked, not_ultrasound=1e9, clipped=-1.0) == ["not_ultrasound"]


def test_bundles_limits_stand_for_those_of_the_checks() -> None:
    value = value_of("not_ultrasound", scan())
    assert keys(scan(), not_ultrasound=value + 1e-6) == ["not_ultrasound"]
    assert keys(scan(), not_ultrasound=value - 1e-6) == []
    assert keys(scan(), bright=1.0) == ["bright"]  # without a limit of the bundle's it is not asked


@pytest.mark.parametrize("maker", [*FITTED, *UNSEEN], ids=lambda maker: maker.__name__)
def test_pictures_that_are_no_ultrasound_are_refused(maker) -> None:
    judge = Judge()
    for _, pixels in made((maker,), 6, seed=11):
        assert [finding.outcome for finding in judge.of_image(image(pixels))] == ["refusal"]


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_photographs_are_refused_in_colour_and_in_grey_whole_and_cut(name: str) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    photograph = datasets.load_sample_image(name)
    for pixels in (photograph, photograph[100:300, 200:400], np.asarray(Image.fromarray(photograph).convert("L"))):
        assert keys(pixels)[0] in {"not_ultrasound", "coloured"}


@pytest.mark.parametrize("hospital", sorted(HOSPITALS))
def test_simulated_ultrasound_is_answered_at_any_size_and_gain(hospital: str) -> None:
    refused = 0
    for number in range(30):
        pixels = scan(100 + number, hospital=hospital)
        refused += any(finding.outcome == "refusal" for finding in Judge().of_image(image(pixels)))
        other = changed(pixels, np.random.default_rng(number))
        refused += any(finding.outcome == "refusal" for finding in Judge().of_image(image(other)))
    assert refused <= 3  # of 60


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_scanners_lay_on_images_is_found(name: str) -> None:
    found = 0
    for number in range(12):
        laid = OVERLAYS[name](scan(number), scan(50 + number, hospital="B"), np.random.default_rng(number))
        found += bool(set(keys(laid)) & {"coloured", "doppler", "two_views", "not_ultrasound"})
    assert found >= 11


def test_hues_agree_in_a_tint_and_are_not_held_for_the_whole_of_a_large_image() -> None:
    grey = np.tile(scan(1), (6, 8))
    tinted = image(np.stack([grey, (grey * 0.8).astype(np.uint8), (grey * 0.5).astype(np.uint8)], axis=-1))
    mixed = image(np.random.default_rng(5).integers(0, 256, (500, 700, 3), dtype=np.uint8))
    for decoded in (tinted, mixed):
        assert decoded.colours is not None
        red, green, blue = decoded.colours[decoded.coloured].astype(float).T
        hues = np.exp(1j * np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue))
        assert Picture(decoded).hue_agreement == pytest.approx(abs(hues.mean()), rel=1e-12)
    assert Picture(tinted).hue_agreement > 0.95 > Picture(mixed).hue_agreement
    assert Picture(image(scan(1))).hue_agreement == 0.0
    picture = Picture(tinted)
    tracemalloc.start()
    assert picture.hue_agreement > 0.95
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 3 * grey.size  # bytes: less than one number of 4 bytes a pixel


def test_calipers_and_text_in_colour_and_a_tint_of_the_whole_are_no_overlay() -> None:
    grey = scan()
    drawn = Image.fromarray(grey).convert("RGB")
    draw = ImageDraw.Draw(drawn)
    for column in (60, 190):
        draw.line([column - 6, 120, column + 6, 120], fill=(255, 255, 0))
        draw.line([column, 114, column, 126], fill=(255, 255, 0))
    draw.text((20, 230), "RT UOQ 10H", fill=(0, 255, 0))
    assert not set(keys(np.asarray(drawn))) & {"coloured", "doppler"}
    sepia = np.stack([grey, grey * 0.8, grey * 0.45], axis=-1).astype(np.uint8)
    assert not set(keys(sepia)) & {"coloured", "doppler"}
    patch = np.asarray(drawn).copy()
    patch[100:160, 100:160] = (40, 200, 60)
    assert "coloured" in keys(patch) or "not_ultrasound" in keys(patch)
    assert value_of("coloured", patch) == pytest.approx(3600 / grey.size, rel=0.05)


def test_seam_is_measured_in_the_middle_from_top_to_bottom() -> None:
    grey = scan().copy()
    assert value_of("two_views", grey) < 3.5
    middle, side, short = grey.copy(), grey.copy(), grey.copy()
    middle[:, 128:] = np.minimum(middle[:, 128:].astype(int) + 90, 255)
    side[:, 230:] = np.minimum(side[:, 230:].astype(int) + 90, 255)
    short[:40, 128:] = np.minimum(short[:40, 128:].astype(int) + 90, 255)
    assert value_of("two_views", middle) > 3.5
    assert value_of("two_views", side) < 3.5
    assert value_of("two_views", short) < 3.5


def test_statistics_are_finite_named_and_hardly_move_with_the_size() -> None:
    for pixels in (np.zeros((40, 300), np.uint8), np.full((9, 9), 255, np.uint8), scan(), scan(size=64)):
        values = statistics_of(Picture(image(pixels)))
        assert values.shape == (len(NAMES),)
        assert np.isfinite(values).all()
    grey = scan()
    large = np.asarray(Image.fromarray(grey).resize((700, 700), Image.Resampling.BICUBIC))
    one, other = (float(shipped()(statistics_of(Picture(image(pixels))))) for pixels in (grey, large))
    assert one == pytest.approx(other, abs=1.5)


def test_weights_are_of_the_statistics_and_a_mirror_image_is_as_likely() -> None:
    likeness = shipped()
    assert likeness.weight.shape == likeness.mean.shape == (len(NAMES),)
    assert (likeness.scale > 0).all()
    # Mean and intercept alone, and a statistic that lies far out counts as four deviations.
    assert float(likeness(likeness.mean)) == pytest.approx(likeness.intercept)
    far = likeness.mean.copy()
    far[3] += 100 * likeness.scale[3]
    assert float(likeness(far)) == pytest.approx(likeness.intercept + 4 * likeness.weight[3])
    grey = scan()
    one, other = (float(likeness(statistics_of(Picture(image(p))))) for p in (grey, grey[:, ::-1].copy()))
    assert one == pytest.approx(other, abs=1.0)


def test_reducing_takes_means_and_enlarges_only_when_asked() -> None:
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4).repeat(64, 0).repeat(64, 1)
    assert reduced(grey, 256) is grey
    small = reduced(grey, 64)
    assert small.shape == (64, 64)
    assert small.mean() == pytest.approx(grey.mean())
    assert reduced(small, 256) is small
    assert reduced(small, 128, enlarge=True).shape == (128, 128)


@pytest.mark.parametrize("folder", ["Dataset_BUSI_with_GT", "BUSBRA"])
def test_of_real_lesions_at_most_one_in_fifty_is_refused(real_data: Path, folder: str) -> None:
    """Of a tenth of them, always the same, without those that show flow, which six of BUSI's do."""
    manifest = open_dataset(real_data / folder)
    lesions = manifest.table[manifest.table["label"] != "normal"].sort_values("image")
    rows = lesions.iloc[::10].to_dict("records")
    assert len(rows) >= 60
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda row: Judge().of_image(manifest.read(row)), rows))
    refused = [finding.check for one in found for finding in one if finding.outcome == "refusal"]
    flow = refused.count("doppler")
    assert flow <= 6
    assert len(refused) - flow <= 0.02 * (len(rows) - flow)
    # The same grey levels in another order are no ultrasound.
    rng = np.random.default_rng(0)
    for row in rows[:20]:
        pixels = manifest.read(row).pixels
        assert "not_ultrasound" in keys(rng.permutation(pixels.ravel()).reshape(pixels.shape))
