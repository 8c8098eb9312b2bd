"""Predictions by Ray are the table of one process, whoever is killed, and whatever lies where."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from command_line import run
from killing import IMAGES, killed
from object_store import ObjectStore
from typer.testing import Result

from medsharp.inference import Predictor

pytest.importorskip("ray")

from medsharp.cluster.answering import Loading
from medsharp.cluster.reading import read_piece

if TYPE_CHECKING:
    from medsharp.cluster import Cluster


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray, of its own settings


def said(result: Result) -> str:
    """Return what was printed, with one blank between words."""
    return " ".join(result.output.split())


def test_table_is_that_of_one_process_byte_for_byte(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, tmp_path: Path, whole: bytes
) -> None:
    result = run("predict", speckle_bundle, manifest, "--out", tmp_path / "o.csv", "--ray")
    assert result.exit_code == 1, result.output
    assert "failed: scans/09.png is damaged" in said(result)
    assert "runs on Ray on this machine: 2 CPUs, on cpu in fp32" in said(result)
    assert (tmp_path / "o.csv").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["o.csv"]
    table = pd.read_csv(tmp_path / "o.csv")
    assert list(table["image"]) == [f"scans/{n:02d}.png" for n in range(IMAGES) if n != 6]
    assert table["lesion_area"].notna().sum() == 4


def test_blocks_of_one_process_and_of_ray_are_gone_on_with_by_either(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, tmp_path: Path, whole: bytes
) -> None:
    command = ("predict", speckle_bundle, manifest, "--out", tmp_path / "o.csv", "--device", "cpu")
    assert run(*command, "--shard", "1/3").exit_code in (0, 1)
    parts = tmp_path / "o.csv.parts"
    before = {path.name: path.stat().st_mtime_ns for path in parts.glob("*.csv")}
    assert run(*command, "--shard", "2/3", "--ray").exit_code in (0, 1)
    assert {name: (parts / name).stat().st_mtime_ns for name in before} == before
    assert run(*command).exit_code == 1
    assert (tmp_path / "o.csv").read_bytes() == whole


def test_without_a_file_the_table_is_printed(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, tmp_path: Path
) -> None:
    here = run("predict", speckle_bundle, manifest, "--device", "cpu")
    there = run("predict", speckle_bundle, manifest, "--ray", "local", "--device", "cpu")
    assert here.exit_code == there.exit_code == 1
    assert said(there).replace("Ray on this machine: 2 CPUs, on cpu in fp32", "") == said(here).replace(
        "cpu (as asked for) in fp32, in which the operating point was frozen", ""
    )


def test_every_frame_of_clips_is_predicted_in_the_batches_of_one_process(
    cluster: Cluster, speckle_bundle: Path, tmp_path: Path, save_dicom: Any, save_picture: Any
) -> None:
    folder = tmp_path / "clips"
    for number, frames in enumerate((40, 1, 3, 35, 2)):
        save_dicom(folder / f"{number}.dcm", f"ID-{number}", frames=frames)
    save_picture(folder / "5.png")
    rows = "\n".join(f"{number}.dcm,benign,{frame}" for number, frame in enumerate(("", "", "2", "", "")))
    (folder / "manifest.csv").write_text(f"image,label,frame\n{rows}\n5.png,benign,\n")
    for name, more in (("here", ()), ("there", ("--ray",))):
        result = run(
            "predict", speckle_bundle, folder / "manifest.csv", "--out", tmp_path / f"{name}.csv", "--frames", "all",
            "--device", "cpu", *more,
        )  # fmt: skip
        assert result.exit_code in (0, 1), result.output
    assert (tmp_path / "there.csv").read_bytes() == (tmp_path / "here.csv").read_bytes()
    assert len(pd.read_csv(tmp_path / "here.csv")) == 40 + 1 + 1 + 35 + 2 + 1


@pytest.mark.parametrize("title", ["MapWorker(Map(Answering)).submit", "FlatMap(read_piece)"], ids=["actor", "task"])
def test_whoever_is_killed_at_work_nothing_is_lost_or_doubled(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, tmp_path: Path, whole: bytes, title: str
) -> None:
    with killed(title, times=2) as count:
        result = run("predict", speckle_bundle, manifest, "--out", tmp_path / "o.csv", "--ray")
    assert count() == 2
    assert result.exit_code == 1, result.output
    assert (tmp_path / "o.csv").read_bytes() == whole


def test_work_of_which_nothing_comes_any_more_ends_with_a_sentence(
    cluster: Cluster,
    speckle_bundle: Path,
    manifest: Path,
    tmp_path: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("medsharp.cluster.stream._STALLED", 3.0)
    command = ("predict", speckle_bundle, manifest, "--out", tmp_path / "o.csv", "--device", "cpu", "--ray")
    with killed("FlatMap(read_piece)", times=10_000):
        result = run(*command)
    assert result.exit_code == 2
    assert "error: no batch came for 0 minutes: an image may end whatever process reads it" in said(result)
    monkeypatch.undo()
    monkeypatch.setattr("medsharp.inference.table.BLOCK", 4)
    assert run(*command).exit_code == 1
    assert (tmp_path / "o.csv").read_bytes() == whole


def test_driver_that_is_killed_leaves_whole_blocks_and_the_same_command_goes_on(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, tmp_path: Path, whole: bytes
) -> None:
    out = tmp_path / "o.csv"
    command = ["predict", str(speckle_bundle), str(manifest), "--out", str(out), "--device", "cpu", "--ray"]
    program = f"from medsharp.inference import table; table.BLOCK = 4\nfrom medsharp.cli import app; app({command!r})"
    parts, quiet = tmp_path / "o.csv.parts", subprocess.DEVNULL
    with subprocess.Popen([sys.executable, "-c", program], stdout=quiet, stderr=quiet) as driver:
        deadline = time.monotonic() + 300
        while not list(parts.glob("[0-9]*.csv")) and driver.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        driver.send_signal(signal.SIGKILL)
    assert not out.exists()
    assert 0 < len(list(parts.glob("[0-9]*.csv"))) <= -(-(IMAGES - 1) // 4)
    assert run(*command).exit_code == 1
    assert out.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["o.csv"]


def test_two_drivers_never_write_one_table(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, tmp_path: Path
) -> None:
    from filelock import FileLock

    command = ("predict", speckle_bundle, manifest, "--out", tmp_path / "o.csv", "--device", "cpu", "--ray")
    assert run(*command, "--shard", "1/2").exit_code in (0, 1)
    with FileLock(tmp_path / "o.csv.parts" / ".shard-1-of-1"):
        result = run(*command)
    assert result.exit_code == 2
    assert "another process makes shard 1/1 of" in said(result)
    assert not (tmp_path / "o.csv").exists()


def test_disk_that_is_full_is_a_sentence_and_the_same_command_goes_on(
    cluster: Cluster,
    speckle_bundle: Path,
    manifest: Path,
    tmp_path: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written, plain = 0, pd.DataFrame.to_csv

    def full(self: pd.DataFrame, *arguments: Any, **options: Any) -> Any:
        nonlocal written
        if str(arguments[:1]).find(".parts") >= 0:
            written += 1
            if written > 3:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return plain(self, *arguments, **options)

    command = ("predict", speckle_bundle, manifest, "--out", tmp_path / "o.csv", "--device", "cpu", "--ray")
    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    result = run(*command)
    assert result.exit_code == 2, result.output
    assert "o.csv.parts" in said(result)
    assert "No space left on device" in said(result)
    monkeypatch.setattr(pd.DataFrame, "to_csv", plain)
    assert len(list((tmp_path / "o.csv.parts").glob("[0-9]*.csv"))) == 3
    assert run(*command).exit_code == 1
    assert (tmp_path / "o.csv").read_bytes() == whole


def test_disk_of_a_worker_that_is_full_is_a_sentence_and_the_same_command_goes_on(
    cluster: Cluster,
    store: ObjectStore,
    speckle_bundle: Path,
    manifest: Path,
    tmp_path: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where it copies images of a store, after the first of them."""
    store.put_folder(manifest.parent, "full", "hospital")

    def full(row: dict[str, Any], **settings: Any) -> Iterator[dict[str, Any]]:
        import errno
        import os

        from medsharp.cluster.reading import read_piece
        from medsharp.data.stores import Store

        plain = Store._get

        def get(self: Any, name: str, to: Path) -> None:
            if "scans/2" in name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(to))
            plain(self, name, to)

        Store._get = get  # type: ignore[method-assign]
        try:
            yield from read_piece(row, **settings)
        finally:
            Store._get = plain  # type: ignore[method-assign]

    place = "s3://full/hospital/manifest.csv"
    command = ("predict", speckle_bundle, place, "--out", tmp_path / "o.csv", "--device", "cpu", "--ray")
    monkeypatch.setattr("medsharp.cluster.model.read_piece", full)
    result = run(*command)
    assert result.exit_code == 2, result.output
    assert "No space left on device" in said(result)
    assert "Traceback" not in result.output
    assert len(result.stderr.strip().split("error: ")) == 2
    assert not (tmp_path / "o.csv").exists()
    monkeypatch.setattr("medsharp.cluster.model.read_piece", read_piece)
    del result  # with its traceback, which keeps actors that a command's process takes with it
    gc.collect()
    assert run(*command).exit_code == 1
    assert (tmp_path / "o.csv").read_bytes() == whole


def test_actor_loads_its_bundle_once(
    cluster: Cluster,
    speckle_bundle: Path,
    manifest: Path,
    tmp_path: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loads = tmp_path / "loads"

    @dataclass(frozen=True)
    class Counted(Loading):
        def predictor(self) -> Predictor:
            with loads.open("a") as stream:
                stream.write(f"{os.getpid()}\n")
            return Loading.predictor(self)

    monkeypatch.setattr("medsharp.cluster.model.Loading", Counted)
    result = run("predict", speckle_bundle, manifest, "--out", tmp_path / "o.csv", "--device", "cpu", "--ray")
    assert result.exit_code == 1, result.output
    assert (tmp_path / "o.csv").read_bytes() == whole  # of eleven blocks
    processes = loads.read_text().split()
    assert len(processes) == len(set(processes)) == 1
    assert int(processes[0]) != os.getpid()


def test_parquet_is_the_same_table_in_a_folder(
    cluster: Cluster,
    speckle_bundle: Path,
    manifest: Path,
    tmp_path: Path,
    whole: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("medsharp.inference.parquet_parts._ROWS", 12)
    out = tmp_path / "o.parquet"
    for _ in range(2):  # a table that is there is replaced
        result = run("predict", speckle_bundle, manifest, "--out", out, "--device", "cpu", "--ray")
        assert result.exit_code == 1, result.output
    assert [path.name for path in sorted(out.iterdir())] == [f"part-{n:05d}.parquet" for n in range(4)]
    (tmp_path / "w.csv").write_bytes(whole)
    wanted = pd.read_csv(tmp_path / "w.csv", keep_default_na=False, float_precision="round_trip", dtype=str)
    found = pd.read_parquet(out)
    assert list(found) == list(wanted)
    numbers = ["p_benign", "p_malignant", "threshold_margin", "threshold", "lesion_area"]
    for name in wanted:
        if name in numbers:
            assert found[name].dtype == "float64"
            pd.testing.assert_series_equal(found[name], pd.to_numeric(wanted[name]), check_exact=True)
        else:
            assert list(found[name]) == list(wanted[name])
    (out / "notes.txt").touch()
    result = run("predict", speckle_bundle, manifest, "--out", out)
    assert result.exit_code == 2
    assert "o.parquet exists already and is no table of predictions" in said(result)


def test_images_in_a_store_are_read_where_they_lie(
    cluster: Cluster, store: ObjectStore, speckle_bundle: Path, manifest: Path, tmp_path: Path, whole: bytes
) -> None:
    store.put_folder(manifest.parent, "bucket", "hospital")
    place = "s3://bucket/hospital/manifest.csv"
    for more in (("--ray",), ()):
        result = run("predict", speckle_bundle, place, "--out", tmp_path / "o.csv", "--device", "cpu", *more)
        assert result.exit_code == 1, result.output
        assert "failed: scans/09.png is damaged" in said(result)
        assert (tmp_path / "o.csv").read_bytes() == whole
    store.remove("bucket", "hospital/scans/03.png")
    result = run("predict", speckle_bundle, place, "--out", tmp_path / "o.csv", "--device", "cpu", "--ray")
    assert result.exit_code == 1, result.output
    assert "failed: scans/03.png does not exist" in said(result)
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob("medsharp-*/scans"))


def test_manifest_may_name_a_store_for_its_images(
    cluster: Cluster, store: ObjectStore, speckle_bundle: Path, manifest: Path, tmp_path: Path
) -> None:
    here = tmp_path / "manifest.csv"
    here.write_text("image,label,sha256\nscans/01.png,,\nscans/02.png,," + "0" * 64 + "\n")
    (tmp_path / "manifest.yaml").write_text("root: s3://other/hospital/\n")
    store.put_folder(manifest.parent, "other", "hospital")
    result = run("predict", speckle_bundle, here, "--out", tmp_path / "o.csv", "--ray")
    assert result.exit_code == 2
    assert "row 3: scans/02.png is another file than when the manifest was made" in said(result)
    here.write_text("image,label\nscans/01.png,\n../scans/02.png,\n")
    result = run("predict", speckle_bundle, here, "--ray")
    assert "row 3: path '../scans/02.png' must stay inside the data folder" in said(result)
    here.write_text("image,label\nscans/01.png,\n")
    result = run("data", "audit", here, "--out", tmp_path / "audited")
    assert result.exit_code == 2
    assert "are read by medsharp predict, evaluate and robustness only; copy them" in said(result)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("s3://bucket/nowhere/manifest.csv", "cannot read s3://bucket/nowhere/manifest.csv: there is no such file"),
        ("foo://bucket/manifest.csv", "foo://bucket: Protocol not known: foo"),
        ("http://127.0.0.1:1/set/manifest.csv", "http://127.0.0.1:1/set/manifest.csv cannot be reached"),
    ],
)
def test_store_that_cannot_be_reached_is_a_sentence(
    store: ObjectStore, speckle_bundle: Path, tmp_path: Path, place: str, words: str
) -> None:
    result = run("predict", speckle_bundle, place, "--out", tmp_path / "o.csv")
    assert result.exit_code == 2, result.output
    assert words in said(result)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "--ray 127.0.0.1:1: nothing answers there (Connection refused); is Ray started on 127.0.0.1?"),
        ("ray://127.0.0.1:1", "--ray ray://127.0.0.1:1: nothing answers there"),
        ("http://127.0.0.1", "--ray http://127.0.0.1: write local, auto, HOST:6379 or ray://HOST:10001"),
    ],
)
def test_wrong_address_is_a_sentence(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, tmp_path: Path, address: str, words: str
) -> None:
    result = run("predict", speckle_bundle, manifest, "--out", tmp_path / "o.csv", "--ray", address)
    assert result.exit_code == 2
    assert words in said(result)
    assert not list(tmp_path.iterdir())


def test_device_that_the_cluster_lacks_is_a_sentence(
    cluster: Cluster, speckle_bundle: Path, manifest: Path, tmp_path: Path
) -> None:
    result = run("predict", speckle_bundle, manifest, "--out", tmp_path / "o.csv", "--ray", "--device", "cuda")
    assert result.exit_code == 2
    assert "Ray on this machine: 2 CPUs, and an actor needs 1 GPU; use --device cpu" in said(result)
    assert "takes a manifest" in said(run("predict", speckle_bundle, manifest.parent, "--ray"))
