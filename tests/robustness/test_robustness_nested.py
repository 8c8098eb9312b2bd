"""Severities of an image are of one thing growing: one place, direction and field of noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from medsharp.data.phantom import simulate_image
from medsharp.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt, list_corruptions

NAMES = list_corruptions()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return simulate_image("B", "malignant", np.random.default_rng(8), size=160).pixels


class Noting(np.random.Generator):
    """Notes every draw, with its result."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.PCG64(seed))
        self.draws: list[tuple[str, bytes]] = []


def _noting(name: str) -> Callable[..., object]:
    def draw(self: Noting, *arguments: object, **options: object) -> object:
        values = getattr(np.random.Generator, name)(self, *arguments, **options)
        self.draws.append((name, np.asarray(values).tobytes()))
        return values

    return draw


for _name in ("uniform", "integers", "random", "standard_normal", "standard_exponential", "permutation", "choice"):
    setattr(Noting, _name, _noting(_name))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("known", [True, False])
def test_every_severity_draws_the_same(name: str, known: bool, image: np.ndarray) -> None:
    lesion = np.zeros(image.shape, dtype=bool)
    lesion[60:90, 50:100] = True
    notes = []
    for severity in SEVERITIES:
        rng = Noting(4)
        CORRUPTIONS[name](image, severity, rng, lesion if known else None)
        notes.append(rng.draws)
    assert all(draws == notes[0] for draws in notes)


@pytest.mark.parametrize("name", [n for n in NAMES if not CORRUPTIONS[n].moves and n != "calipers_off_lesion"])
def test_every_severity_is_drawn_from_the_same_stream(
    name: str, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []

    def note(self: object, image: np.ndarray, severity: int, rng: np.random.Generator, lesion: object) -> np.ndarray:
        states.append(rng.bit_generator.state["state"])
        return image

    monkeypatch.setattr("medsharp.robustness.corruptions.corruption.Corruption.__call__", note)
    for severity in SEVERITIES:
        corrupt(image, name, severity, seed=(3, 9))
    assert all(state == states[0] for state in states)
    corrupt(image, name, 1, seed=(3, 10))
    assert states[-1] != states[0]


def test_a_control_has_the_chance_of_its_annotation(image: np.ndarray) -> None:
    for seed in range(10):
        for name in ("body_marker", "burned_in_text"):
            marked, patched = (
                np.argwhere(corrupt(image, one, 3, seed=seed) != image) for one in (name, f"{name}_patch")
            )
            assert np.abs(marked.min(axis=0) - patched.min(axis=0)).max() <= 3
            assert np.abs(marked.max(axis=0) - patched.max(axis=0)).max() <= 3


def test_noise_of_a_higher_severity_is_the_same_field_enlarged() -> None:
    grey = np.full((128, 128), 120, dtype=np.uint8)
    for name in ("speckle_noise", "speckle_statistics", "haze"):
        fields = [corrupt(grey, name, severity, seed=5).astype(float) - 120 for severity in SEVERITIES]
        for field in fields[:-1]:
            assert np.corrcoef(field.ravel(), fields[-1].ravel())[0, 1] > 0.97, name


def test_a_shadow_deepens_and_widens_about_one_place() -> None:
    grey = np.full((160, 200), 200, dtype=np.uint8)
    for seed in range(8):
        shadows = [corrupt(grey, "acoustic_shadow", severity, seed=seed) for severity in SEVERITIES]
        columns = [float((200.0 - s[-1]) @ np.arange(200) / (200.0 - s[-1]).sum()) for s in shadows]
        assert np.ptp(columns) < 2
        for milder, stronger in itertools.pairwise(shadows):
            assert (stronger <= milder).all()


def test_sliders_of_the_time_gain_are_moved_further_in_the_same_way() -> None:
    grey = np.full((160, 64), 128, dtype=np.uint8)
    profiles = [corrupt(grey, "time_gain", severity, seed=3)[:, 30].astype(float) - 128 for severity in SEVERITIES]
    for severity, profile in zip((2, 4, 6, 8), profiles, strict=False):
        np.testing.assert_allclose(profile * 10 / severity, profiles[-1], atol=0.5 * 10 / severity + 0.5)


def test_blur_keeps_its_direction() -> None:
    spot = np.zeros((96, 96), dtype=np.uint8)
    spot[48, 60] = 255
    for seed in range(6):
        angles = []
        for severity in SEVERITIES:
            rows, columns = np.nonzero(corrupt(spot, "motion_blur", severity, seed=seed))
            far = np.argmax(np.hypot(rows - 48, columns - 60))
            angles.append(np.degrees(np.arctan2(rows[far] - 48, columns[far] - 60)) % 180)
        assert np.ptp(np.unwrap(angles, period=180)) < 10


def test_a_crop_stays_at_its_edge_or_corner_and_zooms_are_nested() -> None:
    ramp = np.add.outer(np.arange(128), np.arange(128) * 0) * 2
    across = np.ascontiguousarray(ramp.T).astype(np.uint8)
    down = ramp.astype(np.uint8)
    for name in ("crop", "zoom_in"):
        for seed in range(12):
            for picture in (across, down):
                shown = [corrupt(picture, name, severity, seed=seed).astype(int) for severity in SEVERITIES]
                for wider, narrower in itertools.pairwise(shown):
                    assert wider.min() - 2 <= narrower.min()
                    assert narrower.max() <= wider.max() + 2


def test_marks_stay_where_they_are(image: np.ndarray) -> None:
    for seed in range(8):
        for name in ("body_marker", "burned_in_text", "vendor_banner"):
            boxes = []
            for severity in SEVERITIES:
                rows, columns = np.nonzero(corrupt(image, name, severity, seed=seed) != image)
                boxes.append((rows.min(), rows.max(), columns.min(), columns.max()))
            top, left = ([b[0] < image.shape[0] / 2 for b in boxes], [b[2] < image.shape[1] / 2 for b in boxes])
            assert len(set(top)) == 1, name
            if name == "body_marker":
                assert len(set(left)) == 1


def test_calipers_are_added_at_the_same_place_as_the_ones_before(image: np.ndarray) -> None:
    for name in ("calipers", "calipers_off_lesion"):
        drawn = [np.argwhere(corrupt(image, name, s, seed=6) == 255) for s in SEVERITIES]
        for fewer, more in itertools.pairwise(drawn):
            # Every pixel of the milder drawing has one of the stronger beside it: arms only grow, pairs are added.
            near = np.abs(fewer[:, None] - more[None]).max(axis=2).min(axis=1)
            assert (near <= 1).mean() > 0.97, name
