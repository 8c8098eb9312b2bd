"""The results of a study laid out for a reader: verdicts first, then what they stand on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from medsharp.evaluation.report.blocks import Block, Column, Heading, Notice, Page, Plot, Plots, Table, Text
from medsharp.quantities import counted, p_value, signed
from training.study.flatness_page import flatness_blocks
from training.study.plots import difference_plot, residual_plot
from training.study.reading import EXTERNAL
from training.study.start_page import start_blocks
from training.study.tables import (
    BUDGETS,
    LONGEST,
    grid,
    in_order,
    interval,
    interval_of_share,
    number,
    number_columns,
    number_table,
    plain_value,
    shares,
)

_SHORT = {"epochs": "equal epochs", "gradients": "equal gradients"}
_EXTERNAL = (
    "Intervals, p values and probabilities at another hospital are conservative, and by the registered rule remain so: "
    "which of the trainings its patients happen to favour counts both in the variance over patients and in the spread "
    "between folds, so that they are wider than they need be."
)
_INDEPENDENT = (
    "No verdict rests on this model. Patients and training images that cells share are taken as independent, so that "
    "intervals are too narrow and p values too small"
)


def make_page(results: dict[str, Any]) -> Page:
    """Lay out a report."""
    study = results["study"]
    blocks: list[Block] = []
    if study["question"]:
        blocks.append(Text(study["question"]))
    blocks += [*_verdicts(results), *_rule(results), *_cases(results)]
    for budget, found in results["budgets"].items():
        blocks += _budget(results, budget, found)
    blocks += [*flatness_blocks(results), *_lengths(results), *_costs(results), *_provenance(results)]
    return Page(f"Study {study['name']}", blocks)


def _verdicts(results: dict[str, Any]) -> list[Block]:
    cells = results["cells"]
    failed, waiting = cells["failed"], cells["planned"] - cells["finished"] - len(cells["failed"])
    blocks: list[Block] = [Heading("Verdicts")]
    if waiting:
        said = f"INTERIM: {cells['finished']} of {cells['planned']} cells are finished. "
        blocks.append(Notice(said + "Claims of which a cell is missing are withheld.", alarm=True))
    if failed:
        said = f"{counted(len(failed), 'cell')} of {cells['planned']} failed and stand in no figure: "
        blocks.append(Notice(said + "; ".join(f"{name} ({reason[:LONGEST]})" for name, reason in failed.items())))
    if not results["claims"]:
        return [*blocks, Text("The study makes no claim.")]
    reference, budget = results["study"]["reference"], BUDGETS[results["rule"]["budget"]]
    caption = (
        f"Claims, decided by the registered rule at {budget}; AUROC less that of {reference}, averaged over networks "
        "and places, or the range of places where they decide by themselves. By these it is decided: the probabilities "
        "of worse / equivalent / better, or places. Smallest seen: what a test at 5 % finds with a power of 80 %"
    )
    header = ["Claim", "Verdict", "Difference", "Decided by", "Smallest seen"]
    remarks = [Text(f"{one['name']}: {one['verdict']}, {one['reason']}.") for one in results["claims"] if one["reason"]]
    # No column of numbers: what decides is long, and wraps.
    return [*blocks, Table(caption, header, [_claim(claim) for claim in results["claims"]]), *remarks]


def _claim(claim: dict[str, Any]) -> list[str]:
    """Return the row of a claim: what its rule looks at, and nothing else."""
    found, seen = claim["difference"], claim["smallest_seen"]
    between = "-" if seen is None else " to ".join(number(value) for value in dict.fromkeys(seen))
    difference, decides = interval(found), "-"
    if found and claim["says"] == "inconsistent":
        low, high = claim["range"]
        difference = f"{signed(low)} to {signed(high)}"
        decides = (
            f"{claim['better_places']} better, {claim['worse_places']} worse of {claim['places']} places, "
            f"each at {claim['place_probability']:.3f}"
        )
    elif found and found["probabilities"]:
        decides = shares(found["probabilities"])
    return [claim["name"], claim["verdict"], difference, decides, between]


def _rule(results: dict[str, Any]) -> list[Block]:
    rule, registration, digest = results["rule"], results["registration"], results["study_sha256"]
    claimed = {claim["says"] for claim in results["claims"]}
    said = [
        f"Registered {registration['begun']}, before the first run; SHA-256 of study and rule: {digest}.",
        f"Two optimizers are equivalent within {rule['equivalence']:g} AUROC; a probability of {rule['probability']:g} "
        f"decides; budget: {BUDGETS[rule['budget']]}.",
        *(
            f"A claim that says {kind.replace('_', ' ')} is {text}."
            for kind, text in rule["by_kind"].items()
            if kind in claimed
        ),
        "Differences of several places are averaged, with errors taken as perfectly correlated.",
    ]
    return [Heading("Rule"), *(Text(sentence) for sentence in said)]


def _cases(results: dict[str, Any]) -> list[Block]:
    """Say what intervals of a hospital are for: new patients, or no more than new images."""
    rows = [
        [
            one["hospital"],
            one["unit"] if one["known"] else _NO_PATIENT,
            *(str(one[key]) for key in ("images", "known", "clusters")),
        ]
        for one in results["resampled"]
    ]
    counts = number_columns(["Images", "With a patient", "Cases"])
    caption = "What intervals count as a case, on the test folds of each hospital"
    blocks: list[Block] = [Heading("Cases"), Table(caption, ["Hospital", "A case is one of", *counts], rows)]
    for one in results["resampled"]:
        unknown = one["images"] - one["known"]
        if unknown:
            which = f"{unknown} of the {one['images']} images" if one["known"] else f"no image ({one['images']})"
            said = "is not known" if one["known"] else "is known"
            blocks.append(
                Notice(
                    f"The patient of {which} at {one['hospital']} {said}. Images of one patient count as "
                    "several cases there and may be trained on and tested: its intervals "
                    "may be too narrow and its AUROC on test folds too high, for all optimizers alike."
                )
            )
    return blocks


_NO_PATIENT = "images, or groups of near-duplicates, as patients are unknown"


def _lengths(results: dict[str, Any]) -> list[Block]:
    """Lay out how long each optimizer trains: whole epochs make budgets of gradients equal to rounding only."""
    budgets = in_order(one["budget"] for one in results["lengths"])
    found = {tuple(one[key] for key in (*_PLACE, "budget")): one for one in results["lengths"]}
    rows = []
    for place in in_order(tuple(one[key] for key in _PLACE) for one in results["lengths"]):
        cells = [f"{place[2]}, {place[1]}, {place[0]}"]
        for budget in budgets:
            one = found[*place, budget]
            cells += [str(one["epochs"]), f"{one['passes']:g}", f"{one['of_reference']:.2f}"]
        rows.append(cells)
    reference = results["study"]["reference"]
    columns = [(name, _SHORT[budget]) for budget in budgets for name in ("Epochs", "Passes", f"Of {reference}'s")]
    numbers = [Column(name, note, number=True) for name, note in columns]
    caption = (
        "Length of a training: epochs, forward and backward passes over the training images, and these as a share of "
        f"{reference}'s; where that is not 1, whole epochs do not divide into equal computations"
    )
    return [Heading("Lengths of trainings"), Table(caption, ["Optimizer, network, hospital", *numbers], rows)]


_PLACE = ("hospital", "network", "optimizer")


def _budget(results: dict[str, Any], budget: str, found: dict[str, Any]) -> list[Block]:
    study = results["study"]
    optimizers = [one["name"] for one in study["optimizers"]]
    title = BUDGETS[budget]
    blocks: list[Block] = [Heading(f"Results at {title}")]
    if not found["levels"]:
        blocks.append(Text("No figures yet: a mean and its interval need two finished folds."))
    for hospital in in_order(entry["hospital"] for entry in found["levels"]):
        own = [entry for entry in found["levels"] if entry["hospital"] == hospital]
        columns = in_order((entry["network"], entry["part"]) for entry in own)
        blocks.append(
            grid(
                f"AUROC, trained on {hospital}, {title} (95 % intervals for new cases and trainings)",
                optimizers,
                columns,
                own,
                interval_of_share,
            )
        )
        compared = [entry for entry in found["comparisons"] if entry["hospital"] == hospital]
        if compared:
            blocks.append(_differences(hospital, title, study["reference"], compared))
            equivalence, prefix = study["rule"]["equivalence"], f"differences-{budget}-{hospital}"
            draw = partial(difference_plot, compared, equivalence, prefix)
            blocks.append(Plot(f"Differences to {study['reference']}, trained on {hospital}, {title}", draw))
        if any(entry["part"].startswith(EXTERNAL) for entry in own):
            blocks.append(Text(_EXTERNAL))
    blocks += start_blocks(found.get("starts", []), title, study)
    blocks += _mixed(found["mixed_models"], title, budget, study["reference"])
    blocks += _calibration(found, optimizers, title)
    return blocks


def _differences(hospital: str, title: str, reference: str, compared: Sequence[dict[str, Any]]) -> Table:
    rows = [
        [
            f"{entry['optimizer']}, {entry['network']}, {entry['part']}",
            interval(entry),
            p_value(entry["p"]),
            p_value(entry["p_holm"]),
            shares(entry["probabilities"]),
            number(entry["smallest_seen"]),
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
    return number_table(caption, header, rows)


def _mixed(models: dict[str, Any], title: str, budget: str, reference: str) -> list[Block]:
    blocks: list[Block] = []
    for part, model in models.items():
        if "reason" in model:
            blocks.append(Text(f"No mixed model of {part} figures at {title}: {model['reason']}."))
            continue
        rows = [[name, interval(entry), p_value(entry["p"])] for name, entry in model["optimizers"].items()]
        sources = ", ".join(
            f"{name} {'-' if value is None else f'{value**0.5:.4f}'}" for name, value in model["variances"].items()
        )
        looked = "; ".join([*model["residuals"]["sentences"], *model["notes"]])
        caption = f"Mixed model of {part} AUROC, {title}: effect against {reference}, {model['cells']} cells"
        blocks.append(number_table(caption, ["Optimizer", "Effect", "p"], rows))
        blocks.append(Text(f"Standard deviations: {sources}. Assumptions: {looked}."))
        blocks.append(Text(_judged_by(model["degrees_of_freedom"])))
        if "sorted" in model["residuals"]:
            draw = partial(residual_plot, model["residuals"]["sorted"], f"residuals-{budget}-{part}")
            plot = Plot(f"Residuals of the mixed model of {part} figures against normal quantiles", draw)
            blocks.append(Plots([plot]))  # as one of several: by itself it would be as wide as the page
    return blocks


def _judged_by(free: int | None) -> str:
    """Say what a mixed model takes for chance, and what that leaves out."""
    if free is None:
        return f"{_INDEPENDENT}, the more so where an optimizer's effect differs by network or hospital."
    return (
        "Effects are judged by how much they differ by network and place (optimizer:network:place), with Student's t "
        f"of {counted(free, 'degree')} of freedom. {_INDEPENDENT} where that matters."
    )


def _calibration(found: dict[str, Any], optimizers: Sequence[str], title: str) -> list[Block]:
    blocks: list[Block] = []
    tables = (
        ("calibration", "calibration_slope", "Calibration slope (1 is perfect)"),
        ("calibration", "calibration_error", "Calibration error"),
        ("robustness", "lost", "AUROC lost on corrupted images of the test folds"),
    )
    for source, key, caption in tables:
        entries = [{**entry, "value": entry[key]} for entry in found[source]]
        for hospital in in_order(entry["hospital"] for entry in entries):
            own = [entry for entry in entries if entry["hospital"] == hospital]
            columns = in_order((entry["network"], entry["part"]) for entry in own)
            name = f"{caption}, trained on {hospital}, {title}"
            blocks.append(grid(name, optimizers, columns, own, plain_value))
    return blocks


def _costs(results: dict[str, Any]) -> list[Block]:
    rows = [
        [
            f"{one['optimizer']}, {one['network']}, {one['hospital']}",
            str(one["runs"]),
            number(one["seconds_an_epoch"], 1),
            f"{number(one['low'], 1)} to {number(one['high'], 1)}",
            number(one["images_a_second"], 0),
        ]
        for one in results["costs"]
    ]
    header = ["Optimizer, network, hospital", "Runs", "Seconds an epoch", "Quartiles", "Images a second"]
    caption = (
        "Wall time of training, with validation and saving, median of runs. Where other work, or another run of the "
        "study, had a share of the machine, it is in these times: they compare no optimizers (see medsharp bench optim)"
    )
    return [Heading("Cost"), number_table(caption, header, rows)]


def _provenance(results: dict[str, Any]) -> list[Block]:
    registration, reading = results["registration"], results["first_reading"]
    sources = registration["sources"]
    trials = results["study"]["search"]["trials"]
    said = [
        f"Data: {sources['name']}. {sources['citation']}",
        f"Settings were chosen by {counted(trials, 'trial')} for each optimizer, network, hospital and "
        "fold, on validation images of that fold alone.",
        *_pruning(results["study"]["search"].get("pruning", "none")),
        f"What is tested was first read {reading['opened']}, when {reading['finished_cells']} of "
        f"{results['cells']['planned']} cells were finished."
        if reading
        else "What is tested has not been read.",
        f"Code {', '.join(registration['codes'])}"
        + ("; several versions trained this study. " if len(registration["codes"]) > 1 else ". ")
        + f"Registered at commit {registration['git_commit'] or 'not known'}; "
        f"finished runs are of {_commits(results['runs'])}.",
        "Versions: " + ", ".join(f"{name} {value}" for name, value in results["versions"].items()) + ".",
    ]
    return [Heading("Where this comes from"), *(Text(sentence.strip()) for sentence in said)]


def _pruning(how: str) -> list[str]:
    if how == "none":
        return []
    return [
        "Trials were ended early where others were better after as many epochs (search.pruning: asha). That favours "
        "settings that learn fast, for some optimizers more than for others: the comparisons are biased by it."
    ]


def _commits(runs: Sequence[dict[str, Any]]) -> str:
    """Name the commits that runs were trained at, each with how many."""
    counts = Counter({one["run"]: one["git_commit"] or "not known" for one in runs}.values())
    return f"commit{'' if len(counts) == 1 else 's'} " + ", ".join(
        f"{name} ({counted(count, 'run')})" for name, count in counts.most_common()
    )
