"""The contracts on who may import whom leave no module out."""

from __future__ import annotations

import pkgutil
import re
import tomllib
from pathlib import Path

import medsharp

ROOT = Path(__file__).parents[2]
MODULES = {f"medsharp.{module.name}" for module in pkgutil.iter_modules(medsharp.__path__)}


def contracts(kind: str) -> list[dict[str, list[str]]]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    return [contract for contract in settings["contracts"] if contract["type"] == kind]


def test_every_module_stands_on_a_floor() -> None:
    (floors,) = contracts("layers")
    named = [name for layer in floors["layers"] for name in re.split(r"[ |:]+", layer)]
    assert set(named) == MODULES | {"training", "serve"}
    assert len(named) == len(set(named))


def test_the_optimizers_may_import_no_module_beside_them() -> None:
    (lifted,) = [contract for contract in contracts("forbidden") if contract["source_modules"] == ["medsharp.optim"]]
    assert set(lifted["forbidden_modules"]) >= MODULES - {"medsharp.optim"} | {"training", "serve"}


def test_what_runs_without_torch_is_kept_from_importing_it() -> None:
    """All but training, export and what they stand on; parts of the data are named by themselves."""
    (light,) = [contract for contract in contracts("forbidden") if "torch" in contract["forbidden_modules"]]
    rooms = ("__main__", "cli", "data", "export", "networks", "optim", "runs", "sharpness")
    heavy = {f"medsharp.{room}" for room in rooms}
    assert set(light["source_modules"]) >= MODULES - heavy | {"serve"}
