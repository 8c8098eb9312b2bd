"""The document behind every format: what `evaluation.json` holds."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from medsharp import __version__
from medsharp.evaluation.difference import changes
from medsharp.evaluation.evaluate import Evaluation
from medsharp.evaluation.report.checklist import filled_checklists
from medsharp.evaluation.report.meanings import METHODS
from medsharp.evaluation.sites import summarise_evaluations

_LIBRARIES = ("numpy", "scipy", "pandas")


def make_document(
    evaluations: Sequence[Evaluation], bundle: dict[str, Any], *, robustness: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Lay out what all formats show, as plain values.

    Args:
        evaluations: In the order of the report; an internal one first.
        bundle: `BundleSpec.model_dump(mode="json")`, or empty for predictions of another model.
        robustness: The content of `robustness.json` for the same model.
    """
    document = {
        "format": 1,
        "created": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "medsharp": __version__,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
        # The input check's statistics are long, and no person reads them here.
        "bundle": {key: value for key, value in bundle.items() if key != "input_check"},
        "datasets": [evaluation.as_dict() for evaluation in evaluations],
        "changes": changes(evaluations),
        "site_summary": summarise_evaluations(evaluations),
        "robustness": robustness,
        "methods": METHODS,
    }
    return plain(document | {"checklists": filled_checklists(document)})


def plain(value: Any) -> Any:
    """Turn numpy values into plain ones, tuples into lists, and what is not finite into null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
