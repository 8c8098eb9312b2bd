from __future__ import annotations

import asyncio
import base64
import io
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from medsharp.inference import Predictor
from medsharp.inference.heatmap import shrink
from serve.engine import Engine


def picture(uri: str | None) -> Image.Image:
    assert uri is not None
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def test_large_image_is_decoded_once_and_drawn_at_the_size_at_which_it_is_shown(
    make_engine: Callable[..., Engine], predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import medsharp.inference.reading as reading

    read = reading.read_image
    decoded: list[str] = []

    def counting(*arguments: object, **options: object) -> object:
        decoded.append("once")
        return read(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "read_image", counting)
    scan = np.kron(np.random.default_rng(0).integers(20, 230, (40, 50)), np.ones((100, 100))).astype(np.uint8)
    content = encoded(scan)
    tracemalloc.start()
    try:
        engine = make_engine(predictor.answering_anyway())
        (answer,) = asyncio.run(engine.assess([content], ["a.png"], image_side=640, heatmap_side=500))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoded == ["once"]
    assert answer.size == (4000, 5000)
    assert picture(answer.image).size == (640, 512)
    assert picture(answer.heatmap).size == (500, 400)
    # The pixels, what counts as border, and little more: not several bytes for each pixel of a map.
    assert most < 4 * scan.size


def test_answer_of_a_drawn_image_is_the_answer_of_a_plain_one(engine: Engine, predictor: Predictor, png: bytes) -> None:
    drawn = asyncio.run(engine.assess([png, b"text"], ["a", "b"], image_side=64, heatmap_side=64))
    plain = asyncio.run(engine.assess([png, b"text"], ["a", "b"]))
    expected = predictor.predict([png, b"text"], names=["a", "b"])
    for one, other, prediction in zip(drawn, plain, expected, strict=True):
        assert one.prediction.error == other.prediction.error == prediction.error
        assert one.prediction.flags == other.prediction.flags == prediction.flags
        np.testing.assert_allclose(
            [one.prediction.positive_probability, other.prediction.positive_probability],
            prediction.positive_probability,
            atol=1e-6,
        )
    assert (plain[0].image, plain[0].heatmap, plain[0].evidence) == (None, None, None)


def test_request_that_nobody_waits_for_is_left_out(engine: Engine, png: bytes) -> None:
    assert asyncio.run(engine.assess([png] * 3, list("abc"), wanted=lambda: False)) == []


def test_small_image_is_shown_as_it_is_and_a_large_one_keeps_its_grey() -> None:
    small = np.arange(64 * 32, dtype=np.uint32).astype(np.uint8).reshape(64, 32)
    assert shrink(small, 64) is small
    large = np.full((3000, 1000), 77, dtype=np.uint8)
    assert shrink(large, 300).shape == (300, 100)
    assert (shrink(large, 300) == 77).all()
