"""Look-up tables of DICOM, and the windows of enhanced objects, give the greys that the standard says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medsharp.images import ImageError, ValueRange, read_frames, read_image

Make = Callable[..., bytes]

STEPS = np.repeat(np.array([0, 128, 256, 384, 700], dtype=np.uint16), 80).reshape(20, 20)
"""Rows of 12 bits: four values of a table of 512 entries, and one beyond it."""

TWELVE = {"BitsStored": 12, "HighBit": 11}


def table_of(entries: np.ndarray, bits: int, first: int = 0, *, order: str = "<", packed: bool = False) -> Dataset:
    """Return an item with a table; `packed` stores entries of 8 bits two in a word."""
    words = np.asarray(entries, dtype=np.uint16)
    if packed:
        pairs = np.pad(words, (0, len(words) % 2)).reshape(-1, 2)
        words = (pairs[:, 0] | pairs[:, 1] << 8).astype(np.uint16)
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 2**16, first, bits])
    item.add_new("LUTData", "OW", words.astype(f"{order}u2").tobytes())
    return item


def greys(image: Any) -> list[int]:
    """Return the grey of each value of `STEPS`."""
    return [int(grey) for grey in image.pixels[2::4, 0]]


def of_all_syntaxes(dicom: Make, values: np.ndarray, make: Callable[[str], dict[str, Any]]) -> list[bytes]:
    little = [dicom(values, syntax=syntax, **make("<")) for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian)]
    return [*little, dicom(values.astype(">u2"), syntax=ExplicitVRBigEndian, **make(">"))]


@pytest.mark.parametrize("packed", [False, True], ids=["a word each", "two in a word"])
@pytest.mark.parametrize("keyword", ["VOILUTSequence", "ModalityLUTSequence"])
def test_a_table_of_more_than_256_entries_of_8_bits_does_not_wrap(dicom: Make, keyword: str, packed: bool) -> None:
    entries = np.arange(512) // 2

    def attributes(order: str) -> dict[str, Any]:
        found: dict[str, Any] = {keyword: [table_of(entries, 8, order=order, packed=packed)], **TWELVE}
        if keyword == "ModalityLUTSequence":
            found["ModalityLUTSequence"][0].ModalityLUTType = "US"
            found |= {"WindowCenter": 128, "WindowWidth": 256}
        return found

    for data in of_all_syntaxes(dicom, STEPS, attributes):
        assert greys(read_image(data)) == [0, 64, 128, 192, 255]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_of_more_than_256_entries_does_not_wrap(dicom: Make, bits: int) -> None:
    def attributes(order: str) -> dict[str, Any]:
        found: dict[str, Any] = dict(TWELVE)
        for colour in ("Red", "Green", "Blue"):
            entries = np.arange(512) // 2
            if bits == 8:
                pairs = entries.reshape(-1, 2)
                words = pairs[:, 0] | pairs[:, 1] << 8
            else:
                words = entries * 257
            found[f"{colour}PaletteColorLookupTableDescriptor"] = [512, 0, bits]
            found[f"{colour}PaletteColorLookupTableData"] = words.astype(f"{order}u2").tobytes()
        return found

    for syntax, order in ((ExplicitVRLittleEndian, "<"), (ExplicitVRBigEndian, ">")):
        data = dicom(STEPS.astype(f"{order}u2"), "PALETTE COLOR", syntax=syntax, **attributes(order))
        assert greys(read_image(data)) == [0, 64, 128, 192, 255]


@pytest.mark.parametrize("bits", [8, 16])
def test_segments_of_a_palette_are_expanded_and_held_at_their_ends(dicom: Make, bits: int) -> None:
    kind, top = ("<u1", 255) if bits == 8 else ("<u2", 65535)
    attributes: dict[str, Any] = dict(TWELVE)
    for colour in ("Red", "Green", "Blue"):
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 128, bits]
        # The entry 0, and a line of 255 more up to white.
        segments = np.array([0, 1, 0, 1, 255, top], dtype=kind)
        attributes[f"Segmented{colour}PaletteColorLookupTableData"] = segments.tobytes()
    assert greys(read_image(dicom(STEPS, "PALETTE COLOR", **attributes))) == [0, 0, 128, 255, 255]
    if bits == 8:
        for colour in ("Red", "Green", "Blue"):
            attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [300, 128, 8]
        with pytest.raises(ImageError, match=r"cannot be decoded \(ValueError\)"):
            read_image(dicom(STEPS, "PALETTE COLOR", **attributes))


def test_the_first_value_of_a_table_may_be_negative(dicom: Make) -> None:
    entries = np.arange(512) // 2
    signed = (STEPS.astype(np.int16) - 256).astype(np.int16)
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        image = read_image(dicom(signed, syntax=syntax, VOILUTSequence=[table_of(entries, 8, -256)], **TWELVE))
        assert greys(image) == [0, 64, 128, 192, 255]
    # Written as unsigned, below a slope that makes values negative: the standard has a signed number there.
    unsigned = table_of(entries, 8, 65536 - 256)
    rescaled = dicom(STEPS, RescaleSlope=1, RescaleIntercept=-256, VOILUTSequence=[unsigned], **TWELVE)
    assert greys(read_image(rescaled)) == [0, 64, 128, 192, 255]
    above = dicom(STEPS + 40_000, VOILUTSequence=[table_of(entries, 8, 40_000)])
    assert greys(read_image(above)) == [0, 64, 128, 192, 255]


def test_values_between_two_entries_have_the_nearer_one(dicom: Make) -> None:
    """A slope of 0.7 makes 89.6, 179.2, 268.8 and 490 of 128, 256, 384 and 700."""
    data = dicom(STEPS, RescaleSlope=0.7, RescaleIntercept=0, VOILUTSequence=[table_of(np.arange(256), 8)], **TWELVE)
    assert greys(read_image(data)) == [0, 90, 179, 255, 255]


def test_a_table_spans_the_bits_that_its_descriptor_says(dicom: Make) -> None:
    data = dicom(STEPS, VOILUTSequence=[table_of(np.arange(512) * 2, 10)], **TWELVE)
    assert greys(read_image(data)) == [round(255 * value / 1023) for value in (0, 256, 512, 768, 1022)]


def test_a_table_of_all_65536_entries_says_0(dicom: Make) -> None:
    item = table_of(np.arange(2**16)[::-1], 16)
    assert item.LUTDescriptor[0] == 0
    image = read_image(dicom(STEPS * 90, VOILUTSequence=[item]))
    assert greys(image) == [round(255 * (65535 - 90 * value) / 65535) for value in (0, 128, 256, 384, 700)]


@pytest.mark.parametrize("bits", [0, 17])
def test_tables_that_contradict_themselves_are_refused(dicom: Make, bits: int) -> None:
    short = table_of(np.arange(512), 16)
    short.LUTData = short.LUTData[:-200]
    for item in (short, table_of(np.arange(512), bits)):
        with pytest.raises(ImageError, match=r"scan.dcm is a DICOM object that cannot be decoded \(ValueError\)"):
            read_image(dicom(STEPS, VOILUTSequence=[item], **TWELVE), name="scan.dcm")


def window(centre: float, width: float, **more: Any) -> Dataset:
    item = Dataset()
    item.WindowCenter, item.WindowWidth = centre, width
    for key, value in more.items():
        setattr(item, key, value)
    return item


def group(voi: Dataset | None = None, rescale: tuple[float, float] | None = None) -> Dataset:
    """Return the functional groups of a frame or of all."""
    item = Dataset()
    if voi is not None:
        item.FrameVOILUTSequence = [voi]
    if rescale is not None:
        value = Dataset()
        value.RescaleSlope, value.RescaleIntercept = rescale
        value.RescaleType = "US"
        item.PixelValueTransformationSequence = [value]
    return item


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"])
def test_an_enhanced_object_has_its_window_in_functional_groups(dicom: Make, syntax: Any) -> None:
    shared = group(window(200, 400, VOILUTFunction="LINEAR_EXACT"))
    data = dicom(STEPS[None], NumberOfFrames=1, syntax=syntax, SharedFunctionalGroupsSequence=[shared], **TWELVE)
    image = read_image(data)
    assert greys(image) == [round(255 * min(1, value / 400)) for value in (0, 128, 256, 384, 700)]
    assert image.range is None
    # A range that the data set declares goes before it, as before any window.
    declared = read_image(data, value_range=ValueRange(0.0, 1000.0))
    assert greys(declared) == [round(255 * value / 1000) for value in (0, 128, 256, 384, 700)]


def test_each_frame_of_an_enhanced_object_has_its_own_window(dicom: Make) -> None:
    own = [
        group(window(200, 400, VOILUTFunction="LINEAR_EXACT")),
        group(window(400, 800, VOILUTFunction="LINEAR_EXACT")),
    ]
    data = dicom(
        np.stack([STEPS, STEPS, STEPS]),
        NumberOfFrames=3,
        SharedFunctionalGroupsSequence=[group(window(800, 1600, VOILUTFunction="LINEAR_EXACT"))],
        PerFrameFunctionalGroupsSequence=[*own, group()],
        # Of an object that is not enhanced; the groups go before it.
        WindowCenter=1,
        WindowWidth=2,
        **TWELVE,
    )
    expected = [[round(255 * min(1, value / width)) for value in (0, 128, 256, 384, 700)] for width in (400, 800, 1600)]
    assert [greys(image) for image in read_frames(data)] == expected
    assert [greys(read_image(data, frame=number)) for number in (1, 2, 3)] == expected


def test_functional_groups_rescale_and_have_tables(dicom: Make) -> None:
    table = Dataset()
    table.VOILUTSequence = [table_of(np.arange(512) // 2, 8, -256)]
    item = group(table, rescale=(2, -256))
    data = dicom(np.stack([STEPS // 2] * 2), NumberOfFrames=2, PerFrameFunctionalGroupsSequence=[item, item], **TWELVE)
    assert [greys(image) for image in read_frames(data)] == [[0, 64, 128, 192, 255]] * 2
    # The slope of the groups alone, with the object's own window.
    shared = group(rescale=(0.5, 100))
    data = dicom(STEPS, SharedFunctionalGroupsSequence=[shared], WindowCenter=228, WindowWidth=256, **TWELVE)
    assert greys(read_image(data)) == [0, 64, 128, 192, 255]


def test_an_object_without_the_groups_of_a_frame_is_refused(dicom: Make) -> None:
    data = dicom(
        np.stack([STEPS] * 2),
        NumberOfFrames=2,
        PerFrameFunctionalGroupsSequence=[group(window(200, 400))],
        **TWELVE,
    )
    assert read_image(data, frame=1).pixels.any()
    with pytest.raises(ImageError, match=r"scan.dcm is a DICOM object that cannot be decoded \(IndexError\)"):
        read_image(data, frame=2, name="scan.dcm")
