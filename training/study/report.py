"""The report of a study: `results.json`, tables, and one page as HTML, Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from medsharp.errors import InputError
from medsharp.evaluation.report import plain
from medsharp.evaluation.report.html import as_html
from medsharp.evaluation.report.markdown import as_markdown
from medsharp.files import atomic_path, json_text, only_writer, write_text
from medsharp.progress import Progress
from training.study.flatness import Measure, sharpness_and_gaps
from training.study.folder import StudyFolder
from training.study.latex import as_latex
from training.study.page import make_page
from training.study.plan import planned_cells
from training.study.results import make_results

REPORT = "report"
# Names of optimizers stay whole, however many columns there are.
_STYLE = ".scroll thead th { overflow-wrap: normal; }\n.scroll tbody th { min-width: 11rem; }\n"
_UNKNOWN = dict.fromkeys(("worse", "equivalent", "better"))


def write_report(
    folder: StudyFolder,
    *,
    out: str | Path | None = None,
    interim: bool = False,
    measure: Measure | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """Read what is tested, once, and write what came of it.

    Where sharpness is to be measured, which takes longer than all else, the report is written without it first:
    whatever ends the measuring, that report is there, and what was measured is not measured again.

    Args:
        folder: The study.
        out: Where to; `report` in the study's folder without it.
        interim: Report on what is finished while cells are still to be trained; claims of which one is are withheld.
        measure: Measures sharpness.
        device: Where to predict.
        progress: Called while images are read.

    Returns:
        The content of `results.json`, and the files.

    Raises:
        InputError: Cells are still to be trained and this is no interim report, or none is finished; another process
            reads the study.
    """
    cells = planned_cells(folder.study)
    finished, waiting = 0, 0
    for cell in cells:
        done = folder.record(cell) is not None
        finished += done
        waiting += not done and folder.failure(cell) is None
    if not finished:
        raise InputError(f"{folder.root}: no cell is finished yet; run the study first")
    if waiting and not interim:
        raise InputError(
            f"{folder.root}: {waiting} of {len(cells)} cells are not finished; run the study to its end, or look at "
            "what there is, with verdicts on claims whose cells are all there alone: --interim"
        )
    target = Path(out) if out is not None else folder.root / REPORT
    with only_writer(folder.root / ".reading.lock", f"another process reads the study in {folder.root}; wait for it"):
        results, figures = make_results(folder, device=device, progress=progress)
        if measure is not None:
            results["sharpness"] = {"reason": "this was written before it was measured; the same command goes on"}
        written = _write(target, results, figures)
        if measure is not None:
            results["sharpness"] = plain(sharpness_and_gaps(folder, figures, measure, progress))
            written = _write(target, results, figures)
    return results, written


def _write(target: Path, results: dict[str, Any], figures: pd.DataFrame) -> tuple[Path, ...]:
    page = make_page(results)
    texts = {
        "results.json": json_text(results),
        "report.html": as_html(page, _STYLE),
        "report.md": as_markdown(page),
        "report.tex": as_latex(page),
    }
    for name, text in texts.items():
        write_text(target / name, text)
    tables = {"cells.csv": figures, "comparisons.csv": _comparisons(results), "levels.csv": _levels(results)}
    for name, table in tables.items():
        with atomic_path(target / name) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
    return tuple(target / name for name in (*texts, *tables))


def _levels(results: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"budget": key, **row} for key, found in results["budgets"].items() for row in found["levels"]]
    )


def _comparisons(results: dict[str, Any]) -> pd.DataFrame:
    rows = []
    for budget, found in results["budgets"].items():
        for entry in found["comparisons"]:
            plain = {key: value for key, value in entry.items() if key != "probabilities"}
            rows.append({"budget": budget, **plain, **(entry["probabilities"] or _UNKNOWN)})
    return pd.DataFrame(rows)
