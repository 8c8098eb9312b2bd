"""The simulated images: reproducible, right in size, true to their masks and unlike between hospitals."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy.ndimage import label as connected

from medsharp.data.phantom import HOSPITALS, PhantomImage, simulate_image
from medsharp.data.phantom.acoustics import ASSUMED_ATTENUATION, to_grey
from medsharp.data.phantom.anatomy import Tissue
from medsharp.data.phantom.lesions import SHARES, draw_lesion
from medsharp.data.phantom.texture import Grid
from medsharp.errors import InputError


def simulate(hospital: str, label: str = "benign", seed: int = 0, size: int = 128) -> PhantomImage:
    return simulate_image(hospital, label, np.random.default_rng(seed), size)


@pytest.mark.parametrize("hospital", sorted(HOSPITALS))
@pytest.mark.parametrize("size", [64, 200])
def test_image_and_mask_have_the_size_and_type_promised(hospital: str, size: int) -> None:
    image = simulate(hospital, size=size)
    assert image.pixels.shape == image.mask.shape == (size, size)
    assert image.pixels.dtype == np.uint8
    assert image.mask.dtype == np.bool_
    assert image.label == "benign"


@pytest.mark.parametrize("hospital", sorted(HOSPITALS))
def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(hospital: str) -> None:
    first, again, other = simulate(hospital, seed=3), simulate(hospital, seed=3), simulate(hospital, seed=4)
    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert first.mask.tobytes() == again.mask.tobytes()
    assert first.descriptors == again.descriptors
    assert first.pixels.tobytes() != other.pixels.tobytes()


@pytest.mark.parametrize("hospital", sorted(HOSPITALS))
def test_images_use_the_grey_scale_without_drowning_in_black_or_white(hospital: str) -> None:
    for seed in range(4):
        pixels = simulate(hospital, "malignant", seed).pixels
        assert 15 < pixels.mean() < 200
        assert pixels.std() > 15
        assert (pixels == 255).mean() < 0.25


def test_the_mask_lies_on_the_lesion() -> None:
    # Most lesions are darker than what surrounds them; a mask beside the lesion would lose the difference.
    differences = []
    for seed in range(30):
        image = simulate("A", seed=seed)
        if image.descriptors["echo_pattern"] not in ("anechoic", "hypoechoic"):
            continue
        rows, columns = np.nonzero(image.mask)
        top, left = rows.min(), columns.min()
        height, width = rows.max() + 1 - top, columns.max() + 1 - left
        beside = np.zeros_like(image.mask)
        beside[top : top + height, max(0, left - width // 2) : left] = True
        beside[top : top + height, left + width : left + width + width // 2] = True
        differences.append(image.pixels[beside].mean() - image.pixels[image.mask].mean())
    assert len(differences) > 10
    assert np.mean(np.array(differences) > 15) > 0.85


@pytest.mark.parametrize("hospital", sorted(HOSPITALS))
def test_the_mask_is_one_piece_of_plausible_size(hospital: str) -> None:
    for seed in range(6):
        image = simulate(hospital, ("benign", "malignant")[seed % 2], seed)
        assert 0.002 < image.mask.mean() < 0.5
        assert connected(image.mask)[1] == 1


def test_a_mass_described_as_not_parallel_is_taller_than_wide() -> None:
    extents = {"parallel": [], "not parallel": []}
    for seed in range(24):
        image = simulate("B", "malignant", seed, size=96)
        rows, columns = np.nonzero(image.mask)
        extents[str(image.descriptors["orientation"])].append(np.log(rows.std() / columns.std()))
    assert np.mean(extents["parallel"]) < -0.1
    assert np.mean(extents["not parallel"]) > 0.1


def test_shadow_darkens_and_enhancement_brightens_what_lies_below() -> None:
    levels: dict[str, list[float]] = {"shadow": [], "none": [], "enhancement": []}
    for seed in range(60):
        image = simulate("A", ("benign", "malignant")[seed % 2], seed)
        rows, columns = np.nonzero(image.mask)
        band = slice(rows.max() + 2, rows.max() + 14)
        below = image.pixels[band, int(columns.mean()) - 3 : int(columns.mean()) + 4]
        whole = image.pixels[band]
        levels[str(image.descriptors["posterior"])].append(float(below.mean() - whole.mean()))
    assert np.mean(levels["shadow"]) < np.mean(levels["none"]) - 15
    assert np.mean(levels["enhancement"]) > np.mean(levels["none"]) + 8


def test_hospitals_differ_in_speckle_size() -> None:
    widths = {hospital: _speckle_width_mm(hospital) for hospital in HOSPITALS}
    assert widths["A"] < 0.8 * widths["B"]
    assert widths["B"] < 0.95 * widths["C"]


def _speckle_width_mm(hospital: str) -> float:
    """Scan an even block, as one does to check a real machine; return where its grain is half like itself."""
    grid = Grid(rows=200, columns=300, step_mm=0.12)
    even, none = np.full((200, 300), -4.0, dtype=np.float32), np.zeros((200, 300), dtype=np.float32)
    block = Tissue(even, none, none + np.float32(ASSUMED_ATTENUATION), none, none > 0)
    grain = to_grey(block, HOSPITALS[hospital], grid, np.random.default_rng(0))
    grain = grain - grain.mean(axis=1, keepdims=True)
    lags = range(16)
    likeness = [float((grain[:, lag:] * grain[:, : grid.columns - lag]).mean()) for lag in lags]
    return grid.step_mm * float(np.interp(-0.5, -np.array(likeness) / likeness[0], lags))


def test_classes_differ_in_each_descriptor_yet_overlap() -> None:
    rng = np.random.default_rng(0)
    benign, malignant = ([draw_lesion(label, rng).descriptors for _ in range(800)] for label in ("benign", "malignant"))
    for name, shares in SHARES.items():
        counts = [Counter(str(lesion[name]) for lesion in lesions) for lesions in (benign, malignant)]
        assert set(counts[0]) == set(counts[1]) == set(shares)
        distance = sum(abs(counts[0][value] - counts[1][value]) for value in shares) / 1600
        assert 0.1 < distance < 0.75, name


def test_the_birads_category_rises_with_malignancy() -> None:
    rng = np.random.default_rng(0)
    means = [np.mean([int(draw_lesion(label, rng).birads) for _ in range(400)]) for label in ("benign", "malignant")]
    assert 2.5 < means[0] < means[1] - 0.4 < 5


@pytest.mark.parametrize(
    ("hospital", "label", "size", "sentence"),
    [
        ("D", "benign", 128, "unknown simulated hospital 'D'"),
        ("A", "benine", 128, "unknown label 'benine'.*did you mean benign"),
        ("A", "benign", 8, "size 8 is too small"),
    ],
)
def test_wrong_input_ends_in_one_sentence(hospital: str, label: str, size: int, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        simulate(hospital, label, size=size)
