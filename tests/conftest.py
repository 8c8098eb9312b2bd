"""Settings every test runs under: two threads at most, no plotting window, no network."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


@pytest.fixture(scope="session", autouse=True)
def own_cache() -> Iterator[None]:
    """Decoded images and simulated hospitals go into a cache of the tests' own."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="medsharp-tests-")
    yield
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, or a skip where there is none."""
    folder = os.environ.get("MEDSHARP_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MEDSHARP_DATA does not name a folder of real data")
    return Path(folder).resolve()
