"""MODEL_CARD.md: what the model is, what it was trained on, how it did, and what it is not for."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import yaml

from medsharp.bundle import (
    CARD,
    INTERNAL,
    MODELS,
    TRAINING_LOOKS,
    BundleSpec,
    Figure,
    OperatingPoint,
    Update,
    read_bundle,
    read_graphs,
    write_spec,
)
from medsharp.data.manifest import SPLITS
from medsharp.evaluation import Evaluation
from medsharp.evaluation.report.wording import percent, titled
from medsharp.evaluation.statistics.operating_point import asked_sensitivity
from medsharp.evaluation.statistics.registry import names_of
from medsharp.files import sha256_file, write_text
from medsharp.inference.checks.answers import ANSWER_CHECKS
from medsharp.inference.checks.entry import Check
from medsharp.inference.checks.registry import IMAGE_CHECKS
from medsharp.inference.external import evaluate_internal
from medsharp.inference.glance import glance_table, glances
from medsharp.quantities import counted, whole

_USUAL = 0.95
"""Sensitivity of an operating point where `export` is not asked for another."""

_ROWS = (
    "auroc",
    "auprc",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "brier",
    "calibration_intercept",
    "calibration_slope",
)

_UPDATED = names_of((*_ROWS, "log_loss"))

_SHOWN = ("seed", "data.fold", "data.leave_site")
"""Settings that the table of members has columns for."""


def write_card(folder: Path, spec: BundleSpec, external: Sequence[Evaluation] = ()) -> None:
    """Write the card of a bundle that is being made: its data, protocol, figures and limits.

    Args:
        folder: Holds the bundle's other files.
        spec: Its description.
        external: Evaluations to show beside the internal one.
    """
    evaluations = [e for e in (evaluate_internal(spec, folder),) if e is not None]
    evaluations += external
    internal = next((e.as_dict() for e in evaluations if e.as_dict()["role"] == "internal"), None)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
    template = (files("medsharp.inference") / "card.md.j2").read_text(encoding="utf-8")
    text = environment.from_string(template).render(
        spec=spec,
        figures=_figures([evaluation.as_dict() for evaluation in evaluations]),
        glance=_glance(spec, internal),
        members=_members(spec),
        checks=_input_checks(spec),
        graphs=_graphs(folder),
        pooled=spec.pooled,
        hashes=(folder / TRAINING_LOOKS).exists(),
        command=_command(spec),
        updates="\n\n".join(_update(update) for update in spec.updates),
        folders=_folders(spec),
        trained_at=f", trained at {size} x {size}" if (size := _other_size(spec)) else "",
        settings=yaml.safe_dump(spec.training.config, sort_keys=False, default_flow_style=None, width=110),
    )
    write_text(folder / CARD, text)


def add_external_figures(bundle: str | Path, external: Sequence[Evaluation]) -> BundleSpec:
    """Write the card of a finished bundle anew, with external figures beside the internal ones.

    Raises:
        InputError: The bundle is damaged.
    """
    folder = Path(bundle)
    spec = read_bundle(folder)
    write_card(folder, spec, external)
    spec = spec.model_copy(update={"files": {**spec.files, CARD: sha256_file(folder / CARD)}})
    write_spec(folder, spec)
    return spec


def _size(counts: dict[str, Any]) -> str:
    refused = f"; {whole(counts['refused'])} more refused by the input checks" if counts["refused"] else ""
    who = counted(counts["clusters"], "patient or group", "patients or groups")
    return f"{counted(counts['images'], 'image')}, {who}{refused}"


def _figures(evaluations: Sequence[dict[str, Any]]) -> str:
    if not evaluations:
        return f"None: the bundle was made without an internal test split ({INTERNAL})."
    names = [titled(evaluation) for evaluation in evaluations]
    counts = [_size(evaluation["counts"]) for evaluation in evaluations]
    lines = [f"| | {' | '.join(names)} |", "|---|" + "---|" * len(names), f"| Data | {' | '.join(counts)} |"]
    for key, label in names_of(_ROWS).items():
        cells = []
        for evaluation in evaluations:
            figure = evaluation["figures"].get(key) or {}
            cells.append(str(Figure(value=figure.get("value"), low=figure.get("low"), high=figure.get("high"))))
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _glance(spec: BundleSpec, internal: dict[str, Any] | None) -> str:
    rows = glances(spec, {}) if internal is None else glances(spec, internal["figures"], internal["name"])
    table = glance_table(rows)
    if not spec.held_out:
        return table
    return (
        "95 % intervals in brackets. A hospital left out was seen by none of the models that are measured there, and\n"
        "their thresholds were frozen without it. Whether the recipe was chosen by looking at these figures is not\n"
        "recorded here; where it was, they are better than those of a further hospital will be.\n\n" + table
    )


def _input_checks(spec: BundleSpec) -> str:
    """Return a table of the input checks with their limits and rates, or nothing where none is recorded."""
    if not spec.checks:
        return ""
    lines = [
        "| Check | What follows | What it says | Where | Of own images | Of images without a lesion |",
        "|---" * 6 + "|",
    ]
    checks: tuple[Check[Any, Any], ...] = (*IMAGE_CHECKS, *ANSWER_CHECKS)
    for check in checks:
        one = spec.checks.get(check.key)
        if one is None:
            continue
        follows = {"refusal": "refused", "caution": "cautioned"}[check.outcome]
        where = f"{'above' if check.above else 'below'} {one.limit:.4g}"
        found = "" if one.found is None else f"{percent(one.found, 1)} of {one.without}, each by a fit that left it out"
        own = f"{percent(one.false_alarms, 1)} of {one.images}"
        lines.append(f"| `{check.key}` | {follows} | {check.sentence} | {where} | {own} | {found} |")
    return "\n".join(lines)


def _graphs(folder: Path) -> str:
    """Return a table of the graphs in a bundle, how far each is from what it was held to, or nothing where unknown."""
    graphs = read_graphs(folder)
    if not graphs:
        return ""
    lines = ["| Graph | File | Held to | Images | Largest differences (limit) |", "|---|---|---|---|---|"]
    for name, graph in graphs.items():
        found, limits = graph["largest_difference"], graph["limit"]
        apart = ", ".join(f"{key} {found[key]:.1g} ({limit:.1g})" for key, limit in limits.items())
        file = f"`{graph['file']}`" if graph["written"] else "not written"
        lines.append(f"| {name} | {file} | {graph['reference']} | {graph['images']} | {apart} |")
    return "\n".join(lines)


def _members(spec: BundleSpec) -> str:
    """Return a table of the runs in a bundle of several, or nothing."""
    members = spec.training.members
    if not members:
        return ""
    lines = [
        "| Member | Seed | Fold, from 0 | Left out | Images: train, val, test | Decides | Weights, SHA-256 | "
        "Settings unlike those below |",
        "|---" * 8 + "|",
    ]
    for number, member in enumerate(members):
        other = {key: value for key, value in member.differences.items() if key not in _SHOWN}
        cells = [
            str(number),
            str(member.seed),
            member.fold or "-",
            member.left_out or "-",
            ", ".join(str(member.images[split]) for split in SPLITS),
            counted(member.out_of_fold, "image"),
            f"`{member.weights[:12]}`",
            ", ".join(f"{key} {value}" for key, value in other.items()) or "-",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _update(update: Update) -> str:
    """Return what an update did and on whom, the tests that chose it, and the figures before and after."""
    part = update.evaluation
    tests = "; ".join(test.sentence() for test in update.tests)
    how = f"by a closed test ({tests})" if tests else "by whoever asked for it"
    # Wrapped where a reader of the file looks at it; Markdown joins the lines.
    said = textwrap.fill(
        f"{update.sentence()}. The method was chosen {how}. Who decides and who is measured was drawn by patients "
        f"(share {update.share:g}, seed {update.seed}) and written before any image was predicted (SHA-256 of it: "
        f"`{update.parts}`). On the other {counted(part.images, 'image')} of {part.patients} patients or groups "
        f"({part.positive_patients} with a positive image), each bundle at its own threshold, 95 % intervals in "
        "brackets:",
        118,
        break_long_words=False,
        break_on_hyphens=False,
    )
    lines = ["| | Before | After | After minus before, paired |", "|---|---|---|---|"]
    for key in update.before:
        cells = " | ".join(str(figures[key]) for figures in (update.before, update.after, update.change))
        lines.append(f"| {_UPDATED.get(key, key)} | {cells} |")
    return "\n".join([said, "", *lines])


def _folders(spec: BundleSpec) -> str:
    """Say which folder of the commands is of which data set."""
    names = spec.training.dataset
    more = "".join(f", {name} is {what}" for name, what in _held_out(spec).items())
    folders = spec.training.config.get("data", {}).get("path", "DATA")
    if isinstance(folders, str):
        return f"{folders} is the folder of {names}{more}"
    return f"{' and '.join(folders)} are the folders of {names.replace(' + ', ' and ')}{more}"


def _command(spec: BundleSpec) -> str:
    given = spec.training.command or "medsharp train --data DATA --config settings.yaml --out RUN"
    options = [f"--held-out {name}" for name in _held_out(spec)]
    sizes = spec.combination.sizes if spec.combination is not None else ()
    if sizes or _other_size(spec):
        options += [f"--image-size {size}" for size in sizes or (spec.preprocess.size,)]
    options += _asked(spec.exported_point, _USUAL)
    if spec.weights != "fp32":
        options.append(f"--weights {spec.weights}")
    precisions = [precision for precision, file in MODELS.items() if file in spec.files]
    if len(precisions) > 1:
        options.append(f"--precision {','.join(precisions)}")
    if "no_lesion" in spec.checks:
        options.append("--no-lesion WITHOUT_LESION")
    if spec.combination is not None:
        options += ["--flip"] * spec.combination.flip
        options += [f"--average {spec.combination.average}"] * (spec.combination.average != "probabilities")
    members = spec.training.members
    exported = spec.updates[0].parent if spec.updates else spec.name
    updated = _update_commands(spec)
    if spec.training.elsewhere is not None:
        described = ["medsharp export DESCRIPTION.yaml --data DATA", *options, f"--out {exported}"]
        return "\n".join([" ".join(described), *updated])
    if not members:
        return "\n".join([given, " ".join(["medsharp export RUN", *options, f"--out {exported}"]), *updated])
    *before, train = given.splitlines()
    lines = [*before]
    for number, member in enumerate(members):
        pairs = (f"{key}={json.dumps(value)}" for key, value in member.differences.items())
        sets = "".join(f" --set {shlex.quote(pair)}" for pair in pairs)
        lines.append(f"{train}{number}{sets}")
    runs = " ".join(f"RUN{number}" for number in range(len(members)))
    return "\n".join([*lines, " ".join(["medsharp export", runs, *options, f"--out {exported}"]), *updated])


def _asked(point: OperatingPoint, without: float | None) -> list[str]:
    """Return the option for the sensitivity that an operating point was chosen by, where it differs without one."""
    asked = asked_sensitivity(point)
    return [] if asked in (None, without) else [f"--sensitivity {asked:g}"]


def _update_commands(spec: BundleSpec) -> list[str]:
    """Return the commands that updated the exported bundle, the oldest first."""
    if not spec.updates:
        return []
    names = [*(update.parent for update in spec.updates), spec.name]
    commands = []
    points = [*(update.parent_point for update in spec.updates[1:]), spec.operating_point]
    for update, out, point in zip(spec.updates, names[1:], points, strict=True):
        wish = "auto" if update.tests else update.method
        options = [f"--update {wish} --share {update.share:g} --seed {update.seed}"]
        options += _asked(point, asked_sensitivity(update.parent_point))
        commands.append(f"medsharp recalibrate {update.parent} --data LOCAL {' '.join(options)} --out {out}")
    return commands


def _other_size(spec: BundleSpec) -> int | None:
    """Return the side of the input in training, where it was another one."""
    size: int | None = spec.training.config.get("data", {}).get("image_size")
    return None if spec.training.elsewhere is not None or size == spec.preprocess.size else size


def _held_out(spec: BundleSpec) -> dict[str, str]:
    """Return what the folders with figures at hospitals left out are called in the commands, and what they are."""
    if spec.left_out_itself:
        return {}
    measured = [site.site for site in spec.held_out if site.bundle]
    bundles = {
        f"LEFT_OUT{number}": f"the bundle of runs made in the same way with `data.leave_site` {site}"
        for number, site in enumerate(measured, 1)
    }
    if len(measured) == len(spec.held_out):
        return bundles
    return {"CROSSVALIDATION": "what `medsharp crossvalidate --by site` wrote"} | bundles
