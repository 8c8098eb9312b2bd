"""The bench of drawings counts what the audit finds, on images whose drawings are known."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from medsharp.cli import app
from medsharp.data.phantom import write_phantom


def test_burned_drawings_are_found_and_images_without_any_are_left_alone(tmp_path: Path) -> None:
    write_phantom(tmp_path / "hospital", patients=3, size=128)
    command = ["bench", "drawings", "--images", "3", "--data", str(tmp_path / "hospital")]
    texts = []
    for name in ("one.json", "two.json"):
        result = CliRunner().invoke(app, [*command, "--json", str(tmp_path / name)])
        assert result.exit_code == 0, result.output
        texts.append((tmp_path / name).read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    rows = {row["burned in"]: row for row in json.loads(texts[0])["rows"]}
    simulated = "simulated, 256 pixels"
    assert rows["flow in a Doppler window"][f"{simulated}: found"] == "3 of 3"
    assert rows["calipers + in colour"][f"{simulated}: found"] == "3 of 3"
    assert rows["a coloured body marker, taken for flow"][f"{simulated}: found"] == "0 of 3"
    assert all(row[f"{simulated}: before"] == "0" for row in rows.values())
    assert "simulated hospital A: found" in rows["a line of text"]


def test_a_folder_for_figures_is_a_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "drawings", "--images", "2", "--json", str(tmp_path)])
    assert result.exit_code == 2
    assert "is a folder" in " ".join(result.stderr.split())
