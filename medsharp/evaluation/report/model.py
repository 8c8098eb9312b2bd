"""The model: what it is, how it was made, and what its bundle can tell of leaks."""

from __future__ import annotations

from typing import Any

from medsharp.bundle import Update
from medsharp.evaluation.report.blocks import Facts, Section, Text
from medsharp.evaluation.report.wording import percent
from medsharp.quantities import whole


def model_sections(bundle: dict[str, Any]) -> list[Section]:
    """Return the section of a bundle; none where it says nothing of itself.

    Args:
        bundle: As in `evaluation.json`.
    """
    rows = model_rows(bundle)
    return [Section("model", "The model", [Text(decided(bundle)), Facts(rows)], listed="Model")] if rows else []


def model_rows(bundle: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of the model, as label and text; what the bundle does not say is left out.

    Args:
        bundle: `BundleSpec.model_dump(mode="json")`, or part of it, or empty.
    """
    training = bundle.get("training") or {}
    rows: list[tuple[str, str]] = []

    def add(label: str, text: Any) -> None:
        if text not in (None, "", {}, []):
            rows.append((label, str(text)))

    add("Bundle", bundle.get("name"))
    add("Network", bundle.get("network") or training.get("network"))
    size = (bundle.get("preprocess") or {}).get("size")
    add("Input", size and f"{size} by {size} pixels, grey")
    add("Optimizer", _optimizer(bundle.get("optimizer") or training.get("optimizer")))
    images = ", ".join(f"{whole(count)} {split}" for split, count in (training.get("images") or {}).items())
    counted = f" ({images} images)" if images else ""
    # Of weights from elsewhere the images are counted that the bundle was made with, not those that they learned from.
    validated = training.get("validated_on")
    add("Trained on", training.get("dataset") and f"{training['dataset']}{'' if validated else counted}")
    add("Validated on", validated and f"{validated}{counted}")
    add("Licence of the training data", training.get("licence"))
    add("Citation of the training data", training.get("citation"))
    point = bundle.get("operating_point") or {}
    if "threshold" in point:
        add(
            "Operating point",
            f"probability of {bundle.get('positive', 'the positive class')} ≥ {point['threshold']:.4f}",
        )
        add("Rule", point.get("rule"))
        if {"sensitivity", "specificity", "images", "positives"} <= point.keys():
            add(
                "Fixed on",
                f"{point['images']} {deciding_images(bundle)}, {point['positives']} of them positive; there, "
                f"sensitivity {percent(point['sensitivity'], 1)}, specificity {percent(point['specificity'], 1)}",
            )
    if "temperature" in bundle:
        slope = any(update["slope"] != 1 for update in bundle.get("updates") or ())
        fitted = "fitted at export" if bundle.get("updates") else "fitted on the same images"
        fitted += ", divided by the slope of the update" if slope else ""
        add("Temperature", f"{bundle['temperature']:.3f}, {fitted}")
    for update in bundle.get("updates") or ():
        add("Updated", Update.model_validate(update).sentence())
    add("Made", bundle.get("created") and f"{bundle['created']}, medsharp {bundle.get('medsharp', '')}".rstrip(", "))
    return rows


def deciding_images(bundle: dict[str, Any]) -> str:
    """Say which images the operating point was chosen on.

    Args:
        bundle: As in `evaluation.json`.
    """
    local = [update["dataset"] for update in bundle.get("updates") or () if update["method"] != "none"]
    if local:
        return f"images of {local[-1]}, its calibration part"
    validated = (bundle.get("training") or {}).get("validated_on")
    return f"images of {validated}" if validated else "internal validation images"


def decided(bundle: dict[str, Any]) -> str:
    """Say what fixed threshold and temperature, and what decided nothing.

    Args:
        bundle: As in `evaluation.json`.
    """
    if not bundle.get("updates"):
        return (
            "Threshold and temperature were fixed on internal validation images before any external image was seen, "
            "and are frozen in the bundle. External data decided nothing."
        )
    return (
        f"The bundle was updated on local data before this evaluation: {updating(bundle)}. Nothing was chosen in this "
        "evaluation; a leak is reported where its images are among those that updated the bundle."
    )


def updating(bundle: dict[str, Any]) -> str:
    """Say how the model was updated before the evaluation, or that it was not.

    Args:
        bundle: As in `evaluation.json`.
    """
    updates = [Update.model_validate(update).sentence() for update in bundle.get("updates") or ()]
    return "; ".join(updates) or "none: threshold and temperature are as frozen in the bundle"


def leak_check(bundle: dict[str, Any]) -> str:
    """Say what it means that no leak was found, which depends on the hashes that the bundle carries; empty without one.

    Args:
        bundle: As in `evaluation.json`.
    """
    if not bundle:
        return ""
    files = bundle.get("files") or {}
    if (bundle.get("training") or {}).get("elsewhere"):
        return (
            "not possible for the images that it was trained on elsewhere, whose hashes nobody gave; none of these is "
            "a copy or a near-duplicate (perceptual hash, also mirrored) of those that fixed its threshold"
        )
    if "training_images.dhash" in files:
        return (
            "none of these images is a copy (SHA-256) or a near-duplicate (perceptual hash, also mirrored) of a "
            "training or validation image"
        )
    if "training_images.sha256" in files:
        return "none of these images is a copy (SHA-256) of a training image; near-duplicates were not looked for"
    return "not possible, as the bundle carries no hashes of its training images"


def hash_rows(bundle: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the bundle's files, each with its SHA-256."""
    return [(str(name), str(digest)) for name, digest in (bundle.get("files") or {}).items()]


def _optimizer(optimizer: Any) -> str:
    if not isinstance(optimizer, dict):
        return str(optimizer or "")
    given = {
        key: f"{value:g}" if isinstance(value, float) else value for key, value in optimizer.items() if key != "name"
    }
    settings = ", ".join(f"{key} {value}" for key, value in given.items())
    return f"{optimizer.get('name', '')}{f' ({settings})' if settings else ''}"
