"""Training: a configuration and a manifest become a run folder."""

from medsharp.runs import Run
from training.events import Events
from training.loop import train
from training.run_folder import Interrupted
from training.settings import check_config, check_network

__all__ = ["Events", "Interrupted", "Run", "check_config", "check_network", "train"]
