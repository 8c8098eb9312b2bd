"""Commands of the pages can be pasted, and help texts say what they were written to say."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from typer.main import get_command

from medsharp.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))]


def commands(page: str) -> Iterator[str]:
    """Each line of a block that begins with the command."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in re.findall(r"^```(?:bash|sh)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from (line for line in block.splitlines() if line.startswith("medsharp "))


@pytest.mark.parametrize("page", PAGES)
def test_prose_behind_a_command_is_a_comment(page: str) -> None:
    for line in commands(page):
        assert not re.search(r"\s{3,}[^#\s\\]", line), line


def described(command: click.Command, name: str = "medsharp") -> Iterator[tuple[str, str]]:
    """Every help text of a command and of those below it."""
    yield name, command.help or ""
    for parameter in command.params:
        yield f"{name} {parameter.name}", getattr(parameter, "help", None) or ""
    for below, one in getattr(command, "commands", {}).items():
        yield from described(one, f"{name} {below}")


def test_help_names_extras_whole() -> None:
    """Rich takes what stands in brackets for markup, and shows nothing of it."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    unescaped = re.compile(rf"(?<!\\)\[(?:{'|'.join(map(re.escape, extras))})\]")
    texts = dict(described(get_command(app)))
    assert any(r"\[cluster]" in text for text in texts.values())
    assert [name for name, text in texts.items() if unescaped.search(text)] == []
