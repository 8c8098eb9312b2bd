"""Training: a configuration and a manifest become a run folder."""

from medsharp.runs import Run
from training.loop import Interrupted, train
from training.settings import resolve_config

__all__ = ["Interrupted", "Run", "resolve_config", "train"]
