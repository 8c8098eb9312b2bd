"""A table of predictions made block by block, by one process or several, that goes on where it stopped.

A block is so many rows of the manifest, whatever the number of shards: a batch is then made of the same images in
every run, and the last digits of its answers are the same. Finished blocks lie in a folder beside the table until it is
whole.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd

from medsharp import __version__
from medsharp.data.manifest import Manifest, name_of
from medsharp.errors import InputError
from medsharp.evaluation.frozen import MARGIN
from medsharp.evaluation.headings import THRESHOLD
from medsharp.files import atomic_path, check_settings, json_text, only_writer, write_text
from medsharp.images import ImageLimits
from medsharp.inference import lesion_share
from medsharp.inference.parquet_parts import PARQUET, check_parts, read_parts, write_parts
from medsharp.inference.predictor import BATCH, Predictor
from medsharp.inference.reading import Frames
from medsharp.inference.table import IncludedImages, columns_of, predict_block
from medsharp.progress import Progress
from medsharp.quantities import counted

SUFFIX = ".parts"
_SETTINGS = "settings.json"
_SHARED = ("format", "medsharp", "bundle", "manifest", "data", "images", "block")
"""Settings of the content that a merge checks, and not of the machine that predicted."""

_BEGINNING = ".beginning"
"""The lock under which shards are begun, and blocks joined or removed."""

_PATIENCE = 20.0
"""Seconds that others may take to begin a shard; joining takes longer, and is not waited for."""

_LOOKED_AT = 1024
"""Images, evenly spread, whose files tell a data set from others of the same names."""

_FIRST_BYTES = 65_536
"""Of each such file: pixels of a picture, and the identifiers of a DICOM object."""


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

Told = Callable[[Iterator[dict[str, Any]]], object]
"""Is given the rows of tables of predictions."""


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
        classes: Of the bundle.

    Raises:
        InputError: The manifest excludes every image, or what lies at `out` is no such folder.
    """

    def __init__(self, out: Path, manifest: Manifest, classes: Sequence[str]) -> None:
        if out.suffix.lower() == PARQUET:
            check_parts(out)
        self.out = out
        self.folder = out.with_name(out.name + SUFFIX)
        self.images = IncludedImages(manifest)
        self.count = self.images.count
        self._classes = classes
        self._columns = columns_of(self.images.manifest.table, classes, shares=self.images.want_shares)

    def of(self, shard: Shard) -> list[Path]:
        """Return the files of a shard's blocks, be they there or not."""
        return [self._path(number) for number in range(shard.number - 1, self.count, shard.count)]

    def predict(
        self,
        predictor: Predictor,
        shard: Shard,
        frames: Frames,
        progress: Progress | None = None,
        *,
        told: Told | None = None,
    ) -> None:
        """Predict the blocks of a shard that are not there yet, or damaged.

        Args:
            predictor: The loaded bundle.
            shard: Which of them.
            frames: As for `predict_manifest`.
            progress: Called with images done, images in all and what is being done.
            told: As for `fill`.

        Raises:
            InputError: As for `fill`.
        """
        made_by = MadeBy.this(predictor, frames)

        def tables(numbers: Sequence[int], progress: Progress) -> Iterator[tuple[int, pd.DataFrame]]:
            for number in numbers:
                block = self.images.block(number)
                yield (
                    number,
                    predict_block(predictor, block, shares=self.images.want_shares, frames=frames, progress=progress),
                )

        self.fill(made_by, shard, tables, progress, told=told)

    def fill(
        self,
        made_by: MadeBy,
        shard: Shard,
        tables: Tables,
        progress: Progress | None = None,
        *,
        told: Told | None = None,
    ) -> None:
        """Write the blocks of a shard that are not there yet, or damaged.

        Args:
            made_by: What makes them; blocks of another are not gone on with.
            shard: Which of them.
            tables: Called with the numbers of those that are missing, and with what is told of the progress within a
                block; gives each with its number, in whatever order.
            progress: Called with images done, images in all and what is being done.
            told: Given the rows of the shard once all of it is there, before anybody may join it.

        Raises:
            InputError: The folder holds blocks of another run; another process makes this shard, or all of them, or
                joins them; or this is to make all, and another process makes a shard.
        """
        with self._taken(shard, self._content(made_by.digest) | made_by.settings()):
            numbers = range(shard.number - 1, self.count, shard.count)
            sizes = {number: min(self.images.size, len(self.images) - number * self.images.size) for number in numbers}
            missing = [number for number in numbers if not self._is_whole(number, made_by.frames)]
            total, done = sum(sizes.values()), sum(sizes.values()) - sum(sizes[number] for number in missing)

            def within(here: int, _: int, what: str) -> None:
                if progress is not None:
                    progress(done + here, total, what)

            within(0, 0, "predicting")
            for number, table in tables(missing, within) if missing else ():
                with atomic_path(self._path(number)) as temporary:
                    _with_plain_line_ends(table).to_csv(temporary, index=False, lineterminator="\n")
                done += sizes[number]
                within(0, 0, "predicting")
            if told is not None:
                told(read_rows(self.of(shard)))

    def check(self, digest: str, settings: Mapping[str, Any]) -> None:
        """Check that what lies in the folder was made of these images, as it is asked for.

        Args:
            digest: Of the bundle.
            settings: Those of `MadeBy.settings` that whoever joins the blocks asks for.

        Raises:
            InputError: It was not, or there is no such folder.
        """
        if not (self.folder / _SETTINGS).is_file():
            raise InputError(f"there is no {self.folder}: run the shards first, with the same --out")
        content = self._content(digest)
        check_settings(self.folder / _SETTINGS, {key: content[key] for key in _SHARED} | dict(settings), "shards")

    def merge(self, frames: Frames) -> None:
        """Join the blocks to the table, in the manifest's order, and remove them.

        Args:
            frames: That the blocks were predicted for.

        Raises:
            InputError: Blocks are missing, or damaged, and then removed; another process makes or joins them; or the
                table cannot be written.
        """
        with self._beginning():
            if not (self.folder / _SETTINGS).is_file():
                self._remove()  # made by the lock alone
                raise InputError(f"there is no {self.folder} any more: another process joined it")
            self._assert_idle()
            self._assert_complete(frames)
            files = self.of(Shard())
            if self.out.suffix.lower() == PARQUET:
                write_parts(self.out, files, _numbers(self._classes, self.images.want_shares))
            else:
                _join(self.out, files)
            self._remove()

    def _assert_complete(self, frames: Frames) -> None:
        """Check that every block is there and whole; remove those that are damaged.

        Raises:
            InputError: Some lack or are damaged; the sentence names them.
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
        damaged = [number for number in range(self.count) if not self._is_whole(number, frames)]
        for number in damaged:
            self._path(number).unlink(missing_ok=True)
        if damaged:
            named = ", ".join(self._path(number).name for number in damaged[:8])
            named += f" and {len(damaged) - 8} more" if len(damaged) > 8 else ""
            raise InputError(
                f"{self.folder}: {named} {'is' if len(damaged) == 1 else 'are'} damaged, and removed; run the shards "
                "again, which predict what lacks"
            )

    def _is_whole(self, number: int, frames: Frames) -> bool:
        """Whether a block is there, with its header, every image in order, every cell, and its last line's end."""
        try:
            content = self._path(number).read_bytes()
            rows = list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))
        except (FileNotFoundError, UnicodeDecodeError, csv.Error):
            return False
        except OSError as error:
            raise InputError(f"cannot read {self._path(number)}: {error.strerror}") from error
        if not content.endswith(b"\n") or rows[0] != self._columns or any(len(row) != len(rows[0]) for row in rows):
            return False
        images = [name_of(row) for row in self.images.block(number).table.to_dict("records")]
        return _are_of([row[0] for row in rows[1:]], images, several=frames == "all")

    @contextmanager
    def _taken(self, shard: Shard, settings: Mapping[str, Any]) -> Iterator[None]:
        path = self.folder / _SETTINGS
        with ExitStack() as held:
            with self._beginning():
                if path.is_file():
                    check_settings(path, settings, "predictions")
                # Who makes all joins them as soon as they are there, and so nobody may still make some.
                self._assert_idle(self._locks() if shard.count == 1 else [self._lock(Shard())])
                held.enter_context(only_writer(self._lock(shard), self._busy(shard.number, shard.count)))
                if not path.is_file():
                    write_text(path, json_text(settings))
            try:
                yield
            finally:
                if shard.count == 1 and not any(path.is_file() for path in self.of(shard)):
                    with self._beginning():
                        self._remove()

    @contextmanager
    def _beginning(self) -> Iterator[None]:
        """Have no other process begin a shard, join blocks or remove them."""
        is_other = not self.folder.is_dir() or any(self.folder.glob("[!.]*"))
        if self.folder.exists() and not (self.folder / _SETTINGS).is_file() and is_other:
            raise InputError(f"{self.folder} exists already and holds no predictions; choose another --out")
        busy = f"another process joins the blocks in {self.folder}; wait for it"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {self.folder}: {error.strerror}") from error
        with only_writer(self.folder / _BEGINNING, busy, patience=_PATIENCE):
            yield

    def _assert_idle(self, locks: Sequence[Path] | None = None) -> None:
        """Check that no process makes a shard; none can begin one meanwhile.

        Args:
            locks: Of the shards that count, all by default.

        Raises:
            InputError: One does.
        """
        for lock in self._locks() if locks is None else locks:
            number, count = lock.name.removeprefix(".shard-").split("-of-")
            if lock.exists():
                with only_writer(lock, self._busy(number, count)):
                    pass

    def _locks(self) -> list[Path]:
        return sorted(self.folder.glob(".shard-*-of-*"))

    def _lock(self, shard: Shard) -> Path:
        return self.folder / f".shard-{shard.number}-of-{shard.count}"

    def _busy(self, number: int | str, count: int | str) -> str:
        return f"another process makes shard {number}/{count} of {self.out}; wait for it"

    def _remove(self) -> None:
        """Remove the folder in one step: who comes meanwhile finds all of it or nothing."""
        aside = self.folder.with_name(f".{self.folder.name}.{secrets.token_hex(4)}.old")
        self.folder.replace(aside)
        shutil.rmtree(aside)

    def _content(self, digest: str) -> dict[str, Any]:
        rows = self.images.manifest.table
        ranges = [str(self.images.manifest.range_of({"image": image})) for image in rows["image"]]
        text = rows.assign(_range=ranges).to_csv(index=False)
        return {
            "format": 2,
            "medsharp": __version__,
            "bundle": digest,
            "manifest": hashlib.sha256(text.encode()).hexdigest(),
            "data": _data_digest(self.images.manifest),
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


def _with_plain_line_ends(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table without carriage returns, which the writer of CSV leaves bare where they end no line."""
    bare = [name for name in table if table[name].astype(str).str.contains("\r", regex=False).any()]
    return table.assign(**{str(name): table[name].str.replace(r"\r\n?", "\n", regex=True) for name in bare})


def _data_digest(manifest: Manifest) -> str:
    """Return what tells a manifest's files from others of the same names.

    It is of their content, and the same wherever the files are mounted or copied to: size and first bytes of images,
    all up to `_LOOKED_AT` and then so many evenly spread. Those with a SHA-256 in the manifest are known by it, and
    those of a store by its URL.
    """
    digest = hashlib.sha256(manifest.store.encode())
    rows = manifest.table[manifest.table["sha256"] == ""]
    if manifest.store or rows.empty:
        return digest.hexdigest()
    step = -(-len(rows) // _LOOKED_AT)
    for row in rows.iloc[::step].to_dict("records"):
        for path in (manifest.path(row["image"]), *manifest.masks(row)):
            try:
                with path.open("rb") as stream:
                    size, first = os.fstat(stream.fileno()).st_size, stream.read(_FIRST_BYTES)
            except OSError:  # its row tells why
                size, first = -1, b""
            digest.update(f"{size}:".encode() + hashlib.sha256(first).digest())
    return digest.hexdigest()


def _are_of(found: Sequence[str], images: Sequence[str], *, several: bool) -> bool:
    """Whether rows are those of images, in order and at least one each.

    Args:
        found: What each row is called.
        images: What each image is called.
        several: Whether an image may have a row for each of its frames, called `<image>#<number>`.
    """
    places = {-1}  # of the image that the last row may be of: one may be called like the frame of another
    for name in found:
        plain = {name, re.sub(r"#\d+$", "", name)} if several else {name}
        stay = {place for place in places if several and place >= 0 and images[place] in plain}
        places = stay | {place + 1 for place in places if place + 1 < len(images) and images[place + 1] in plain}
    return len(images) - 1 in places


def _join(out: Path, files: Sequence[Path]) -> None:
    with atomic_path(out) as temporary, temporary.open("wb") as joined:
        for number, path in enumerate(files):
            with path.open("rb") as block:
                header = _header(block)
                if number == 0:
                    joined.write(header)
                shutil.copyfileobj(block, joined)


def _header(block: IO[bytes]) -> bytes:
    """Read the header of a CSV file, which has several lines where a name has."""
    lines: list[bytes] = []

    def taken() -> Iterator[str]:
        for line in iter(block.readline, b""):
            lines.append(line)
            yield line.decode()

    next(csv.reader(taken()), None)
    return b"".join(lines)


def _numbers(classes: Sequence[str], shares: bool) -> list[str]:
    """Return the columns that hold numbers; all others are text, as they are in the manifest."""
    return [*(f"p_{name}" for name in classes), MARGIN, THRESHOLD, *([lesion_share.COLUMN] if shares else [])]
