"""`sharpness.json`, its figures, and both on one self-contained page."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from medsharp.evaluation.plots import draw
from medsharp.evaluation.plots.svg import LINES
from medsharp.files import json_text, write_text
from training.sharpness.figures import Draw, figures_of, save_figures


def write_sharpness(folder: str | Path, document: dict[str, Any]) -> list[Path]:
    """Write `sharpness.json`, each figure as PNG and SVG, and `sharpness.html`.

    Args:
        folder: Made if missing.
        document: As `measure_runs` returns it.

    Returns:
        The files; the page comes last.

    Raises:
        InputError: The folder cannot be written.
    """
    folder = Path(folder)
    text = json_text(document)
    page = render(document)
    write_text(folder / "sharpness.json", text)
    written = [folder / "sharpness.json", *save_figures(folder, document)]
    write_text(folder / "sharpness.html", page)
    return [*written, folder / "sharpness.html"]


def render(document: dict[str, Any]) -> str:
    """Return a document as one HTML page without outside references."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = (files("medsharp.evaluation.report") / "report.css").read_text(encoding="utf-8")
    template = (files("training.sharpness") / "page.html.j2").read_text(encoding="utf-8")
    figures = [
        # What draw returns has its labels escaped by matplotlib.
        (title, Markup(draw(_as_page(function), title, f"sharpness-{name}", size)))
        for name, (title, size, function) in figures_of(document).items()
    ]
    return environment.from_string(template).render(
        document=document,
        splits=[_split(document, place) for place in range(len(document["runs"][0]["splits"]))],
        rescaled=_rescaled(document),
        figures=figures,
        style=Markup(style),
    )


def rows_of(measured: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the label and text of every figure of a split."""
    rows = [("loss", number(measured["loss"]))]
    rows += [(f"gradient norm, {key}", number(value)) for key, value in measured["gradient_norm"].items()]
    for key, spectrum in measured["eigenvalues"].items():
        ends = [*spectrum["largest"], *spectrum["smallest"]]
        rows.append((f"eigenvalues, {key}", ", ".join(number(end["value"]) for end in ends)))
    rows += [(f"trace, {key}", _estimate(each)) for key, each in measured["trace"].items()]
    rows += [
        (f"surrogate gap, {key}, rho {gap['rho']:g}", number(gap["value"]))
        for key, gap in measured["surrogate_gap"].items()
    ]
    for key, rises in measured["worst_case"].items():
        rows += [(f"worst case, {key}, rho {r['rho']:g}, m {r['m']}", number(r["rise"])) for r in rises]
    rows += [
        (f"average case, {key}, rho {each['rho']:g}", _estimate(each)) for key, each in measured["average_case"].items()
    ]
    return rows


def cautions(measured: dict[str, Any]) -> list[str]:
    """Say which eigenvalues are not known as well as was asked for, and which rises may be rounding."""
    lost = [key for key, each in measured["average_case"].items() if not each["above_rounding"]]
    rounded = f"the average case ({', '.join(lost)}) is too small for this precision; take --precision fp64 or more rho"
    return [rounded] * bool(lost) + [
        f"an eigenvalue ({key}) of {number(end['value'])} is known to {number(end['error'])} only after "
        f"{spectrum['products']} products"
        for key, spectrum in measured["eigenvalues"].items()
        for end in (*spectrum["largest"], *spectrum["smallest"])
        if not end["converged"]
    ]


def number(value: float | None) -> str:
    """Write a figure with four digits, or a dash where there is none."""
    return "-" if value is None else f"{value:.4g}"


def _estimate(estimate: dict[str, Any]) -> str:
    error = estimate["standard_error"]
    return number(estimate["value"]) + ("" if error is None else f" ± {number(error)}")


def _as_page(function: Draw) -> Any:
    return lambda figure: function(figure, LINES)


def _split(document: dict[str, Any], place: int) -> dict[str, Any]:
    runs, loose = [], []
    labels: dict[str, None] = {}
    for run in document["runs"]:
        entry = run["splits"][place]
        figures = dict(rows_of(entry["measures"]))
        labels |= dict.fromkeys(figures)
        loose += [f"{run['name']}: {sentence}" for sentence in cautions(entry["measures"])]
        weights = ", ".join(f"{name} {weight:.3g}" for name, weight in entry["loss"]["class_weights"].items())
        runs.append(
            {
                "name": run["name"],
                "optimizer": run["optimizer"]["name"],
                "images": entry["images"],
                "available": entry["available"],
                "loss": f"{entry['loss']['label_smoothing']:g}; {weights}",
                "figures": figures,
                "units": number(entry["measures"]["cost"]["units"]),
            }
        )
    name = document["runs"][0]["splits"][place]["split"]
    return {"name": name, "runs": runs, "labels": list(labels), "loose": loose}


def _rescaled(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return a column a run that could be rescaled, and a row a measure."""
    found = {run["name"]: run["splits"][0].get("rescaled") for run in document["runs"]}
    columns = {name: each["ratios"] for name, each in found.items() if each and each["ratios"]}
    if not columns:
        return None
    labels = dict.fromkeys(label for ratios in columns.values() for label in ratios)
    rows = [(label, [number(ratios.get(label)) for ratios in columns.values()]) for label in labels]
    return {"names": list(columns), "rows": rows}
