"""Files that are no Python are installed with the packages that read them."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_file_of_a_package_is_installed_with_it() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        patterns = tomllib.load(file)["tool"]["setuptools"]["package-data"]["*"]
    files = [path for name in ("medsharp", "training", "serve") for path in (ROOT / name).rglob("*") if path.is_file()]
    others = [path for path in files if path.suffix not in {".py", ".pyc"}]
    left_out = [path.name for path in others if not any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)]
    assert left_out == []
    assert {"ultrasound.json", "report.css"} <= {path.name for path in others}
