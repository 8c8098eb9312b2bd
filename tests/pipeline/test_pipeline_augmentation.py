"""Every transform does what it is called, on the scale 0 to 255, and the same on any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from medsharp.data.augmentation import RECIPES, TRANSFORMS, make_augmentation
from medsharp.data.augmentation.base import distance_from_probe
from medsharp.errors import InputError
from medsharp.recipes import Augmentation

SIDE = 96


def flat(level: float = 120.0) -> np.ndarray:
    return np.full((1, SIDE, SIDE), level, dtype=np.float32)


def changed(name: str, image: np.ndarray, seed: int, **settings: Any) -> np.ndarray:
    """What a transform makes of an image, done for certain."""
    if "prob" in type(getattr(Augmentation(**{name: {}}), name)).model_fields:
        settings = {"prob": 1.0, **settings}
    transform = make_augmentation(Augmentation(**{name: settings})).transforms[0]
    transform.set_random_state(seed=seed)
    return transform({"image": image})["image"][0]


def test_settings_and_transforms_have_the_same_names() -> None:
    assert list(Augmentation.model_fields) == list(TRANSFORMS)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_keep_shape_type_and_scale_and_leave_their_input(name: str) -> None:
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (1, SIDE, SIDE)).astype(np.float32)
    before = image.copy()
    for seed in range(8):
        after = changed(name, image, seed)
        assert (after.shape, after.dtype) == ((SIDE, SIDE), np.float32)
        assert 0 <= after.min() <= after.max() <= 255.001
        assert not np.array_equal(after, before[0])
        # None of them destroys an image: uint8 arithmetic would.
        assert after.std() > 0.1 * before.std()
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", [name for name in TRANSFORMS if name != "placement"])
def test_eight_bit_input_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="float32"):
        changed(name, flat().astype(np.uint8), 0)


def test_attenuation_darkens_with_distance_from_the_probe_and_nothing_else() -> None:
    for seed in range(5):
        after = changed("depth_attenuation", flat(), seed)
        order = np.argsort(distance_from_probe(SIDE), axis=None)
        assert np.all(np.diff(after.ravel()[order]) <= 1e-4)
        assert after[0, SIDE // 2] > 115
        rates = -np.log(after / 120) / np.maximum(distance_from_probe(SIDE), 1e-6)
        assert np.ptp(rates[10:]) < 1e-3  # one rate everywhere


def test_shadow_is_a_dark_band_that_goes_down_from_where_it_begins() -> None:
    for seed in range(5):
        after = changed("shadow", flat(), seed, width=0.08)
        column = int(after[-1].argmin())
        dark = after[:, max(0, column - 12) : column + 13].min(axis=1)
        assert dark[-1] < 90
        assert dark[:4].min() > 118  # above the reflector it is as it was
        assert np.all(np.diff(dark) <= 0.5)  # and never lighter again below
        assert (after[-1] > 118).mean() > 0.3  # a band, not the whole image


def test_haze_brightens_a_ring_and_leaves_the_padding_black() -> None:
    image = flat(60)
    image[:, :20] = 0
    for seed in range(5):
        after = changed("haze", image, seed)
        assert after[:20].max() == 0
        added = after[20:] - 60
        assert added.min() >= -1e-4
        assert added.max() > 10
        assert added.max() > 4 * np.median(added) or added.std() > 3


def test_speckle_is_multiplicative_and_wider_than_deep() -> None:
    after = np.stack([changed("speckle", flat(), seed, amount=0.3) - 120 for seed in range(12)])
    assert abs(after.mean()) < 2
    assert changed("speckle", flat(0), 0).max() == 0
    across = (after[:, :, 1:] * after[:, :, :-1]).mean() / after.var()
    along = (after[:, 1:] * after[:, :-1]).mean() / after.var()
    assert across > along > 0


def test_gain_keeps_the_order_of_grey_levels() -> None:
    ramp = np.repeat(np.linspace(0, 200, SIDE, dtype=np.float32)[None, None], SIDE, axis=1)
    for seed in range(8):
        assert np.all(np.diff(changed("gain", ramp, seed, gain=1.2)[0]) >= 0)


def test_depth_gain_changes_rows_alike() -> None:
    after = changed("depth_gain", flat(), 0)
    assert np.ptp(after, axis=1).max() == 0
    assert np.ptp(after[:, 0]) > 1


def test_erasing_fills_one_box_with_the_mean() -> None:
    image = flat()
    image[:, ::2] = 60
    after = changed("erasing", image, 0)
    rows, columns = np.nonzero(after != image[0])
    box = after[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert np.ptp(box) == 0
    assert box[0, 0] == pytest.approx(90)


@pytest.mark.parametrize("name", ["noise", "erasing"])
def test_what_surrounds_the_scan_stays_black(name: str) -> None:
    """By that the network tells it from tissue, in training as afterwards."""
    image = flat()
    image[:, :30] = 0
    image[:, :, 70:] = 0
    touched = 0
    for seed in range(12):
        after = changed(name, image, seed, **({"largest": 0.8} if name == "erasing" else {"amount": 30}))
        assert np.all(after[:30] == 0)
        assert np.all(after[:, 70:] == 0)
        touched += int(np.any(after[30:, :70] != 120))
    assert touched > 8


def test_erasing_hides_a_black_lesion_too() -> None:
    image = flat()
    image[:, 40:50, 40:60] = 0
    hidden = [changed("erasing", image, seed, largest=0.8)[40:50, 40:60].min() > 0 for seed in range(40)]
    assert any(hidden)


@pytest.mark.parametrize("name", [name for name in RECIPES if name != "none"])
def test_threads_change_nothing(name: str) -> None:
    image = np.random.default_rng(1).uniform(0, 255, (1, 224, 224)).astype(np.float32)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            recipe = make_augmentation(name)
            for number, transform in enumerate(recipe.transforms):
                transform.set_random_state(seed=number)
            results.append([recipe({"image": image})["image"] for _ in range(6)])
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown augmentation 'stron'; did you mean strong"):
        make_augmentation("stron")
