"""The audit: images are inspected one by one, then against each other, and the policy is applied."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from medsharp.data.audit.balance import balance_findings, patient_findings, size_findings
from medsharp.data.audit.finding import (
    KINDS,
    LEAST_EXCLUDED,
    MOST_EXCLUDED,
    Action,
    Finding,
    Policy,
    Suspension,
)
from medsharp.data.audit.inspect import Inspection, inspect_images
from medsharp.data.audit.stated import read_statements
from medsharp.data.duplicates import Match, apply_matches, duplicate_matches, write_looks
from medsharp.data.duplicates.crops import search_crops
from medsharp.data.exclusions import count_exclusions
from medsharp.data.manifest import AUDITED, Manifest, check_unchanged, name_of
from medsharp.errors import InputError, nearest
from medsharp.images import ImageLimits
from medsharp.progress import Progress


@dataclass(frozen=True)
class Audit:
    """What was found and what became of the data sets.

    Attributes:
        before: The data sets as they were given.
        after: As the policy leaves them; `before` again under `report`.
        findings: Ordered by kind, data set and image.
        policy: What was applied.
        limits: Beyond which an image counts as unreadable.
        suspensions: Kinds that concern more of a data set than one kind may exclude by itself.
        lost: Sentences on classes of which no image stays.
        unsearched: Sentences on what the search for crops did not compare.
    """

    before: tuple[Manifest, ...]
    after: tuple[Manifest, ...]
    findings: tuple[Finding, ...]
    policy: Policy
    limits: ImageLimits
    suspensions: tuple[Suspension, ...] = ()
    lost: tuple[str, ...] = ()
    unsearched: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Seen:
    """An inspected image: which manifest, which row, what that is called (its frame too), and what was seen."""

    manifest: int
    row: int
    image: str
    label: str
    inspection: Inspection


def audit_datasets(
    manifests: Sequence[Manifest],
    *,
    policy: Policy = Policy.strict,
    limits: ImageLimits = ImageLimits(),
    accept: Collection[str] = (),
    progress: Progress | None = None,
) -> Audit:
    """Inspect every image that is not excluded, compare all with each other, and apply a policy.

    Args:
        manifests: Where a picture is in two data sets, the one in the later manifest is left out.
        policy: `strict` writes what was found into `exclude`, `group` and a column `flags`; `report` changes nothing.
        limits: Images beyond them count as unreadable.
        accept: Kinds that may exclude more than a fifth of a data set; of others, so many findings are flagged only.
        progress: Called with images done, images in all and what is being done.

    Raises:
        InputError: Two data sets have one name, one has no image that can be used, or `accept` names no kind that
            excludes.
    """
    check_accepted(accept)
    names = [manifest.info.name for manifest in manifests]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InputError(f"two data sets are called {repeated}; give each once, or another name in its manifest.yaml")
    seen: list[_Seen] = []
    unread: list[Finding] = []
    for number, manifest in enumerate(manifests):
        rows = [int(row) for row in manifest.included.index]
        stated, cells = read_statements(manifest)
        unread += cells
        for row, inspection in zip(rows, inspect_images(manifest, rows, limits, progress, stated), strict=True):
            said = manifest.table.loc[row].to_dict()
            seen.append(_Seen(number, row, name_of(said), said["label"], inspection))
        reasons = [one.inspection.look.reason for one in seen if one.manifest == number]
        if all(reasons):
            first = reasons[0] if reasons else "it lists no image that is not excluded"
            raise InputError(f"{manifest.info.name}: no image can be used; {first}")
    looks = [one.inspection.look for one in seen]
    if progress is not None:
        progress(0, 1, "comparing images")
    matches = duplicate_matches(looks)
    known = {(match.first, match.second) for match in matches}
    features = [one.inspection.features for one in seen]
    crops = search_crops(features)
    matches += [match for match in crops.matches if (match.first, match.second) not in known]
    matches.sort(key=lambda match: (match.first, match.second))
    if progress is not None:
        progress(1, 1, "comparing images")

    findings = [
        Finding(names[one.manifest], one.image, kind, detail, KINDS[kind].action)
        for one in seen
        for kind, detail in one.inspection.found
    ]
    findings += unread
    findings += [finding for match in matches for finding in _pair(match, seen, manifests)]
    for manifest in manifests:
        findings += [*patient_findings(manifest), *balance_findings(manifest)]
    for number, manifest in enumerate(manifests):
        sizes = {one.row: one.inspection.look.size for one in seen if one.manifest == number}
        findings += size_findings(manifest, sizes)
    order = {name: place for place, name in enumerate(KINDS)}
    findings.sort(key=lambda f: (order[f.kind], names.index(f.dataset)))
    if policy is Policy.report:
        plain = [_without_action(finding) for finding in findings]
        return Audit(tuple(manifests), tuple(manifests), tuple(plain), policy, limits, unsearched=crops.notes)
    totals = {name: sum(one.manifest == number for one in seen) for number, name in enumerate(names)}
    suspensions = _suspensions(findings, totals, accept)
    held = {(one.dataset, one.kind) for one in suspensions if not one.accepted}
    findings = [_suspended(finding) if (finding.dataset, finding.kind) in held else finding for finding in findings]
    after = [
        _apply(manifest, number, seen, matches, [f for f in findings if f.dataset == manifest.info.name])
        for number, manifest in enumerate(manifests)
    ]
    lost = tuple(sentence for pair in zip(manifests, after, strict=True) for sentence in _lost_classes(*pair))
    return Audit(tuple(manifests), tuple(after), tuple(findings), policy, limits, suspensions, lost, crops.notes)


def check_accepted(kinds: Collection[str]) -> None:
    """Refuse kinds that are unknown or exclude nothing.

    Raises:
        InputError: With the nearest names, or those that exclude.
    """
    excluding = [kind.name for kind in KINDS.values() if kind.action is Action.exclude]
    for name in kinds:
        if name not in KINDS:
            raise InputError(f"--accept {name}: no kind of finding has that name{nearest(name, excluding)}")
        if name not in excluding:
            raise InputError(f"--accept {name}: it excludes no image; those that do are {', '.join(excluding)}")


def _suspensions(
    findings: Sequence[Finding], totals: Mapping[str, int], accept: Collection[str]
) -> tuple[Suspension, ...]:
    """Find kinds that would exclude more than a fifth of a data set."""
    concerned: dict[tuple[str, str], set[str]] = {}
    for finding in findings:
        if finding.action is Action.exclude:
            images = concerned.setdefault((finding.dataset, finding.kind), set())
            images.add(finding.image)
            if finding.kind == "contradictory" and finding.other_dataset == finding.dataset:
                images.add(finding.other_image)  # of two labels nobody knows which is right
    return tuple(
        Suspension(dataset, kind, len(images), totals[dataset], kind in accept)
        for (dataset, kind), images in concerned.items()
        if len(images) >= LEAST_EXCLUDED and len(images) > MOST_EXCLUDED * totals[dataset]
    )


def _suspended(finding: Finding) -> Finding:
    """Return a finding that excludes nothing; copies within a data set still share a group."""
    inside = KINDS[finding.kind].paired and finding.other_dataset == finding.dataset
    return dataclasses.replace(finding, action=Action.group if inside else Action.flag)


def _lost_classes(before: Manifest, after: Manifest) -> list[str]:
    had, has = set(before.included["label"]) - {""}, set(after.included["label"])
    counts = before.included["label"].value_counts()
    return [
        f"{after.info.name}: no image of class {label} stays, of {counts[label]:,}; nothing can be trained on it"
        for label in sorted(had - has)
    ]


def _pair(match: Match, seen: Sequence[_Seen], manifests: Sequence[Manifest]) -> list[Finding]:
    first, second = seen[match.first], seen[match.second]
    how = match.detail or f"{match.kind} copy"
    patients = [manifests[one.manifest].table.at[one.row, "patient"] for one in (first, second)]
    if all(patients) and patients[0] != patients[1]:
        how = f"{how}; patients {patients[0]} and {patients[1]}"
    kind, detail = str(match.kind), f"{how}; both {first.label}" if first.label else how
    # A finding is about the image that something is done to, which is the later one.
    sides = [(second, first)]
    if _contradict(first, second, manifests):
        kind, detail = "contradictory", f"{first.label} and {second.label}: {how}"
        if first.manifest != second.manifest:
            sides.append((first, second))
    elif first.manifest != second.manifest:
        kind, detail = "between", how
    return [
        Finding(
            manifests[one.manifest].info.name,
            one.image,
            kind,
            detail,
            KINDS[kind].action,
            other.image,
            manifests[other.manifest].info.name,
            match.distance,
            round(match.similarity, 3),
        )
        for one, other in sides
    ]


def _contradict(one: _Seen, other: _Seen, manifests: Sequence[Manifest]) -> bool:
    if not one.label or not other.label or one.label == other.label:
        return False
    # A class that the other data set does not have may be part of one of its classes.
    return one.label in manifests[other.manifest].info.classes and other.label in manifests[one.manifest].info.classes


def _without_action(finding: Finding) -> Finding:
    return dataclasses.replace(finding, action=Action.none)


def _apply(
    manifest: Manifest, number: int, seen: Sequence[_Seen], matches: Sequence[Match], findings: Sequence[Finding]
) -> Manifest:
    table = manifest.table.copy()
    own = [index for index, one in enumerate(seen) if one.manifest == number]
    place_of = {index: place for place, index in enumerate(own)}
    rows = [seen[index].row for index in own]
    looks = [seen[index].inspection.look for index in own]
    check_unchanged(manifest, rows, [look.sha256 for look in looks])
    write_looks(table, rows, looks)
    inside = [
        dataclasses.replace(match, first=place_of[match.first], second=place_of[match.second])
        for match in matches
        if match.first in place_of and match.second in place_of
    ]
    apply_matches(table, rows, inside)
    _keep_suspended(table, manifest, findings)
    places = {name: row for row, name in _names(table).items()}
    flags: dict[int, list[str]] = {}
    for finding in findings:
        if not finding.image:
            continue
        row = places[finding.image]
        flags.setdefault(row, []).append(finding.kind)
        if finding.action is Action.exclude and not table.at[row, "exclude"]:
            table.at[row, "exclude"] = _reason(finding)
        if finding.other_dataset == finding.dataset:
            flags.setdefault(places[finding.other_image], []).append(finding.kind)
    column = pd.Series("", index=table.index, dtype=object)
    for row, kinds in flags.items():
        column.at[row] = ";".join(kind for kind in KINDS if kind in kinds)
    table["flags"] = column
    return manifest.replace(table=table, notes=(*manifest.notes, *_notes(manifest, table)))


def _names(table: pd.DataFrame) -> dict[int, str]:
    """Return what each row is called in findings; frames of a clip have one `image`."""
    return {int(row): name_of(said) for row, said in zip(table.index, table.to_dict("records"), strict=True)}


def _keep_suspended(table: pd.DataFrame, manifest: Manifest, findings: Sequence[Finding]) -> None:
    """Take back, in place, what was excluded for findings that exclude nothing; another reason stays."""
    reasons: dict[str, set[bool]] = {}
    for finding in findings:
        if KINDS[finding.kind].action is Action.exclude:
            images = [finding.image]
            if finding.other_dataset == finding.dataset and finding.kind == "contradictory":
                images.append(finding.other_image)
            for image in images:
                reasons.setdefault(image, set()).add(finding.action is Action.exclude)
    for row, image in _names(table).items():
        if not manifest.table.at[row, "exclude"] and image in reasons and True not in reasons[image]:
            table.at[row, "exclude"] = ""


def _reason(finding: Finding) -> str:
    if finding.kind == "between":
        return f"duplicate of {finding.other_image} in {finding.other_dataset}"
    if finding.kind == "contradictory":
        return f"contradictory duplicate of {finding.other_image} in {finding.other_dataset}"
    title = KINDS[finding.kind].title
    # Where the data set's own table decided, the reason names the column.
    return (
        f"{title[0].lower()}{title[1:]}{f', as {finding.detail}' if finding.detail.startswith('the column ') else ''}"
    )


def _notes(before: Manifest, table: pd.DataFrame) -> list[str]:
    newly = table.loc[(before.table["exclude"] == "") & (table["exclude"] != ""), "exclude"]
    kinds = count_exclusions(newly)
    notes = [f"{AUDITED}{count} of {len(table)} images left out: {kind}" for kind, count in sorted(kinds.items())]
    return [*notes, f"{AUDITED}{(table['exclude'] == '').sum()} of {len(table)} images stay"]
