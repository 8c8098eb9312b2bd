"""Corruptions: what happens to ultrasound images between hospitals, at five severities each."""

from medsharp.evaluation.corruptions.catalogue import markdown_table, parameters_of
from medsharp.evaluation.corruptions.corruption import SEVERITIES, Corruption
from medsharp.evaluation.corruptions.registry import CORRUPTIONS, corrupt, find_corruptions, list_corruptions

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
