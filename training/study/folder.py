"""A study's folder: what it was registered with, which runs it is made of, and what each chose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsharp.errors import InputError
from medsharp.files import write_text
from medsharp.runs import Run
from training.side_by_side import error_file
from training.study.code import code_digest
from training.study.definition import StudyDefinition, dump_study, load_study
from training.study.plan import Cell, Chain, cell_config, run_name

STUDY = "study.yaml"
REGISTRATION = "registration.json"
LOCK = ".lock"
_FORMAT = 1
_RUNS, _CHOICES, _CELLS = "runs", "choices", "cells"


@dataclass(frozen=True)
class StudyFolder:
    """A study that was begun.

    Attributes:
        root: Where it lies.
        study: As it was registered.
        registration: When, with what data and what code: see `register`.
    """

    root: Path
    study: StudyDefinition
    registration: Mapping[str, Any]

    @staticmethod
    def begun(root: Path) -> bool:
        """Whether a study was registered there."""
        return (root / REGISTRATION).is_file()

    @staticmethod
    def open(root: str | Path) -> StudyFolder:
        """Open the folder of a study.

        Raises:
            InputError: It is none, or its study was changed after the first run.
        """
        root = Path(root)
        path = root / REGISTRATION
        try:
            registration = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{root} is not the folder of a study: it has no {REGISTRATION}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is damaged: {error}") from error
        if registration.get("format") != _FORMAT:
            raise InputError(f"{path} has format {registration.get('format')}; this version reads {_FORMAT}")
        study = load_study(root / STUDY)
        if study.digest() != registration["study_sha256"]:
            raise InputError(
                f"{root / STUDY} was changed after the study was registered (SHA-256 {study.digest()[:12]} now, "
                f"{registration['study_sha256'][:12]} then); put it back, or begin another study in another folder"
            )
        return StudyFolder(root, study, registration)

    @property
    def codes(self) -> list[str]:
        """The digests of code that its runs may come from, the newest last."""
        return list(self.registration["codes"])

    def run_folder(self, cell: Cell, chosen: Mapping[str, float]) -> Path:
        """Return where a run lies that is finished, or is to be trained by the newest code."""
        config = cell_config(self.study, cell, chosen)
        data = self.registration["data"][f"{cell.chain.hospital.name}/fold-{cell.chain.fold}"]
        folders = [self.root / _RUNS / run_name(config, data, code) for code in self.codes]
        return next((folder for folder in folders if Run(folder).finished), folders[-1])

    def choice(self, chain: Chain) -> dict[str, Any] | None:
        """Return what a chain chose: `chosen` and `trials`; None before it has."""
        return _read(self.root / _CHOICES / f"{chain.name}.json")

    def keep_choice(self, chain: Chain, choice: Mapping[str, Any]) -> None:
        """Write what a chain chose; it is not chosen again."""
        _write(self.root / _CHOICES / f"{chain.name}.json", choice)

    def record(self, cell: Cell) -> dict[str, Any] | None:
        """Return what is known of a finished cell; None before it is."""
        record = _read(self.root / _CELLS / f"{cell.name}.json")
        return record if record is not None and Run(self.root / _RUNS / record["run"]).finished else None

    def failure(self, cell: Cell) -> str | None:
        """Return why a cell failed, or the chain that it is of: the last line of what was kept; None where neither did.

        A cell that is finished did not fail, whatever its chain did.
        """
        kept = [path for name in (cell.name, cell.chain.name) if (path := error_file(self.root, name)).is_file()]
        if not kept or self.record(cell) is not None:
            return None
        lines = kept[0].read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no reason was kept")

    def keep_record(self, cell: Cell, record: Mapping[str, Any]) -> None:
        """Write what is known of a finished cell."""
        _write(self.root / _CELLS / f"{cell.name}.json", record)

    def run_of(self, record: Mapping[str, Any]) -> Run:
        """Return the run of a record."""
        return Run(self.root / _RUNS / record["run"])


def register(root: Path, study: StudyDefinition, data: Mapping[str, str], about: Mapping[str, Any]) -> StudyFolder:
    """Write what a study is, before its first run.

    Args:
        root: Its folder.
        study: As it is from now on.
        data: Digests of the open rows by fold.
        about: When it was begun, and by which version.
    """
    write_text(root / STUDY, dump_study(study))
    registration = {
        "format": _FORMAT,
        "name": study.name,
        "study_sha256": study.digest(),
        **about,
        "codes": [code_digest()],
        "data": dict(data),
    }
    _write(root / REGISTRATION, registration)  # last: what says that there is a study
    return StudyFolder.open(root)


def accept_code(folder: StudyFolder) -> StudyFolder:
    """Let runs that are still to come be trained by the code of this process; the registration then has both."""
    registration = {**folder.registration, "codes": [*(c for c in folder.codes if c != code_digest()), code_digest()]}
    _write(folder.root / REGISTRATION, registration)
    return StudyFolder.open(folder.root)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: it holds no object")
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")
