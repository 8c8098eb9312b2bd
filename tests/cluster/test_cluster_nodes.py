"""A cluster of several nodes, all of which are this machine: joined by its address, and one of them lost at work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ray = pytest.importorskip("ray")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of Ray, of its own settings


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Three nodes of a core each; the head has one, and the others join it."""
    from ray.cluster_utils import Cluster

    folder = tempfile.mkdtemp(prefix="medsharp-tests-", dir="/tmp")  # Ray's sockets need short paths
    monkeypatch.setenv("RAY_TMPDIR", folder)
    settings = {"num_cpus": 1, "object_store_memory": 2**27}
    cluster = Cluster(initialize_head=True, head_node_args={**settings, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(**settings)
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def predicted(address: str, bundle: Path, manifest: Path, out: Path) -> subprocess.Popen[str]:
    """Begin `medsharp predict` in a process of its own, with small blocks."""
    command = ["predict", str(bundle), str(manifest), "--out", str(out), "--device", "cpu", "--ray", address]
    program = f"from medsharp.inference import table; table.BLOCK = 4\nfrom medsharp.cli import app; app({command!r})"
    environment = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe, text=True, env=environment)


def test_table_is_that_of_one_process_also_where_a_node_is_lost(
    nodes: Any, speckle_bundle: Path, manifest: Path, tmp_path: Path, whole: bytes
) -> None:
    driver = predicted(nodes.address, speckle_bundle, manifest, tmp_path / "o.csv")
    printed, said = driver.communicate()
    assert driver.returncode == 1, said
    assert f"runs on Ray at {nodes.address}: 3 CPUs of 3 machines, on cpu in fp32" in " ".join((printed + said).split())
    assert (tmp_path / "o.csv").read_bytes() == whole

    driver = predicted(nodes.address, speckle_bundle, manifest, tmp_path / "lost.csv")
    parts, deadline = tmp_path / "lost.csv.parts", time.monotonic() + 300
    while not list(parts.glob("[0-9]*.csv")) and driver.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    running = driver.poll() is None
    nodes.remove_node(nodes.worker_nodes.copy().pop(), allow_graceful=False)
    _, said = driver.communicate()
    assert running
    assert driver.returncode == 1, said
    assert (tmp_path / "lost.csv").read_bytes() == whole
