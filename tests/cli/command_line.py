"""Running medsharp's commands as a user does, and what holds of each that refuses its input."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from medsharp.cli import app


def run(*arguments: object) -> Result:
    """Run a command, in a terminal wide enough that tables are not folded."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def refused(result: Result, *words: str) -> str:
    """One error sentence with these words, exit code 2; returns it."""
    sentence = " ".join(result.stderr.split())
    assert result.exit_code == 2, result.output
    assert sentence.startswith("error: ")
    assert "Traceback" not in result.output
    for word in words:
        assert word in sentence
    return sentence
