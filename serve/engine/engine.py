"""The engine of one model: uploads of all visitors in, batches through the network, answers out.

Decoding and drawing are done in threads of their own, at the size at which an image is shown; the network runs one
batch after another, made of the images of all requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from medsharp.inference import Prediction, Predictor
from medsharp.inference.reading import Reading
from serve.engine.batcher import Batcher, Batching
from serve.engine.capacity import Admission, BusyError, ClosingError, DeadlineError
from serve.engine.decode import ReadOptions
from serve.engine.draw import Assessment
from serve.engine.job import Job, Line, Wish
from serve.engine.lanes import Lanes
from serve.engine.request import Answer, Request
from serve.metrics import Metrics, Release
from serve.security.crashes import log_fault


@dataclass(frozen=True)
class Shared:
    """What the engines of a server share.

    Attributes:
        lanes: Threads that decode and draw.
        admission: Counts requests.
        metrics: Told what is done.
    """

    lanes: Lanes
    admission: Admission
    metrics: Metrics


class Engine:
    """Assesses images with one predictor, in batches that all requests share.

    Args:
        predictor: The loaded bundle.
        shared: What other engines use too.
        max_file_bytes: An image of more bytes is refused.
        deadline_seconds: A request that takes longer is given up, where it does not say.
        batching: How images are gathered.

    Attributes:
        predictor: The loaded bundle.
        max_batch: Images in a batch.
        max_wait: Seconds that an image waits for others.
    """

    def __init__(
        self,
        predictor: Predictor,
        shared: Shared,
        *,
        max_file_bytes: int,
        deadline_seconds: float,
        batching: Batching = Batching(),
    ) -> None:
        self.predictor = predictor
        self.max_batch = batching.largest(predictor.session.device)
        self.max_wait = batching.max_wait
        self._shared = shared
        self._deadline = deadline_seconds
        metrics, name = shared.metrics, predictor.spec.name

        def released(reason: Release, size: int) -> None:
            metrics.batch(name, reason, size)

        def retried() -> None:
            metrics.retry(name)

        self._images: Batcher[Reading, Prediction] = Batcher(
            predictor.predict_readings, self.max_batch, self.max_wait, released, retried
        )
        self._tensors: Batcher[np.ndarray, dict[str, np.ndarray]] = Batcher(
            self._run_tensors, self.max_batch, self.max_wait, released, retried
        )
        limits = replace(predictor.limits, max_bytes=max_file_bytes)
        self._line = Line(predictor, limits, shared.lanes, self._images, metrics)

    @property
    def depth(self) -> int:
        """Images that wait for the network."""
        return self._images.depth + self._tensors.depth

    def check(self) -> None:
        """Refuse a request before its body is read, where it would be refused afterwards.

        Raises:
            BusyError: As many requests wait as may, or the server is stopping.
        """
        with self._counted():
            self._shared.admission.check()

    def close(self) -> None:
        """Wait no longer for images to fill a batch; what is inside is finished still."""
        self._images.close()
        self._tensors.close()

    async def assess(
        self,
        contents: Sequence[bytes],
        names: Sequence[str],
        *,
        image_side: int | None = None,
        heatmap_side: int | None = None,
        wanted: Callable[[], bool] = lambda: True,
        deadline: float | None = None,
        options: ReadOptions = ReadOptions(),
    ) -> list[Assessment]:
        """Predict every image; one that cannot be read gets an error and does not stop the others.

        Cancelled, the images that the network has not begun are never worked on.

        Args:
            contents: The bytes of each file.
            names: How each is called in its answer.
            image_side: Draw the image, at most this many pixels high and wide; None draws nothing.
            heatmap_side: The same for the heat map.
            wanted: Asked before each step of an image; the rest is left out when nobody waits for it any longer.
            deadline: Seconds after which the request is given up, where that is sooner than the server's own.
            options: What of each image is looked at.

        Returns:
            An answer for each image, in their order, but for those that were left out.

        Raises:
            BusyError: As many requests wait as may, or the server is stopping.
            DeadlineError: The request took longer than it may.
        """
        request: Request[Assessment] = Request(len(contents), wanted)
        job = Job(self._line, request, contents, names, Wish(image_side, heatmap_side, options))
        try:
            with self._counted(), self._shared.admission.entry():
                job.begin()
                return await self._answers(request, deadline)
        finally:
            self._images.discard(request)
            job.forget()

    async def infer(self, images: np.ndarray, *, deadline: float | None = None) -> dict[str, np.ndarray]:
        """Run preprocessed images through the network, in batches that other requests share; no check sees them.

        Args:
            images: uint8 [B, S, S].
            deadline: As for `assess`.

        Returns:
            The network's outputs by name, float32 [B, ...].

        Raises:
            BusyError: As for `assess`.
            DeadlineError: As for `assess`.
            RuntimeError: The network failed at one of the images.
        """
        request: Request[dict[str, np.ndarray] | Exception] = Request(len(images))
        try:
            with self._counted(), self._shared.admission.entry():
                while (index := request.next_index()) is not None:
                    self._tensors.put(_Row(self._shared.metrics, request, index), images[index])
                rows = await self._answers(request, deadline)
        finally:
            self._tensors.discard(request)
        found = []
        for row in rows:
            if isinstance(row, Exception):
                self._shared.metrics.failure("internal")
                log_fault("the network failed at a tensor", row)
                raise RuntimeError("the network failed at the images that were sent") from row
            found.append(row)
        return {name: np.stack([row[name] for row in found]) for name in self.predictor.session.outputs}

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count why a request is not answered."""
        failure = self._shared.metrics.failure
        try:
            yield
        except ClosingError:
            failure("closing")
            raise
        except BusyError:
            failure("busy")
            raise
        except DeadlineError:
            failure("deadline")
            raise
        except asyncio.CancelledError:
            failure("cancelled")
            raise

    async def _answers(self, request: Request[Answer], deadline: float | None) -> list[Answer]:
        start = time.perf_counter()
        answers = await request.answers(self._deadline if deadline is None else min(deadline, self._deadline))
        self._shared.metrics.took("request", time.perf_counter() - start)
        return answers

    def _run_tensors(self, images: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
        outputs = self.predictor.session.run(np.stack(images))
        return [{name: values[number] for name, values in outputs.items()} for number in range(len(images))]


@dataclass(frozen=True)
class _Row:
    """A preprocessed image that waits for the network."""

    metrics: Metrics
    owner: Request[dict[str, np.ndarray] | Exception]
    index: int

    def is_wanted(self) -> bool:
        return self.owner.is_wanted

    def skip(self) -> None:
        self.owner.finish(self.index, None)

    def deliver(self, result: dict[str, np.ndarray] | Exception, waited: float, seconds: float) -> None:
        self.metrics.took("queue", waited)
        self.metrics.took("network", seconds)
        self.owner.finish(self.index, result)
