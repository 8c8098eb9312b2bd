"""The robustness summary of a report: read from `robustness.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from medsharp.errors import InputError

FILE = "robustness.json"


def read_robustness(path: Path | None, folder: Path) -> dict[str, Any] | None:
    """Read what `medsharp robustness` wrote.

    Args:
        path: The file that was asked for, or None.
        folder: Where `robustness.json` is taken from otherwise, if it is there.

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
    except ValueError as error:
        raise InputError(f"{path} is not JSON; give the robustness.json that `medsharp robustness` wrote") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no keys; give the robustness.json that `medsharp robustness` wrote")
    return content
