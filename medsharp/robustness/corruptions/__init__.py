"""Corruptions: what happens to ultrasound images between hospitals, at five severities each."""

from medsharp.robustness.corruptions.catalogue import markdown_table, parameters_of
from medsharp.robustness.corruptions.corruption import SEVERITIES, Corruption
from medsharp.robustness.corruptions.fingerprint import fingerprint
from medsharp.robustness.corruptions.geometry import LEAST_HELD
from medsharp.robustness.corruptions.registry import CORRUPTIONS, corrupt, find_corruptions, list_corruptions

__all__ = [
    "CORRUPTIONS",
    "LEAST_HELD",
    "SEVERITIES",
    "Corruption",
    "corrupt",
    "find_corruptions",
    "fingerprint",
    "list_corruptions",
    "markdown_table",
    "parameters_of",
]
