"""Tests of interaction in words: one sentence a column."""

from __future__ import annotations

from typing import Any

from medsharp.evaluation.report.wording import column_name
from medsharp.evaluation.statistics.registry import figure_named
from medsharp.quantities import p_equals

_LEVEL = 0.05


def interaction_sentences(entry: dict[str, Any]) -> list[str]:
    """Say for each column in which figures its groups differ, with p values adjusted over the columns.

    Args:
        entry: A data set of `evaluation.json`; older files have none.
    """
    found = entry.get("interactions") or []
    return [_sentence(column, len(found)) for column in found]


def _sentence(column: dict[str, Any], columns: int) -> str:
    tested = {key: test for key, test in column["figures"].items() if test["p"] is not None}
    name = column_name(column["by"])
    if not tested:
        return f"By {name}: nothing is tested, as {next(iter(column['figures'].values()))['reason']}."
    differ = [_named(key, test) for key, test in tested.items() if test["p_holm"] < _LEVEL]
    alike = [_named(key, test) for key, test in tested.items() if test["p_holm"] >= _LEVEL]
    untested = [_lower(figure_named(key).name) for key in column["figures"] if key not in tested]
    adjusted = f", adjusted over {columns} columns" if columns > 1 else ""
    parts = []
    if differ:
        parts.append(f"groups differ in {_listed(differ)}{adjusted}")
    if alike:
        parts.append(f"no difference is shown in {_listed(alike)}{'' if differ else adjusted}")
    if untested:
        parts.append(f"not tested: {_listed(untested)}")
    return f"By {name}: {'; '.join(parts)}."


def _named(key: str, test: dict[str, Any]) -> str:
    return f"{_lower(figure_named(key).name)} ({test['df'] + 1} groups, {p_equals(test['p_holm'])})"


def _lower(name: str) -> str:
    """Return a name as it stands inside a sentence: AUROC stays."""
    return name if name[1:2].isupper() else name[:1].lower() + name[1:]


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
