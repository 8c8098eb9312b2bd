"""From tissue to grey values: scatterers, point-spread function, attenuation, time gain, envelope, log compression."""

from __future__ import annotations

import numpy as np
from scipy import fft, ndimage

from medsharp.data.phantom.anatomy import Tissue
from medsharp.data.phantom.scanner import Scanner
from medsharp.data.phantom.texture import Field, Grid, smooth_field

# Attenuation in dB/cm/MHz that the time gain assumes.
ASSUMED_ATTENUATION = 0.7
SOUND_MM_PER_US = 1.54
# Full width at half maximum of a Gaussian, in standard deviations.
FWHM = 2.3548


def echoes(tissue: Tissue, scanner: Scanner, grid: Grid, rng: np.random.Generator) -> Field:
    """Return the complex baseband echo field of the tissue, complex64 [rows, columns].

    Scattering tissue is a field of circular complex Gaussian scatterers whose amplitude follows the mean backscatter,
    so that the envelope has Rayleigh speckle (Wagner et al., IEEE Trans. Sonics Ultrason. 30, 1983). Interfaces add a
    coherent part whose phase varies slowly along them. Both are convolved with a separable Gaussian point-spread
    function: the axial width follows from the bandwidth, the lateral width grows away from the focus.
    """
    shape = (grid.rows, grid.columns)
    parts = rng.standard_normal((2, *shape), dtype=np.float32)
    amplitude = np.exp(tissue.backscatter_db * np.float32(np.log(10) / 20)) * np.float32(np.sqrt(0.5))
    phase = smooth_field(grid, (1.2, 4.0), rng) * np.float32(2.2)
    field = np.empty(shape, dtype=np.complex64)
    field.real = parts[0] * amplitude + tissue.specular * np.cos(phase)
    field.imag = parts[1] * amplitude + tissue.specular * np.sin(phase)
    return _blur_depth(_blur_across(field, scanner, grid), scanner, grid)


def _blur_across(field: Field, scanner: Scanner, grid: Grid) -> Field:
    """Blur each row by the beam's width at its depth: one FFT a row, one transfer function a depth."""
    away = (grid.z - np.float32(scanner.focus_mm)) / np.float32(scanner.focus_mm)
    width = scanner.lateral_mm * np.sqrt(1.0 + np.square(scanner.defocus * away * 2.0))
    width = np.minimum(width, 2.5 * scanner.lateral_mm)  # dynamic receive focusing keeps it within bounds
    sigma = np.maximum(width / FWHM / grid.step_mm, 0.3)  # in columns
    columns = fft.next_fast_len(grid.columns + 16)
    frequency = fft.fftfreq(columns).astype(np.float32)[None, :]
    transfer = np.exp(np.float32(-2.0 * np.pi**2) * np.square(sigma * frequency))
    transfer /= np.sqrt(np.mean(np.square(transfer), axis=1, keepdims=True))  # speckle keeps its variance
    spectrum = fft.fft(field, n=columns, axis=1)
    spectrum *= transfer.astype(np.float32)
    return fft.ifft(spectrum, axis=1, overwrite_x=True)[:, : grid.columns]


def _blur_depth(field: Field, scanner: Scanner, grid: Grid) -> Field:
    """Blur along depth by the pulse; its length is 0.44 c / (B f0) for a Gaussian spectrum of bandwidth B."""
    length = 0.44 * SOUND_MM_PER_US / (scanner.bandwidth * scanner.frequency_mhz)
    sigma = max(length * 1.4 / FWHM / grid.step_mm, 0.4)
    offsets = np.arange(-int(3 * sigma + 1), int(3 * sigma + 1) + 1)
    kernel = np.exp(-0.5 * np.square(offsets / sigma))
    kernel = (kernel / np.sqrt(np.sum(kernel**2))).astype(np.float32)
    blurred = np.empty_like(field)
    blurred.real = ndimage.correlate1d(np.ascontiguousarray(field.real), kernel, axis=0, mode="nearest")
    blurred.imag = ndimage.correlate1d(np.ascontiguousarray(field.imag), kernel, axis=0, mode="nearest")
    return blurred


def level_change(tissue: Tissue, scanner: Scanner, grid: Grid, rng: np.random.Generator) -> tuple[Field, Field]:
    """Return (change of the echo level by attenuation and time gain, time gain alone), both in dB.

    Returns:
        float32 [rows, columns] and float32 [rows, 1].
    """
    two_way = np.float32(0.2 * scanner.frequency_mhz * grid.step_mm)  # dB a row for 1 dB/cm/MHz
    loss = np.cumsum(tissue.attenuation * two_way, axis=0, dtype=np.float32)
    shading = np.cumsum(tissue.shading_db, axis=0, dtype=np.float32) * np.float32(scanner.frequency_mhz / 10.0)
    # The aperture sees around things: what lies above is averaged over the beam on its way.
    shade = ndimage.gaussian_filter1d(shading - loss, 0.9 / grid.step_mm, axis=1, mode="nearest", truncate=2.5)
    sliders = rng.normal(0.0, scanner.tgc_error_db, size=7)
    error = np.interp(grid.z[:, 0], np.linspace(0.0, grid.depth_mm, 7), np.cumsum(sliders) * 0.5 + 0.5 * sliders)
    gain = ASSUMED_ATTENUATION * 0.2 * scanner.frequency_mhz * grid.z + error.astype(np.float32)[:, None]
    # No amplifier goes on for ever: past its limit the image fades.
    gain = np.minimum(gain, gain[int(rng.uniform(0.45, 0.95) * grid.rows), 0] + np.float32(1.0))
    return shade + gain, gain


def to_grey(tissue: Tissue, scanner: Scanner, grid: Grid, rng: np.random.Generator) -> Field:
    """Return the B-mode image of the tissue as the scanner shows it, float32 [rows, columns] in 0..255."""
    field = echoes(tissue, scanner, grid, rng)
    change, gain = level_change(tissue, scanner, grid, rng)
    power = np.square(field.real) + np.square(field.imag)
    if scanner.compounding:
        # Looks from many angles have the same mean and speckle of their own: their average tends to the mean.
        mean = np.exp(tissue.backscatter_db * np.float32(np.log(10) / 10)) + np.square(tissue.specular)
        mean = ndimage.gaussian_filter(mean, (0.8, scanner.lateral_mm / FWHM / grid.step_mm), truncate=2.5)
        power += np.float32(scanner.compounding) * (mean - power)
    power *= np.exp(change * np.float32(np.log(10) / 10))
    noise = rng.standard_exponential((grid.rows, grid.columns), dtype=np.float32)
    power += noise * np.exp((gain + np.float32(scanner.noise_db)) * np.float32(np.log(10) / 10))
    decibel = np.float32(10.0) * np.log10(power + np.float32(1e-9))
    # Glandular tissue comes out at 66 % of the range at 0 dB gain.
    grey = (decibel + np.float32(scanner.gain_db)) / np.float32(scanner.dynamic_range_db) + np.float32(0.66)
    grey = np.clip(grey, 0.0, 1.15)
    if scanner.smoothing:
        smooth = ndimage.gaussian_filter(grey, (0.8, 1.2), truncate=2.5)
        grey += np.float32(scanner.smoothing) * (smooth - grey)
    if scanner.sharpening:
        wide = ndimage.gaussian_filter(grey, 2.5, truncate=2.0)
        grey += np.float32(scanner.sharpening) * (grey - wide)
    return np.clip(grey, 0.0, 1.0) ** np.float32(scanner.gamma) * np.float32(255.0)
