"""Settings every test runs under: two threads at most, no plotting window, no network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, or a skip where there is none."""
    folder = os.environ.get("MEDSHARP_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MEDSHARP_DATA does not name a folder of real data")
    return Path(folder).resolve()
