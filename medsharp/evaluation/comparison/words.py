"""What a comparison allows one to say, and what not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medsharp.quantities import counted, p_equals, signed, whole


def conclusions(pair: dict[str, Any], counts: dict[str, Any], pairs: int) -> list[str]:
    """Return sentences on one pair: its difference in ranking and decisions, and non-inferiority where asked for."""
    said = [_ranking(pair, counts, pairs), *_decisions(pair, pairs)]
    test = pair["non_inferiority"]
    if test is not None:
        said.append(_non_inferiority(pair, test))
    return said


def limits_of_use(counts: dict[str, Any], networks: Sequence[int], *, pairs: int) -> list[str]:
    """Return what no figure of this comparison can tell.

    Args:
        counts: Of images and patients.
        networks: How many each group has.
        pairs: How many pairs are compared.
    """
    said = [
        f"All models were given the same {counted(counts['images'], 'image')}; the figures speak of patients "
        "like these, not of other hospitals.",
    ]
    if counts.get("left_out"):
        by = " and ".join(f"{whole(images)} by {name}" for name, images in counts["refused"].items())
        said.append(
            f"{counted(counts['left_out'], 'further image')} that the checks of a model refused ({by}) "
            f"{'is' if counts['left_out'] == 1 else 'are'} left out of all: the figures are of images that every model "
            "answers."
        )
    if not counts["patients_known"]:
        said.append(
            "The patients of some images are unknown; if several images are of one patient, intervals are too narrow."
        )
    if counts["deciding"]:
        said.append(
            f"{counts['deciding']} of the images {'is' if counts['deciding'] == 1 else 'are'} of the validation split, "
            "by which epochs and thresholds may have been chosen: figures on them are too hopeful."
        )
    said.extend(_of_seeds(networks))
    if pairs > 1:
        said.append(
            f"p values of the {pairs} pairs are adjusted by Holm's method, for each figure on its own; neither the "
            "intervals nor non-inferiority are."
        )
    said.append("That a difference is not shown does not mean that there is none.")
    return said


def _of_seeds(networks: Sequence[int]) -> list[str]:
    if max(networks) == 1:
        return [
            "Each model is one trained network: another seed of the same training may turn a small difference. These "
            "figures compare these networks, not the methods that trained them."
        ]
    said = [
        "Where a group has several networks, its interval covers new patients and new seeds; of a group of one "
        "network it covers new patients only."
    ]
    if 2 in networks:
        said.append(
            "Two networks tell little of how seeds vary: where seeds vary more than patients, 95 % intervals from two "
            "networks hold the truth less often than they say (docs/statistics.md); train three or more."
        )
    return said


def _ranking(pair: dict[str, Any], counts: dict[str, Any], pairs: int) -> str:
    figure, first, second = pair["figures"]["auroc"], pair["first"], pair["second"]
    if figure["value"] is None:
        return f"AUROC of {first} and {second} cannot be compared: {figure['reason']}."
    if figure["low"] is None:
        return f"AUROC of {second} minus {first} is {signed(figure['value'])}; no interval: {figure['reason']}."
    span = f"{signed(figure['value'])} (95 % interval {signed(figure['low'])} to {signed(figure['high'])})"
    p, untested = figure["p_holm"], figure.get("p_reason")
    tail = "" if p is None else f", {p_equals(p)}{' after Holm' if pairs > 1 else ''}"
    start = f"AUROC of {second} minus {first}: {span}{tail}. "
    excludes = figure["low"] > 0 or figure["high"] < 0
    better, worse = (second, first) if figure["value"] > 0 else (first, second)
    if excludes and untested is not None:
        return (
            f"{start}The interval favours {better}, but no test is given: {untested}. Neither method may be called "
            "better."
        )
    if excludes and (p is None or p < 0.05):
        return f"{start}{better} ranks these patients' images better than {worse}."
    if excludes:
        return (
            f"{start}The interval alone would favour {better}, but the test does not reach 5 %: "
            "no difference may be claimed."
        )
    return f"{start}The data fit a difference in either direction: neither may be called better, nor the two equal."


def _decisions(pair: dict[str, Any], pairs: int) -> list[str]:
    said = []
    for name in ("sensitivity", "specificity"):
        figure = pair["figures"][name]
        test, p = figure.get("mcnemar"), figure["p_holm"]
        if test is None or p is None:
            continue
        more = (
            f"{counted(test['only_second'], 'image')} only {pair['second']} gets right, "
            f"{test['only_first']} only {pair['first']}"
        )
        verdict = "they differ" if p < 0.05 else "no difference is shown"
        holm = " after Holm" if pairs > 1 else ""
        said.append(f"{name.capitalize()} at the operating points: {more}; {verdict} ({p_equals(p)}{holm}).")
    return said


def _non_inferiority(pair: dict[str, Any], test: dict[str, Any]) -> str:
    first, second, margin = pair["first"], pair["second"], test["margin"]
    said = {
        "non-inferior": f"{second} is non-inferior to {first}: it loses less than {margin:g} in AUROC "
        "(one-sided, at 2.5 %).",
        "inferior": f"{second} is inferior to {first} by more than {margin:g} in AUROC.",
        "not shown": f"It is not shown that {second} loses less than {margin:g} in AUROC against {first}, "
        "nor that it loses more.",
        "not tested": f"Non-inferiority of {second} cannot be tested: {test.get('reason')}.",
    }
    return f"{said[test['verdict']]} The margin is only worth what was fixed before these data were seen."
