"""The engine: decoding in lanes, deadlines, requests that are given up, and faults that concern one image alone."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsharp.data.phantom import simulate_image
from medsharp.images import Box
from medsharp.inference import Predictor
from serve.engine import Batching, BusyError, ClosingError, DeadlineError, Engine, ReadOptions, Shared
from serve.engine import job as job_module
from serve.engine.capacity import Admission
from serve.engine.decode import Decoded
from serve.engine.lanes import LARGE_PIXELS, Lanes
from serve.metrics import Metrics


def encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def scans() -> list[bytes]:
    rng = np.random.default_rng(5)
    return [encoded(simulate_image("A", label, rng).pixels) for label in ("benign", "malignant") * 5]


@pytest.fixture
def shared() -> Shared:
    return Shared(Lanes(), Admission(64), Metrics())


Make = Callable[..., Engine]


@pytest.fixture
def make(predictor: Predictor, shared: Shared) -> Make:
    def make(served: Predictor = predictor, **options: Any) -> Engine:
        return Engine(served, shared, **{"max_file_bytes": 2**26, "deadline_seconds": 60.0, **options})

    return make


def sample(shared: Shared, name: str, **labels: str) -> float:
    return shared.metrics.registry.get_sample_value(name, labels) or 0.0


def test_answers_of_requests_that_share_batches_are_those_of_their_own_images(
    make: Make, predictor: Predictor, shared: Shared, scans: list[bytes]
) -> None:
    expected = [one.positive_probability for one in predictor.predict(scans)]
    assert len({round(value, 6) for value in expected}) == len(scans)
    engine = make(batching=Batching(3, 0.05))
    orders = [np.random.default_rng(seed).permutation(len(scans))[:count] for seed, count in enumerate((10, 1, 7, 4))]

    async def together() -> list[list[float]]:
        requests = [engine.assess([scans[i] for i in order], [f"{i}.png" for i in order]) for order in orders]
        answers = await asyncio.gather(*requests)
        for order, several in zip(orders, answers, strict=True):
            assert [one.prediction.name for one in several] == [f"{i}.png" for i in order]
        return [[one.prediction.positive_probability for one in several] for several in answers]

    for order, values in zip(orders, asyncio.run(together()), strict=True):
        np.testing.assert_allclose(values, [expected[i] for i in order], atol=1e-6)
    assert sample(shared, "medsharp_batch_size_sum", model=predictor.spec.name) == 22
    assert sample(shared, "medsharp_batch_size_count", model=predictor.spec.name) < 22
    statuses = ("answered", "cautioned")
    counted = [sample(shared, "medsharp_images_total", model=predictor.spec.name, status=one) for one in statuses]
    assert sum(counted) == 22


def test_small_image_is_answered_while_large_ones_are_decoded(
    make: Make, scans: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    side = int(LARGE_PIXELS**0.5) + 1
    large = encoded(np.asarray(Image.open(io.BytesIO(scans[0])).resize((side, side))))
    decode, go, decoding = job_module.decode, threading.Event(), threading.Semaphore(0)

    def held(content: bytes, *arguments: Any) -> Decoded:
        if content is large:
            decoding.release()
            assert go.wait(30)
        return decode(content, *arguments)

    monkeypatch.setattr(job_module, "decode", held)
    engine = make()

    async def both() -> None:
        slow = asyncio.create_task(engine.assess([large] * 32, [str(number) for number in range(32)]))
        await asyncio.to_thread(decoding.acquire)
        for _ in range(3):
            (quick,) = await engine.assess([scans[1]], ["small.png"])
            assert quick.prediction.error is None
        assert not slow.done()
        go.set()
        assert [one.prediction.name for one in await slow] == [str(number) for number in range(32)]

    asyncio.run(both())


def test_fault_in_one_image_ends_that_image_alone_and_its_log_quotes_nothing(
    make: Make, shared: Shared, scans: list[bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decode = job_module.decode

    def failing(content: bytes, name: str, *arguments: Any) -> Decoded:
        if name == "Doe.png":
            raise KeyError("Doe.png of Jane Doe")
        return decode(content, name, *arguments)

    monkeypatch.setattr(job_module, "decode", failing)
    with caplog.at_level(logging.ERROR):
        answers = asyncio.run(make().assess(scans[:3], ["a.png", "Doe.png", "c.png"]))
    assert [one.is_fault for one in answers] == [False, True, False]
    assert [one.prediction.status for one in answers][1] == "failed"
    assert "the server failed at it (KeyError)" in (answers[1].prediction.error or "")
    assert answers[0].prediction.error is answers[2].prediction.error is None
    assert "KeyError" in caplog.text
    assert "test_serve_engine.py" in caplog.text
    assert "Doe" not in caplog.text
    assert sample(shared, "medsharp_failures_total", reason="internal") == 1


def test_request_that_cannot_say_whether_it_is_wanted_is_left_out_and_others_go_on(
    make: Make, held: Any, scans: list[bytes]
) -> None:
    engine = make(held, batching=Batching(1))

    async def both() -> tuple[list[Any], list[Any]]:
        first = asyncio.create_task(engine.assess(scans[:1], ["first"]))
        await asyncio.to_thread(held.begun.acquire)
        asked = iter([True, True])  # and then it fails, while its image waits
        broken = asyncio.create_task(engine.assess(scans[:1], ["broken"], wanted=lambda: next(asked)))
        while engine.depth == 0:
            await asyncio.sleep(0)
        held.go.set()
        await first
        return await broken, await engine.assess(scans[:1], ["last"])

    broken, last = asyncio.run(both())
    assert broken == []
    assert last[0].prediction.error is None
    assert held.seen == ["first", "last"]


class FailingPredictor(Predictor):
    """Fails at every batch with an image called `bad`."""

    def __init__(self, other: Predictor) -> None:
        super().__init__(other.folder, other.spec, other.session)

    def predict_readings(self, read: Any) -> Any:
        if any(one.name == "bad" for one in read):
            raise FloatingPointError("a value of an image")
        return super().predict_readings(read)


def test_batch_that_fails_is_run_again_image_by_image(
    make: Make, predictor: Predictor, shared: Shared, scans: list[bytes]
) -> None:
    engine = make(FailingPredictor(predictor), batching=Batching(4, 60.0))
    answers = asyncio.run(engine.assess(scans[:4], ["a", "bad", "c", "d"], heatmap_side=32))
    assert [one.is_fault for one in answers] == [False, True, False, False]
    assert [one.heatmap is None for one in answers] == [False, True, False, False]
    expected = predictor.predict(scans[:4])
    for number in (0, 2, 3):
        assert answers[number].prediction.positive_probability == pytest.approx(
            expected[number].positive_probability, abs=1e-6
        )


class SlowPredictor(FailingPredictor):
    """Takes a fifth of a second for a batch."""

    def predict_readings(self, read: Any) -> Any:
        time.sleep(0.2)
        return super().predict_readings(read)


def test_seconds_of_the_network_are_not_counted_as_those_of_the_queue(
    make: Make, predictor: Predictor, shared: Shared, scans: list[bytes]
) -> None:
    engine = make(SlowPredictor(predictor), batching=Batching(4, 0.0))
    asyncio.run(engine.assess(scans[:1], ["a"]))  # alone, it waits for nothing
    assert sample(shared, "medsharp_stage_seconds_sum", stage="network") >= 0.2


def test_request_that_takes_too_long_is_given_up_and_the_rest_of_it_never_run(
    make: Make, shared: Shared, held: Any, scans: list[bytes]
) -> None:
    engine = make(held, batching=Batching(1))

    async def late() -> None:
        first = asyncio.create_task(engine.assess(scans[:1], ["first"]))
        await asyncio.to_thread(held.begun.acquire)
        with pytest.raises(DeadlineError, match=r"not answered within 0\.05 seconds"):
            await engine.assess(scans[:3], ["a", "b", "c"], deadline=0.05)
        assert engine.depth == 0
        assert shared.admission.inside == 1
        held.go.set()
        assert (await first)[0].prediction.error is None
        (last,) = await engine.assess(scans[:1], ["last"])
        assert last.prediction.error is None

    asyncio.run(late())
    assert held.seen == ["first", "last"]
    assert sample(shared, "medsharp_failures_total", reason="deadline") == 1


@pytest.mark.parametrize("own", [None, 50.0])
def test_servers_own_deadline_holds_where_a_request_has_none_or_a_later_one(
    make: Make, held: Any, scans: list[bytes], own: float | None
) -> None:
    with pytest.raises(DeadlineError, match=r"within 0\.02 seconds"):
        asyncio.run(make(held, deadline_seconds=0.02).assess(scans[:1], ["a"], deadline=own))


def test_cancelled_request_leaves_the_queue_and_lets_go_of_its_bytes(
    make: Make, shared: Shared, held: Any, scans: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make(held, batching=Batching(1))
    jobs: list[Any] = []
    begin = job_module.Job.begin

    def beginning(job: Any) -> None:
        jobs.append(job)
        begin(job)

    monkeypatch.setattr(job_module.Job, "begin", beginning)

    async def leaving() -> None:
        first = asyncio.create_task(engine.assess(scans[:1], ["first"]))
        await asyncio.to_thread(held.begun.acquire)
        second = asyncio.create_task(engine.assess(scans[:10], [str(number) for number in range(10)]))
        while engine.depth == 0:
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert engine.depth == 0
        assert shared.admission.inside == 1
        assert jobs[1]._contents == [None] * 10
        held.go.set()
        await first
        await engine.assess(scans[:1], ["last"])

    asyncio.run(leaving())
    assert held.seen == ["first", "last"]
    assert sample(shared, "medsharp_failures_total", reason="cancelled") == 1


def test_server_takes_on_no_more_than_it_may_and_nothing_when_it_stops(
    predictor: Predictor, held: Any, scans: list[bytes]
) -> None:
    shared = Shared(Lanes(), Admission(0), Metrics())
    engine = Engine(held, shared, max_file_bytes=2**26, deadline_seconds=60.0)

    async def full() -> None:
        first = asyncio.create_task(engine.assess(scans[:1], ["first"]))
        await asyncio.to_thread(held.begun.acquire)
        with pytest.raises(BusyError, match="0 requests wait already"):
            engine.check()
        with pytest.raises(BusyError, match="0 requests wait already"):
            await engine.assess(scans[:1], ["second"])
        assert shared.admission.inside == 1
        shared.admission.close()
        engine.close()
        with pytest.raises(ClosingError, match="stopping"):
            await engine.assess(scans[:1], ["third"])
        held.go.set()
        assert (await first)[0].prediction.error is None
        assert shared.admission.inside == 0

    asyncio.run(full())
    assert sample(shared, "medsharp_failures_total", reason="busy") == 2
    assert sample(shared, "medsharp_failures_total", reason="closing") == 1


def test_part_of_an_image_is_assessed_as_that_part_alone_would_be(make: Make, predictor: Predictor) -> None:
    pixels = simulate_image("A", "malignant", np.random.default_rng(7)).pixels
    box = Box(20, 30, 200, 230)
    (answer,) = asyncio.run(make().assess([encoded(pixels)], ["a.png"], image_side=1000, options=ReadOptions(box=box)))
    expected = predictor.predict_pixels([pixels[20:200, 30:230]])[0]
    assert answer.prediction.positive_probability == pytest.approx(expected.positive_probability, abs=1e-6)
    assert answer.box == box
    assert answer.size == pixels.shape
    assert "cropped to a part that was asked for" in answer.prediction.flags
    whole = predictor.predict_pixels([pixels])[0]
    assert abs(answer.prediction.positive_probability - whole.positive_probability) > 1e-4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (ReadOptions(box=Box(0, 0, 50, 5000)), r"a\.png is 256 x 256 pixels; the box from 0, 0 to 5000, 50"),
        (ReadOptions(box=Box(9, 9, 9, 20)), "does not lie in it"),
        (ReadOptions(box=Box(0, 0, 8, 8)), r"the box in a\.png is 8 x 8 pixels"),
        (ReadOptions(frame=2), "there is no frame 2"),
    ],
)
def test_part_or_frame_that_is_not_there_is_said_in_a_sentence(
    make: Make, scans: list[bytes], options: ReadOptions, sentence: str
) -> None:
    (answer,) = asyncio.run(make().assess(scans[:1], ["a.png"], options=options))
    assert not answer.is_fault
    assert answer.prediction.status == "failed"
    assert re.search(sentence, answer.prediction.error or "")


def test_preprocessed_images_get_the_outputs_of_the_network_in_their_order(
    make: Make, predictor: Predictor, shared: Shared
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (11, 64, 64), dtype=np.uint8)
    engine = make(batching=Batching(4))

    async def several() -> list[dict[str, np.ndarray]]:
        return await asyncio.gather(engine.infer(images[:6]), engine.infer(images[6:]))

    expected = predictor.session.run(images)
    first, second = asyncio.run(several())
    assert list(first) == list(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(np.concatenate([first[name], second[name]]), values, atol=1e-5)
    assert sample(shared, "medsharp_batches_total", model=predictor.spec.name, reason="full") >= 1
