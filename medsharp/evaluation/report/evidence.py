"""What a run knows that a reporting checklist asks for: short answers, each with the section that has it in full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from medsharp.evaluation.notes import alarming
from medsharp.evaluation.report.flow import groups_text, patients_text
from medsharp.evaluation.report.model import leak_check, updating
from medsharp.evaluation.report.robustness import robustness_of
from medsharp.evaluation.report.wording import (
    column_name,
    has_own_thresholds,
    interval,
    not_summarised,
    percent,
    thresholds_text,
)
from medsharp.quantities import counted, whole

Answer = tuple[str, str]
"""Text, and the `id` of the section on the page."""

_Find = Callable[[dict[str, Any]], Answer | None]

_MODEL, _METHODS, _LIMITS, _HEADLINE, _DATA = "model", "methods", "limits", "headline", "data-1"
_SOME = 6


def _every(document: dict[str, Any], write: Callable[[dict[str, Any]], str], section: str = _DATA) -> Answer | None:
    """Join what `write` says of each data set; empty texts are left out, and no text is no answer."""
    entries = document["datasets"]
    texts = [(entry["name"], write(entry)) for entry in entries]
    said = [f"{name}: {text}" if len(entries) > 1 else text for name, text in texts if text]
    return ("; ".join(said), section) if said else None


def _training(document: dict[str, Any], key: str) -> Any:
    return (document["bundle"].get("training") or {}).get(key)


def _counts(counts: dict[str, int]) -> str:
    shown = ", ".join(f"{name} {whole(count)}" for name, count in list(counts.items())[:_SOME])
    return shown + (f" and {len(counts) - _SOME} more" if len(counts) > _SOME else "")


def _by(column: str) -> _Find:
    return lambda document: _every(document, lambda entry: _counts(entry["counts"]["by"].get(column, {})))


def _roles(role: str) -> _Find:
    def find(document: dict[str, Any]) -> Answer | None:
        names = [entry["name"] for entry in document["datasets"] if entry["role"] == role]
        return (", ".join(names), _HEADLINE) if names else None

    return find


def _of_bundle(sentence: Callable[[dict[str, Any]], str], section: str = _MODEL) -> _Find:
    def find(document: dict[str, Any]) -> Answer | None:
        text = sentence(document["bundle"]) if document["bundle"] else ""
        return (text, section) if text else None

    return find


def _task(document: dict[str, Any]) -> Answer:
    positives = sorted({entry["positive"] for entry in document["datasets"]})
    return f"evaluation of the probability that an image shows: {', '.join(positives)}", _HEADLINE


def _training_data(document: dict[str, Any]) -> Answer | None:
    images, dataset = _training(document, "images"), _training(document, "dataset")
    if not images:
        return None
    # Of weights from elsewhere the images are counted that fixed the threshold.
    validated = _training(document, "validated_on")
    counts = f"{_counts(images)} images"
    return f"{dataset}; validated on {validated}: {counts}" if validated else f"{dataset}: {counts}", _MODEL


def _differences(document: dict[str, Any]) -> Answer | None:
    trained = _training(document, "dataset")
    external = [entry["name"] for entry in document["datasets"] if entry["role"] == "external"]
    return (f"trained on {trained}, evaluated on {', '.join(external)}", _DATA) if trained and external else None


def _exclusions(entry: dict[str, Any]) -> str:
    counts = entry["counts"]
    return f"left out: {_counts(counts['excluded'])}" if counts["excluded"] else "no image was left out"


def _flow(entry: dict[str, Any]) -> str:
    counts = entry["counts"]
    return f"{counted(counts['submitted'], 'image')} in the data set, {whole(counts['images'])} evaluated"


def _sample(entry: dict[str, Any]) -> str:
    counts = entry["counts"]
    return (
        f"{counted(counts['images'], 'image')}, {whole(counts['positives'])} positive; patients: "
        f"{patients_text(counts)}; {groups_text(counts)}"
    )


def _missing(entry: dict[str, Any]) -> str:
    failed = entry["counts"]["failed"]
    return f"{counted(failed, 'image')} could not be predicted and {'was' if failed == 1 else 'were'} left out"


def _flags(entry: dict[str, Any]) -> str:
    flags, refused = entry["counts"].get("flags"), entry["counts"].get("refused")
    said = f"refused by the input checks: {counted(refused, 'image')}, counted as wrong too; " if refused else ""
    return said + (f"flagged and kept: {_counts(flags)}" if flags else "no image was flagged")


def _accuracy(entry: dict[str, Any]) -> str:
    figures = entry["figures"]
    shown = (("AUROC", "auroc"), ("sensitivity", "sensitivity"), ("specificity", "specificity"))
    return ", ".join(f"{name} {interval(figures[key], key)}" for name, key in shown)


def _crosstab(entry: dict[str, Any]) -> str:
    point = entry["operating_point"]
    return (
        f"{whole(point['true_positives'])} true positive, {whole(point['false_negatives'])} false negative, "
        f"{whole(point['false_positives'])} false positive, {whole(point['true_negatives'])} true negative"
    )


def _failures(entry: dict[str, Any]) -> str:
    failures = entry.get("failures")
    if failures is None:
        return ""
    return f"{whole(failures['missed']['total'])} missed, {whole(failures['false_alarms']['total'])} false alarms"


def _subgroups(entry: dict[str, Any]) -> str:
    return ", ".join(dict.fromkeys(f"by {column_name(group['by'])}" for group in entry["subgroups"]))


def _clusters(document: dict[str, Any]) -> Answer | None:
    summary = document.get("site_summary") or {"figures": {}}
    left_out = not_summarised(document)
    if any(found["value"] is not None for found in summary["figures"].values()):
        return f"random-effects summary over the data sets with its prediction interval.{left_out}".strip(
            "."
        ), _HEADLINE
    external = [entry for entry in document["datasets"] if entry["role"] == "external"]
    several = len(external) > 1 or any(len(entry["counts"]["by"].get("site", {})) > 1 for entry in external)
    return (f"figures by data set and site.{left_out}".strip("."), _HEADLINE) if several else None


def _threshold(document: dict[str, Any]) -> Answer:
    point = document["bundle"].get("operating_point")
    if point:
        return f"probability from {point['threshold']:.4f} on, fixed before: {point.get('rule', '')}", _MODEL
    entries = document["datasets"]
    own = next((entry for entry in entries if has_own_thresholds(entry)), None)
    if own is not None:
        return f"{own.get('scale', 'probability')} from a threshold on, {thresholds_text(own)}", _HEADLINE
    first = entries[0]
    return f"{first.get('scale', 'probability')} from {first['threshold']:.4f} on, as given to this run", _HEADLINE


def _leak(document: dict[str, Any]) -> Answer | None:
    leaks = [note for entry in document["datasets"] for note in entry["notes"] if alarming(note)]
    for entry, model in robustness_of(document):
        leaks += [f"robustness on {entry['name']}: {note}" for note in model.get("notes", ()) if alarming(note)]
    if leaks:
        return "; ".join(leaks), _DATA
    if not any(name.startswith("training_images.") for name in document["bundle"].get("files") or {}):
        return None
    return leak_check(document["bundle"]), _MODEL


def _imbalance(document: dict[str, Any]) -> Answer | None:
    weights = ((_training(document, "config") or {}).get("loss") or {}).get("class_weights")
    return (f"class weights in training: {weights}; temperature fitted after", _MODEL) if weights else None


def _initial(document: dict[str, Any]) -> Answer | None:
    network = (_training(document, "config") or {}).get("network")
    if not network or _training(document, "elsewhere"):
        return None
    if network.get("checkpoint"):
        return f"from {network['checkpoint']}", _MODEL
    return ("pretrained weights" if network.get("pretrained") else "random weights"), _MODEL


def _own(bundle: dict[str, Any]) -> dict[str, Any]:
    """Return the record of training of a bundle that was trained here; of others nobody knows how it was done."""
    training: dict[str, Any] = bundle.get("training") or {}
    return {} if training.get("elsewhere") else training


def _optimizer(bundle: dict[str, Any]) -> str:
    optimizer = (bundle.get("training") or {}).get("optimizer") or {}
    name = optimizer.get("name", "") if isinstance(optimizer, dict) else str(optimizer)
    return f"optimizer {name}; all settings in the bundle's model card" if name else ""


def _preprocessing(bundle: dict[str, Any]) -> str:
    given = bundle.get("preprocess") or {}
    return f"grey pixels, {given['size']} by {given['size']}, {given['fit']}, crop {given['crop']}" if given else ""


def _calculation(bundle: dict[str, Any]) -> str:
    digest = (bundle.get("files") or {}).get("model.onnx")
    return f"bundle {bundle.get('name', '')}, model.onnx with SHA-256 {digest[:12]}..." if digest else ""


EVIDENCE: dict[str, _Find] = {
    "accuracy": lambda document: _every(document, _accuracy, _HEADLINE),
    "blind": _of_bundle(lambda _: "the model sees the image only"),
    "calculation": _of_bundle(_calculation),
    "clusters": _clusters,
    "crosstab": lambda document: _every(document, _crosstab),
    "devices": _by("device"),
    "differences": _differences,
    "disjoint": _of_bundle(lambda b: "patients and near-duplicates are never split" if _own(b) else ""),
    "exclusions": lambda document: _every(document, _exclusions),
    "external": _roles("external"),
    "failures": lambda document: _every(document, _failures),
    "flow": lambda document: _every(document, _flow),
    "histology": _by("histology"),
    "imbalance": _imbalance,
    "initial": _initial,
    "input_check": lambda document: _every(document, _flags) if document["bundle"] else None,
    "internal": _roles("internal"),
    "intervals": lambda document: (document["datasets"][0]["intervals"]["method"], _METHODS),
    "labels": lambda document: _every(document, lambda entry: _counts(entry["counts"]["labels"])),
    "leak": _leak,
    "licences": lambda document: _every(document, lambda entry: entry["about"].get("licence", "")),
    "limits": lambda document: ("limits that hold for every such evaluation", _LIMITS),
    "measures": lambda document: ("discrimination, calibration, net benefit; each with its method", _METHODS),
    "missing": lambda document: _every(document, _missing),
    "network": _of_bundle(lambda b: (b.get("training") or {}).get("network", "")),
    "no_updating": _of_bundle(updating),
    "partition": _training_data,
    "preprocessing": _of_bundle(_preprocessing),
    "prevalence": lambda document: _every(
        document, lambda entry: f"{percent(entry['figures']['prevalence']['value'], 1)} of images positive"
    ),
    "retrospective": lambda document: ("images and labels were there before the predictions", _LIMITS),
    "robustness": lambda document: (
        ("degradation under image corruptions", "robustness") if document.get("robustness") else None
    ),
    "sample": lambda document: _every(document, _sample),
    "selection": _of_bundle(
        lambda b: "epoch with the best AUROC on validation images" if _own(b).get("config") else ""
    ),
    "severity": _by("birads"),
    "sites": _by("site"),
    "software": lambda document: (
        f"medsharp {document['medsharp']}, "
        + ", ".join(f"{name} {number}" for name, number in document["versions"].items()),
        _METHODS,
    ),
    "sources": lambda document: _every(document, lambda entry: entry["about"].get("source", "")),
    "storage": _of_bundle(lambda _: "a table of predictions beside the report, a row an image, with hashes", _DATA),
    "subgroups": lambda document: _every(document, _subgroups),
    "task": _task,
    "threshold": _threshold,
    "training": _of_bundle(_optimizer),
    "training_data": _training_data,
}
"""What can be known, by the name that `checklist.yaml` uses."""
