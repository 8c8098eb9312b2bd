"""Robustness by Ray is that of one process, whoever is killed and whoever goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from command_line import refused, run
from killing import killed
from object_store import ObjectStore

from medsharp.bundle import default_bundle
from medsharp.files import only_writer

if TYPE_CHECKING:
    from medsharp.cluster import Cluster

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, of its own settings

CHOSEN = ("--corruptions", "gain_up", "--corruptions", "calipers", "--resamples", "100", "--device", "cpu")
"""One that concerns all of an image, one that looks where its lesion is, and the control of that."""


OTHER = default_bundle().parent / "busi-resnet18"
"""Another bundle than the one under test, of the same classes."""


def cells(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.npy")}


def figures(out: Path) -> Any:
    """Return what the run says, but for when it was made."""
    found = json.loads((out / "robustness.json").read_text())
    del found["created"]
    return found


@pytest.fixture(scope="module")
def alone(speckle_bundle: Path, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes, of two bundles."""
    out = tmp_path_factory.mktemp("robustness") / "alone"
    result = run("robustness", speckle_bundle, OTHER, "--data", manifest, "--out", out, *CHOSEN)
    assert result.exit_code == 0, result.output
    assert len(cells(out)) == 32
    return out


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medsharp.robustness.handing_out._IMAGES", 32)


def test_cells_and_figures_are_those_of_one_process_whoever_is_killed(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, alone: Path, tmp_path: Path
) -> None:
    command = ("robustness", speckle_bundle, OTHER, "--data", manifest, "--out", tmp_path / "out", *CHOSEN)
    with killed("MapWorker(Map(Worker)).submit", times=2) as count:
        result = run(*command, "--ray")
    assert count() == 2
    assert result.exit_code == 0, result.output
    assert "runs on Ray on this machine: 2 CPUs, on cpu in fp32" in result.output
    assert cells(tmp_path / "out") == cells(alone)
    assert figures(tmp_path / "out") == figures(alone)


def test_images_in_a_store_have_the_cells_of_those_on_a_disk(
    cluster: Cluster, store: ObjectStore, speckle_bundle: Path, manifest: Path, alone: Path, tmp_path: Path
) -> None:
    store.put_folder(manifest.parent, "corrupted", "hospital")
    place = "s3://corrupted/hospital/manifest.csv"
    for name, more in (("here", ()), ("there", ("--ray",))):
        result = run("robustness", speckle_bundle, OTHER, "--data", place, "--out", tmp_path / name, *CHOSEN, *more)
        assert result.exit_code == 0, result.output
        assert cells(tmp_path / name) == cells(alone)
        assert figures(tmp_path / name) == figures(alone)
    assert not list(Path(tempfile.gettempdir()).glob("medsharp-*/scans"))


def test_cells_that_are_there_are_not_predicted_again_and_only_the_others_are(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, alone: Path, tmp_path: Path
) -> None:
    """A run that ended between the severities of a corruption goes on; one that changed on the disk is known by it."""
    out = tmp_path / "out"
    command = ("robustness", speckle_bundle, OTHER, "--data", manifest, "--out", out, *CHOSEN, "--ray")
    for name, content in cells(alone).items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    for name in ("settings.json",):
        (out / name).write_bytes((alone / name).read_bytes())
    kept, *_ = out.rglob("gain_up-2-*.npy")
    np.save(kept, np.load(kept)[:, ::-1])
    turned = kept.read_bytes()
    # Of one model alone, of the other alone, and of both.
    first, second = sorted(out.rglob("calipers-5-*.npy"))
    gone = [first, second.with_name(next(second.parent.glob("gain_up-3-*.npy")).name), *out.rglob("clean-0-*.npy")]
    assert len(gone) == 4
    for path in gone:
        path.unlink()
    assert run(*command).exit_code == 0
    assert kept.read_bytes() == turned
    assert {path: path.read_bytes() for path in gone} == {
        path: (alone / path.relative_to(out)).read_bytes() for path in gone
    }


@pytest.mark.slow
def test_driver_that_is_killed_leaves_whole_corruptions_and_the_same_command_goes_on(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, alone: Path, tmp_path: Path
) -> None:
    out, quiet = tmp_path / "out", subprocess.DEVNULL
    command = ["robustness", speckle_bundle, OTHER, "--data", manifest, "--out", out, *CHOSEN, "--ray"]
    program = (
        "import time\nfrom medsharp.robustness.kept import Kept\nwrite = Kept.write\n"
        "def slow(self, *given):\n    write(self, *given)\n    time.sleep(0.2)\n"  # as large ones are
        f"Kept.write = slow\nfrom medsharp.cli import app\napp({list(map(str, command))!r})"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=quiet, stderr=quiet) as driver:
        deadline = time.monotonic() + 300
        while not cells(out) and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        driver.send_signal(signal.SIGKILL)
    assert driver.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.npy")}
    assert 0 < len(kept) < 32
    assert not (out / "robustness.json").exists()
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert cells(out) == cells(alone)
    assert figures(out) == figures(alone)


def test_two_drivers_never_write_one_folder(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, alone: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "settings.json").write_bytes((alone / "settings.json").read_bytes())
    command = ("robustness", speckle_bundle, OTHER, "--data", manifest, "--out", out, *CHOSEN)
    with only_writer(out / ".lock", ""):
        for more in ((), ("--ray",)):
            refused(run(*command, *more), f"another run is writing to {out}; wait for it or choose another --out")
    assert not cells(out)


def test_what_is_wrong_is_a_sentence_and_leaves_no_folder(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, tmp_path: Path
) -> None:
    command = ("robustness", speckle_bundle, "--data", manifest, "--out", tmp_path / "out", "--corruptions", "gain_up")
    refused(run(*command, "--ray", "127.0.0.1:1"), "--ray 127.0.0.1:1: nothing answers there")
    refused(run(*command, "--ray", "--device", "cuda"), "an actor needs 1 GPU; use --device cpu")
    refused(run(*command, "--gpus-each", "1"), "--gpus-each is of a cluster; give --ray too")
    assert not list(tmp_path.iterdir())
