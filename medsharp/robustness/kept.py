"""The output folder of a robustness run: what was predicted stays there, so that a second start goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from medsharp.errors import InputError
from medsharp.files import atomic_path, check_settings, only_writer, write_text
from medsharp.robustness.corruptions import fingerprint

SETTINGS = "settings.json"
_CELLS = "cells"
_LOCK = ".lock"


class Kept:
    """Probabilities by data set, model, corruption and severity, a file each, written in one step.

    Args:
        folder: New or empty, or that of the same run.
        settings: What must be the same for a run to go on: seed, images, bundles, data sets, version.

    Raises:
        InputError: The folder holds another run, or something else.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        path = folder / SETTINGS
        if path.is_file():
            check_settings(path, settings, "a run")
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder} exists already and is no robustness run; choose another --out")
        else:
            write_text(path, json.dumps(settings, indent=1) + "\n")

    def taken(self) -> AbstractContextManager[None]:
        """Return what keeps the folder for this process, so that no two predict the same.

        Raises:
            InputError: On entering it, another process has the folder.
        """
        busy = f"another run is writing to {self.folder}; wait for it or choose another --out"
        return only_writer(self.folder / _LOCK, busy)

    def read(self, data: str, model: str, corruption: str, severity: int, shape: tuple[int, int]) -> np.ndarray | None:
        """Return float64 [N, C], or None where it was not predicted yet or the file is damaged."""
        path = self._path(data, model, corruption, severity)
        try:
            values = np.load(path, allow_pickle=False)
        except FileNotFoundError:
            return None
        # A file that something else has cut is predicted again.
        except (OSError, ValueError, EOFError):
            return None
        return values if values.shape == shape and values.dtype == np.float64 else None

    def write(self, data: str, model: str, corruption: str, severity: int, values: np.ndarray) -> None:
        """Keep probabilities [N, C]."""
        with (
            atomic_path(self._path(data, model, corruption, severity)) as temporary,
            temporary.open("wb") as stream,
        ):
            np.save(stream, values.astype(np.float64), allow_pickle=False)

    def _path(self, data: str, model: str, corruption: str, severity: int) -> Path:
        # Another definition under the same name is another corruption.
        key = fingerprint(corruption, severity) if severity else "00000000"
        return self.folder / _CELLS / data / model / f"{corruption}-{severity}-{key}.npy"
