"""What streaming is made of: runs sorted on disk, draws from hashes, bounded memory, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chisquare, poisson

from medsharp.errors import InputError
from medsharp.evaluation.streamed import evaluate_streamed, ties
from medsharp.evaluation.streamed.poisson import weights
from medsharp.evaluation.streamed.runs import SortedRuns


def made(images: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    who = rng.integers(images // 4, size=images)
    labels = rng.random(images) < np.where(who % 5 == 0, 0.7, 0.2)
    scores = np.round(1 / (1 + np.exp(-(2 * labels - 1.2 + rng.normal(size=images)))), 3)
    return pd.DataFrame(
        {
            "image": [f"{n}.png" for n in range(images)],
            "patient": [f"P{n}" for n in who],
            "label": np.where(labels, "malignant", "benign"),
            "p_benign": np.round(1 - scores, 3),
            "p_malignant": scores,
            "threshold": 0.4,
        }
    )


@pytest.mark.parametrize("held", [100, 3000])
@pytest.mark.parametrize("distinct", [3, 40, 10**9])
def test_ranges_have_every_row_once_in_order_and_no_key_twice(tmp_path: Path, distinct: int, held: int) -> None:
    rng, count = np.random.default_rng(1), 23 * held
    keys = np.round(rng.integers(distinct, size=count) * 0.37, 3)
    keys[rng.random(count) < 0.3] = 0.74
    seen: list[np.ndarray] = []
    last, start = -np.inf, 0
    with SortedRuns(tmp_path, [("key", "<f8"), ("row", "<i8")], held) as runs:
        for first in range(0, count, held // 3 + 4):
            rows = np.empty(len(keys[first : first + held // 3 + 4]), dtype=runs.kind)
            rows["key"], rows["row"] = keys[first : first + len(rows)], np.arange(first, first + len(rows))
            runs.add(rows)
        assert len(runs) == count
        for part in runs.ranges():
            pieces = list(part.pieces())
            rows = np.concatenate(pieces)
            assert max(map(len, pieces)) <= held // 4 + count // 1024 + 23
            assert (part.start, part.rows) == (start, len(rows))
            assert rows["key"].min() > last
            assert not part.single or np.ptp(rows["key"]) == 0
            assert part.single or (np.diff(rows["key"]) >= 0).all()
            last, start = rows["key"].max(), start + len(rows)
            seen.append(rows)
        assert runs.size == count * 16
    rows = np.concatenate(seen)
    np.testing.assert_array_equal(np.sort(rows["row"]), np.arange(count))
    np.testing.assert_array_equal(keys[rows["row"]], rows["key"])


def test_draws_are_poisson_and_those_of_a_patient_the_same_anywhere() -> None:
    patients = np.random.default_rng(0).integers(2**63, size=3000).astype(np.uint64)
    drawn = weights(patients, 402, seed=7)
    counts = np.bincount(drawn.ravel(), minlength=8)
    expected = poisson.pmf(np.arange(7), 1) * drawn.size
    observed = np.r_[counts[:6], counts[6:].sum()]
    expected[6] = drawn.size - expected[:6].sum()
    assert chisquare(observed, expected).pvalue > 1e-4
    assert 4 <= (drawn >= 8).sum() <= 25  # 12.3 are expected, all of which 16 bits leave open
    # No resample, and no patient, is drawn alike another: totals have the spread of sums of Poisson numbers.
    assert drawn.sum(axis=0).std() == pytest.approx(3000**0.5, rel=0.1)
    assert drawn.sum(axis=1).std() == pytest.approx(402**0.5, rel=0.1)
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 4])[0, 1]) < 0.08
    order = np.random.default_rng(1).permutation(3000)[:50]
    np.testing.assert_array_equal(weights(patients[order], 402, seed=7), drawn[order])
    np.testing.assert_array_equal(weights(patients, 101, seed=7), drawn[:, :101])
    assert (weights(patients, 402, seed=8) != drawn).mean() > 0.5


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    made(100).to_parquet(tmp_path / "first.parquet", index=False)
    evaluate_streamed(tmp_path / "first.parquet", folder=tmp_path, positive="malignant", resamples=100)  # imports
    peaks = []
    for images in (12_000, 60_000):
        path = tmp_path / f"{images}.parquet"
        made(images).to_parquet(path, row_group_size=2000, index=False)
        tracemalloc.start()
        evaluate_streamed(path, folder=tmp_path, positive="malignant", resamples=100, rows=4096, piece=1024)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Of each of five runs one key in four stays, 10 bytes a row here; a row is 17 bytes on disk, and 500 as text.
    assert peaks[1] - peaks[0] < 48_000 * 12
    assert peaks[1] < 60_000 * 100  # less than a hundred bytes a row, which the text of the rows alone takes


def test_temporary_files_have_no_name_and_are_gone_after_a_failure(tmp_path: Path) -> None:
    made(500).to_csv(tmp_path / "a.csv", index=False)
    folder, steps = tmp_path / "scratch", set()
    folder.mkdir()

    def look(done: int, total: int, what: str) -> None:
        steps.add(what)
        assert os.listdir(folder) == []
        if what == "resampling patients":
            raise KeyboardInterrupt

    opened = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else None
    with pytest.raises(KeyboardInterrupt):
        evaluate_streamed(tmp_path / "a.csv", folder=folder, positive="malignant", rows=64, piece=64, progress=look)
    assert {"reading rows", "recalibrating", "ranking images"} < steps
    assert os.listdir(folder) == []
    if opened is not None:
        assert len(os.listdir("/proc/self/fd")) == opened


_KILLED = """
import os, signal, sys
from pathlib import Path
from medsharp.evaluation.streamed import evaluate_streamed
def kill(done, total, what):
    if what == "ranking images":
        os.kill(os.getpid(), signal.SIGKILL)
evaluate_streamed(sys.argv[1], folder=Path(sys.argv[2]), positive="malignant", rows=64, piece=64, progress=kill)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_leaves_nothing(tmp_path: Path) -> None:
    made(500).to_csv(tmp_path / "a.csv", index=False)
    (tmp_path / "scratch").mkdir()
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "a.csv"), str(tmp_path / "scratch")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert os.listdir(tmp_path / "scratch") == []


_FULL = """
import resource, sys
from pathlib import Path
from medsharp.errors import InputError
from medsharp.evaluation.streamed import evaluate_streamed
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    evaluate_streamed(sys.argv[1], folder=Path(sys.argv[2]), positive="malignant", rows=64, piece=64)
except InputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    made(500).to_csv(tmp_path / "a.csv", index=False)
    command = [sys.executable, "-c", _FULL, str(tmp_path / "a.csv"), str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(f"cannot write a temporary file in {tmp_path}: ")
    assert done.stderr == ""


def test_too_many_ties_are_refused_and_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = made(60)
    table.assign(group=np.arange(60) % 10).to_csv(tmp_path / "a.csv", index=False)
    monkeypatch.setattr(ties, "MOST_TIES", 5)
    with pytest.raises(
        InputError, match="ties more than 5 patients by group, file or site, which --stream cannot hold"
    ):
        evaluate_streamed(tmp_path / "a.csv", folder=tmp_path, positive="malignant")
