"""What the server costs beside the predictor, and how it holds up: measured over loopback, within given bounds."""

from serve.benchmark.measures import (
    Figure,
    measure_batching,
    measure_large,
    measure_latency,
    measure_load,
    measure_overload,
    measure_throughput,
)
from serve.benchmark.server import RunningServer, running_server

__all__ = [
    "Figure",
    "RunningServer",
    "measure_batching",
    "measure_large",
    "measure_latency",
    "measure_load",
    "measure_overload",
    "measure_throughput",
    "running_server",
]
