"""`medsharp data audit`: what is wrong with data sets, on a page, in a table and in their manifests."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from medsharp.cli._console import LIMIT_HELP, RANGE_HELP, console, heading, note, progress_bar
from medsharp.cli._data_options import SOURCE_HELP, sources_of
from medsharp.errors import InputError


class PolicyName(StrEnum):
    """What becomes of the manifests: `medsharp.data.audit.Policy`, whose import would slow down `--help`."""

    strict = "strict"
    report = "report"


def audit(
    data: Annotated[list[str], typer.Argument(help="Manifests or data set folders; duplicates between them count.")],
    out: Annotated[Path, typer.Option(help="Folder for audit.html, findings.csv and the manifests.")],
    policy: Annotated[
        PolicyName,
        typer.Option(help="strict: findings become flags, groups and reasons to exclude; report: nothing changes."),
    ] = PolicyName.strict,
    source: Annotated[
        list[str] | None, typer.Option(help=SOURCE_HELP + " Once for all, or once for each data set.")
    ] = None,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            help="Kind of finding that may leave out more than a fifth of a data set, such as doppler; may be repeated "
            "or joined by commas. Others are then flagged only."
        ),
    ] = None,
    limit: Annotated[list[str] | None, typer.Option(help=LIMIT_HELP)] = None,
    value_range: Annotated[str | None, typer.Option("--range", metavar="LOW,HIGH", help=RANGE_HELP)] = None,
) -> None:
    """Look for duplicates, contradictions, drawings and odd sizes; nothing is deleted.

    The page holds thumbnails of patients' images. Train on the manifest that is written: its groups are kept.
    """
    from medsharp.config import read_limits
    from medsharp.data.audit import KINDS, Policy, actions_of, audit_datasets, check_accepted, write_audit
    from medsharp.data.sources import open_dataset
    from medsharp.images import read_range

    limits = read_limits(limit or ())
    declared = None if value_range is None else read_range(value_range, "--range")
    accepted = [name.strip() for given in accept or () for name in given.split(",") if name.strip()]
    check_accepted(accepted)
    if accepted and policy is PolicyName.report:
        raise InputError("--accept changes nothing with --policy report, which leaves out no image; give one of them")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    if (out / "manifest.csv").exists() or (out / "audit.html").exists():
        raise InputError(f"{out} holds an audit or a manifest already; choose another folder or remove it first")
    heading(f"Audit: {', '.join(data)}")
    with progress_bar() as report:
        manifests = [
            open_dataset(name, source=what, value_range=declared)
            for name, what in zip(data, sources_of(source, data), strict=True)
        ]
        found = audit_datasets(manifests, policy=Policy(policy.value), limits=limits, accept=accepted, progress=report)
        written = write_audit(found, out, report)
    for manifest in manifests:
        for sentence in manifest.notes:
            note(f"{manifest.info.name}: {sentence}")
    table = Table()
    table.add_column("finding")
    table.add_column("")
    table.add_column("number", justify="right")
    table.add_column("in the manifest")
    for kind in KINDS.values():
        chosen = [finding for finding in found.findings if finding.kind == kind.name]
        if chosen:
            done = actions_of(chosen) if found.policy is Policy.strict else "-"
            table.add_row(escape(kind.title), kind.severity.value, f"{len(chosen):,}", done)
    console.print(table)
    for suspension in found.suspensions:
        _warn(f"{'accepted' if suspension.accepted else 'NOT APPLIED'}: {suspension}")
    for sentence in found.lost:
        _warn(sentence)
    for sentence in found.unsearched:
        note(sentence)
    for before, after in zip(found.before, found.after, strict=True):
        note(f"{after.info.name}: {len(after.included):,} of {len(before.included):,} images stay")
    for path in (out / "audit.html", out / "findings.csv", *written):
        note(str(path))


def _warn(sentence: str) -> None:
    console.print(f"[bold red]warning:[/] {escape(sentence)}", soft_wrap=True)
