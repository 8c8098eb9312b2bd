"""The command has threads of OpenMP sleep while they wait, unless the environment says otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import os, sys
from medsharp.cli import main
assert "torch" not in sys.modules
try:
    main()
finally:
    print(os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
    ids=["nothing said", "count", "policy"],
)
def test_threads_wait_asleep_unless_the_environment_says_otherwise(given: dict[str, str], expected: str) -> None:
    own = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", CODE, "--version"], env={**own, **given}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == expected
