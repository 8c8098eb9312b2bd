"""What becomes of each claim, by the rule that was registered before the first run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from training.study.comparisons import Grid, difference, start_contrast
from training.study.definition import Claim, StudyDefinition
from training.study.estimate import Estimate, together
from training.study.plan import Cell, plan_cells, plan_chains

Verdict = Literal["supported", "contradicted", "undecided"]

RULE = {
    "improves": "supported where the AUROC, averaged over the networks, hospitals and parts, is better than the "
    "reference's by more than the region of practical equivalence with at least the required posterior probability; "
    "contradicted where it is not, with as much",
    "does_not_improve": "supported where that average is not better by more than the region of practical equivalence "
    "with at least the required posterior probability; contradicted where it is, with as much",
    "inconsistent": "supported where it is better in at least one place (network, hospital, part) and worse in "
    "another, each with a probability raised for the number of places, 1 - (1 - p) / places; contradicted where it is "
    "better in all, equivalent in all, or worse in all, each with the required probability",
    "more_from_scratch": "supported where the AUROC less the reference's, averaged over the networks that begin from "
    "random weights, is higher than that over the pretrained ones, on the average of hospitals and parts, by more than "
    "the region of practical equivalence with at least the required posterior probability; contradicted where it is "
    "not, with as much",
}
"""By what a claim of each kind is decided; anything else is undecided at this size."""


def cells_of(study: StudyDefinition, claim: Claim) -> list[Cell]:
    """Return the cells that a claim is decided by: of its optimizer and the reference, under the first budget."""
    optimizer = next(one for one in study.optimizers if one.name == claim.optimizer)
    return [
        cell
        for chain in plan_chains(study)
        if chain.network.name in study.networks_of(claim)
        and chain.optimizer.name in (claim.optimizer, study.reference)
        and (optimizer.train_on is None or chain.hospital.name in optimizer.train_on)
        for cell in plan_cells(study, chain)
        if cell.budget == study.budgets[0]
    ]


def withheld(study: StudyDefinition, claim: Claim, reason: str) -> dict[str, Any]:
    """Return a claim without a verdict and without any figure that hints at one."""
    return _said(study, claim) | {"verdict": "withheld", "reason": reason} | _NO_FIGURES


_NO_FIGURES = dict.fromkeys(
    ("difference", "smallest_seen", "range", "places", "place_probability", "better_places", "worse_places")
)


def _said(study: StudyDefinition, claim: Claim) -> dict[str, Any]:
    networks = list(study.networks_of(claim))
    return {"name": claim.name, "says": claim.says, "optimizer": claim.optimizer, "networks": networks}


def decide(study: StudyDefinition, grid: Grid, claim: Claim) -> dict[str, Any]:
    """Return the verdict on a claim with what it stands on; undecided where something of it is missing.

    Returns:
        `verdict`, `reason`; `difference` as `Estimate.as_dict`, averaged over places; `places`: how many there are, and
        `better_places` and `worse_places` of them, each with at least `place_probability`, by which a place counts in
        the rule; `range` of the places' differences; `smallest_seen`, from the least to the most: that of the average,
        or of the places where they decide by themselves.
    """
    networks, rule = study.networks_of(claim), study.rule
    optimizer = next(one for one in study.optimizers if one.name == claim.optimizer)
    hospitals = [one.name for one in study.hospitals if optimizer.train_on is None or one.name in optimizer.train_on]
    places = [(hospital, part) for hospital in hospitals for part in grid.parts_of(hospital)]

    def estimates(groups: Sequence[Sequence[str]]) -> list[Estimate | None]:
        return [
            difference(grid, hospital, group, claim.optimizer, study.reference, part)
            for hospital, part in places
            for group in groups
        ]

    single = estimates([[network] for network in networks])
    pooled = estimates([networks])
    if claim.says == "more_from_scratch":
        names = (claim.optimizer, study.reference)
        pooled = [start_contrast(grid, hospital, networks, study.pretrained, *names, part) for hospital, part in places]
    said = _said(study, claim)
    known = [one for one in pooled if one is not None]
    if not places or len(known) < len(pooled) or None in single:
        return said | {"verdict": "undecided", "reason": "runs of it are missing"} | _NO_FIGURES
    mean = together(known)
    pooled_masses = mean.masses(rule.equivalence)
    by_place = [one for one in single if one is not None]
    of_places = [one.masses(rule.equivalence) for one in by_place]
    masses = [one for one in of_places if one is not None]
    verdict: Verdict = "undecided"
    if claim.says == "inconsistent":
        lacking = len(masses) < len(of_places)
        verdict = "undecided" if lacking else inconsistent(masses, rule.probability)
    else:
        lacking = pooled_masses is None
        if pooled_masses is not None:
            verdict = improvement(pooled_masses, rule.probability, claim.says != "does_not_improve")
    apart = claim.says == "inconsistent"
    needed = raised(rule.probability, len(single)) if apart else rule.probability
    values = [one.value for one in by_place]
    seen = [one for each in (by_place if apart else [mean]) if (one := each.smallest_seen()) is not None]
    return said | {
        "verdict": verdict,
        "reason": "nothing varies, or a class has one patient only: no error to judge by" if lacking else "",
        "difference": mean.as_dict(rule.equivalence),
        "smallest_seen": [min(seen), max(seen)] if seen else None,
        "range": [min(values), max(values)],
        "places": len(single),
        "place_probability": needed,
        "better_places": sum(one["better"] >= needed for one in masses),
        "worse_places": sum(one["worse"] >= needed for one in masses),
    }


def improvement(masses: Mapping[str, float], probability: float, claimed: bool) -> Verdict:
    """Decide whether an optimizer improves, which is claimed, or denied."""
    better = masses["better"]
    if better >= probability:
        return "supported" if claimed else "contradicted"
    if 1 - better >= probability:
        return "contradicted" if claimed else "supported"
    return "undecided"


def raised(probability: float, places: int) -> float:
    """Return the probability by which one of several places counts."""
    return 1 - (1 - probability) / places


def inconsistent(masses: Sequence[Mapping[str, float]], probability: float) -> Verdict:
    """Decide whether an optimizer is better in one place and worse in another."""
    needed = raised(probability, len(masses))
    if all(any(one[side] >= needed for one in masses) for side in ("better", "worse")):
        return "supported"
    if any(all(one[side] >= probability for one in masses) for side in ("better", "equivalent", "worse")):
        return "contradicted"
    return "undecided"
