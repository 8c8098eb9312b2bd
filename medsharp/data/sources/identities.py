"""Who is on an image, where several things say it: a list of labels, PatientID, and the study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medsharp.keys import patient_key


@dataclass(frozen=True)
class Identity:
    """What an image is known by.

    Attributes:
        listed: The patient as a list of labels says it; empty where it does not.
        patient: PatientID of the header.
        study: StudyInstanceUID of the header.
    """

    listed: str = ""
    patient: str = ""
    study: str = ""


def identified(images: Sequence[Identity]) -> tuple[list[str], list[str], list[bool]]:
    """Return the one identifier by which each image's patient is numbered, and what further ties it.

    The list goes before PatientID, and that before the study; any of them may be missing for some images of a patient.
    What is missing is found by the others: an image without PatientID is of the patient of its study, and one that the
    list does not have is of the patient that the list gives for its PatientID. Where that leaves several patients, all
    images with that PatientID, or of that study, have the same tie, as nobody can tell which of them it is.

    Returns:
        Identifiers, empty where nothing is known; ties, empty where there is none; and whether nothing but the study is
        known, of which a patient may have several; one of each an image.
    """
    # PatientID and study are told apart, as one may be written as the other is.
    listed = [image.listed if patient_key(image.listed) else "" for image in images]
    patients = [f"patient {key}" if (key := patient_key(image.patient)) else "" for image in images]
    studies = [f"study {image.study}" if image.study else "" for image in images]
    found = list(listed)
    open_ends: dict[str, None] = {}
    of_study = [False] * len(images)
    for level, written in ((patients, "patient"), (studies, "study")):
        known: dict[str, dict[str, str]] = {}
        for where, who in zip(level, found, strict=True):
            if where and who:
                known.setdefault(where, {}).setdefault(patient_key(who), who)
        for number, where in enumerate(level):
            if where and not found[number]:
                candidates = known.get(where, {})
                found[number] = next(iter(candidates.values())) if len(candidates) == 1 else ""
                if len(candidates) > 1:
                    open_ends[where] = None
                if not found[number]:
                    found[number] = str(getattr(images[number], written))
                    of_study[number] = written == "study"
    ties = [next((where for where in pair if where in open_ends), "") for pair in zip(patients, studies, strict=True)]
    return found, ties, of_study
