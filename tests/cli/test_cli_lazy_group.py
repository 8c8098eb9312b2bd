"""Commands are imported when they are called for; help and completion know them all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from command_line import run
from PIL import Image
from typer.main import get_command

import medsharp.cli
from medsharp.cli import bench, data

_GROUPS = {(): medsharp.cli, ("bench",): bench, ("data",): data}
_BUNDLE = Path(__file__).parents[2] / "models" / "busi-resnet18"
_GROUPED = [pytest.param(path, module, id=" ".join(path) or "medsharp") for path, module in _GROUPS.items()]


def commands(module: ModuleType) -> dict[str, Any]:
    group: Any = get_command(module.app)
    return dict(group.commands)


@pytest.mark.parametrize(("path", "module"), _GROUPED)
def test_every_file_of_a_group_is_a_command_of_it(path: tuple[str, ...], module: ModuleType) -> None:
    folder = Path(str(module.__file__)).parent
    files = {one.stem.rstrip("_") for one in folder.iterdir() if not one.name.startswith(("_", "."))}
    assert set(commands(module)) == files


@pytest.mark.parametrize(("path", "module"), _GROUPED)
def test_help_of_a_group_has_every_command_in_order_with_what_it_does(
    path: tuple[str, ...], module: ModuleType
) -> None:
    shown = run(*path, "--help").output
    rows = [line.strip("│ ").split() for line in shown.partition("Commands")[2].splitlines()]
    named = [row[0] for row in rows if row and row[0] in commands(module)]
    assert named == list(commands(module))
    for name, command in commands(module).items():
        first_words = " ".join(command.get_short_help_str().split()[:2])
        row = next(row for row in rows if row and row[0] == name)
        assert " ".join(row[1:]).startswith(first_words)


def test_help_of_a_command_stands_above_its_epilog_and_flags_have_no_type() -> None:
    shown = run("train", "--help").output
    assert "--print-config" in shown
    assert "<bool>" not in shown
    assert "<bool>" not in run("--help").output
    assert "wsam" in shown.partition("--print-config")[2]


@pytest.mark.parametrize(
    ("words", "expected"), [(["pr"], ["predict"]), (["bench", "im"], ["images"]), (["study", "s"], ["status"])]
)
def test_completion_knows_commands_that_are_not_imported(words: list[str], expected: list[str]) -> None:
    asked = {"COMP_WORDS": " ".join(["medsharp", *words]), "COMP_CWORD": str(len(words))}
    environment = {**os.environ, **asked, "_MEDSHARP_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv[0] = 'medsharp'; from medsharp.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == expected


def test_an_unknown_command_is_refused_with_the_nearest() -> None:
    result = run("predikt")
    assert result.exit_code == 2
    assert "predict" in result.stderr
    assert run("bench", "inferrence").exit_code == 2


_IMPORTED = """
import gc, sys
from medsharp.cli import main
try:
    main()
finally:
    commands = sorted(name for name in sys.modules if name.startswith("medsharp.cli.") and "._" not in name)
    others = "rich.progress medsharp.config medsharp.images.dicom medsharp.optim training serve".split()
    print("imported:", *commands, *[name for name in others if name in sys.modules], file=sys.stderr)
    print("collecting from", gc.get_threshold()[0], file=sys.stderr)
"""


def test_predicting_an_image_imports_no_other_command_and_collects_rarely(tmp_path: Path) -> None:
    picture = tmp_path / "a:smile:.png"
    Image.effect_noise((90, 70), 40).save(picture)  # refused, which is enough: the bundle is loaded all the same
    arguments = [sys.executable, "-c", _IMPORTED, "predict", str(_BUNDLE), str(picture)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert ":smile:" in done.stderr  # a name, no emoji
    *_, imported, collecting = done.stderr.splitlines()
    assert imported.strip() == "imported: medsharp.cli.predict"
    assert int(collecting.split()[-1]) >= 5000
