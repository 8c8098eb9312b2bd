"""Tables so small, or so plain, that most figures do not exist: every format is written, and its JSON is strict."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run

B, M = "benign", "malignant"
TABLES: dict[str, list[tuple[str, float]]] = {
    "apart, three and three": [(B, 0.1), (B, 0.2), (B, 0.3), (M, 0.7), (M, 0.8), (M, 0.9)],
    "reversed": [(M, 0.1), (M, 0.2), (B, 0.8), (B, 0.9)],
    "one and one": [(B, 0.2), (M, 0.9)],
    "all equal": [(B, 0.5), (M, 0.5), (B, 0.5), (M, 0.5)],
    "zeros and ones": [(B, 0.0), (M, 1.0), (B, 1.0), (M, 0.0), (B, 0.0)],
    "one positive": [(M, 0.6), *((B, 0.05 * number) for number in range(1, 16))],
    "two values": [*[(B, 0.2)] * 10, *[(M, 0.2)] * 3, *[(M, 0.8)] * 9, *[(B, 0.8)] * 2],
    "all called": [(B, 0.6), (M, 0.7)] * 12,
    "none called": [(B, 0.1), (M, 0.2)] * 12,
    "near the ends": [*[(B, 1e-12), (M, 1 - 1e-12)] * 6, (B, 0.4)],
}
COLUMNS: dict[str, tuple[str, Callable[[int], str]]] = {
    "patients": ("patient", lambda row: f"P{row // 2}"),
    "one patient": ("patient", lambda row: "P"),
    "sites": ("site", lambda row: "ABC"[row % 3]),
    "refused": ("status", lambda row: "refused" if row % 3 == 2 else "ok"),
}


def auroc(rows: list[tuple[str, float]]) -> float:
    pairs = [(one > other) + (one == other) / 2 for name, one in rows if name == M for is_, other in rows if is_ == B]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("name", TABLES)
def test_a_report_of_few_images_is_written(name: str, column: str, tmp_path: Path) -> None:
    rows, (header, value) = TABLES[name], COLUMNS[column]
    lines = [f"i{row},{label},{1 - p!r},{p!r},{value(row)}" for row, (label, p) in enumerate(rows)]
    table, out = tmp_path / "table.csv", tmp_path / "out"
    table.write_text("\n".join([f"image,label,p_benign,p_malignant,{header}", *lines, ""]), encoding="utf-8")
    result = run(
        "score", table, "--threshold", "0.5", "--out", out, "--format", "html,md,json,csv", "--resamples", "100"
    )
    assert result.exit_code == 0, result.output

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in evaluation.json")

    text = (out / "evaluation.json").read_text(encoding="utf-8")
    figure = json.loads(text, parse_constant=refuse)["datasets"][0]["figures"]["auroc"]
    if header != "status":
        assert figure["value"] is None or figure["value"] == pytest.approx(auroc(rows), abs=1e-12)
    assert figure["value"] is not None or figure["reason"]
    pages = [page for page in out.iterdir() if page.suffix in (".html", ".md", ".csv")]
    assert len(pages) == 3
    for page in pages:
        assert not re.search(r"\b(nan|NaN|inf|Infinity)\b", page.read_text(encoding="utf-8")), page
