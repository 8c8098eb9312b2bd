"""Training: a configuration and a manifest become a run folder."""

from medsharp.runs import Run
from training.events import Events
from training.loop import train
from training.processes import ALONE, Processes, launched, may_start_again, torchrun_processes
from training.run_folder import Interrupted, change_settings
from training.settings import check_config, check_network

__all__ = [
    "ALONE",
    "Events",
    "Interrupted",
    "Processes",
    "Run",
    "change_settings",
    "check_config",
    "check_network",
    "launched",
    "may_start_again",
    "torchrun_processes",
    "train",
]
