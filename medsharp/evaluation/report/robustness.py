"""The robustness summary of a report: read from `robustness.json`, without its single cells."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from statistics import fmean
from typing import Any

from medsharp.errors import InputError

FILE = "robustness.json"
_FORMAT = 2
_CONTROL = "control"
_DIGESTS = ("answers_digest", "digest")
"""The first that both have tells models apart: a card that was written anew makes no other model."""

_KEPT = ("name", "threshold", "clean", "summary", "annotations", "medmnist_c")


def read_robustness(path: Path | None, folder: Path) -> dict[str, Any] | None:
    """Read what `medsharp robustness` wrote and keep what a report shows.

    Args:
        path: The file that was asked for, or None.
        folder: Where `robustness.json` is taken from otherwise, if it is there.

    Returns:
        `created`, `medsharp` and `datasets`; each model of a data set has its digest and notes (such as a leak), its
        clean figures, its summary, annotations and MedMNIST-C errors, and under `by_severity` the mean AUROC of each
        family of corruptions at severities 0 (clean) to 5, without controls and what stands apart. None without a file.

    Raises:
        InputError: The file is missing or is not such a file.
    """
    if path is None and not (folder / FILE).is_file():
        return None
    path = path or folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON; give the robustness.json that `medsharp robustness` wrote") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT or "corruptions" not in content:
        raise InputError(
            f"{path} is not a robustness.json of format {_FORMAT}, as `medsharp robustness` writes it; run it again"
        )
    try:
        return _summary(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({error}); run `medsharp robustness` again") from error


def is_own(model: dict[str, Any], bundle: dict[str, Any]) -> bool:
    """Whether a model of `robustness.json` is the one that a report is of, by a digest; by name where one has none.

    Args:
        model: As `read_robustness` gives it.
        bundle: As in `evaluation.json`.
    """
    for key in _DIGESTS:
        if model.get(key) and bundle.get(key):
            return bool(model[key] == bundle[key])
    return bool(model["name"] == bundle.get("name"))


def robustness_of(document: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the data sets and models whose robustness a report shows: its own model's, or, without it, all.

    Args:
        document: As in `evaluation.json`.
    """
    datasets = (document.get("robustness") or {"datasets": ()})["datasets"]
    pairs = [(entry, model) for entry in datasets for model in entry["models"]]
    return [pair for pair in pairs if is_own(pair[1], document["bundle"])] or pairs


def _summary(content: dict[str, Any]) -> dict[str, Any]:
    families = {entry["name"]: entry["family"] for entry in content["corruptions"]}
    datasets = [
        {
            "name": entry["name"],
            "simulated": bool(entry.get("simulated")),
            "images": entry["images"],
            "corruptions": sum(family != _CONTROL for family in families.values()),
            "models": [
                {key: model[key] for key in _KEPT}
                | {key: str(model.get(key, "")) for key in _DIGESTS}
                | {"notes": list(map(str, model.get("notes", ())))}
                | {"by_severity": _by_severity(model, families, entry["apart"])}
                for model in entry["models"]
            ],
        }
        for entry in content["datasets"]
    ]
    return {"created": content["created"], "medsharp": content["medsharp"], "datasets": datasets}


def _by_severity(
    model: dict[str, Any], families: dict[str, str], apart: Collection[str]
) -> dict[str, list[float | None]]:
    """Return the mean AUROC of each family at severities 0 to 5; None where no cell has one."""
    found: dict[tuple[str, int], list[float]] = {}
    for cell in model["cells"]:
        value = cell["figures"]["auroc"]["value"]
        if value is not None and cell["corruption"] not in apart:
            found.setdefault((families[cell["corruption"]], int(cell["severity"])), []).append(float(value))
    clean = model["clean"]["auroc"]["value"]
    return {
        family: [clean, *(fmean(found[family, level]) if (family, level) in found else None for level in range(1, 6))]
        for family in dict.fromkeys(families.values())
        if family != _CONTROL and any(name == family for name, _ in found)
    }
