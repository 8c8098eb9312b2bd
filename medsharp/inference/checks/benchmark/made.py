"""Pictures that are no ultrasound, made: noise, gradients, blanks, patterns, text, screens, charts, phantoms."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Maker = Callable[[np.random.Generator], np.ndarray]
"""Makes one picture: uint8 [H, W], or [H, W, 3]."""

_FONTS = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "STIXGeneral.ttf", "cmr10.ttf")
_WORDS = (
    *("the", "patient", "was", "seen", "for", "follow", "up", "of", "a", "mass", "report", "breast", "left", "right"),
    *("upper", "quadrant", "no", "history", "please", "see", "table", "figure", "page", "results", "method", "we"),
    *("measured", "images", "hospital", "data", "model"),
)
_LONGEST = 256


def _size(rng: np.random.Generator) -> tuple[int, int]:
    height = int(rng.integers(120, 257))
    return height, int(height * rng.uniform(0.8, 1.5))


def _stretched(values: np.ndarray) -> np.ndarray:
    values = values - values.min()
    return np.asarray(values / (values.max() + 1e-9) * 255).astype(np.uint8)


def _cut(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(values, 0, 255)).astype(np.uint8)


def _coordinates(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    height, width = _size(rng)
    rows, columns = np.mgrid[:height, :width]
    return rows / height, columns / width


def white_noise(rng: np.random.Generator) -> np.ndarray:
    """Uniform or normal, without correlation."""
    size = _size(rng)
    if rng.random() < 0.5:
        return rng.integers(0, 256, size).astype(np.uint8)
    return _cut(rng.normal(128, rng.uniform(10, 60), size))


def impulse_noise(rng: np.random.Generator) -> np.ndarray:
    """Salt and pepper on one grey."""
    picture = np.full(_size(rng), rng.integers(0, 256), dtype=np.uint8)
    chance, share = rng.random(picture.shape), rng.uniform(0.01, 0.3)
    picture[chance < share], picture[chance > 1 - share] = 0, 255
    return picture


def _power_law(rng: np.random.Generator, exponent: float) -> np.ndarray:
    height, width = _size(rng)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    radius[0, 0] = 1
    return _stretched(np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) / radius**exponent).real)


def pink_noise(rng: np.random.Generator) -> np.ndarray:
    """Amplitudes fall with frequency."""
    return _power_law(rng, rng.uniform(0.5, 1.1))


def clouds(rng: np.random.Generator) -> np.ndarray:
    """Amplitudes fall faster: clouds."""
    return _power_law(rng, rng.uniform(1.4, 2.2))


def blurred_noise(rng: np.random.Generator) -> np.ndarray:
    """White noise through a Gaussian: what speckle would be without tissue."""
    from scipy.ndimage import gaussian_filter

    return _stretched(gaussian_filter(rng.normal(size=_size(rng)), rng.uniform(0.7, 6)))


def rayleigh_noise(rng: np.random.Generator) -> np.ndarray:
    """As the envelope of an echo is distributed, without correlation."""
    return _cut(rng.rayleigh(rng.uniform(20, 60), _size(rng)))


def coloured_noise(rng: np.random.Generator) -> np.ndarray:
    """Three independent channels."""
    return rng.integers(0, 256, (*_size(rng), 3)).astype(np.uint8)


def blank(rng: np.random.Generator) -> np.ndarray:
    """Black, white or one grey."""
    return np.full(_size(rng), (0, 255, rng.integers(0, 256))[int(rng.integers(3))], dtype=np.uint8)


def nearly_blank(rng: np.random.Generator) -> np.ndarray:
    """One grey with a camera's noise."""
    return _cut(rng.normal(rng.integers(0, 256), rng.uniform(0.5, 3), _size(rng)))


def linear_gradient(rng: np.random.Generator) -> np.ndarray:
    """From black to white along a line."""
    rows, columns = _coordinates(rng)
    angle = rng.uniform(0, 2 * np.pi)
    return _stretched(np.cos(angle) * columns + np.sin(angle) * rows)


def radial_gradient(rng: np.random.Generator) -> np.ndarray:
    """From black to white away from a point, or towards it."""
    rows, columns = _coordinates(rng)
    distance = np.hypot(rows - rng.random(), columns - rng.random())
    return _stretched(distance if rng.random() < 0.5 else -distance)


def noisy_gradient(rng: np.random.Generator) -> np.ndarray:
    """A gradient with noise."""
    picture = linear_gradient(rng).astype(float)
    return _cut(picture + rng.normal(0, rng.uniform(2, 20), picture.shape))


def stripes(rng: np.random.Generator) -> np.ndarray:
    """A grating, sharp or smooth."""
    height, width = _size(rng)
    rows, columns = np.mgrid[:height, :width]
    angle = rng.uniform(0, np.pi)
    wave = np.sin((columns * np.cos(angle) + rows * np.sin(angle)) * rng.uniform(0.05, 1))
    return _stretched(np.sign(wave) if rng.random() < 0.5 else wave)


def checkerboard(rng: np.random.Generator) -> np.ndarray:
    """Squares."""
    height, width = _size(rng)
    rows, columns = np.mgrid[:height, :width]
    side = int(rng.integers(4, 40))
    return np.asarray((rows // side + columns // side) % 2 * 255).astype(np.uint8)


def shapes(rng: np.random.Generator) -> np.ndarray:
    """Flat coloured shapes."""
    height, width = _size(rng)
    image = Image.new("RGB", (width, height), _colour(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 25))):
        left, top, side = int(rng.integers(0, width)), int(rng.integers(0, height)), int(rng.integers(8, 90))
        how = (draw.ellipse, draw.rectangle, draw.line)[int(rng.integers(3))]
        how([left, top, left + side, top + side], fill=_colour(rng))
    return np.asarray(image)


def slice_phantom(rng: np.random.Generator) -> np.ndarray:
    """A head of ellipses, as in Shepp and Logan's phantom, with a scanner's noise."""
    rows, columns = np.mgrid[-1:1:256j, -1:1:256j]
    picture = np.zeros(rows.shape)
    picture[(columns / 0.75) ** 2 + (rows / 0.95) ** 2 < 1] = rng.uniform(0.6, 1)
    picture[(columns / 0.7) ** 2 + (rows / 0.9) ** 2 < 1] = rng.uniform(0.2, 0.4)
    for _ in range(8):
        across, down = rng.uniform(-0.5, 0.5, 2)
        wide, high = rng.uniform(0.05, 0.3, 2)
        picture[((columns - across) / wide) ** 2 + ((rows - down) / high) ** 2 < 1] += rng.uniform(-0.2, 0.3)
    return _cut(picture * 255 + rng.normal(0, rng.uniform(0, 6), picture.shape))


def chest_radiograph(rng: np.random.Generator) -> np.ndarray:
    """A drawn chest: dark lungs with ribs, a spine, a heart; one in three inverted."""
    from scipy.ndimage import gaussian_filter

    rows, columns = np.mgrid[-1:1:256j, -1:1:256j]
    picture = 0.55 - 0.35 * (np.abs(columns) > 0.85 + 0.1 * rows)
    for side in (-0.38, 0.38):
        picture -= rng.uniform(0.25, 0.4) * (((columns - side) / 0.3) ** 2 + (rows / 0.72) ** 2 < 1)
        for rib in range(8):
            bent = rows + 0.6 - rib * 0.17 - 0.12 * np.cos((columns - side) * 3)
            picture += 0.07 * ((np.abs(bent) < 0.03) & (np.abs(columns - side) < 0.38))
    picture += 0.2 * (np.abs(columns) < 0.08)
    picture += 0.22 * (((columns + 0.12) / 0.26) ** 2 + ((rows - 0.35) / 0.3) ** 2 < 1)
    picture = gaussian_filter(picture, rng.uniform(1, 4)) + rng.normal(0, rng.uniform(0.005, 0.03), picture.shape)
    return _stretched(-picture if rng.random() < 0.33 else picture)


def page(rng: np.random.Generator) -> np.ndarray:
    """Dark text on light paper."""
    return _reduced(_text(rng, (int(rng.integers(230, 256)), int(rng.integers(0, 60)))))


def dark_page(rng: np.random.Generator) -> np.ndarray:
    """Light text on a dark screen."""
    return _reduced(_text(rng, (int(rng.integers(0, 60)), int(rng.integers(230, 256)))))


def scanned_page(rng: np.random.Generator) -> np.ndarray:
    """A page laid on a scanner at an angle, unevenly lit."""
    image = _text(rng, (240, 30)).rotate(rng.uniform(-6, 6), fillcolor=240, resample=Image.Resampling.BICUBIC)
    values = np.asarray(image).astype(float)
    values = values * np.linspace(rng.uniform(0.5, 1), 1, values.shape[1])[None] + rng.normal(0, 6, values.shape)
    return _reduced(Image.fromarray(_cut(values)))


def screen(rng: np.random.Generator) -> np.ndarray:
    """A window with a bar, a list and boxes, light or dark."""
    width, height = 1280, int(rng.integers(720, 1000))
    paper, ink, side = ((30, 30, 35), (220, 220, 220), (50, 50, 60))
    if rng.random() < 0.5:
        paper, ink, side = ((245, 245, 245), (20, 20, 20), (225, 228, 235))
    image = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(image)
    draw.rectangle([0, 0, width, 40], fill=_colour(rng))
    draw.rectangle([0, 40, int(rng.integers(150, 350)), height], fill=side)
    font = _font(rng, int(rng.integers(14, 24)))
    for row in range(int(rng.integers(8, 30))):
        draw.text((10, 60 + row * 28), _line(rng, 2), fill=ink, font=font)
    for _ in range(int(rng.integers(3, 14))):
        left, top = int(rng.integers(360, width - 100)), int(rng.integers(60, height - 60))
        right, bottom = left + int(rng.integers(80, 400)), top + int(rng.integers(20, 200))
        draw.rectangle([left, top, right, bottom], outline=ink, fill=_colour(rng) if rng.random() < 0.4 else None)
        draw.text((left + 8, top + 4), _line(rng, 4), fill=ink, font=font)
    return _reduced(image)


def chart(rng: np.random.Generator) -> np.ndarray:
    """Curves between two axes."""
    image = Image.new("RGB", (640, 480), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    draw.line([60, 20, 60, 430, 620, 430], fill=(0, 0, 0), width=2)
    for _ in range(int(rng.integers(1, 4))):
        heights = 430 - np.cumsum(rng.normal(3, 20, 50)).clip(0, 400)
        draw.line([(60 + 11 * at, float(value)) for at, value in enumerate(heights)], fill=_colour(rng), width=2)
    for at in range(8):
        draw.text((60 + 70 * at, 440), str(at), fill=(0, 0, 0), font=_font(rng, 14))
    return _reduced(image)


def matrix_code(rng: np.random.Generator) -> np.ndarray:
    """Black and white cells, as in a QR code."""
    cells = (rng.random((int(rng.integers(21, 45)),) * 2) < 0.5).astype(np.uint8) * 255
    return np.kron(np.pad(cells, 3, constant_values=255), np.ones((6, 6), dtype=np.uint8))[:_LONGEST, :_LONGEST]


def mosaic(rng: np.random.Generator) -> np.ndarray:
    """Random greys in large cells, joined smoothly: value noise."""
    height, width = _size(rng)
    cells = rng.integers(0, 256, (int(rng.integers(3, 30)), int(rng.integers(3, 30)))).astype(np.uint8)
    return np.asarray(Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC))


def stepped_gradient(rng: np.random.Generator) -> np.ndarray:
    """A gradient in steps, as of few grey levels, with a little noise."""
    levels = int(rng.integers(4, 24))
    picture = (radial_gradient(rng).astype(float) * levels // 256) * (255 / (levels - 1))
    return _cut(picture + rng.normal(0, rng.uniform(0, 5), picture.shape))


FITTED: tuple[Maker, ...] = (
    white_noise, impulse_noise, pink_noise, clouds, blurred_noise, blank, nearly_blank, linear_gradient, noisy_gradient,
    stripes, shapes, slice_phantom, page, dark_page, screen,
)  # fmt: skip
"""Kinds that the check is fitted on."""

UNSEEN: tuple[Maker, ...] = (
    coloured_noise, rayleigh_noise, mosaic, radial_gradient, stepped_gradient, checkerboard, chest_radiograph,
    scanned_page, chart, matrix_code,
)  # fmt: skip
"""Kinds that it is measured on alone."""


def made(makers: tuple[Maker, ...], count: int, seed: int) -> list[tuple[str, np.ndarray]]:
    """Make `count` pictures of each kind; of a kind and a seed always the same ones.

    Returns:
        Kind and picture, uint8 [H, W] or [H, W, 3].
    """
    return [
        (maker.__name__.replace("_", " "), maker(np.random.default_rng([seed, number, *maker.__name__.encode()])))
        for maker in makers
        for number in range(count)
    ]


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
    return red, green, blue


def _font(rng: np.random.Generator, size: int) -> ImageFont.FreeTypeFont:
    name = _FONTS[int(rng.integers(len(_FONTS)))]
    return ImageFont.truetype(str(files("matplotlib").joinpath("mpl-data", "fonts", "ttf", name)), size)


def _line(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(_WORDS, words))


def _text(rng: np.random.Generator, colours: tuple[int, int]) -> Image.Image:
    width = int(rng.integers(300, 900))
    height = int(width * rng.uniform(0.6, 1.4))
    paper, ink = colours
    image = Image.new("L", (width, height), paper)
    draw = ImageDraw.Draw(image)
    size, top = int(rng.integers(10, 40)), int(rng.integers(0, 40))
    font = _font(rng, size)
    while top < height - size:
        draw.text((int(rng.integers(5, 40)), top), _line(rng, 12), fill=ink, font=font)
        top += int(size * rng.uniform(1.2, 2))
    return image


def _reduced(image: Image.Image) -> np.ndarray:
    scale = _LONGEST / max(image.size)
    size = round(image.width * scale), round(image.height * scale)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))
