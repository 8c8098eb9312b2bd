"""Every corruption, a line each."""

from __future__ import annotations

import fnmatch
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medsharp.errors import InputError, nearest
from medsharp.robustness.corruptions import artefacts, capture, gain, geometry, markings, resolution, speckle
from medsharp.robustness.corruptions.brightness import brightness, contrast
from medsharp.robustness.corruptions.calipers import calipers, calipers_off_lesion
from medsharp.robustness.corruptions.corruption import SEVERITIES, Corruption, Family, levels
from medsharp.robustness.corruptions.digital import jpeg_compression, pixelate
from medsharp.robustness.corruptions.markings import marked, patched
from medsharp.robustness.corruptions.motion import motion_blur
from medsharp.robustness.corruptions.noise import speckle_noise

LEAST_SIDE = 32
"""Smaller images are refused: nothing on them looks like ultrasound any more."""

_MEDMNIST_C = "MedMNIST-C, BreastMNIST (Di Salvo et al., arXiv 2406.17536)"
_USAUGMENT = "after usaugment (Tupper and Gagné, arXiv 2501.13193)"
_PHYSICS = "medsharp: echo levels on a 60 dB display"
_MADE_HERE = "medsharp"


_Apply = Callable[..., np.ndarray]
_Levels = tuple[dict[str, Any], ...]


def _medmnist(name: str, description: str, apply: _Apply, **parameters: tuple[Any, ...]) -> Corruption:
    return Corruption(name, "medmnist-c", description, _MEDMNIST_C, levels(**parameters), apply, colour=True)


def _ultrasound(name: str, description: str, source: str, apply: _Apply, **parameters: tuple[Any, ...]) -> Corruption:
    return Corruption(name, "ultrasound", description, source, levels(**parameters), apply)


def _geometry(
    name: str, description: str, apply: _Apply, *, cuts: bool = False, **parameters: tuple[Any, ...]
) -> Corruption:
    return Corruption(
        name, "ultrasound", description, _MADE_HERE, levels(**parameters), apply, moves=True, at_lesion=cuts, cuts=cuts
    )


def _annotation(name: str, description: str, apply: _Apply, given: _Levels, *, at_lesion: bool = False) -> Corruption:
    return Corruption(name, "annotation", description, _MADE_HERE, given, apply, at_lesion=at_lesion)


def _control(
    name: str, of: str, description: str, apply: _Apply, given: _Levels, *, at_lesion: bool = False
) -> Corruption:
    return Corruption(name, "control", description, _MADE_HERE, given, apply, at_lesion=at_lesion, control_of=of)


_CALIPERS = levels(pairs=(1, 1, 2, 2, 3), arm=(0.012, 0.016, 0.02, 0.025, 0.03))
_TEXT = levels(lines=(1, 2, 3, 4, 6), size=(0.045, 0.05, 0.055, 0.06, 0.065))
_MARKER = levels(size=(0.05, 0.07, 0.09, 0.115, 0.14))
_BANNER = levels(height=(0.05, 0.07, 0.09, 0.12, 0.15))


# fmt: off
CORRUPTIONS: dict[str, Corruption] = {
    entry.name: entry
    for entry in (
        _medmnist("pixelate", "Shrunk by box averaging and enlarged again.", pixelate, scale=(0.30, 0.25, 0.20, 0.15, 0.10)),
        _medmnist("jpeg_compression", "JPEG of low quality.", jpeg_compression, quality=(50, 30, 15, 10, 7)),
        _medmnist("speckle_noise", "Normal noise in proportion to the grey level, per colour channel.", speckle_noise, scale=(0.10, 0.15, 0.20, 0.25, 0.30)),
        _medmnist("motion_blur", "ImageMagick's motion blur at a random angle from -45 to 45 degrees.", motion_blur, radius=(5, 9, 9, 13, 17), sigma=(5, 7, 10, 10, 12)),
        _medmnist("brightness_up", "Grey levels multiplied by a factor above 1.", brightness, factor=(1.4, 1.5, 1.6, 1.8, 2.0)),
        _medmnist("brightness_down", "Grey levels multiplied by a factor below 1.", brightness, factor=(0.55, 0.5, 0.45, 0.4, 0.3)),
        _medmnist("contrast_down", "Grey levels drawn towards their mean.", contrast, factor=(0.9, 0.8, 0.7, 0.6, 0.4)),

        _ultrasound("speckle_statistics", "More speckle: the envelope multiplied by a power of a Rayleigh field.", _PHYSICS, speckle.speckle_statistics, share=(0.2, 0.4, 0.6, 0.8, 1.0)),
        _ultrasound("speckle_reduction", "Speckle smoothed away by an edge-keeping filter.", "Lee, IEEE Trans. PAMI 2, 1980", speckle.speckle_reduction, deviation=(8, 14, 20, 28, 40)),
        _ultrasound("depth_attenuation", "Darker with depth, as if no time gain made up for it.", _USAUGMENT, gain.depth_attenuation, rate=(0.6, 1.2, 1.8, 2.4, 3.0)),
        _ultrasound("time_gain", "Time-gain sliders set wrongly: bands too bright and too dark.", _PHYSICS, gain.time_gain, decibels=(2, 4, 6, 8, 10)),
        _ultrasound("gain_up", "Overall gain too high.", _PHYSICS, gain.gain, decibels=(3, 6, 9, 12, 16)),
        _ultrasound("gain_down", "Overall gain too low.", _PHYSICS, gain.gain, decibels=(-3, -6, -9, -12, -16)),
        _ultrasound("dynamic_range_narrow", "A narrower range of echo levels: hard contrast.", _PHYSICS, gain.display_range, decibels=(50, 42, 35, 29, 23)),
        _ultrasound("dynamic_range_wide", "A wider range of echo levels: flat contrast.", _PHYSICS, gain.display_range, decibels=(70, 82, 96, 115, 140)),
        _ultrasound("acoustic_shadow", "A dark band from a random depth down.", _PHYSICS, artefacts.acoustic_shadow, decibels=(6, 11, 16, 22, 30), width=(0.05, 0.07, 0.09, 0.12, 0.15)),
        _ultrasound("reverberation", "Bright lines at equal distances below the probe.", _PHYSICS, artefacts.reverberation, decibels=(30, 36, 42, 48, 54)),
        _ultrasound("haze", "A veil of noise on a ring around the probe.", _USAUGMENT, artefacts.haze, strength=(0.12, 0.22, 0.32, 0.44, 0.6)),
        _ultrasound("lateral_blur", "A wider beam: blurred along the probe.", _MADE_HERE, resolution.lateral_blur, sigma=(0.005, 0.009, 0.014, 0.02, 0.03)),
        _ultrasound("axial_blur", "A longer pulse: blurred along depth.", _MADE_HERE, resolution.axial_blur, sigma=(0.003, 0.006, 0.01, 0.015, 0.022)),
        _ultrasound("frame_averaging", "Six frames averaged while the probe moves.", _MADE_HERE, resolution.frame_averaging, motion=(0.01, 0.02, 0.035, 0.055, 0.08)),
        _geometry("zoom_in", "Magnified about the middle; a known lesion stays on the image.", geometry.zoom_in, cuts=True, factor=(1.1, 1.2, 1.35, 1.5, geometry.STRONGEST_ZOOM)),
        _geometry("depth_increase", "More depth shown: tissue smaller, black at the sides.", geometry.depth_increase, factor=(1.1, 1.2, 1.35, 1.55, 1.8)),
        _geometry("aspect_stretch", "Depth squeezed, as by other than square pixels.", geometry.aspect_stretch, factor=(1.1, 1.2, 1.35, 1.5, 1.75)),
        _geometry("crop", "Only a window at an edge or in a corner kept; a known lesion stays on the image.", geometry.crop, cuts=True, kept=(0.92, 0.84, 0.75, 0.65, geometry.STRONGEST_CROP)),
        _ultrasound("jpeg_resaved", "Saved as JPEG several times, blocks in other places.", _MADE_HERE, capture.jpeg_resaved, quality=(60, 40, 25, 14, 7), times=(3,)),
        _ultrasound("video_compression", "A key frame of VP8 video.", _MADE_HERE, capture.video_compression, quality=(60, 35, 18, 8, 0)),
        _ultrasound("screen_capture", "Shown smaller by leaving pixels out, captured, enlarged.", _MADE_HERE, capture.screen_capture, scale=(0.7, 0.55, 0.42, 0.32, 0.24)),

        _annotation("calipers", "Measuring crosses at the edge of the lesion.", calipers, _CALIPERS, at_lesion=True),
        _annotation("burned_in_text", "Lines of typed text in a corner, off a known lesion.", marked(markings.burned_in_text), _TEXT, at_lesion=True),
        _annotation("body_marker", "The pictogram of a breast with the probe on it.", marked(markings.body_marker), _MARKER),
        _annotation("vendor_banner", "The maker's banner at the top, grey scale and ruler at the sides.", marked(markings.vendor_banner), _BANNER),

        _control("calipers_off_lesion", "calipers", "The same measuring crosses beside the lesion.", calipers_off_lesion, _CALIPERS, at_lesion=True),
        _control("burned_in_text_patch", "burned_in_text", "A flat patch in place of the text, as large and as bright on average.", patched(markings.burned_in_text), _TEXT, at_lesion=True),
        _control("body_marker_patch", "body_marker", "A flat patch in place of the body marker, as large and as bright on average.", patched(markings.body_marker), _MARKER),
        _control("vendor_banner_patch", "vendor_banner", "Flat patches in place of banner, grey scale and ruler, as large and as bright on average.", patched(markings.vendor_banner), _BANNER),
    )
}
# fmt: on


def list_corruptions(family: Family | None = None) -> tuple[str, ...]:
    """Return the names of all corruptions, or of one family, in the order of the registry."""
    return tuple(name for name, entry in CORRUPTIONS.items() if family in (None, entry.family))


def find_corruptions(patterns: Sequence[str]) -> tuple[Corruption, ...]:
    """Return the corruptions that names, families or globs such as `gain_*` choose, in the order of the registry.

    An annotation brings its control, without which it shows nothing, and a control its annotation.

    Raises:
        InputError: A pattern chooses none; the sentence gives the nearest names.
    """
    families = {entry.family for entry in CORRUPTIONS.values()}
    chosen: set[str] = set()
    for pattern in patterns:
        found = [
            name for name, entry in CORRUPTIONS.items() if fnmatch.fnmatchcase(name, pattern) or entry.family == pattern
        ]
        if not found:
            raise InputError(f"there is no corruption '{pattern}'{nearest(pattern, {*CORRUPTIONS, *families})}")
        chosen.update(found)
    chosen |= {entry.control_of for entry in CORRUPTIONS.values() if entry.name in chosen and entry.control_of}
    chosen |= {entry.name for entry in CORRUPTIONS.values() if entry.control_of in chosen}
    return tuple(entry for name, entry in CORRUPTIONS.items() if name in chosen)


def corrupt(
    image: np.ndarray,
    name: str,
    severity: int = 3,
    seed: int | Sequence[int] = 0,
    *,
    lesion: np.ndarray | None = None,
) -> np.ndarray:
    """Corrupt an image; the same arguments give the same bytes.

    Severities are nested: with one seed, an image has one place, direction and field of noise at all five.

    Args:
        image: uint8, grey [H, W] or RGB [H, W, 3], at least 32 pixels a side.
        name: One of `list_corruptions()`.
        severity: 1 (mild) to 5.
        seed: Of this image; each corruption draws a stream of its own from it, which a control shares with the
            annotation whose control it is.
        lesion: Where the lesion is, bool [H, W]; all False where there is none, None where it is not known.

    Returns:
        uint8 of the same shape; the image given stays as it is.

    Raises:
        InputError: Unknown name, severity out of range, not such an image, or a lesion of another size.
    """
    if name not in CORRUPTIONS:
        raise InputError(f"there is no corruption '{name}'{nearest(name, CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise InputError(f"severity {severity} is not one of 1, 2, 3, 4, 5")
    grey, colour = image.ndim == 2, image.ndim == 3 and image.shape[-1] == 3
    if image.dtype != np.uint8 or not (grey or colour) or min(image.shape[:2]) < LEAST_SIDE:
        raise InputError(
            f"expected uint8 pixels [H, W] or [H, W, 3] of at least {LEAST_SIDE} a side, "
            f"not {image.dtype} {list(image.shape)}"
        )
    if lesion is not None and (lesion.dtype != np.bool_ or lesion.shape != image.shape[:2]):
        raise InputError(f"expected a lesion of bool {list(image.shape[:2])}, not {lesion.dtype} {list(lesion.shape)}")
    entry = CORRUPTIONS[name]
    entropy = [seed] if isinstance(seed, int) else list(seed)
    rng = np.random.default_rng([*entropy, zlib.crc32((entry.control_of or name).encode())])
    return entry(np.ascontiguousarray(image), severity, rng, lesion)
