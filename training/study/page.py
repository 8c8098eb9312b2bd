"""The results of a study laid out for a reader: verdicts first, then what they stand on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from medsharp.evaluation.report.blocks import Block, Column, Heading, Page, Plot, Table, Text
from medsharp.quantities import counted, p_value, signed
from training.study.flatness import GAPS
from training.study.plots import difference_plot, residual_plot
from training.study.reading import CORRUPTED

_BUDGETS = {"epochs": "equal epochs", "gradients": "equal gradient computations"}


def make_page(results: dict[str, Any]) -> Page:
    """Lay out a report."""
    study = results["study"]
    blocks: list[Block] = []
    if study["question"]:
        blocks.append(Text(study["question"]))
    blocks += [*_verdicts(results), *_rule(results)]
    for budget, found in results["budgets"].items():
        blocks += _budget(results, budget, found)
    blocks += [*_flatness(results), *_costs(results), *_provenance(results)]
    return Page(f"Study {study['name']}", blocks)


def _verdicts(results: dict[str, Any]) -> list[Block]:
    cells = results["cells"]
    blocks: list[Block] = [Heading("Verdicts")]
    if not results["complete"]:
        blocks.append(
            Text(f"INTERIM: {cells['finished']} of {cells['planned']} cells are finished. Verdicts are withheld.")
        )
    rows = []
    for claim in results["claims"]:
        found = claim.get("difference")
        shares = _shares(found["probabilities"]) if found else "-"
        rows.append([claim["name"], claim["verdict"], _interval(found), shares, claim["reason"]])
    header = ["Claim", "Verdict", "AUROC against the reference", "Worse / equivalent / better", "Remark"]
    reference = results["study"]["reference"]
    caption = (
        f"Claims, decided by the registered rule; differences are to {reference}, averaged over networks and places"
    )
    return [*blocks, _table(caption, header, rows)] if rows else [*blocks, Text("The study makes no claim.")]


def _rule(results: dict[str, Any]) -> list[Block]:
    rule, registration, digest = results["rule"], results["registration"], results["study_sha256"]
    said = [
        f"Registered {registration['begun']}, before the first run; SHA-256 of study and rule: {digest}.",
        f"Two optimizers are equivalent within {rule['equivalence']:g} AUROC; a probability of {rule['probability']:g} "
        f"decides; budget: {_BUDGETS[rule['budget']]}.",
        *(f"A claim that says {kind.replace('_', ' ')} is {text}." for kind, text in rule["by_kind"].items()),
        "Differences of several places are averaged, with errors taken as perfectly correlated.",
    ]
    return [Heading("Rule"), *(Text(sentence) for sentence in said)]


def _budget(results: dict[str, Any], budget: str, found: dict[str, Any]) -> list[Block]:
    study = results["study"]
    optimizers = [one["name"] for one in study["optimizers"]]
    title = _BUDGETS[budget]
    blocks: list[Block] = [Heading(f"Results at {title}")]
    if not found["levels"]:
        blocks.append(Text("No figures yet: a mean and its interval need two finished folds."))
    for hospital in _in_order(entry["hospital"] for entry in found["levels"]):
        own = [entry for entry in found["levels"] if entry["hospital"] == hospital]
        columns = _in_order((entry["network"], entry["part"]) for entry in own)
        blocks.append(
            _grid(
                f"AUROC, trained on {hospital}, {title} (95 % intervals for new patients and trainings)",
                optimizers,
                columns,
                own,
                _interval_of_share,
            )
        )
        compared = [entry for entry in found["comparisons"] if entry["hospital"] == hospital]
        if compared:
            blocks.append(_differences(hospital, title, study["reference"], compared))
            equivalence, prefix = study["rule"]["equivalence"], f"differences-{budget}-{hospital}"
            draw = partial(difference_plot, compared, equivalence, prefix)
            blocks.append(Plot(f"Differences to {study['reference']}, trained on {hospital}, {title}", draw))
    blocks += _mixed(found["mixed_models"], title, budget, study["reference"])
    blocks += _calibration(found, optimizers, title)
    return blocks


def _differences(hospital: str, title: str, reference: str, compared: Sequence[dict[str, Any]]) -> Table:
    rows = [
        [
            f"{entry['optimizer']}, {entry['network']}, {entry['part']}",
            _interval(entry),
            p_value(entry["p"]),
            p_value(entry["p_holm"]),
            _shares(entry["probabilities"]),
            _number(entry["smallest_seen"]),
        ]
        for entry in compared
    ]
    header = [
        "Optimizer, network, part",
        "Difference",
        "p",
        "p after Holm",
        "Worse / equivalent / better",
        "Smallest seen",
    ]
    family = compared[0]["family"]
    caption = (
        f"AUROC less that of {reference}, trained on {hospital}, {title}; Holm over {family} comparisons; smallest "
        "seen: what a test at 5 % finds with a power of 80 %"
    )
    return _table(caption, header, rows)


def _mixed(models: dict[str, Any], title: str, budget: str, reference: str) -> list[Block]:
    blocks: list[Block] = []
    for part, model in models.items():
        if "reason" in model:
            blocks.append(Text(f"No mixed model of {part} figures at {title}: {model['reason']}."))
            continue
        rows = [[name, _interval(entry), p_value(entry["p"])] for name, entry in model["optimizers"].items()]
        sources = ", ".join(
            f"{name} {'-' if value is None else f'{value**0.5:.4f}'}" for name, value in model["variances"].items()
        )
        looked = "; ".join([*model["residuals"]["sentences"], *model["notes"]])
        caption = f"Mixed model of {part} AUROC, {title}: effect against {reference}, {model['cells']} cells"
        blocks.append(_table(caption, ["Optimizer", "Effect", "p"], rows))
        blocks.append(Text(f"Standard deviations: {sources}. Assumptions: {looked}."))
        if "sorted" in model["residuals"]:
            draw = partial(residual_plot, model["residuals"]["sorted"], f"residuals-{budget}-{part}")
            blocks.append(Plot(f"Residuals of the mixed model of {part} figures against normal quantiles", draw))
    return blocks


def _calibration(found: dict[str, Any], optimizers: Sequence[str], title: str) -> list[Block]:
    blocks: list[Block] = []
    tables = (
        ("calibration", "calibration_slope", "Calibration slope (1 is perfect)"),
        ("calibration", "calibration_error", "Calibration error"),
        ("robustness", "lost", "AUROC lost on corrupted images of the test folds"),
    )
    for source, key, caption in tables:
        entries = [{**entry, "value": entry[key]} for entry in found[source]]
        for hospital in _in_order(entry["hospital"] for entry in entries):
            own = [entry for entry in entries if entry["hospital"] == hospital]
            columns = _in_order((entry["network"], entry["part"]) for entry in own)
            name = f"{caption}, trained on {hospital}, {title}"
            blocks.append(_grid(name, optimizers, columns, own, _plain))
    return blocks


def _flatness(results: dict[str, Any]) -> list[Block]:
    blocks: list[Block] = [Heading("Sharpness and the generalization gap")]
    gaps = results["gaps"]
    rows = [
        [
            f"{one['optimizer']}, {one['network']}, {one['hospital']}, {_BUDGETS[one['budget']]}",
            _plain({"value": one["auroc_gap"]}),
            _plain({"value": one["loss_gap"]}),
        ]
        for one in gaps
    ]
    blocks.append(
        _table("Generalization gap, mean of folds and seeds", ["Optimizer, network, hospital", *GAPS.values()], rows)
    )
    sharpness = results["sharpness"]
    if "reason" in sharpness:
        return [*blocks, Text(f"No correlation with sharpness: {sharpness['reason']}.")]
    rows = [
        [f"{one['measure']}, {one['scope']}", GAPS[one["gap"]], _interval(one, sign=True)]
        for one in sharpness["correlations"]
    ]
    header = ["Measure of sharpness", "Gap", "Spearman's correlation"]
    return [*blocks, _table("Rank correlation of sharpness with the gap (95 % intervals over folds)", header, rows)]


def _costs(results: dict[str, Any]) -> list[Block]:
    rows = [
        [
            f"{one['optimizer']}, {one['network']}, {one['hospital']}",
            _number(one["seconds_an_epoch"], 1),
            _number(one["images_a_second"], 0),
        ]
        for one in results["costs"]
    ]
    header = ["Optimizer, network, hospital", "Seconds an epoch", "Images a second"]
    return [Heading("Cost"), _table("Training time, with validation and saving", header, rows)]


def _provenance(results: dict[str, Any]) -> list[Block]:
    registration, reading = results["registration"], results["first_reading"]
    sources = registration["sources"]
    trials = results["study"]["search"]["trials"]
    said = [
        f"Data: {sources['name']}. {sources['citation']}",
        f"Settings were chosen by {counted(trials, 'trial')} for each optimizer, network, hospital and "
        "fold, on validation images of that fold alone.",
        f"What is tested was first read {reading['opened']}, when {reading['finished_cells']} of "
        f"{results['cells']['planned']} cells were finished."
        if reading
        else "What is tested has not been read.",
        f"Code {', '.join(registration['codes'])} (commit {registration['git_commit'] or 'not known'})"
        + ("; several versions trained this study." if len(registration["codes"]) > 1 else "."),
        "Versions: " + ", ".join(f"{name} {value}" for name, value in results["versions"].items()) + ".",
    ]
    return [Heading("Where this comes from"), *(Text(sentence.strip()) for sentence in said)]


def _table(caption: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Return a table whose columns but the first are numbers."""
    first, *others = header
    return Table(caption, [first, *(Column(name, number=True) for name in others)], rows)


def _grid(
    caption: str,
    optimizers: Sequence[str],
    columns: Sequence[tuple[str, str]],
    entries: Sequence[dict[str, Any]],
    cell: Any,
) -> Table:
    """Lay entries out with a row an optimizer and a column a network and part."""
    found = {(entry["optimizer"], entry["network"], entry["part"]): entry for entry in entries}
    rows = [
        [name, *(cell(found.get((name, *column))) for column in columns)]
        for name in optimizers
        if any((name, *column) in found for column in columns)
    ]
    header = ["Optimizer", *(f"{network}, {part.removeprefix(CORRUPTED)}" for network, part in columns)]
    return _table(caption, header, rows)


def _in_order(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _interval(found: dict[str, Any] | None, sign: bool = True) -> str:
    if not found or found.get("value") is None:
        return "-"
    write = signed if sign else "{:.3f}".format
    text = write(found["value"])
    return text if found.get("low") is None else f"{text} ({write(found['low'])} to {write(found['high'])})"


def _interval_of_share(found: dict[str, Any] | None) -> str:
    return _interval(found, sign=False)


def _plain(found: dict[str, Any] | None) -> str:
    return _number(found["value"]) if found else "-"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _shares(masses: dict[str, float] | None) -> str:
    if masses is None:
        return "-"
    return " / ".join(f"{masses[side]:.2f}" for side in ("worse", "equivalent", "better"))
