"""From uploaded bytes to answers: lanes that decode and draw, the batcher of the network, and their bounds."""

from serve.engine.batcher import Batching
from serve.engine.capacity import BusyError, ClosingError, DeadlineError
from serve.engine.decode import ReadOptions
from serve.engine.draw import Assessment
from serve.engine.engine import Engine, Shared

__all__ = ["Assessment", "Batching", "BusyError", "ClosingError", "DeadlineError", "Engine", "ReadOptions", "Shared"]
