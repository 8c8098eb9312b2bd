"""YAML of others is bounded before it is built: nesting, aliases, and every file that a person hands in; JSON too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from medsharp.bundle import read_bundle
from medsharp.cli import app
from medsharp.data.manifest import read_manifest
from medsharp.errors import InputError
from medsharp.files import check_settings
from medsharp.runs import METRICS, Run
from medsharp.yaml_text import MOST_NESTED, MOST_NODES, load_yaml
from training.crossvalidation.request import REQUEST, Request
from training.study.folder import REGISTRATION, StudyFolder

LOADERS = [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)]
DEEP = {
    "lists": "[" * 100_000,
    "sections": "a: " + "{a: " * 100_000,
    "lines": "".join(" " * level + "a:\n" for level in range(2000)),
    "items": "- " * 100_000 + "1",
    "aliases": "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 5000)),
    "merges": "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: *a{n - 1}}}\n" for n in range(1, 5000)),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_what_is_nested_beyond_reading_is_refused(text: str, loader: type[yaml.SafeLoader]) -> None:
    with pytest.raises(yaml.YAMLError, match=rf"line (1|100|101): .* more than {MOST_NESTED} deep"):
        load_yaml(text, loader)


@pytest.mark.parametrize("loader", LOADERS)
def test_the_deepest_that_is_read_is_read_whole(loader: type[yaml.SafeLoader]) -> None:
    found = load_yaml("[" * (MOST_NESTED - 1) + "[1, 2]" + "]" * (MOST_NESTED - 1), loader)
    for _ in range(MOST_NESTED - 1):
        (found,) = found
    assert found == [1, 2]
    with pytest.raises(yaml.YAMLError, match="deep"):
        load_yaml("[" * (MOST_NESTED + 1) + "]" * (MOST_NESTED + 1), loader)
    # Many sections beside each other lie no deeper.
    beside = ", ".join(["[[1], {a: [2]}]"] * 300)
    assert len(load_yaml(f"[{beside}]", loader)) == 300


@pytest.mark.parametrize("loader", LOADERS)
def test_aliases_are_read_and_may_not_repeat_without_end(loader: type[yaml.SafeLoader]) -> None:
    assert load_yaml("a: &x {b: [1]}\nc: *x\nd: {<<: *x, e: 2}", loader) == {
        "a": {"b": [1]},
        "c": {"b": [1]},
        "d": {"b": [1], "e": 2},
    }
    bomb = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    with pytest.raises(yaml.YAMLError, match=f"line [78]: there are more than {MOST_NODES} values"):
        load_yaml(bomb, loader)
    with pytest.raises(yaml.YAMLError, match="line 2: x holds itself"):
        load_yaml("a: &x\n  - [*x]", loader)
    with pytest.raises(yaml.YAMLError, match="undefined alias"):
        load_yaml("a: *x", loader)


def test_a_date_that_is_none_is_not_yaml() -> None:
    with pytest.raises(yaml.YAMLError, match="month"):
        load_yaml("created: 2024-13-01")


@pytest.mark.parametrize("value", ["!!bool x", "!!timestamp x", '!!int ""', '!!float ""', "!!int x", "!!binary \u00e9"])
@pytest.mark.parametrize("loader", [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)])
def test_a_tag_that_its_text_does_not_fit_is_not_yaml(value: str, loader: type[yaml.SafeLoader]) -> None:
    with pytest.raises(yaml.YAMLError, match=r"cannot be read|failed to"):
        load_yaml(f"a: {value}", loader)


def _manifest(folder: Path, text: str) -> None:
    (folder / "manifest.csv").write_text("image,label\n1.png,benign\n")
    (folder / "manifest.yaml").write_text(text)
    read_manifest(folder)


def _bundle(folder: Path, text: str) -> None:
    (folder / "bundle.yaml").write_text(text)
    read_bundle(folder)


def _request(folder: Path, text: str) -> None:
    (folder / REQUEST).write_text(text)
    Request.read(folder)


@pytest.mark.parametrize(
    "text", [DEEP["lists"], "created: 2024-13-01", "name: !!bool x"], ids=["nested", "date", "tag"]
)
@pytest.mark.parametrize("read", [_manifest, _bundle, _request])
def test_files_that_no_loader_reads_are_a_sentence(
    tmp_path: Path, read: Callable[[Path, str], None], text: str
) -> None:
    with pytest.raises(InputError, match=r"\.yaml is (damaged: it is )?not YAML"):
        read(tmp_path, text)


def _settings(folder: Path) -> None:
    check_settings(folder / "settings.json", {}, "a run")


def _metrics(folder: Path) -> None:
    Run(folder).metrics()


def _study(folder: Path) -> None:
    StudyFolder.open(folder)


@pytest.mark.parametrize(
    ("name", "read"),
    [("settings.json", _settings), (METRICS, _metrics), (REGISTRATION, _study)],
)
def test_json_that_is_nested_beyond_reading_is_a_sentence(
    tmp_path: Path, name: str, read: Callable[[Path], None]
) -> None:
    (tmp_path / name).write_text("[" * 100_000)
    with pytest.raises(InputError, match=f"{name} is (damaged|not a line of JSON)"):
        read(tmp_path)


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--config", "FILE"],
        ["study", "FILE"],
        ["crossvalidate", "FILE", "--by", "fold", "--out", "out"],
        ["train", "--set", "optimizer.lr=TEXT"],
        ["data", "preview", "--data", "phantom", "--augmentation", "TEXT", "--out", "out.png"],
        ["predict", "BUNDLE", "FILE"],
        ["predict", "BUNDLE", "FILE", "--limit", "max_frames=TEXT"],
    ],
    ids=" ".join,
)
def test_commands_answer_with_one_sentence(tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep.yaml").write_text(DEEP["sections"])
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.yaml").write_text(DEEP["lists"])
    words = {"FILE": "deep.yaml", "BUNDLE": "bundle"}
    result = CliRunner().invoke(app, [words.get(word, word).replace("TEXT", "[" * 2000) for word in command])
    assert result.exit_code == 2, result.output
    answer = " ".join(result.output.split())
    assert "error: " in answer
    assert "Traceback" not in answer
    assert any(one in answer for one in ("not YAML", "is not a number", "neither a name nor YAML"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "deep.yaml"]
