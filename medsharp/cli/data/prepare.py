"""`medsharp data prepare`: a hospital's folder and its list of labels become a manifest."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from medsharp.cli._console import RANGE_HELP, console, heading, note, progress_bar
from medsharp.cli._data_options import CLASS_HELP, LABEL_FROM_HELP, SOURCE_HELP, rule_of
from medsharp.errors import InputError


class StudyDate(StrEnum):
    """How much of the date of an examination is carried."""

    none = "none"
    year = "year"
    month = "month"
    day = "day"


def prepare(
    data: Annotated[str, typer.Argument(help="Folder of images, or a known data set; with class folders or a list.")],
    out: Annotated[Path, typer.Option(help="Folder for manifest.csv and manifest.yaml.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="List of labels (CSV, XLSX or Parquet); without it labels.csv, .xlsx or .parquet in the folder."
        ),
    ] = None,
    label_from: Annotated[str | None, typer.Option(metavar="COLUMN", help=LABEL_FROM_HELP)] = None,
    malignant: Annotated[str | None, typer.Option(metavar="VALUES", help=CLASS_HELP.format(name="malignant"))] = None,
    benign: Annotated[str | None, typer.Option(metavar="VALUES", help=CLASS_HELP.format(name="benign"))] = None,
    source: Annotated[str, typer.Option(help=SOURCE_HELP)] = "auto",
    name: Annotated[str | None, typer.Option(help="Of the data set, in reports; the folder's without it.")] = None,
    site: Annotated[str | None, typer.Option(help="The hospital, for images that no site is known of.")] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Column of the list, or with --copy of a manifest, to carry too; may be repeated."
        ),
    ] = None,
    study_date: Annotated[
        StudyDate | None,
        typer.Option(
            help="How much of StudyDate is carried: a day helps to find out who a patient is.", show_default="year"
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(help="File with the key that numbers patients; without it ~/.config/medsharp/patients.key."),
    ] = None,
    value_range: Annotated[str | None, typer.Option("--range", metavar="LOW,HIGH", help=RANGE_HELP)] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the images into --out under numbers, as paths may be names.")
    ] = False,
) -> None:
    """Read a hospital's folder as it was exported, label it, number its patients, and write a manifest.

    Nothing is decided about pixels here: `medsharp data audit` looks at them.
    """
    import dataclasses

    from medsharp.data.manifest import write_manifest
    from medsharp.data.sources import FolderReading, PatientKey, copy_images, open_dataset
    from medsharp.images import read_range
    from medsharp.keys import patients_of

    if (out / "manifest.csv").exists():
        raise InputError(f"{out / 'manifest.csv'} exists already; choose another folder or remove it first")
    patient_key = PatientKey(key)
    reading = FolderReading(
        table=labels,
        key=patient_key,
        study_date=None if study_date is None else study_date.value,
        keep=tuple(keep or ()),
        copied=copy,
    )
    declared = None if value_range is None else read_range(value_range, "--range")
    rule = rule_of(label_from, malignant, benign)
    heading(f"Data: {data}")
    manifest = open_dataset(data, source=source, rule=rule, reading=reading, value_range=declared)
    if site is not None:
        table = manifest.table.copy()
        table.loc[table["site"] == "", "site"] = site.strip()
        manifest = manifest.replace(table=table)
    info = manifest.info
    info = dataclasses.replace(info, name=name or info.name, source=site or info.source)
    manifest = dataclasses.replace(manifest, info=info)
    told: tuple[str, ...] = ()
    if copy:
        told = manifest.notes  # which may quote names: they are printed, and not stored among the copies
        with progress_bar() as report:
            manifest = copy_images(manifest, out, patient_key, progress=report)
    used = manifest.included
    unknown = int((patients_of(used) == "").sum())
    if unknown:
        sentence = f"the patient of {unknown} of {len(used)} images is not known"
        manifest = manifest.replace(notes=(*manifest.notes, sentence))
    if key is not None and not patient_key.is_used:
        manifest = manifest.replace(notes=(*manifest.notes, "--key numbered nobody: no patient is known here"))
    write_manifest(manifest, out)
    for sentence in (*told, *manifest.notes):
        note(sentence)
    counts = Table()
    for column, justify in (("label", "left"), ("images", "right"), ("patients", "right"), ("left out", "right")):
        counts.add_column(column, justify=justify)  # type: ignore[arg-type]
    for label, rows in manifest.table.groupby("label"):
        used = rows[rows["exclude"] == ""]
        patients = len(set(used["patient"]) - {""})
        unknown = bool((used["patient"] == "").any())
        shown = f"{patients:,}{' and unknown ones' * unknown}" if patients else "not known"
        counts.add_row(str(label) or "none", f"{len(used):,}", shown, f"{len(rows) - len(used):,}")
    console.print(counts)
    note(f"{out / 'manifest.csv'}")
    console.print(f"next: [bold]medsharp data audit {out} --out AUDIT[/]", soft_wrap=True)
