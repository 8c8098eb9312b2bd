"""The section of one data set: who is in it, every figure, the curves, and the parts that not every data set has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from medsharp.evaluation.notes import alarming, is_leaked
from medsharp.evaluation.plots import drawings_of
from medsharp.evaluation.report.abstention import abstention_blocks
from medsharp.evaluation.report.blocks import (
    Block,
    Cell,
    Column,
    Heading,
    Notice,
    Plot,
    Plots,
    Row,
    Section,
    Table,
    Text,
    Value,
)
from medsharp.evaluation.report.dataset_parts import (
    by_patient,
    classes,
    failures,
    prediction_sets,
    readers,
    sites,
    subgroups,
)
from medsharp.evaluation.report.excerpts import benefit_rows
from medsharp.evaluation.report.flow import flow_blocks
from medsharp.evaluation.report.model import leak_check
from medsharp.evaluation.report.wording import (
    figure,
    has_own_thresholds,
    interval,
    percent,
    role_name,
    sections_of,
    thresholds_text,
)
from medsharp.evaluation.statistics.registry import HEADLINE
from medsharp.quantities import counted, number, whole

_DOT = "Ringed dot: the operating point."


def dataset_section(
    entry: dict[str, Any], place: int, bundle: dict[str, Any], thumbnails: Mapping[str, str]
) -> Section:
    """Return the section of a data set.

    Args:
        entry: The data set, as in `evaluation.json`.
        place: Its place in the document, from 0.
        bundle: As in `evaluation.json`.
        thumbnails: Pictures of failures as data URIs by image name.
    """
    number_of = place + 1
    blocks: list[Block] = [Notice(note, alarm=alarming(note)) for note in entry["notes"]]
    checked = leak_check(bundle)
    if checked and entry["role"] == "external" and not is_leaked(entry):
        blocks.append(Text(f"Leakage check: {checked}.", "soft"))
    blocks += [Heading("Images and patients", 3), *flow_blocks(entry, "operating_point" in bundle)]
    blocks += [Heading("Figures", 3), _figures(entry), Text(_intervals(entry), "soft")]
    blocks += [Heading("Curves", 3), _curves(entry, number_of)]
    blocks += [
        *abstention_blocks(entry, number_of),
        *classes(entry),
        *prediction_sets(entry, number_of),
        *sites(entry, number_of),
    ]
    blocks += [*subgroups(entry, number_of), *by_patient(entry), *readers(entry), *failures(entry, thumbnails)]
    role = " ".join(filter(None, (role_name(entry), "data")))
    above = f"{role}, simulated" if entry["simulated"] else role
    return Section(f"data-{number_of}", entry["name"], blocks, above=above, kind="dataset")


def _figures(entry: dict[str, Any]) -> Table:
    rows = []
    for title, figures in sections_of([entry]):
        rows.append(Row((title,), kind="head"))
        for key, label, meaning in figures:
            part = entry["figures"][key]
            how = "; ".join(filter(None, (part.get("method", "\N{EN DASH}"), part.get("caution"))))
            cells = (label, figure(part, key), whole(part["n"]), how)
            rows.append(Row(cells, note="" if key in HEADLINE else meaning))
    header = ("Figure", "Value, 95 % interval", Column("Images", number=True), "Interval by")
    return Table(f"Figures of {entry['name']}", header, rows, "figures", captioned=False, scrolls=False)


def _intervals(entry: dict[str, Any]) -> str:
    made, closed = entry["intervals"], entry.get("auroc_intervals")
    said = [f"Intervals: {made['method']}; {counted(made['clusters'], 'cluster')}, seed {made['seed']}."]
    if closed:
        said.append(
            f"AUROC in closed form: {interval(closed['obuchowski'])} by Obuchowski (patients), "
            f"{interval(closed['delong'])} by DeLong (as if every image were a patient of its own)."
        )
    for key in ("ece", "ici"):
        expected = entry["figures"].get(key, {}).get("expected_if_calibrated")
        if expected and expected["mean"] is not None:
            said.append(
                f"{key.upper()}: perfectly calibrated probabilities would give {number(expected['mean'])} on these "
                f"images, and less than {number(expected['limit'])} in 95 of 100 cases."
            )
    return " ".join(said)


def _curves(entry: dict[str, Any], number_of: int) -> Plots:
    """Return the plots; scores that are no probabilities have neither calibration nor net benefit."""
    figures, draw = entry["figures"], drawings_of(entry, f"d{number_of}")
    kind = "Scores" if entry.get("scale") == "score" else "Probabilities"
    plots = [
        Plot(f"AUROC {interval(figures['auroc'])}, with its pointwise 95 % band.", draw["roc"], "ROC curve", _DOT),
        Plot(
            f"AUPRC {interval(figures['auprc'])}; the prevalence here is {percent(figures['prevalence']['value'], 1)}.",
            draw["precision_recall"],
            "Precision and recall",
            f"Dashed: the prevalence. {_DOT}",
        ),
    ]
    if "reliability" in draw:
        slope = interval(figures["calibration_slope"], "calibration_slope")
        text = f"Intercept {interval(figures['calibration_intercept'], 'calibration_slope')}, slope {slope}."
        plots.append(Plot(text, draw["reliability"], "Calibration", _calibration_legend(entry), numbers=_bins(entry)))
    several = has_own_thresholds(entry)
    threshold = f"Dashed: the {'median of the thresholds' if several else 'threshold'}, {entry['threshold']:.4f}."
    plots.append(Plot("", draw["histogram"], f"{kind} by class", threshold))
    if "net_benefit" in draw:
        gain = " Gain: over the better of the two." if "gain" in entry["curves"]["net_benefit"] else ""
        text = (
            "Net benefit of acting by the model from a threshold probability on, against acting on every image or on "
            f"none. It takes the probabilities at their word: read it with the calibration.{gain}"
        )
        plots.append(
            Plot(text, draw["net_benefit"], "Decision curve", _benefit_legend(entry), numbers=_benefits(entry))
        )
    if "risk_coverage" in draw:
        text = (
            "Share of wrong decisions among the images decided, those farthest from the threshold first. A curve that "
            "does not fall tells that the model does not know when it errs."
        )
        title = "Errors when the least certain are left undecided"
        plots.append(Plot(text, draw["risk_coverage"], title, "Dashed: all decided."))
    return Plots([*plots, _decided(entry)])


def _calibration_legend(entry: dict[str, Any]) -> str:
    found = entry["curves"]["reliability"]
    smooth, exists = "smooth" in found, bool(found["curve"]["probability"])
    if exists:
        with_smooth = "local regression with its 95 % band; dashed: the logistic calibration curve"
        line = with_smooth if smooth else "logistic calibration curve with its 95 % band"
    else:
        line = "local regression with its 95 % band" if smooth else "none"
        line += "; the logistic calibration curve does not exist"
    return f"Dots: observed share in bins of equally many images, with Wilson's interval. Line: {line}."


def _bins(entry: dict[str, Any]) -> Table:
    rows = [
        (number(b["probability"]), number(b["observed"]), f"{number(b['low'])} to {number(b['high'])}",
         whole(b["images"]))
        for b in entry["curves"]["reliability"]["bins"]
    ]  # fmt: skip
    header = (Column("Predicted", number=True), Column("Observed", number=True), "95 % interval",
              Column("Images", number=True))  # fmt: skip
    return Table("Bins of equally many images", header, rows, "small", captioned=False, scrolls=False)


def _benefit_legend(entry: dict[str, Any]) -> str:
    sensible = entry["curves"]["net_benefit"].get("sensible")
    if sensible is None:
        return ""
    low, high = map(percent, sensible)
    return f"Shaded: from {low} to {high}, risks at which biopsy is weighed (BI-RADS 4A). {_DOT}"


def _benefits(entry: dict[str, Any]) -> Table:
    header: list[str | Column] = [
        Column("Threshold", number=True), Column("Model", number=True), "95 % interval",
        Column("Every image", number=True),
    ]  # fmt: skip
    beside = {
        name: (title, digits)
        for key, name, title, digits in (
            ("gain", "gain", "Gain", 3),
            ("interventions_avoided", "avoided", "Interventions avoided per 100", 1),
        )
        if key in entry["curves"]["net_benefit"]
    }
    rows: list[Sequence[Cell]] = [
        (
            percent(row["threshold"]),
            number(row["model"]),
            "\N{EN DASH}" if row["low"] is None else f"{number(row['low'])} to {number(row['high'])}",
            number(row["treat_all"]),
            *(_with_limits(row, name, digits) for name, (_, digits) in beside.items()),
        )
        for row in benefit_rows(entry)
    ]
    header += [title for title, _ in beside.values()]
    return Table("Net benefit by threshold probability", header, rows, "small", captioned=False, scrolls=False)


def _with_limits(row: dict[str, Any], name: str, digits: int) -> Value:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    limits = "" if low is None else f"{number(low, digits)} to {number(high, digits)}"
    return Value(number(row[name], digits), limits)


def _decided(entry: dict[str, Any]) -> Plot:
    """Return the four counts at the operating point, and the most probable class where there are several."""
    point, positive = entry["operating_point"], entry["positive"]
    rest = " or ".join(name for name in entry["classes"] if name != positive)
    header = ("Label", Column(f"called {positive}", number=True), Column("not called", number=True))
    rows = [
        (positive, whole(point["true_positives"]), whole(point["false_negatives"])),
        (rest, whole(point["false_positives"]), whole(point["true_negatives"])),
    ]
    blocks: list[Block] = [
        Table("Decisions at the operating point", header, rows, "small", captioned=False, scrolls=False)
    ]
    if entry["confusion"]:
        columns: list[str | Column] = ["Label", *(Column(name, number=True) for name in entry["classes"])]
        lines = [(label, *(whole(row[name]) for name in entry["classes"])) for label, row in entry["confusion"].items()]
        blocks += [Heading("Most probable class", 4),
                   Table("Most probable class", columns, lines, "small", captioned=False, scrolls=False)]  # fmt: skip
    text = f"Images called {positive} from a {entry.get('scale', 'probability')} of {point['threshold']:.4f} on."
    if has_own_thresholds(entry):
        text = f"Images called {positive}, {thresholds_text(entry)}."
    return Plot(text, None, "Decisions at the operating point", blocks=blocks)
