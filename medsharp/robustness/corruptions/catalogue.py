"""The registry as a table for people."""

from __future__ import annotations

from medsharp.robustness.corruptions.corruption import Corruption
from medsharp.robustness.corruptions.registry import CORRUPTIONS


def parameters_of(corruption: Corruption) -> str:
    """Write the parameters of severity 1 to 5, such as `quality 50, 30, 15, 10, 7`."""
    parts = []
    for name in corruption.levels[0]:
        values = [f"{level[name]:g}" for level in corruption.levels]
        parts.append(f"{name} {', '.join(values) if len(set(values)) > 1 else values[0]}")
    return "; ".join(parts).replace("-", "\N{MINUS SIGN}")


def markdown_table() -> str:
    """Return every corruption with its parameters as a Markdown table."""
    lines = ["| name | what happens | severity 1 to 5 | definition |", "|---|---|---|---|"]
    for corruption in CORRUPTIONS.values():
        cells = (f"`{corruption.name}`", corruption.description, parameters_of(corruption), corruption.source)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
