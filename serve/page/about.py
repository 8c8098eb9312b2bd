"""What the page says of the model: how it did, inside and at hospitals left out, its training data, and its card."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from medsharp.bundle import Figure
from medsharp.inference import Predictor
from medsharp.inference.glance import FIGURES, NOT_MEASURED, Glance, recorded_glances
from serve.page.numbers import percent, sentence


def performance(predictor: Predictor) -> str:
    """Draw the table that stands above everything else: internal figures, and those of each hospital left out.

    Where no hospital was left out, a sentence says so.
    """
    rows = recorded_glances(predictor.spec, predictor.folder)
    missing = "" if any(row.left_out for row in rows) else f'<p class="ms-unmeasured">{html.escape(NOT_MEASURED)}</p>'
    if not rows:
        return missing
    head = "".join(f"<th>{html.escape(name)}</th>" for name in FIGURES.values())
    body = "".join(_glance_row(row) for row in rows)
    return (
        f'<div class="ms-glance"><table><thead><tr><th>How it did</th>{head}</tr></thead><tbody>{body}</tbody></table>'
        f"{missing}</div>"
    )


def _glance_row(row: Glance) -> str:
    kind, mark = ("left out of training", "ms-left-out") if row.left_out else ("internal", "ms-internal")
    size = f' title="{html.escape(row.size)}"' if row.size else ""
    cells = "".join(f"<td>{_glance_cell(row.figures.get(key))}</td>" for key in FIGURES)
    return f'<tr class="{mark}"><th{size}>{html.escape(row.name)} <span>{kind}</span></th>{cells}</tr>'


def _glance_cell(figure: Figure | None) -> str:
    if figure is None or figure.value is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"<b>{figure.value:.2f}</b>"
    return f"<b>{figure.value:.2f}</b> <span>{figure.low:.2f} to {figure.high:.2f}</span>"


def about_model(predictor: Predictor) -> str:
    """Draw the table of what the bundle says of itself; what it does not say is left out."""
    spec = predictor.spec
    metadata = _metadata(predictor)
    point = spec.operating_point
    rows = {
        "Model": spec.name,
        "Network": str(spec.network or ""),
        "Answer": "" if spec.combination is None else sentence(spec.combination.sentence()),
        "Updated": "; ".join(update.sentence() for update in spec.updates),
        "Trained with": str(spec.optimizer or ""),
        "Classes": ", ".join(spec.classes),
        "Training data": _plain(metadata.get("data_source")),
        "Operating point": (
            f"{percent(point.threshold)}{_strays(point.interval)}, fixed on {point.images} {spec.decided_on}: "
            f"sensitivity {percent(point.sensitivity)}, specificity {percent(point.specificity)} there"
        ),
    }
    metrics = _metrics(metadata)
    rows |= {_label(name): _figure(value) for name, value in metrics.items()}
    if metrics:
        where = spec.training.validated_on or "images from where the training images come from"
        rows["Figures elsewhere"] = (
            f"The internal figures are of {where}. At other hospitals they may be far worse; above this, and in the "
            "model card, stands what was measured there, if anything was."
        )
    rows |= {"Intended use": _plain(metadata.get("intended_use")), "Made": str(spec.created or "")}
    rows["SHA-256"] = spec.files.get("model.onnx", "")
    body = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items() if value
    )
    return f'<table class="ms-about">{body}</table>'


def model_card(predictor: Predictor) -> str:
    """Return the bundle's model card as Markdown, or an empty string when it has none."""
    path = _folder(predictor) / "MODEL_CARD.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _strays(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" (95 % interval {percent(interval[0])} to {percent(interval[1])})"


def _folder(predictor: Predictor) -> Path:
    return Path(predictor.folder)


def _metadata(predictor: Predictor) -> dict[str, Any]:
    path = _folder(predictor) / "metadata.json"
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _metrics(metadata: dict[str, Any]) -> dict[str, Any]:
    metrics = metadata.get("eval_metrics")
    return metrics if isinstance(metrics, dict) else {}


def _label(metric: str) -> str:
    """Write `internal_auroc` as `AUROC, internal`."""
    kind, _, name = metric.partition("_")
    if kind != "internal":
        return metric.replace("_", " ")
    known = {"auroc": "AUROC", "auprc": "AUPRC", "brier": "Brier score", "ppv": "PPV", "npv": "NPV"}
    return f"{known.get(name, name.replace('_', ' ').capitalize())}, internal"


def _figure(value: Any) -> str:
    if isinstance(value, dict) and "value" in value:
        figure = f"{value['value']:.3f}"
        if {"low", "high"} <= value.keys():
            figure += f" (95 % interval {value['low']:.3f} to {value['high']:.3f})"
        return figure
    return f"{value:.3f}" if isinstance(value, float) else _plain(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
