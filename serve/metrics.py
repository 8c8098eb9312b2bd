"""What the server counts and measures, in Prometheus' terms: no name, no address and no pixel is among it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Release = Literal["full", "waited", "idle", "shutdown"]
"""Why a batch was released: it was full, its first image had waited as long as it may, no other image was on its way,
or the server stops."""

Stage = Literal["decode", "queue", "network", "draw", "request"]
"""What an image, and at last its request, spends time on."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one application, in a registry of its own: two in a process do not mix."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "medsharp_requests", "Requests by route and status", ["route", "method", "status"], registry=registry
        )
        self._failures = Counter(
            "medsharp_failures",
            "Requests and images without an answer, by reason: busy, closing, deadline, cancelled (requests), "
            "unreadable, internal (images)",
            ["reason"],
            registry=registry,
        )
        self._images = Counter(
            "medsharp_images", "Images by model and what became of them", ["model", "status"], registry=registry
        )
        self._findings = Counter(
            "medsharp_findings",
            "Refusals and cautions of the input checks",
            ["model", "outcome", "check"],
            registry=registry,
        )
        self._seconds = Histogram(
            "medsharp_stage_seconds",
            "Seconds by stage: of an image decode, queue, network (of its batch) and draw; of a whole request request",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Counter(
            "medsharp_batches",
            "Batches of the network by why each was released: full, waited, idle (no other image was on its way), "
            "shutdown",
            ["model", "reason"],
            registry=registry,
        )
        self._batch_sizes = Histogram(
            "medsharp_batch_size", "Images in a batch", ["model"], buckets=_SIZES, registry=registry
        )
        self._retries = Counter(
            "medsharp_batch_retries",
            "Batches that failed and were run again image by image",
            ["model"],
            registry=registry,
        )
        self._reloads = Counter("medsharp_reloads", "Reloads of a bundle by result", ["result"], registry=registry)
        self._model = Gauge(
            "medsharp_model_info", "1 for each model that is served", ["model", "digest"], registry=registry
        )
        self._batching = Gauge("medsharp_batching", "Settings of the batcher", ["model", "setting"], registry=registry)

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Add a gauge that asks for its value whenever it is read."""
        Gauge(name, about, registry=self.registry).set_function(value)

    def request(self, route: str, method: str, status: int) -> None:
        """Count a request that was answered."""
        self._requests.labels(route, method, str(status)).inc()

    def failure(self, reason: str) -> None:
        """Count a request or an image without an answer."""
        self._failures.labels(reason).inc()

    def image(self, model: str, status: str, checks: tuple[str, ...] = ()) -> None:
        """Count an image and the findings of its checks, `refusal:key` or `caution:key`."""
        self._images.labels(model, status).inc()
        for check in checks:
            outcome, _, key = check.partition(":")
            self._findings.labels(model, outcome, key).inc()

    def took(self, stage: Stage, seconds: float) -> None:
        """Count the seconds of a stage."""
        self._seconds.labels(stage).observe(seconds)

    def batch(self, model: str, reason: Release, size: int) -> None:
        """Count a batch."""
        self._batches.labels(model, reason).inc()
        self._batch_sizes.labels(model).observe(size)

    def retry(self, model: str) -> None:
        """Count a batch that is run again image by image."""
        self._retries.labels(model).inc()

    def reload(self, result: Literal["loaded", "unchanged", "failed"]) -> None:
        """Count a reload of a bundle."""
        self._reloads.labels(result).inc()

    def serves(self, models: dict[str, tuple[str, int, float]]) -> None:
        """Say which models are served: by name the digest, the largest batch and the longest wait in seconds."""
        self._model.clear()
        self._batching.clear()
        for name, (digest, most, seconds) in models.items():
            self._model.labels(name, digest).set(1)
            self._batching.labels(name, "max_batch").set(most)
            self._batching.labels(name, "max_wait_seconds").set(seconds)

    def exposition(self) -> bytes:
        """Write all of it as Prometheus reads it."""
        return generate_latest(self.registry)
