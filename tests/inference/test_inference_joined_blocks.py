"""Blocks that are cut, of other images, or in the making elsewhere: never joined, and never removed under whoever makes
them.

Tables are made without a network here: what is tested is what becomes of their files.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.synchronize import Event
from pathlib import Path

import pandas as pd
import pytest

from medsharp import files
from medsharp.data.manifest import name_of, read_manifest
from medsharp.errors import InputError
from medsharp.files import only_writer, write_text
from medsharp.images import ImageLimits
from medsharp.inference.blocks import Blocks, MadeBy, Shard, Tables
from medsharp.inference.reading import Frames
from medsharp.inference.table import columns_of
from medsharp.progress import Progress

CLASSES = ("benign", "malignant")
COUNT = 23
ALL = Shard()
DIGEST = "d" * 64


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medsharp.inference.table.BLOCK", 5)


def hospital(folder: Path, content: bytes = b"picture", remark: str = "4") -> Path:
    folder.mkdir(parents=True)
    lines = ["image,label,remark"]
    for number in range(COUNT):
        (folder / f"{number:02d}.png").write_bytes(content + b"%d" % number)
        lines.append(f'{number:02d}.png,,"{remark}{number}"')
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", newline="")
    return folder / "manifest.csv"


def made_by(frames: Frames = "sharpest") -> MadeBy:
    return MadeBy(DIGEST, frames, ImageLimits(), False, False, "fp32", "cpu")


def tables_of(blocks: Blocks, seen: list[int], frames: int = 1) -> Tables:
    def tables(numbers: Sequence[int], _: Progress) -> Iterator[tuple[int, pd.DataFrame]]:
        for number in numbers:
            seen.append(number)
            rows = blocks.images.block(number).table
            names = columns_of(rows, CLASSES, shares=False)
            lines = [
                {name: row.get(name, "") for name in names}
                | {"image": name_of(row) if frames == 1 else f"{name_of(row)}#{frame + 1}", "p_malignant": 0.25}
                for row in rows.to_dict("records")
                for frame in range(frames)
            ]
            yield number, pd.DataFrame(lines, columns=names)

    return tables


def filled(out: Path, manifest: Path, shard: Shard = ALL, frames: int = 1) -> tuple[Blocks, list[int]]:
    """Make the blocks of a shard; return them, and which were made."""
    blocks, seen = Blocks(out, read_manifest(manifest), CLASSES), list[int]()
    blocks.fill(made_by("sharpest" if frames == 1 else "all"), shard, tables_of(blocks, seen, frames))
    return blocks, seen


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut in the middle": cut,
    "without its last row": lambda content: b"".join(content.splitlines(keepends=True)[:-1]),
    "without its last line end": lambda content: content[:-1],
    "without its header": lambda content: b"".join(content.splitlines(keepends=True)[1:]),
    "with rows exchanged": lambda content: b"".join(
        (lines := content.splitlines(keepends=True))[:1] + lines[2:3] + lines[1:2] + lines[3:]
    ),
    "with another row in place": lambda content: content.replace(b"11.png", b"12.png"),
    "of zeros": lambda content: bytes(len(content)),
    "no text": lambda content: b"\xff" * len(content),
}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("how", list(DAMAGES))
def test_damaged_block_is_removed_and_named_and_made_again(tmp_path: Path, how: str, suffix: str) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    manifest, out = hospital(tmp_path / "a"), tmp_path / f"o.{suffix}"
    blocks, seen = filled(out, manifest)
    assert seen == [0, 1, 2, 3, 4]
    path = blocks.of(Shard())[2]
    whole = path.read_bytes()
    path.write_bytes(DAMAGES[how](whole))
    assert path.read_bytes() != whole
    with pytest.raises(InputError, match=r"o\.\w+\.parts: 000002\.csv is damaged, and removed; run the shards again"):
        blocks.merge("sharpest")
    assert not path.exists()
    assert not out.exists()
    path.write_bytes(DAMAGES[how](whole))
    blocks, seen = filled(out, manifest, Shard(1, 2))
    assert seen == [2]
    assert path.read_bytes() == whole
    blocks.merge("sharpest")
    table = pd.read_parquet(out) if suffix == "parquet" else pd.read_csv(out)
    assert list(table["image"]) == [f"{number:02d}.png" for number in range(COUNT)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", out.name]


def test_clip_of_many_frames_is_whole_with_a_row_of_each_image(tmp_path: Path) -> None:
    manifest = hospital(tmp_path / "a")
    blocks, _ = filled(tmp_path / "o.csv", manifest, frames=3)
    path = blocks.of(Shard())[4]
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]))  # all of the last image
    with pytest.raises(InputError, match=r"000004\.csv is damaged"):
        blocks.merge("all")
    filled(tmp_path / "o.csv", manifest, frames=3)[0].merge("all")
    assert len(pd.read_csv(tmp_path / "o.csv")) == 3 * COUNT


def test_line_ends_in_cells_damage_no_block(tmp_path: Path) -> None:
    manifest = hospital(tmp_path / "a", remark="old\rnew\r\nlast ")
    blocks, _ = filled(tmp_path / "o.csv", manifest)
    blocks.merge("sharpest")
    table = pd.read_csv(tmp_path / "o.csv")
    assert table["remark"].iloc[1].split() == ["old", "new", "last", "1"]
    assert len(table) == COUNT


def test_other_images_of_the_same_names_are_refused(tmp_path: Path) -> None:
    one, other = hospital(tmp_path / "a"), hospital(tmp_path / "b", b"PICTURE")
    out = tmp_path / "o.csv"
    filled(out, one, Shard(1, 2))
    with pytest.raises(InputError, match="holds predictions with other data"):
        filled(out, other, Shard(2, 2))
    with pytest.raises(InputError, match="holds shards with other data"):
        Blocks(out, read_manifest(other), CLASSES).check(DIGEST, {})
    mounted = tmp_path / "elsewhere" / "c"
    shutil.copytree(one.parent, mounted)  # with other times
    assert filled(out, mounted / "manifest.csv", Shard(2, 2))[1] == [1, 3]
    (one.parent / "17.png").write_bytes(b"another")
    with pytest.raises(InputError, match="other data"):
        filled(out, one)


def test_images_are_known_by_their_sha256_where_the_manifest_has_it(tmp_path: Path) -> None:
    manifest = read_manifest(hospital(tmp_path / "a"))
    known = manifest.replace(table=manifest.table.assign(sha256="0" * 64))
    for one, other in ((known, True), (manifest, False)):
        blocks, seen = Blocks(tmp_path / f"{other}.csv", one, CLASSES), list[int]()
        blocks.fill(made_by(), Shard(1, 2), tables_of(blocks, seen))
    (manifest.root / "03.png").write_bytes(b"other")
    Blocks(tmp_path / "True.csv", known, CLASSES).check(DIGEST, {})
    with pytest.raises(InputError, match="other data"):
        Blocks(tmp_path / "False.csv", manifest, CLASSES).check(DIGEST, {})


def test_blocks_of_the_format_before_are_refused(tmp_path: Path) -> None:
    manifest, out = hospital(tmp_path / "a"), tmp_path / "o.csv"
    blocks, _ = filled(out, manifest, Shard(1, 2))
    settings = blocks.folder / "settings.json"
    settings.write_text(settings.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(InputError, match=r"with other format \(1, not 2\); choose another --out"):
        filled(out, manifest)


def _hold(lock: Path, ready: Event, end: Event) -> None:
    with only_writer(lock, "busy"):
        ready.set()
        end.wait(120)


@pytest.mark.parametrize("name", [".shard-1-of-2", ".shard-7-of-9"])
def test_nothing_is_joined_or_removed_while_another_process_makes_a_shard(tmp_path: Path, name: str) -> None:
    manifest, out = hospital(tmp_path / "a"), tmp_path / "o.csv"
    blocks, _ = filled(out, manifest, Shard(1, 1))
    number = name.removeprefix(".shard-").replace("-of-", "/")
    context = multiprocessing.get_context("spawn")
    ready, end = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(blocks.folder / name, ready, end))
    process.start()
    try:
        assert ready.wait(120)
        for work in (lambda: blocks.merge("sharpest"), lambda: filled(out, manifest)):
            with pytest.raises(InputError, match=f"another process makes shard {number} of .*o.csv; wait for it"):
                work()
        assert len(list(blocks.folder.glob("[0-9]*.csv"))) == 5
        assert not out.exists()
    finally:
        end.set()
        process.join(120)
    blocks.merge("sharpest")
    assert len(pd.read_csv(out)) == COUNT
    assert not blocks.folder.exists()


def test_shards_wait_for_whoever_makes_all_and_for_whoever_joins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medsharp.inference.blocks._PATIENCE", 0.01)
    manifest, out = hospital(tmp_path / "a"), tmp_path / "o.csv"
    blocks = Blocks(out, read_manifest(manifest), CLASSES)
    refused: list[str] = []

    def tables(numbers: Sequence[int], progress: Progress) -> Iterator[tuple[int, pd.DataFrame]]:
        for number, table in tables_of(blocks, [])(numbers, progress):
            for shard in (Shard(1, 2), Shard()):
                with pytest.raises(InputError) as error:
                    filled(out, manifest, shard)
                refused.append(str(error.value))
            with pytest.raises(InputError, match="another process makes shard 1/1"):
                blocks.merge("sharpest")
            yield number, table

    blocks.fill(made_by(), Shard(), tables)
    assert len(refused) == 10
    assert all("another process makes shard 1/1 of" in one for one in refused)
    with only_writer(blocks.folder / ".beginning", "busy"):
        for work in (lambda: filled(out, manifest, Shard(2, 3)), lambda: blocks.merge("sharpest")):
            with pytest.raises(InputError, match="another process joins the blocks in"):
                work()
    blocks.merge("sharpest")
    with pytest.raises(InputError, match="another process joined it"):
        blocks.merge("sharpest")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "o.csv"]


def test_rows_of_a_shard_are_told_before_anybody_may_join_it(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path / "o.csv", read_manifest(hospital(tmp_path / "a")), CLASSES)
    found: list[str] = []

    def told(rows: Iterator[dict[str, str]]) -> None:
        with pytest.raises(InputError, match="another process makes shard 2/2"):
            blocks.merge("sharpest")
        found.extend(row["image"] for row in rows)

    blocks.fill(made_by(), Shard(1, 2), tables_of(blocks, []))
    blocks.fill(made_by(), Shard(2, 2), tables_of(blocks, []), told=told)
    assert found == [f"{number:02d}.png" for number in (*range(5, 10), *range(15, 20))]


def test_run_that_made_nothing_leaves_nothing(tmp_path: Path) -> None:
    blocks = Blocks(tmp_path / "o.csv", read_manifest(hospital(tmp_path / "a")), CLASSES)

    def tables(numbers: Sequence[int], _: Progress) -> Iterator[tuple[int, pd.DataFrame]]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        blocks.fill(made_by(), Shard(), tables)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, bool]] = []
    plain, target = os.fsync, tmp_path / "table.csv"

    def fsync(file: int) -> None:
        told.append((os.readlink(f"/proc/self/fd/{file}"), target.exists()))
        plain(file)

    monkeypatch.setattr(files.os, "fsync", fsync)
    write_text(target, "a,b\n")
    (first, before), (second, after) = told
    assert Path(first).name.startswith(".table.csv.")
    assert (before, second, after) == (False, str(tmp_path), True)
