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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medsharp import __version__
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.files import atomic_path, check_settings, json_text, only_writer, write_text
from medsharp.inference.predictor import BATCH, Predictor
from medsharp.inference.reading import Frames
from medsharp.inference.table import BLOCK, included_rows, predict_rows
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


class Blocks:
    """The blocks of one table.

    Args:
        out: The table, a CSV file. Its blocks lie in the folder `<out>.parts`.
        manifest: The images.

    Raises:
        InputError: The manifest excludes every image.
    """

    def __init__(self, out: Path, manifest: Manifest) -> None:
        self.out = out
        self.folder = out.with_name(out.name + SUFFIX)
        self._manifest = manifest
        self._rows = included_rows(manifest)
        self.count = -(-len(self._rows) // BLOCK)

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
        with self._taken(shard, self._settings(predictor, frames)):
            numbers = range(shard.number - 1, self.count, shard.count)
            total, done = sum(len(self._block(number)) for number in numbers), 0
            for number in numbers:
                rows, path = self._block(number), self._path(number)
                if not path.is_file():
                    table = predict_rows(
                        predictor, self._manifest, rows, frames=frames, progress=_later(progress, done, total)
                    )
                    with atomic_path(path) as temporary:
                        table.to_csv(temporary, index=False, lineterminator="\n")
                done += len(rows)
                if progress is not None:
                    progress(done, total, "predicting")

    def check(self, digest: str) -> None:
        """Check that what lies in the folder was made of this manifest, by the bundle of this digest.

        Raises:
            InputError: It was not, or there is no such folder.
        """
        if not (self.folder / _SETTINGS).is_file():
            raise InputError(f"there is no {self.folder}: run the shards first, with the same --out")
        content = self._content(digest)
        check_settings(self.folder / _SETTINGS, {key: content[key] for key in _SHARED}, "shards")

    def merge(self) -> None:
        """Join the blocks to the table, in the manifest's order, and remove them.

        Raises:
            InputError: Blocks are missing, or the table cannot be written.
        """
        files = self.of(Shard())
        missing = [number for number, path in enumerate(files) if not path.is_file()]
        if missing:
            first, images = missing[0] * BLOCK, len(self._rows)
            raise InputError(
                f"{self.folder} lacks {counted(len(missing), 'block')} of {len(files)}, the first of images "
                f"{first + 1} to {min(first + BLOCK, images)} of {images}: run the shards that are missing"
            )
        with atomic_path(self.out) as temporary, temporary.open("wb") as joined:
            for number, path in enumerate(files):
                with path.open("rb") as block:
                    header = block.readline()
                    if number == 0:
                        joined.write(header)
                    shutil.copyfileobj(block, joined)
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

    def _settings(self, predictor: Predictor, frames: Frames) -> dict[str, Any]:
        import onnxruntime

        return self._content(predictor.digest) | {
            "batch": BATCH,
            "frames": frames,
            "limits": asdict(predictor.limits),
            "inpaint": predictor.preprocessing.inpaint,
            "answer_anyway": predictor.answer_anyway,
            "precision": predictor.session.precision,
            "device": predictor.session.device,
            "onnxruntime": onnxruntime.__version__,
        }

    def _content(self, digest: str) -> dict[str, Any]:
        records = self._rows.to_dict("records")
        ranges = [str(self._manifest.range_of(row)) for row in records]
        text = self._rows.assign(_range=ranges).to_csv(index=False)
        return {
            "format": 1,
            "medsharp": __version__,
            "bundle": digest,
            "manifest": hashlib.sha256(text.encode()).hexdigest(),
            "images": len(self._rows),
            "block": BLOCK,
        }

    def _block(self, number: int) -> Any:
        return self._rows.iloc[number * BLOCK : (number + 1) * BLOCK].reset_index(drop=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.csv"


def read_rows(paths: list[Path]) -> Iterator[dict[str, str]]:
    """Give the rows of tables of predictions, one by one."""
    for path in paths:
        with path.open(encoding="utf-8", newline="") as stream:
            yield from csv.DictReader(stream)


def _later(progress: Progress | None, before: int, total: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, _, what: progress(before + done, total, what)
