"""Corruptions: what happens to ultrasound images between hospitals, at five severities each."""

from medsharp.robustness.corruptions.catalogue import markdown_table, parameters_of
from medsharp.robustness.corruptions.corruption import SEVERITIES, Corruption
from medsharp.robustness.corruptions.registry import CORRUPTIONS, corrupt, find_corruptions, list_corruptions

__all__ = [
    "CORRUPTIONS",
    "SEVERITIES",
    "Corruption",
    "corrupt",
    "find_corruptions",
    "list_corruptions",
    "markdown_table",
    "parameters_of",
]
