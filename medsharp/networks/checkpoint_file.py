"""Reading a file of weights into named tensors, whatever it wraps them in; nothing in it is run."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from medsharp.errors import InputError

Weights = dict[str, Tensor]

# Training scripts keep their arguments and best figures beside the weights. None of these does anything when built.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float32", "float64", "int32", "int64", "bool")),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


_DEEPEST = 100
"""Dictionaries in each other; what people save has a few."""

_REFUSED = re.compile(r"GLOBAL ([\w.]+)")
"""What `torch.load` names in a pickle that it does not read."""


_TAR = slice(257, 262)
"""Where the header of a tar archive says what it is."""


class _TooDeepError(Exception):
    """Dictionaries lie deeper in each other than anybody saves weights."""


def read_checkpoint(path: Path) -> Weights:
    """Read all tensors of a file; those in dictionaries within it are named by the way to them, joined by dots.

    Args:
        path: safetensors, or what `torch.save` wrote, read with `weights_only=True`.

    Raises:
        InputError: The file is missing or a folder, damaged, would run code when read, or holds no tensors
            or none with numbers in them.
    """
    if path.is_dir():
        raise InputError(f"checkpoint {path} is a folder; give the file of weights in it")
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist")
    try:
        with warnings.catch_warnings(action="ignore"):  # of formats: what comes of them is told below
            content = _read(path)
    # Both readers raise errors of many classes on damaged files.
    except Exception as error:
        foreign = _foreign_classes(path) or ", ".join(_REFUSED.findall(str(error))[:3])
        if foreign:
            raise InputError(
                f"checkpoint {path} cannot be read: it is a pickle of {foreign}, which would run code; where it was "
                "written, save the weights alone: torch.save(model.state_dict(), FILE)"
            ) from error
        reason = _other_archive(path) or _reason(error)
        raise InputError(f"checkpoint {path} cannot be read: {reason}") from error
    try:
        weights = dict(_tensors(content, set())) if isinstance(content, dict) else {}
    except _TooDeepError as error:
        raise InputError(
            f"checkpoint {path} holds dictionaries more than {_DEEPEST} deep in each other; save the weights alone: "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    if not weights:
        raise InputError(f"checkpoint {path} holds no state dict of tensors")
    odd = [
        key for key, value in weights.items() if value.is_meta or value.is_quantized or value.layout != torch.strided
    ]
    if odd:
        raise InputError(
            f"checkpoint {path}: {odd[0]} is empty, sparse or quantised; save the weights as plain tensors"
        )
    return weights


def _read(path: Path) -> Any:
    with open(path, "rb") as stream:
        start = stream.read(9)
    # safetensors: the length of a header in eight bytes, then the header, which is JSON.
    if path.suffix == ".safetensors" or start[8:] == b"{":
        from safetensors.torch import load_file

        return load_file(path)
    with torch.serialization.safe_globals(_HARMLESS):
        return torch.load(path, map_location="cpu", weights_only=True)


def _reason(error: Exception) -> str:
    if not isinstance(error, OSError | RuntimeError | SafetensorError):  # of unpickling what is no pickle
        return "it is damaged, or neither safetensors nor what torch.save writes"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].partition(". ")[0][:200]


def _other_archive(path: Path) -> str:
    """Return what an archive is that `torch.save` did not write, or nothing where the file is none."""
    with open(path, "rb") as stream:
        start = stream.read(_TAR.stop)
    if start[:2] == b"\x1f\x8b" or start[_TAR] == b"ustar":
        return "it is a packed archive; unpack it, and give the file of weights in it"
    if not start.startswith(b"PK"):
        return ""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    # Of a directory that is damaged, whatever stands there is read as lengths and letters.
    except Exception:
        return "it is cut off or damaged"
    inside = {name.rpartition("/")[2] for name in names}
    if {"data.pkl", "constants.pkl"} <= inside:
        return (
            "it is a TorchScript archive, which would run code; where it was written, save the weights alone: "
            "torch.save(model.state_dict(), FILE)"
        )
    if {"data.pkl", "version"} <= inside:
        return ""
    if names and all(name.endswith(".npy") for name in names):
        return (
            "it is an archive of NumPy arrays (.npz); save them as safetensors: "
            "safetensors.numpy.save_file(dict(numpy.load(FILE)), OUT)"
        )
    return "it is a zip archive that torch.save did not write; give safetensors or what it writes, unpacked"


def _foreign_classes(path: Path) -> str:
    """Return what a pickle would have to import, or nothing where it is no pickle."""
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    # Of a file that is damaged, or of another kind, there is nothing to tell.
    except Exception:
        return ""
    return ", ".join(sorted(names)[:3])


def _tensors(content: dict[Any, Any], read: set[int], way: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Give all tensors, those of a dictionary that stands in several places, or in itself, once."""
    if depth > _DEEPEST:
        raise _TooDeepError
    read.add(id(content))
    for key, value in content.items():
        if not isinstance(key, str):
            continue  # an optimizer's state, by number
        if isinstance(value, Tensor):
            yield way + key, value
        elif isinstance(value, dict) and id(value) not in read:
            yield from _tensors(value, read, f"{way}{key}.", depth + 1)
