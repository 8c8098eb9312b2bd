"""What becomes of each claim, by the rule that was registered before the first run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from training.study.comparisons import Grid, difference
from training.study.definition import Claim, StudyDefinition
from training.study.estimate import Estimate, together

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
}
"""By what a claim of each kind is decided; anything else is undecided at this size."""


def decide(study: StudyDefinition, grid: Grid, claim: Claim) -> dict[str, Any]:
    """Return the verdict on a claim with what it stands on; undecided where something of it is missing."""
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

    pooled, single = estimates([networks]), estimates([[network] for network in networks])
    said = {"name": claim.name, "says": claim.says, "optimizer": claim.optimizer, "networks": list(networks)}
    known = [one for one in pooled if one is not None]
    if not places or len(known) < len(pooled) or None in single:
        return said | {"verdict": "undecided", "reason": "runs of it are missing", "difference": None}
    mean = together(known)
    pooled_masses = mean.masses(rule.equivalence)
    of_places = [one.masses(rule.equivalence) for one in single if one is not None]
    masses = [one for one in of_places if one is not None]
    verdict: Verdict = "undecided"
    if claim.says == "inconsistent":
        lacking = len(masses) < len(of_places)
        verdict = "undecided" if lacking else inconsistent(masses, rule.probability)
    else:
        lacking = pooled_masses is None
        if pooled_masses is not None:
            verdict = improvement(pooled_masses, rule.probability, claim.says == "improves")
    return said | {
        "verdict": verdict,
        "reason": "nothing varies, or a class has one patient only: no error to judge by" if lacking else "",
        "difference": mean.as_dict(rule.equivalence),
        "places": len(single),
        "better_places": sum(one["better"] >= rule.probability for one in masses),
        "worse_places": sum(one["worse"] >= rule.probability for one in masses),
    }


def improvement(masses: Mapping[str, float], probability: float, claimed: bool) -> Verdict:
    """Decide whether an optimizer improves, which is claimed, or denied."""
    better = masses["better"]
    if better >= probability:
        return "supported" if claimed else "contradicted"
    if 1 - better >= probability:
        return "contradicted" if claimed else "supported"
    return "undecided"


def inconsistent(masses: Sequence[Mapping[str, float]], probability: float) -> Verdict:
    """Decide whether an optimizer is better in one place and worse in another."""
    raised = 1 - (1 - probability) / len(masses)
    if all(any(one[side] >= raised for one in masses) for side in ("better", "worse")):
        return "supported"
    if any(all(one[side] >= probability for one in masses) for side in ("better", "equivalent", "worse")):
        return "contradicted"
    return "undecided"
