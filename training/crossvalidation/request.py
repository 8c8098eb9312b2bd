"""What a cross-validation was asked for, kept in its folder: a second start goes on with the same, or is refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml

from medsharp.config import TrainConfig, validate_config
from medsharp.data.manifest import ABOUT, Manifest, read_manifest, write_manifest
from medsharp.errors import InputError
from medsharp.files import write_text
from medsharp.yaml_text import load_yaml
from training.crossvalidation.plan import By, Member, plan_members

REQUEST = "crossvalidation.yaml"
_FORMAT = 1


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        by: What is left out.
        sensitivity: What the operating points reach on the images that they are chosen on.
        config: What all members share, as `plan.settled_config` gives it.
    """

    by: By
    sensitivity: float
    config: TrainConfig

    @staticmethod
    def read(folder: Path) -> Request:
        """Read what a folder was started with.

        Raises:
            InputError: It is no cross-validation, or its file is damaged.
        """
        path = folder / REQUEST
        try:
            values = load_yaml(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
        keys = {"format", "by", "sensitivity", "config"}
        if not isinstance(values, dict) or not keys <= values.keys() or values["by"] not in get_args(By):
            raise InputError(
                f"{path} is not what a cross-validation was started with: it lacks {', '.join(sorted(keys))}"
            )
        if values["format"] != _FORMAT:
            raise InputError(f"{path} has format {values['format']}; this version reads {_FORMAT}")
        if not isinstance(values["sensitivity"], int | float):
            raise InputError(f"{path}: sensitivity '{values['sensitivity']}' is not a number")
        return Request(values["by"], float(values["sensitivity"]), validate_config(values["config"], str(path)))

    def write(self, folder: Path, members: Sequence[Member]) -> None:
        """Write it, with the members for a person to read."""
        values = {
            "format": _FORMAT,
            "by": self.by,
            "sensitivity": self.sensitivity,
            "members": [{"name": one.name, "left_out": one.left_out or None, "fold": one.fold} for one in members],
            "config": self.config.model_dump(mode="json"),
        }
        write_text(folder / REQUEST, yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=110))

    def keep_manifest(self, folder: Path, manifest: Manifest) -> None:
        """Write all images, tied and not split, for every member and every later start."""
        write_manifest(manifest, folder)

    def has_manifest(self, folder: Path) -> bool:
        """Whether they are all there: what says where images lie is written last."""
        return (folder / ABOUT).is_file()

    def manifest(self, folder: Path) -> Manifest:
        """Read them again.

        Raises:
            InputError: An image is not there any more.
        """
        return read_manifest(folder)

    def members(self, manifest: Manifest) -> tuple[Member, ...]:
        """Return the runs that it is made of."""
        return plan_members(self.config, manifest, self.by)

    def check_same(self, folder: Path) -> None:
        """Refuse to go on in a folder that was started with something else.

        Raises:
            InputError: The sentence names the first setting that differs.
        """
        before, now = (dict(_flat(one._values())) for one in (Request.read(folder), self))
        differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if differing:
            first = differing[0]
            raise InputError(
                f"{folder} was started with other settings ({first}: {before.get(first)} there, {now.get(first)} here)"
                "; choose another folder, or go on with its own"
            )

    def _values(self) -> dict[str, Any]:
        return {"by": self.by, "sensitivity": self.sensitivity, **self.config.model_dump(mode="json")}


def _flat(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for name, value in values.items():
            yield from _flat(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, values
