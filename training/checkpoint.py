"""Checkpoints and metrics, each file written in one step.

Everything is serialised in memory first and written by Python: safetensors and torch report a full disk with errors
of their own, which would not be told from damaged weights.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from medsharp.errors import InputError
from medsharp.files import atomic_path, write_text


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write weights as safetensors.

    Raises:
        InputError: The file cannot be written, such as for a full disk; what was there before stays.
    """
    plain = {key: value.detach().contiguous().cpu() for key, value in weights.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(plain))


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a nested dictionary of tensors and plain values, readable with `torch.load(weights_only=True)`.

    Raises:
        InputError: As for `save_weights`.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote.

    Raises:
        InputError: The file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file raises errors of many classes.
    except Exception as error:
        raise InputError(
            f"{path} is damaged ({type(error).__name__}); remove it to train this run from the beginning"
        ) from error


def add_metrics(path: Path, record: dict[str, Any]) -> None:
    """Add a line of JSON; values that are not finite become null, as JSON knows none."""
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in record.items()
    }
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    write_text(path, before + json.dumps(finite, allow_nan=False) + "\n")


def keep_metrics(path: Path, count: int) -> None:
    """Keep the first lines only: what a killed run wrote beyond its checkpoint is trained, and written, again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(path, "".join(lines[:count]))
