"""What the page says of the model: name, training data, internal figures, and its card."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from medsharp.inference import Predictor
from serve.cards import percent


def about_model(predictor: Predictor) -> str:
    """Draw the table of what the bundle says of itself; what it does not say is left out."""
    spec = predictor.spec
    metadata = _metadata(predictor)
    point = spec.operating_point
    rows = {
        "Model": spec.name,
        "Network": str(spec.network or ""),
        "Trained with": str(spec.optimizer or ""),
        "Classes": ", ".join(spec.classes),
        "Training data": _plain(metadata.get("data_source")),
        "Operating point": (
            f"{percent(point.threshold)}, fixed on {point.images} internal validation images: "
            f"sensitivity {percent(point.sensitivity)}, specificity {percent(point.specificity)} there"
        ),
    }
    metrics = _metrics(metadata)
    rows |= {_label(name): _figure(value) for name, value in metrics.items()}
    if metrics:
        rows["Figures elsewhere"] = (
            "The internal figures are of test images from where the training images come from. At other hospitals they "
            "may be far worse; the model card shows what was measured there, if anything was."
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
