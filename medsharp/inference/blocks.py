"""A table of predictions made block by block, by one process or several, that goes on where it stopped.

A block is so many rows of the manifest, whatever the number of shards: a batch is then made of the same images in
every run, and the last digits of its answers are the same. Finished blocks lie in a folder beside the table until it is
whole.
"""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from medsharp import __version__
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.evaluation.frozen import MARGIN, THRESHOLD
from medsharp.files import atomic_path, check_settings, json_text, only_writer, write_text
from medsharp.images import ImageLimits
from medsharp.inference import lesion_share
from medsharp.inference.parquet_parts import PARQUET, check_parts, read_parts, write_parts
from medsharp.inference.predictor import BATCH, Predictor
from medsharp.inference.reading import Frames
from medsharp.inference.table import IncludedImages, predict_block
from medsharp.progress import Progress
from medsharp.quantities import counted

SUFFIX = ".parts"
_SETTINGS = "settings.json"
_SHARED = ("format", "medsharp", "bundle", "manifest", "images", "block")
"""Settings that a merge checks: those of the content, and not of the machine that predicted."""


@dataclass(frozen=True)
class Shard:
    """Which blocks a process makes: those whose number leaves `number - 1` when divided by `count`.

    Attributes:
        number: From 1.
        count: Of shards.
    """

    number: int = 1
    count: int = 1

    @classmethod
    def read(cls, text: str) -> Shard:
        """Read `2/4`.

        Raises:
            InputError: It is not that.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        number, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= count:
            raise InputError(f"--shard {text}: write the number of the shard, from 1, and of how many, such as 2/4")
        return cls(number, count)


Tables = Callable[[Sequence[int], Progress], Iterator[tuple[int, pd.DataFrame]]]
"""Makes the tables of blocks, given their numbers and what is told how much of a block is done."""


@dataclass(frozen=True)
class MadeBy:
    """What decides which numbers a block holds, beside its images.

    Attributes:
        digest: Of the bundle.
        frames: As for `predict_manifest`.
        limits: What is refused before it is decoded.
        inpaint: Whether calipers and text are replaced.
        answer_anyway: Whether refused images have numbers.
        precision: Of the network.
        device: That it runs on.
    """

    digest: str
    frames: Frames
    limits: ImageLimits
    inpaint: bool
    answer_anyway: bool
    precision: str
    device: str

    @classmethod
    def this(cls, predictor: Predictor, frames: Frames) -> MadeBy:
        """Return what a predictor is."""
        session = predictor.session
        return cls(
            predictor.digest,
            frames,
            predictor.limits,
            predictor.preprocessing.inpaint,
            predictor.answer_anyway,
            session.precision,
            session.device,
        )

    def settings(self) -> dict[str, Any]:
        """Return it as the blocks' folder keeps it."""
        import onnxruntime

        settings = {key: value for key, value in asdict(self).items() if key != "digest"}
        return {"batch": BATCH, "onnxruntime": onnxruntime.__version__, **settings}


class Blocks:
    """The blocks of one table.

    Args:
        out: The table, a CSV file, or a folder of Parquet files where its name ends in `.parquet`. Its blocks lie in
            the folder `<out>.parts`.
        manifest: The images.

    Raises:
        InputError: The manifest excludes every image, or what lies at `out` is no such folder.
    """

    def __init__(self, out: Path, manifest: Manifest) -> None:
        if out.suffix.lower() == PARQUET:
            check_parts(out)
        self.out = out
        self.folder = out.with_name(out.name + SUFFIX)
        self.images = IncludedImages(manifest)
        self.count = self.images.count

    def of(self, shard: Shard) -> list[Path]:
        """Return the files of a shard's blocks, be they there or not."""
        return [self._path(number) for number in range(shard.number - 1, self.count, shard.count)]

    def predict(self, predictor: Predictor, shard: Shard, frames: Frames, progress: Progress | None = None) -> None:
        """Predict the blocks of a shard that are not there yet.

        Args:
            predictor: The loaded bundle.
            shard: Which of them.
            frames: As for `predict_manifest`.
            progress: Called with images done, images in all and what is being done.

        Raises:
            InputError: The folder holds blocks of another run, or another process makes this shard.
        """
        made_by = MadeBy.this(predictor, frames)

        def tables(numbers: Sequence[int], progress: Progress) -> Iterator[tuple[int, pd.DataFrame]]:
            for number in numbers:
                block = self.images.block(number)
                yield (
                    number,
                    predict_block(predictor, block, shares=self.images.want_shares, frames=frames, progress=progress),
                )

        self.fill(made_by, shard, tables, progress)

    def fill(self, made_by: MadeBy, shard: Shard, tables: Tables, progress: Progress | None = None) -> None:
        """Write the blocks of a shard that are not there yet.

        Args:
            made_by: What makes them; blocks of another are not gone on with.
            shard: Which of them.
            tables: Called with the numbers of those that are missing, and with what is told of the progress within a
                block; gives each with its number, in whatever order.
            progress: Called with images done, images in all and what is being done.

        Raises:
            InputError: The folder holds blocks of another run, or another process makes this shard.
        """
        with self._taken(shard, self._content(made_by.digest) | made_by.settings()):
            numbers = range(shard.number - 1, self.count, shard.count)
            sizes = {number: min(self.images.size, len(self.images) - number * self.images.size) for number in numbers}
            missing = [number for number in numbers if not self._path(number).is_file()]
            total, done = sum(sizes.values()), sum(sizes.values()) - sum(sizes[number] for number in missing)

            def within(here: int, _: int, what: str) -> None:
                if progress is not None:
                    progress(done + here, total, what)

            within(0, 0, "predicting")
            for number, table in tables(missing, within) if missing else ():
                with atomic_path(self._path(number)) as temporary:
                    table.to_csv(temporary, index=False, lineterminator="\n")
                done += sizes[number]
                within(0, 0, "predicting")

    def check(self, digest: str) -> None:
        """Check that what lies in the folder was made of this manifest, by the bundle of this digest.

        Raises:
            InputError: It was not, or there is no such folder.
        """
        if not (self.folder / _SETTINGS).is_file():
            raise InputError(f"there is no {self.folder}: run the shards first, with the same --out")
        content = self._content(digest)
        check_settings(self.folder / _SETTINGS, {key: content[key] for key in _SHARED}, "shards")

    def merge(self, classes: Sequence[str]) -> None:
        """Join the blocks to the table, in the manifest's order, and remove them.

        Args:
            classes: Of the bundle, whose columns are numbers in Parquet.

        Raises:
            InputError: Blocks are missing, or the table cannot be written.
        """
        files = self.of(Shard())
        missing = [number for number, path in enumerate(files) if not path.is_file()]
        if missing:
            size, images = self.images.size, len(self.images)
            first = missing[0] * size
            raise InputError(
                f"{self.folder} lacks {counted(len(missing), 'block')} of {len(files)}, the first of images "
                f"{first + 1} to {min(first + size, images)} of {images}: run the shards that are missing"
            )
        if self.out.suffix.lower() == PARQUET:
            write_parts(self.out, files, _numbers(classes, self.images.want_shares))
        else:
            _join(self.out, files)
        shutil.rmtree(self.folder)

    @contextmanager
    def _taken(self, shard: Shard, settings: Mapping[str, Any]) -> Iterator[None]:
        path = self.folder / _SETTINGS
        if path.is_file():
            check_settings(path, settings, "predictions")
        elif self.folder.exists() and (not self.folder.is_dir() or any(self.folder.glob("[!.]*"))):
            raise InputError(f"{self.folder} exists already and holds no predictions; choose another --out")
        else:
            write_text(path, json_text(settings))
        lock = self.folder / f".shard-{shard.number}-of-{shard.count}"
        with only_writer(lock, f"another process makes shard {shard.number}/{shard.count} of {self.out}; wait for it"):
            try:
                yield
            finally:
                if shard.count == 1 and not any(path.is_file() for path in self.of(shard)):
                    shutil.rmtree(self.folder)

    def _content(self, digest: str) -> dict[str, Any]:
        rows = self.images.manifest.table
        ranges = [str(self.images.manifest.range_of({"image": image})) for image in rows["image"]]
        text = rows.assign(_range=ranges).to_csv(index=False)
        return {
            "format": 1,
            "medsharp": __version__,
            "bundle": digest,
            "manifest": hashlib.sha256(text.encode()).hexdigest(),
            "images": len(self.images),
            "block": self.images.size,
        }

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.csv"


def read_rows(paths: list[Path]) -> Iterator[dict[str, Any]]:
    """Give the rows of tables of predictions, one by one: CSV files, or folders of Parquet."""
    for path in paths:
        if path.is_dir():
            yield from read_parts(path)
            continue
        with path.open(encoding="utf-8", newline="") as stream:
            yield from csv.DictReader(stream)


def _join(out: Path, files: Sequence[Path]) -> None:
    with atomic_path(out) as temporary, temporary.open("wb") as joined:
        for number, path in enumerate(files):
            with path.open("rb") as block:
                header = block.readline()
                if number == 0:
                    joined.write(header)
                shutil.copyfileobj(block, joined)


def _numbers(classes: Sequence[str], shares: bool) -> list[str]:
    """Return the columns that hold numbers; all others are text, as they are in the manifest."""
    return [*(f"p_{name}" for name in classes), MARGIN, THRESHOLD, *([lesion_share.COLUMN] if shares else [])]
