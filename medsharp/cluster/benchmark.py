"""What Ray and torchrun cost on this machine: the same commands with and without, each a process from start to end."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from medsharp.errors import InputError


@dataclass(frozen=True)
class Prediction:
    """`medsharp predict` of a manifest, by one process and by Ray.

    Attributes:
        images: Of the manifest.
        local: Seconds of one process, which uses all cores.
        ray: Seconds with `--ray local`.
        equal: Whether the two wrote the same bytes.
    """

    images: int
    local: float
    ray: float
    equal: bool


@dataclass(frozen=True)
class Line:
    """Seconds of a command as a line: `start + images * each`.

    Attributes:
        start: Seconds that it takes however many images there are.
        each: Seconds an image.
    """

    start: float
    each: float

    @classmethod
    def through(cls, sizes: Sequence[int], seconds: Sequence[float]) -> Line:
        """Return the line through the smallest and the largest size."""
        (first, least), *_, (last, most) = sorted(zip(sizes, seconds, strict=True))
        each = (most - least) / (last - first)
        return cls(least - first * each, each)

    def pays_from(self, other: Line, machines: int) -> int | None:
        """Return from how many images on this, dealt over so many machines, is done before the other on one.

        Machines are taken to start at once and to share nothing that is scarce.

        Args:
            other: Of one machine.
            machines: As fast as this one.

        Returns:
            None where it never is.
        """
        gain = other.each - self.each / machines
        return max(1, round((self.start - other.start) / gain)) if gain > 0 else None


@dataclass(frozen=True)
class Training:
    """Epochs of `medsharp train` with the same steps, by processes of this machine.

    Attributes:
        network: That is trained.
        image_size: In pixels.
        processes: That torchrun starts; 1 without it.
        threads: Of each.
        seconds: Of an epoch, validation included: the least of those after the first.
        whole: Seconds of the command.
    """

    network: str
    image_size: int
    processes: int
    threads: int
    seconds: float
    whole: float


def measure_prediction(bundle: Path, files: Sequence[Path], images: int, aside: Path) -> Prediction:
    """Predict so many images by one process, then by Ray on this machine.

    Args:
        bundle: The model.
        files: Are named again and again, by links, until there are enough.
        images: How many.
        aside: An empty folder for them, and for the tables.

    Raises:
        InputError: A command failed; the sentence is its own.
    """
    manifest = _manifest(files, images, aside)
    times, tables = [], []
    for name, options in (("local", ()), ("ray", ("--ray", "local"))):
        out = aside / f"{name}.csv"
        times.append(_seconds("-m", "medsharp", "predict", bundle, manifest, "--out", out, "--device", "cpu", *options))
        tables.append(out.read_bytes())
    return Prediction(images, times[0], times[1], tables[0] == tables[1])


def measure_training(
    processes: int, threads: int, aside: Path, *, network: str, optimizer: str, patients: int, image_size: int
) -> Training:
    """Train three epochs on a simulated hospital.

    Args:
        processes: How many share each batch, of 32 images in all.
        threads: Of each.
        aside: An empty folder for the run.
        network: By its name.
        optimizer: By its name.
        patients: Of the hospital.
        image_size: In pixels.

    Raises:
        InputError: The command failed; the sentence is its own.
    """
    hospital = aside.parent / "hospital"
    if not hospital.is_dir():
        from medsharp.data.phantom import write_phantom

        write_phantom(hospital, hospital="A", patients=patients)
    settings = {
        "network.name": network,
        "data.image_size": image_size,
        "schedule.epochs": 3,
        "schedule.batch_size": 32,
        "run.device": "cpu",
        "run.precision": "fp32",
    }
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    command: list[str | Path] = [
        "-m",
        "medsharp",
        "train",
        "--data",
        hospital,
        "--optimizer",
        optimizer,
        *sets,
        "--out",
        aside / "run",
    ]
    starter: list[str | Path] = (
        ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    )
    whole = _seconds(*starter, *command, OMP_NUM_THREADS=str(threads))
    lines = (aside / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    seconds = min(json.loads(line)["seconds"] for line in lines[1:])
    return Training(network, image_size, processes, threads, seconds, whole)


def _manifest(files: Sequence[Path], images: int, aside: Path) -> Path:
    """Write a manifest of so many images, each a link to one of the files."""
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "images").mkdir(parents=True)
    names = [f"images/{number:07}{files[number % len(files)].suffix}" for number in range(images)]
    for number, name in enumerate(names):
        (aside / name).symlink_to(files[number % len(files)].absolute())
    path = aside / "manifest.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label"))
        writer.writerows((name, "") for name in names)
    return path


def _seconds(*words: str | Path, **variables: str) -> float:
    """Run Python with these words; return how long it took."""
    begun = perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, words)], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):  # 1: some images were refused, which costs the same
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        sentence = said[-1].removeprefix("error: ") if said else "it said nothing"
        raise InputError(f"a command that was measured ended with code {done.returncode}: {sentence}")
    return perf_counter() - begun
