"""The way of one request's images through lanes, batcher and drawing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from medsharp.images import ImageLimits
from medsharp.images.decoding_cost import pixels_to_decode
from medsharp.inference import Prediction, Predictor
from medsharp.inference.reading import Reading
from serve.engine.batcher import Batcher
from serve.engine.decode import Decoded, ReadOptions, decode
from serve.engine.draw import Assessment, heatmap_uri, png_uri
from serve.engine.lanes import LARGE_PIXELS, Lanes
from serve.engine.request import Request
from serve.metrics import Metrics
from serve.security.crashes import log_fault


@dataclass(frozen=True)
class Line:
    """What images of one model pass through.

    Attributes:
        predictor: The loaded bundle.
        limits: What is refused before it is decoded.
        lanes: Threads that decode and draw.
        batcher: Gathers images for the network.
        metrics: Told what is done.
    """

    predictor: Predictor
    limits: ImageLimits
    lanes: Lanes
    batcher: Batcher[Reading, Prediction]
    metrics: Metrics


@dataclass(frozen=True)
class Wish:
    """What is asked about the images of a request.

    Attributes:
        image_side: Longest side at which the image is drawn; None draws none.
        heatmap_side: The same of the heat map.
        options: What of each image is looked at.
    """

    image_side: int | None
    heatmap_side: int | None
    options: ReadOptions

    @property
    def sides(self) -> tuple[int, ...]:
        """Longest sides at which the image is shown."""
        return tuple(side for side in (self.image_side, self.heatmap_side) if side is not None)


class Job:
    """Takes the images of a request through the line, so many at once that other requests get their turn.

    Args:
        line: Of the model.
        request: Gets the answers.
        contents: The bytes of each file.
        names: How each is called in its answer.
        wish: What is asked about them.
    """

    def __init__(
        self, line: Line, request: Request[Assessment], contents: Sequence[bytes], names: Sequence[str], wish: Wish
    ) -> None:
        self.line = line
        self.request = request
        self.names = names
        self.wish = wish
        self._contents: list[bytes | None] = list(contents)

    def begin(self) -> None:
        """Put the first images on their way; each that is decoded lets the next one follow."""
        for _ in range(self.line.lanes.window):
            self.begin_next()

    def begin_next(self) -> None:
        """Put the next image on its way, if there is one."""
        index = self.request.next_index()
        if index is not None:
            image = _Image(self, index)
            image.submit(self.line.lanes.small, image.sort)

    def content(self, index: int) -> bytes | None:
        """Return the bytes of an image; None where nobody waits for its answer any longer."""
        return self._contents[index] if self.request.is_wanted else None

    def forget(self, index: int | None = None) -> None:
        """Let go of the bytes of an image, or of all of them."""
        for number in range(len(self._contents)) if index is None else (index,):
            self._contents[number] = None


class _Image:
    """One image on its way; a `Ticket` while it waits for the network.

    Args:
        job: Whose it is.
        index: Its place in the request.
    """

    def __init__(self, job: Job, index: int) -> None:
        self._job = job
        self._line = job.line
        self._index = index
        self._expectation = job.line.batcher.expect()
        self._is_followed = False
        self._decoded = Decoded(Reading(job.names[index]))

    def submit(self, pool: ThreadPoolExecutor, step: Callable[[], None]) -> None:
        """Do a step in a thread; whatever is raised there ends this image alone."""
        pool.submit(self._guard, step)

    def sort(self) -> None:
        """Decode a small image here and now, and a large one where it keeps no small one waiting."""
        content = self._job.content(self._index)
        if content is not None and self._is_large(content):
            self._expectation.end()
            self.submit(self._line.lanes.large, self.decode)
        else:
            self.decode()

    def _is_large(self, content: bytes) -> bool:
        frame = self._job.wish.options.frame
        return pixels_to_decode(content, self._line.limits, "sharpest" if frame is None else frame) > LARGE_PIXELS

    def decode(self) -> None:
        """Decode the image, and hand it to the network, or answer it where the network need not be asked."""
        content = self._job.content(self._index)
        if content is None:
            self.skip()
            return
        wish, line = self._job.wish, self._line
        name = self._job.names[self._index]
        self._decoded = decode(content, name, line.predictor, line.limits, wish.options, wish.sides, self.is_wanted)
        self._job.forget(self._index)
        line.metrics.took("decode", self._decoded.seconds)
        # The next one is on its way before this one arrives, so that the batcher knows of it.
        self._follow()
        reading = self._decoded.reading
        if reading.prepared is None or reading.prepared.refused:
            (prediction,) = line.predictor.predict_readings([reading])
            self._draw(prediction)
        else:
            line.batcher.put(self, reading)
            self._expectation.end()

    @property
    def owner(self) -> Request[Assessment]:
        """The request."""
        return self._job.request

    def is_wanted(self) -> bool:
        """Whether the request is waited for."""
        return self._job.request.is_wanted

    def skip(self) -> None:
        """Leave the image out, as nobody waits for it."""
        self._end(None)

    def deliver(self, result: Prediction | Exception, waited: float, seconds: float) -> None:
        """Take what the network says."""
        self._line.metrics.took("queue", waited)
        self._line.metrics.took("network", seconds)
        if isinstance(result, Exception):
            self._fail(result)
        elif self._decoded.pictures:
            self._guard(lambda: self.submit(self._line.lanes.drawing, lambda: self._draw(result)))
        else:
            self._guard(lambda: self._draw(result))

    def _draw(self, prediction: Prediction) -> None:
        start = time.perf_counter()
        decoded, wish = self._decoded, self._job.wish
        image = heatmap = evidence = None
        if decoded.pictures and wish.image_side is not None:
            image = png_uri(decoded.pictures[wish.image_side])
        if decoded.pictures and wish.heatmap_side is not None:
            heatmap, evidence = heatmap_uri(prediction, decoded.pictures[wish.heatmap_side], wish.heatmap_side)
        if decoded.pictures:
            self._line.metrics.took("draw", time.perf_counter() - start)
        box = wish.options.box
        self._end(Assessment(prediction, image, heatmap, decoded.size, evidence, box))

    def _guard(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """End the image with a fault of the server, which is logged without what it may quote."""
        log_fault("an image could not be assessed", error)
        name, predictor = self._job.names[self._index], self._line.predictor
        prediction = Prediction(
            name,
            error=f"{name} could not be assessed: the server failed at it ({type(error).__name__})",
            source=name,
            model=predictor.spec.name,
            digest=predictor.digest,
        )
        self._end(Assessment(prediction, size=self._decoded.size, is_fault=True))

    def _end(self, answer: Assessment | None) -> None:
        self._follow()
        self._expectation.end()
        if answer is not None:
            prediction, model = answer.prediction, self._line.predictor.spec.name
            self._line.metrics.image(model, prediction.status, prediction.checks)
            if prediction.error is not None:
                self._line.metrics.failure("internal" if answer.is_fault else "unreadable")
        self._job.request.finish(self._index, answer)

    def _follow(self) -> None:
        if not self._is_followed:
            self._is_followed = True
            self._job.begin_next()
