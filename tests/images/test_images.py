"""Every kind of picture ends in grey pixels or in one sentence that names it."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsharp.errors import InputError
from medsharp.images import ImageError, ImageLimits, read_frames, read_image
from medsharp.images.decoded import COLOUR_DIFFERENCE, coloured_pixels, luminance
from medsharp.images.limits import MOST_PIXELS

Make = Callable[..., bytes]

GREY = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8) * 2
NOISE = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_grey_pixels_come_back_as_they_are(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    image = read_image(encoded(Image.fromarray(GREY), kind, **options))
    assert np.abs(image.pixels.astype(int) - GREY).max() <= (1 if kind == "WEBP" else 0)
    assert (image.format, image.flags) == (kind, ())


def test_jpeg_of_grey_is_near_and_not_flagged_as_colour() -> None:
    image = read_image(encoded(Image.fromarray(GREY).convert("RGB"), "JPEG", quality=95))
    assert np.abs(image.pixels.astype(int) - GREY).mean() < 3
    assert image.flags == ()


def test_colour_becomes_luminance_and_is_flagged() -> None:
    rgb = np.zeros((40, 50, 3), dtype=np.uint8)
    rgb[10:20, 10:20, 0] = 255
    image = read_image(encoded(Image.fromarray(rgb)))
    assert image.flags == ("colour",)
    assert image.pixels[15, 15] == 76  # 0.299 * 255, ITU-R 601


def test_transparency_is_laid_on_black() -> None:
    rgba = np.full((40, 50, 4), 200, dtype=np.uint8)
    rgba[:, :25, 3] = 0
    rgba[:, 25:, 3] = 255
    image = read_image(encoded(Image.fromarray(rgba)))
    assert image.flags == ("alpha",)
    assert (image.pixels[:, :25] == 0).all()
    assert (image.pixels[:, 25:] == 200).all()


def test_cmyk_and_palette_are_read() -> None:
    cmyk = np.zeros((40, 50, 4), dtype=np.uint8)
    cmyk[..., 3] = 255 - GREY  # black ink only
    image = read_image(encoded(Image.fromarray(cmyk, "CMYK"), "TIFF"))
    assert "cmyk" in image.flags
    assert np.array_equal(image.pixels, GREY)
    palette = Image.fromarray((GREY // 2).astype(np.uint8), "P")
    palette.putpalette([value for level in range(128) for value in (2 * level,) * 3])
    assert np.array_equal(read_image(encoded(palette)).pixels, GREY // 2 * 2)


def colour_map(colours: np.ndarray) -> tuple[str, list[int]]:
    """Lay colours [N, 3] out as TIFF does: all reds before all greens."""
    return "H", colours.T.ravel().tolist()


@pytest.mark.parametrize("big", [False, True], ids=["little", "big"])
def test_a_palette_of_sixteen_bits_that_was_stored_as_of_eight_is_used_as_it_is(tiff: Make, big: bool) -> None:
    """As libtiff's tools do: some writers store 0 to 255 where 0 to 65535 should be, which would all be black."""
    colours = np.stack([np.arange(256)[::-1], np.arange(256) // 2, np.full(256, 7)], axis=-1)
    want = read_image(tiff(GREY, big=big, photometric=3, t320=colour_map(colours * 257)))
    assert want.flags == ("colour",)
    assert np.array_equal(want.colours, colours[GREY])
    data = tiff(GREY, big=big, photometric=3, t320=colour_map(colours))
    for source in (data, Image.open(io.BytesIO(data))):
        image = read_image(source)
        assert image.flags == ("palette of 8 bits", "colour")
        assert np.array_equal(image.pixels, want.pixels)
        assert np.array_equal(image.colours, want.colours)


def test_a_palette_of_four_bits_that_was_stored_as_of_eight_is_used_as_it_is(tiff: Make) -> None:
    packed = (GREY[:, ::2] // 16 * 16 + GREY[:, 1::2] // 16).astype(np.uint8)
    data = tiff(
        GREY, photometric=3, bits=4, data=packed.tobytes(), t320=colour_map(np.arange(16)[:, None] * [15, 15, 15])
    )
    image = read_image(data)
    assert np.array_equal(image.pixels, GREY // 16 * 15)
    assert image.flags == ("palette of 8 bits",)


@pytest.mark.parametrize(("brightest", "flags"), [(255, ("palette of 8 bits",)), (256, ()), (0, ())])
def test_a_palette_with_one_colour_beyond_eight_bits_has_sixteen(
    tiff: Make, brightest: int, flags: tuple[str, ...]
) -> None:
    """It is dark then, or black, as it says."""
    colours = np.zeros((256, 3), dtype=int)
    colours[100, 2] = brightest
    image = read_image(tiff(GREY, photometric=3, t320=colour_map(colours)))
    assert tuple(flag for flag in image.flags if flag != "colour") == flags
    assert image.pixels.max() == (29 if brightest == 255 else 0)  # of blue


def test_cmyk_jpeg_is_not_negative() -> None:
    image = read_image(encoded(Image.fromarray(GREY).convert("CMYK"), "JPEG", quality=98))
    assert np.abs(image.pixels.astype(int) - GREY).mean() < 3


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda p: p),
        (2, np.fliplr),
        (3, lambda p: np.rot90(p, 2)),
        (4, np.flipud),
        (5, np.transpose),
        (6, lambda p: np.rot90(p, -1)),
        (7, lambda p: np.rot90(p, 2).T),
        (8, np.rot90),
    ],
)
def test_exif_orientation_is_applied_to_every_pixel(orientation: int, turn: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = read_image(encoded(Image.fromarray(GREY), "PNG", exif=exif))
    assert np.array_equal(image.pixels, turn(GREY))
    assert image.flags == (() if orientation == 1 else ("rotated",))


def test_half_transparent_pixels_are_mixed_with_black() -> None:
    rgba = np.full((40, 50, 4), 200, dtype=np.uint8)
    rgba[..., 3] = 128
    image = read_image(encoded(Image.fromarray(rgba)))
    assert np.unique(image.pixels).tolist() == [100]


def test_transparent_palette_entry_is_laid_on_black() -> None:
    palette = Image.fromarray(np.repeat([[0, 1]], 40, axis=0).repeat(25, axis=1).astype(np.uint8), "P")
    palette.putpalette([250] * 3 + [120] * 3)
    image = read_image(encoded(palette, transparency=0))
    assert image.flags == ("alpha",)
    assert (image.pixels[:, :25] == 0).all()
    assert (image.pixels[:, 25:] == 120).all()


def test_colour_profile_changes_nothing() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    rgb = np.repeat(GREY[..., None], 3, axis=-1)
    assert np.array_equal(read_image(encoded(Image.fromarray(rgb), icc_profile=profile)).pixels, GREY)


def test_coloured_pixels_are_marked() -> None:
    rgb = np.repeat(GREY[..., None], 3, axis=-1)
    rgb[10:14, 10:14] = (255, 255, 0)
    image = read_image(encoded(Image.fromarray(rgb)))
    assert image.coloured is not None
    assert np.argwhere(image.coloured).min() == 10
    assert image.coloured.sum() == 16
    assert read_image(encoded(Image.fromarray(GREY))).coloured is None


def test_grey_with_a_cast_is_not_coloured_and_a_few_coloured_pixels_are_compression() -> None:
    cast = np.repeat(GREY[..., None], 3, axis=-1)
    cast[..., 2] += 10
    assert read_image(encoded(Image.fromarray(cast))).flags == ()
    cast[..., 2] += 20
    assert read_image(encoded(Image.fromarray(cast))).flags == ("colour",)
    large = np.full((200, 200, 3), 90, dtype=np.uint8)
    large[0, :4, 0] = 255  # 1 in 10,000
    assert read_image(encoded(Image.fromarray(large))).coloured is None
    large[0, :5, 0] = 255
    assert read_image(encoded(Image.fromarray(large))).flags == ("colour",)


def test_first_picture_of_a_camera_s_pair_is_read() -> None:
    pair = encoded(Image.fromarray(GREY), "MPO", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    image = read_image(pair)
    assert image.format == "JPEG"
    assert np.abs(image.pixels.astype(int) - GREY).mean() < 3


def test_picture_has_one_frame() -> None:
    assert np.array_equal(read_image(encoded(Image.fromarray(GREY)), frame=1).pixels, GREY)
    with pytest.raises(ImageError, match="has one frame; there is no frame 2"):
        read_image(encoded(Image.fromarray(GREY)), frame=2)
    assert len(list(read_frames(encoded(Image.fromarray(GREY))))) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "scan.png is empty"),
        (b"these are words", "scan.png is not a PNG"),
        (encoded(Image.fromarray(NOISE))[:-200], "scan.png is damaged or cut off"),
        (encoded(Image.new("L", (1, 1))), "scan.png is 1 x 1 pixels; the least is 16 x 16"),
        (encoded(Image.new("L", (100, 10))), "scan.png is 100 x 10 pixels; the least is 16 x 16"),
        (encoded(Image.new("1", (60_000, 20))), "scan.png is 60000 x 20 pixels; the most is 16384"),
        (encoded(Image.new("1", (10_000, 10_000))), "scan.png is 10000 x 10000 pixels; the most"),
        (
            encoded(Image.fromarray(GREY), "GIF", save_all=True, append_images=[Image.fromarray(255 - GREY)]),
            "scan.png has several frames or pages; give the one",
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence_that_names_the_file(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "scan.png"
    path.write_bytes(content)
    for source, name in ((path, None), (content, "scan.png")):
        with pytest.raises(ImageError, match=words) as caught:
            read_image(source, name=name)
        assert "\n" not in str(caught.value)


def test_missing_file_folder_and_too_many_bytes_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothere\.png does not exist"):
        read_image(tmp_path / "nothere.png")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(InputError, match="the most is 0 MiB"):
        read_image(encoded(Image.fromarray(NOISE)), limits=ImageLimits(max_bytes=100))


def test_original_files_are_read(real_data: Path) -> None:
    files = sorted((real_data / "originals").iterdir())
    read = {file.name: read_image(file) for file in files}
    assert read["000030.dcm"].flags == ("dicom",)
    assert "colour" in read["benign (234).png"].flags
    assert all(image.pixels.shape[0] > 200 for image in read.values())


def test_the_most_pixels_of_a_picture_are_those_that_pillow_opens_whatever_is_allowed() -> None:
    assert 2 * (Image.MAX_IMAGE_PIXELS or 0) == MOST_PIXELS
    header = bytearray(encoded(Image.new("L", (40, 40)), "BMP"))
    header[18:26] = (16_000).to_bytes(4, "little") * 2
    with pytest.raises(ImageError, match=f"too many pixels; the most is {MOST_PIXELS}"):
        read_image(bytes(header), limits=ImageLimits(max_pixels=10**9))
    with pytest.raises(ImageError, match="the most is 12345"):
        read_image(bytes(header), limits=ImageLimits(max_pixels=12345))


@pytest.mark.parametrize("height", [16, 63, 64, 65, 200])
def test_colours_are_told_in_all_rows_and_in_little_memory(height: int) -> None:
    rgb = np.random.default_rng(height).integers(0, 256, (height, 90, 3), dtype=np.uint8)
    rgb[: height // 2] = rgb[: height // 2, :, :1]  # grey above, coloured below
    grey, colours = luminance(rgb)
    assert np.array_equal(grey, np.asarray(Image.fromarray(rgb).convert("L")))
    assert colours is rgb
    assert np.array_equal(coloured_pixels(rgb), np.ptp(rgb, axis=-1) > COLOUR_DIFFERENCE)
    large = np.zeros((40 * height, 900, 3), dtype=np.uint8)
    tracemalloc.start()
    coloured_pixels(large)
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 1.1 * large[..., 0].size + 64 * 900 * 6  # bytes: the answer, and a few rows


@pytest.mark.parametrize("top", [0, 70, 149])
def test_one_transparent_row_anywhere_is_on_black_and_flagged(top: int) -> None:
    rgba = np.full((150, 40, 4), 255, dtype=np.uint8)
    rgba[..., :3] = np.arange(150, dtype=np.uint8)[:, None, None] + 50
    opaque = read_image(encoded(Image.fromarray(rgba)))
    assert np.array_equal(opaque.pixels, rgba[..., 0])
    assert "alpha" not in opaque.flags
    rgba[top, 5, 3] = 0
    image = read_image(encoded(Image.fromarray(rgba)))
    assert image.pixels[top, 5] == 0
    rgba[top, 5, 0] = 0
    assert np.array_equal(image.pixels, rgba[..., 0])
    assert "alpha" in image.flags
