"""Shards, merges and kills: the table is that of one run, byte for byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.data.manifest import read_manifest
from medsharp.inference import Predictor
from medsharp.inference.blocks import Blocks, Shard
from medsharp.inference.session import Session

IMAGES = 22


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


def said(result: Result) -> str:
    return " ".join(result.output.split())


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medsharp.inference.table.BLOCK", 4)


@pytest.fixture
def manifest(tmp_path: Path, images: np.ndarray) -> Path:
    """Images of unequal sizes, one that is damaged, one excluded, masks of a few, and a column of the hospital's."""
    folder = tmp_path / "hospital"
    folder.mkdir()
    rows = ["image,label,mask,exclude,ward,flags"]
    for number in range(IMAGES):
        pixels = images[number][: 40 + number, : 64 - number]
        name = f"{number:02d}.png"
        Image.fromarray(pixels).save(folder / name)
        mask = ""
        if number in (1, 2, 17):
            mask = f"mask{number}.png"
            area = np.zeros(pixels.shape, dtype=np.uint8)
            area[10 : 20 + number, 5:25] = 255
            Image.fromarray(area).save(folder / mask)
        rows.append(f"{name},{('benign', 'malignant')[number % 2]},{mask},{'Doppler' * (number == 6)},W{number % 3},")
    (folder / "09.png").write_bytes((folder / "09.png").read_bytes()[:200])
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder / "manifest.csv"


@pytest.fixture
def whole(bundle: Path, manifest: Path, tmp_path: Path) -> bytes:
    result = run("predict", bundle, manifest, "--out", tmp_path / "whole.csv", "--device", "cpu")
    assert result.exit_code == 1, result.output  # one image is damaged
    assert "failed: 09.png is damaged" in said(result)
    assert "21 rows in" in said(result)
    assert not (tmp_path / "whole.csv.parts").exists()
    return (tmp_path / "whole.csv").read_bytes()


@pytest.mark.parametrize("shards", [1, 2, 4, 9])
def test_merged_shards_are_the_file_of_one_run(
    bundle: Path, manifest: Path, tmp_path: Path, whole: bytes, shards: int
) -> None:
    out = tmp_path / "sharded.csv"
    command = ("predict", bundle, manifest, "--out", out)
    for number in reversed(range(1, shards + 1)):
        result = run(*command, "--device", "cpu", "--shard", f"{number}/{shards}")
        assert result.exit_code in (0, 1), result.output
        assert not out.exists()
    result = run(*command, "--merge")
    assert result.exit_code == 1
    assert "failed: 09.png is damaged" in said(result)
    assert out.read_bytes() == whole
    assert not (tmp_path / "sharded.csv.parts").exists()
    table = pd.read_csv(out)
    assert list(table["image"]) == [f"{n:02d}.png" for n in range(IMAGES) if n != 6]
    assert table["lesion_area"].notna().tolist() == [n in (1, 2, 17) for n in range(IMAGES) if n != 6]


def test_each_shard_predicts_its_own_images_only(
    bundle: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counting(monkeypatch)
    command = ("predict", bundle, manifest, "--out", tmp_path / "o.csv", "--device", "cpu")
    run(*command, "--shard", "1/3")
    assert sum(seen) == 8  # blocks 0 and 3 of six
    run(*command, "--shard", "3/3")
    assert sum(seen) == 8 + 3 + 1  # blocks 2 and 5: one image is damaged, one row is left over
    missing = run(*command, "--merge")
    assert missing.exit_code == 2
    assert "o.csv.parts lacks 2 blocks of 6, the first of images 5 to 8 of 21: run the shards that are missing" in said(
        missing
    )
    assert not (tmp_path / "o.csv").exists()
    run(*command)  # a whole run takes what the shards have
    assert sum(seen) == 20


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    original = Session.run

    def count(session: Session, inputs: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(len(inputs))
        return original(session, inputs)

    monkeypatch.setattr(Session, "run", count)
    return seen


def test_an_interrupted_run_goes_on_where_it_stopped(
    bundle: Path, manifest: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = counting(monkeypatch)
    original = Session.run

    def interrupted(session: Session, inputs: np.ndarray) -> dict[str, np.ndarray]:
        if len(seen) == 3:
            raise KeyboardInterrupt
        return original(session, inputs)

    monkeypatch.setattr(Session, "run", interrupted)
    command = ("predict", bundle, manifest, "--out", tmp_path / "o.csv", "--device", "cpu")
    assert run(*command).exit_code != 0
    assert not (tmp_path / "o.csv").exists()
    monkeypatch.setattr(Session, "run", original)
    assert sum(seen) == 11
    assert run(*command).exit_code == 1
    assert sum(seen) == 20
    assert (tmp_path / "o.csv").read_bytes() == whole


@pytest.mark.parametrize("runs", [0, 2, 5])
def test_a_killed_process_leaves_no_half_table_and_can_be_started_again(
    bundle: Path, manifest: Path, tmp_path: Path, whole: bytes, runs: int
) -> None:
    out = tmp_path / "killed.csv"
    program = (
        "import os, itertools\n"
        "from medsharp.inference import table\n"
        "from medsharp.inference.session import Session\n"
        "table.BLOCK = 4\n"
        "count, plain = itertools.count(), Session.run\n"
        "def run(self, inputs):\n"
        f"    return plain(self, inputs) if next(count) < {runs} else os._exit(9)\n"
        "Session.run = run\n"
        "from medsharp.cli import app\n"
        f"app(['predict', {str(bundle)!r}, {str(manifest)!r}, '--out', {str(out)!r}, '--device', 'cpu'])\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert ended.returncode == 9, ended.stderr
    assert not out.exists()
    assert len(list((tmp_path / "killed.csv.parts").glob("*.csv"))) == runs
    assert run("predict", bundle, manifest, "--out", out, "--device", "cpu").exit_code == 1
    assert out.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hospital", "killed.csv", "whole.csv"]


def test_blocks_of_other_settings_are_never_mixed(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.csv"
    command = ("predict", bundle, manifest, "--out", out, "--device", "cpu")
    run(*command, "--shard", "1/2")
    for option, key in ((("--answer-anyway",), "answer_anyway"), (("--frames", "all"), "frames")):
        result = run(*command, "--shard", "2/2", *option)
        assert result.exit_code == 2
        assert f"o.csv.parts holds predictions with other {key}" in said(result)
    manifest.write_text(manifest.read_text().replace("W1", "W9"))
    for option in (("--shard", "2/2"), ("--merge",), ()):
        result = run(*command, *option)
        assert result.exit_code == 2
        assert "with other manifest" in said(result)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shard", "0/2", "--out", "o.csv"), "--shard 0/2: write the number of the shard, from 1, and of how many"),
        (("--shard", "3/2", "--out", "o.csv"), "--shard 3/2"),
        (("--shard", "half", "--out", "o.csv"), "--shard half"),
        (("--shard", "1/2"), "--shard needs --out"),
        (("--merge",), "--merge needs --out"),
        (("--merge", "--shard", "1/2", "--out", "o.csv"), "leave --shard out"),
        (("--merge", "--out", "o.csv"), "there is no o.csv.parts: run the shards first"),
    ],
)
def test_wrong_use_is_one_sentence_and_leaves_nothing(
    bundle: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("predict", bundle, manifest, *options)
    assert result.exit_code == 2
    assert words in said(result)
    assert [path.name for path in tmp_path.iterdir()] == ["hospital"]
    assert "takes a manifest, not images" in said(run("predict", bundle, manifest.parent / "01.png", "--shard", "1/2"))


def test_two_processes_never_make_one_shard(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    from filelock import FileLock

    command = ("predict", bundle, manifest, "--out", tmp_path / "o.csv", "--device", "cpu")
    run(*command, "--shard", "1/2")
    with FileLock(tmp_path / "o.csv.parts" / ".shard-1-of-2"):
        result = run(*command, "--shard", "1/2")
    assert result.exit_code == 2
    assert "another process makes shard 1/2" in said(result)
    assert run(*command, "--shard", "2/2").exit_code in (0, 1)


def test_a_table_of_many_images_is_written_in_parts_and_the_same(
    bundle: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = sorted(path for path in manifest.parent.glob("[0-9]*.png"))
    for name in ("parts", "one"):
        if name == "one":
            monkeypatch.setattr("medsharp.inference.table.BLOCK", 1000)
        assert run("predict", bundle, *images, "--out", tmp_path / f"{name}.csv", "--device", "cpu").exit_code == 1
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    table = pd.read_csv(tmp_path / "one.csv")
    assert list(table["image"]) == [str(path) for path in images]
    assert table["status"].tolist().count("failed") == 1


def test_parquet_has_the_rows_of_the_csv_in_their_order(
    bundle: Path, manifest: Path, tmp_path: Path, whole: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.setattr("medsharp.inference.parquet_parts._ROWS", 5)
    out = tmp_path / "o.parquet"
    result = run("predict", bundle, manifest, "--out", out, "--device", "cpu")
    assert result.exit_code == 1, result.output
    assert "failed: 09.png is damaged" in said(result)
    assert f"{IMAGES - 1} rows in" in said(result)
    assert len(list(out.iterdir())) == 3  # of blocks of 4 images: 8, 8 and 5 rows
    found, wanted = pd.read_parquet(out), pd.read_csv(tmp_path / "whole.csv", dtype=str, keep_default_na=False)
    assert list(found) == list(wanted)
    assert list(found["image"]) == list(wanted["image"])
    pd.testing.assert_series_equal(
        found["p_malignant"], pd.to_numeric(wanted["p_malignant"]), check_exact=True, check_dtype=False
    )


def test_block_that_was_damaged_is_a_sentence_and_no_table(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    command = ("predict", bundle, manifest, "--out", tmp_path / "o.parquet", "--device", "cpu")
    for shard in ("1/2", "2/2"):
        run(*command, "--shard", shard)
    block = sorted((tmp_path / "o.parquet.parts").glob("[0-9]*.csv"))[1]
    block.write_bytes(block.read_bytes() + b"one,cell,too\n")
    result = run(*command[:5], "--merge")
    assert result.exit_code == 2, result.output
    assert f"{block.name} is damaged" in said(result)
    assert not (tmp_path / "o.parquet").exists()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("sharded", [False, True])
def test_images_without_a_number_are_listed_and_counted_whatever_the_format(
    bundle: Path, tmp_path: Path, images: np.ndarray, suffix: str, sharded: bool
) -> None:
    pytest.importorskip("pyarrow")
    folder = tmp_path / "set"
    folder.mkdir()
    Image.fromarray(images[0]).save(folder / "whole.png")
    Image.fromarray(np.full((64, 64), 90, dtype=np.uint8)).save(folder / "grey.png")  # refused: it shows nothing
    for name in ("cut", "text"):
        (folder / f"{name}.png").write_bytes(b"no image at all")
    sets = {"some": (["grey", "whole", "cut"], 1), "none": (["text", "cut"], 2), "refused": (["grey"], 1)}
    for name, (shown, code) in sets.items():
        table = folder / f"{name}.csv"
        table.write_text("image,label\n" + "".join(f"{one}.png,benign\n" for one in shown))
        command = ("predict", bundle, table, "--out", tmp_path / f"{name}.{suffix}", "--device", "cpu")
        if sharded:
            assert run(*command, "--shard", "1/1").exit_code == code
            command = (*command, "--merge")
        result = run(*command)
        assert result.exit_code == code, result.output
        assert isinstance(result.exception, SystemExit), result.exception
        assert f"{len(shown)} row" in said(result)
        for one in set(shown) - {"whole"}:
            assert f"{'refused' if one == 'grey' else 'failed'}: {one}.png" in said(result)
        assert "failed: whole.png" not in said(result)


def test_line_break_in_a_heading_is_a_blank_and_moves_no_row(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    head, rows = manifest.read_text().split("\n", 1)
    manifest.write_text(head.replace("ward", '"BI-RADS\r\n of  reader 1"') + "\n" + rows)
    assert run("predict", bundle, manifest, "--out", tmp_path / "o.csv", "--device", "cpu").exit_code == 1
    table = pd.read_csv(tmp_path / "o.csv")
    assert list(table["image"]) == [f"{n:02d}.png" for n in range(IMAGES) if n != 6]
    assert list(table["BI-RADS of reader 1"]) == [f"W{n % 3}" for n in range(IMAGES) if n != 6]


def test_joined_table_has_one_header_however_many_lines_it_has(
    predictor: Predictor, manifest: Path, tmp_path: Path
) -> None:
    plain = read_manifest(manifest)
    renamed = plain.replace(table=plain.table.rename(columns={"ward": 'ward\n"of the day"\r\n1'}))
    blocks = Blocks(tmp_path / "o.csv", renamed, predictor.spec.classes)
    blocks.predict(predictor, Shard(), "sharpest")
    blocks.merge("sharpest")
    table = pd.read_csv(tmp_path / "o.csv")
    assert list(table["image"]) == [f"{n:02d}.png" for n in range(IMAGES) if n != 6]


def test_merge_with_other_options_than_the_shards_is_refused(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    command = ("predict", bundle, manifest, "--out", tmp_path / "o.csv", "--device", "cpu")
    assert run(*command, "--shard", "1/1", "--limit", "max_pixels=5000").exit_code == 1
    wrong: list[tuple[tuple[str, ...], str]] = [
        ((), "limits"),
        (("--limit", "max_pixels=5001"), "limits"),
        (("--limit", "max_pixels=5000", "--frames", "all"), "frames"),
        (("--limit", "max_pixels=5000", "--frames", "2"), "frames"),
        (("--limit", "max_pixels=5000", "--answer-anyway"), "answer_anyway"),
        (("--limit", "max_pixels=5000", "--precision", "fp16"), "precision"),
        (("--limit", "max_pixels=5000", "--range", "0,100"), "manifest"),
    ]
    for options, key in wrong:
        result = run(*command, "--merge", *options)
        assert result.exit_code == 2, result.output
        assert f"o.csv.parts holds shards with other {key}" in said(result)
    assert not (tmp_path / "o.csv").exists()
    result = run(*command, "--merge", "--limit", "max_pixels=5000", "--precision", "fp32")
    assert result.exit_code == 1, result.output
    assert len(pd.read_csv(tmp_path / "o.csv")) == IMAGES - 1


def test_what_is_read_is_never_replaced(bundle: Path, manifest: Path, tmp_path: Path) -> None:
    image = manifest.parent / "01.png"
    (tmp_path / "link.csv").symlink_to(manifest)
    (tmp_path / "link.png").symlink_to(image)
    before = {path: path.read_bytes() for path in (manifest, image)}
    folder = manifest.parent
    for read, out, options in (
        (manifest, manifest, ()),
        (manifest, tmp_path / "link.csv", ("--merge",)),
        (tmp_path / "link.csv", manifest, ("--shard", "1/2")),
        (folder, manifest, ("--source", "folder")),
        (folder, manifest, ()),
        (image, image, ()),
        (folder, tmp_path / "link.png", ()),
    ):
        result = run("predict", bundle, read, "--out", out, "--device", "cpu", *options)
        assert result.exit_code == 2, result.output
        assert f"--out {out} is what is read here" in said(result)
    assert {path: path.read_bytes() for path in before} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hospital", "link.csv", "link.png"]
