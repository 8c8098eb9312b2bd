"""Checkpoints: weights as safetensors, and everything that resuming needs in one file, each written in one step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from medsharp.errors import InputError
from medsharp.files import atomic_path, write_text


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write weights as safetensors."""
    with atomic_path(path) as temporary:
        save_file({key: value.detach().contiguous().cpu() for key, value in weights.items()}, temporary)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a nested dictionary of tensors and plain values, readable with `torch.load(weights_only=True)`."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote.

    Raises:
        InputError: The file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file raises errors of many classes.
    except Exception as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}); remove it to start anew") from error


def keep_lines(path: Path, count: int) -> None:
    """Cut a file of JSON lines after `count` lines: what a killed run wrote beyond its checkpoint goes."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:count]
        write_text(path, "".join(lines))


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append a record as one line of JSON."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(record) + "\n")
