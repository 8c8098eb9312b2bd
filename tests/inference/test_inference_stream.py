"""Streams: any kind of source, in order, read ahead of the network and no further than is said, each decoded once."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from medsharp.errors import InputError
from medsharp.images import ValueRange
from medsharp.inference import Given, Prediction, Predictor
from medsharp.inference.preparing import Preparation
from medsharp.inference.reading import read_source
from medsharp.inference.session import Session
from medsharp.inference.stream import READERS, read_ahead


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def scores(predictor: Predictor, images: np.ndarray) -> list[float]:
    return [one.positive_probability for one in predictor.predict_pixels(list(images))]


def test_a_stream_of_every_kind_of_source_gives_the_same_answers_in_order(
    predictor: Predictor,
    images: np.ndarray,
    scores: list[float],
    tmp_path: Path,
    save_dicom: Callable[..., pydicom.Dataset],
) -> None:
    file = tmp_path / "file.png"
    file.write_bytes(png(images[0]))
    dataset = save_dicom(tmp_path / "scan.dcm")
    dicom = pydicom.dcmread(tmp_path / "scan.dcm")
    grey = dataset.pixel_array
    sources = [
        file,
        str(file),
        file.read_bytes(),
        images[1],
        np.repeat(images[1][..., None], 3, axis=2),
        Image.fromarray(images[2]),
        Image.open(file),
        dicom,
        tmp_path / "scan.dcm",
        images[3][..., None],
    ]
    found = list(predictor.stream(iter(sources), batch_size=3))
    assert [one.error for one in found] == [None] * len(sources)
    (of_dicom,) = predictor.predict_pixels([grey])
    expected = [scores[0]] * 3 + [scores[1]] * 2 + [scores[2], scores[0]]
    expected += [of_dicom.positive_probability] * 2 + [scores[3]]
    assert [one.positive_probability for one in found] == pytest.approx(expected, abs=1e-6)
    names = [str(file), str(file), "image 3", "image 4", "image 5", "image 6", "image 7", "image 8"]
    assert [one.name for one in found][:8] == names
    assert [one.positive_probability for one in predictor.predict(sources)] == pytest.approx(expected, abs=1e-6)


def test_what_is_known_of_one_source_stays_with_it(predictor: Predictor, images: np.ndarray) -> None:
    deep = images[5].astype(np.uint16) * 16
    given = [
        Given(images[4], "four"),
        Given(deep, "deep", value_range=ValueRange(0, 4080)),
        Given(deep, "other", value_range=ValueRange(0, 65535)),
    ]
    # Scaled by the wrong range the image is nearly black, and refused.
    found = list(predictor.answering_anyway().stream(given))
    plain = predictor.predict_pixels([images[4], images[5]])
    assert [one.name for one in found] == ["four", "deep", "other"]
    right = [found[i].positive_probability for i in (0, 1)]
    assert right == pytest.approx([one.positive_probability for one in plain], abs=1e-6)
    assert abs(found[2].positive_probability - found[1].positive_probability) > 1e-4


def test_bad_sources_become_records_and_the_others_are_predicted(
    predictor: Predictor, images: np.ndarray, tmp_path: Path
) -> None:
    sources = [images[0], tmp_path / "none.png", 7, images[1].astype(np.float64)[None], None, b"", images[2]]
    found = list(predictor.stream(sources, batch_size=2))  # type: ignore[arg-type]
    assert [one.status for one in found] == ["answered", *["failed"] * 5, "answered"]
    assert found[2].error == (
        "image 3 is of type int; give a path, bytes, an array, a Pillow image or a pydicom data set"
    )
    assert found[3].error is not None
    assert "float64 [1, 64, 64]" in found[3].error
    assert all(one.model == "speckle" and len(one.digest) == 64 for one in found)


def test_no_more_is_taken_than_a_bounded_lead(predictor: Predictor, images: np.ndarray) -> None:
    taken = 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal taken
        for number in itertools.count():
            taken = number + 1
            yield images[number % 24]

    stream = predictor.stream(endless(), batch_size=4)
    assert taken == 0
    for number in range(1, 101):
        next(stream)
        assert taken <= number + 3 * 4 + READERS
    stream.close()  # type: ignore[attr-defined]
    before = taken
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read")]
    assert taken == before


def test_the_next_images_are_read_while_a_batch_is_predicted(
    predictor: Predictor, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = threading.Semaphore(0)
    original, plain = Session.run, Preparation.prepare

    def run(session: Session, inputs: np.ndarray) -> dict[str, np.ndarray]:
        # Of its own batch two were read; others follow although this one is not done.
        for _ in range(4):
            assert read.acquire(timeout=10)
        return original(session, inputs)

    def prepare(self: Preparation, *arguments: object) -> object:
        ready = plain(self, *arguments)  # type: ignore[arg-type]
        read.release()
        return ready

    monkeypatch.setattr(Session, "run", run)
    monkeypatch.setattr(Preparation, "prepare", prepare)
    assert next(predictor.stream(images[:8], batch_size=2)).error is None


def test_every_file_is_decoded_once_also_with_its_picture(
    predictor: Predictor, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0

    def counting(*arguments: object, **more: object) -> object:
        nonlocal count
        count += 1
        return read_source(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("medsharp.inference.reading.read_source", counting)
    for number in range(7):
        (tmp_path / f"{number}.png").write_bytes(png(np.repeat(images[number], 3, axis=1)))
    files = sorted(tmp_path.glob("*.png"))
    found = list(predictor.stream(files, batch_size=3, picture_side=96))
    assert count == 7
    for one in found:
        saliency, picture = one.saliency(96), one.picture
        assert saliency is not None
        assert picture is not None
        assert saliency.values.shape == picture.shape == (32, 96)
        assert one.seconds > 0


def test_a_clip_of_many_frames_is_read_part_by_part() -> None:
    made = 0

    def read(source: int) -> Iterator[tuple[int, int]]:
        nonlocal made
        for frame in range(1000 if source == 1 else 1):
            made += 1
            yield source, frame

    ahead = read_ahead(read, iter(range(3)), ahead=2, part=5)
    assert next(ahead) == (0, (0, 0))
    for expected in range(500):
        assert next(ahead) == (1, (1, expected))
        assert made <= expected + 3 * 5 + 2
    assert list(ahead)[-1] == (2, (2, 0))
    assert made == 1002


def test_an_error_of_the_users_iterator_is_theirs(predictor: Predictor, images: np.ndarray) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield images[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(predictor.stream(broken()))


def test_an_empty_batch_is_refused_at_once(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="a batch of 0 images"):
        predictor.stream([], batch_size=0)


def test_predictions_are_given_out_before_the_last_source_is_there(predictor: Predictor, images: np.ndarray) -> None:
    gate = threading.Event()

    def slow() -> Iterator[np.ndarray]:
        yield from itertools.islice(itertools.cycle(images), 60)
        assert gate.is_set(), "the first answers must not wait for the last sources"
        yield images[0]

    stream = predictor.stream(slow(), batch_size=4)
    first: list[Prediction] = [next(stream) for _ in range(8)]
    gate.set()
    assert len(first) + len(list(stream)) == 61
