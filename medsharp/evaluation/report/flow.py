"""Who is in the figures: images, patients and groups, each counted apart, from the data set to the decisions."""

from __future__ import annotations

from typing import Any

from medsharp.evaluation.report.abstention import refusals_of
from medsharp.evaluation.report.blocks import Block, Facts, Flow, Line, Step, Text, strong
from medsharp.evaluation.report.wording import column_name, has_own_thresholds, listed, thresholds_text
from medsharp.quantities import counted, whole

_MOST = 12


def flow_blocks(entry: dict[str, Any], frozen: bool) -> list[Block]:
    """Return the flow diagram of a data set, and what is known of its images.

    Args:
        entry: The data set.
        frozen: Whether a bundle held the threshold.
    """
    counts, point, positive = entry["counts"], entry["operating_point"], entry["positive"]
    rest = " or ".join(name for name in entry["classes"] if name != positive)
    steps = [Step(_submitted(counts))]
    if counts["excluded"]:
        steps.append(
            Step(_many(sum(counts["excluded"].values()), "left out before prediction"), _reasons(counts), "out")
        )
    if counts["failed"]:
        steps.append(Step(_many(counts["failed"], "could not be predicted"), (), "out"))
    if counts.get("refused"):
        steps.append(Step(_many(counts["refused"], "refused by the input checks"), refusals_of(entry), "out"))
    steps.append(Step(_evaluated(counts), _of_evaluated(counts), "kept"))
    called = point["true_positives"], point["false_positives"]
    not_called = point["false_negatives"], point["true_negatives"]
    split = [
        Step((strong(whole(sum(parts))), said), [f"{positive}: {whole(parts[0])}", f"{rest}: {whole(parts[1])}"])
        for parts, said in ((called, f" called {positive}"), (not_called, f" not called {positive}"))
    ]
    fixed = "fixed before" if frozen else "given to this run; it must not come from these images"
    scale = entry.get("scale", "probability")
    at_least = f"{point['threshold']:.4f}, the threshold that was {fixed}"
    if has_own_thresholds(entry):
        at_least = f"its threshold, {thresholds_text(entry)}; they must not come from these images"
    text = f"Called {positive}: a {scale} of at least {at_least}."
    return [Flow("Flow of images", steps, split), Text(text, "soft"), *_facts(entry)]


def patients_text(counts: dict[str, Any]) -> str:
    """Write how many patients the evaluated images are of, and how many images name none."""
    if counts["patients"] is None:
        return "unknown"
    nameless = counts["images_without_patient"]
    without = f", and {counted(nameless, 'image')} without a patient" if nameless else ""
    return f"{whole(counts['patients'])}{without}"


def groups_text(counts: dict[str, Any]) -> str:
    """Say what intervals resample: patients, or groups tied by near-duplicates, so that all numbers add up."""
    groups, patients, nameless = counts["clusters"], counts["patients"], counts["images_without_patient"]
    if patients is None:
        if groups == counts["images"]:
            return "intervals take each image as a patient of its own"
        return f"intervals take its {counted(groups, 'group')} of near-duplicates as patients"
    if not nameless and groups == patients:
        return "intervals resample these patients"
    said = f"intervals resample {counted(groups, 'group')}"
    why = ["patients who share near-duplicate images are one"] if groups < patients + nameless else []
    if nameless:
        why.append("an image without a patient stands for one, or is in the group of its near-duplicates")
    return f"{said}: {'; '.join(why)}"


def _many(images: int, what: str) -> Line:
    number, _, noun = counted(images, "image").partition(" ")
    return (strong(number), f" {noun} {what}")


def _submitted(counts: dict[str, Any]) -> Line:
    start = _many(counts["submitted"], "")
    patients = counts.get("submitted_patients")
    if not patients:
        return _many(counts["submitted"], "in the data set")
    number, _, noun = counted(patients, "patient").partition(" ")
    return (*start[:-1], f"{start[-1]}of ", strong(number), f" {noun} in the data set")


def _reasons(counts: dict[str, Any]) -> list[Line]:
    excluded = counts["excluded"]
    lines: list[Line] = [f"{reason}: {whole(count)}" for reason, count in list(excluded.items())[:_MOST]]
    left = len(excluded) - _MOST
    return lines + ([f"and {counted(left, 'more reason')}"] if left > 0 else [])


def _evaluated(counts: dict[str, Any]) -> Line:
    start = _many(counts["images"], "evaluated, ")
    patients, nameless = counts["patients"], counts["images_without_patient"]
    if patients is None:
        return (*start, "of patients who are not known")
    number, _, noun = counted(patients, "patient").partition(" ")
    if nameless:
        named, unnamed = whole(counts["images"] - nameless), counted(nameless, "image")
        return (*start, f"{named} of them of ", strong(number), f" {noun}; {unnamed} without a patient")
    return (*start, "of ", strong(number), f" {noun}")


def _of_evaluated(counts: dict[str, Any]) -> list[Line]:
    lines: list[Line] = [listed(counts["labels"]), groups_text(counts)]
    submitted, patients = counts.get("submitted_patients"), counts["patients"]
    if submitted and patients and submitted > patients and not counts["images_without_patient"]:
        lost = counted(submitted - patients, "patient")
        lines.append(f"no image is left of {lost}")
    if counts.get("flags"):
        lines.append(f"kept but flagged: {listed(counts['flags'])}")
    return lines


def _facts(entry: dict[str, Any]) -> list[Block]:
    rows = [("DOI" if key == "doi" else _title(key), str(text)) for key, text in entry["about"].items()]
    rows += [
        (f"Images by {column_name(column)}", listed(found, _MOST)) for column, found in entry["counts"]["by"].items()
    ]
    return [Facts(rows)] if rows else []


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()
