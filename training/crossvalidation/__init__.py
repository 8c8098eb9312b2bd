"""Cross-validation: every fold trained as a run of its own, one evaluation with each hospital or fold left out once."""

from training.crossvalidation.crossvalidate import Crossvalidation, crossvalidate
from training.crossvalidation.plan import By, Member, plan_members

__all__ = ["By", "Crossvalidation", "Member", "crossvalidate", "plan_members"]
