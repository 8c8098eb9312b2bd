"""A study that is killed while it deals, chooses, saves or records goes on to the same files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from training.study import StudyDefinition, run_study

_DYING = """
import os, signal, sys
from medsharp.cli import main
real, left, late = os.replace, int(sys.argv[1]), sys.argv[2] == "late"
def replace(source, target, **options):
    # What counts is written to a temporary name and put in place: every step of a study ends here.
    global left
    left -= 1
    if left == 0 and not late:
        print("killed before", os.path.basename(target), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, target, **options)
    if left == 0:
        print("killed after", os.path.basename(target), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace
sys.argv = ["medsharp", *sys.argv[3:]]
main()
"""


@pytest.mark.slow
def test_goes_on_to_the_same_files_wherever_it_is_killed(
    define: Callable[..., StudyDefinition], tmp_path: Path
) -> None:
    study = define(
        hospitals=[{"name": "north", "site": "North"}], search={"trials": 2, "lr": {"low": 1e-3, "high": 9e-3}}
    )
    path, straight, killed = tmp_path / "study.yaml", tmp_path / "straight", tmp_path / "killed"
    path.write_text(yaml.safe_dump(study.model_dump(mode="json", exclude_unset=True)))
    run_study(study, out=straight)
    told = []
    for number, when in ((2, "early"), (9, "late"), (10, "early"), (16, "early"), (30, "late"), (10**6, "late")):
        command = [sys.executable, "-c", _DYING, str(number), when, "study", "run", str(path), "--out", str(killed)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False
        )
        told += [line.removeprefix("killed ") for line in done.stdout.splitlines() if line.startswith("killed ")]
        assert done.returncode == (-signal.SIGKILL if number < 10**6 else 0), done.stdout + done.stderr
    assert len(told) == 5
    assert len({line.rpartition(" ")[2] for line in told}) > 2, told  # at files of different steps
    for pattern in ("last.safetensors", "predictions.csv", "fold-*.json", "manifest.csv"):
        ours, theirs = (
            {str(file.relative_to(root)): file.read_bytes() for file in root.rglob(pattern)}
            for root in (killed, straight)
        )
        assert len(ours) >= 2
        assert ours == theirs, pattern
    ours, theirs = ({file.relative_to(root) for file in (root / "cells").rglob("*")} for root in (killed, straight))
    assert ours == theirs
