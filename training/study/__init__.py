"""A study: networks x optimizers x folds x seeds, each trained as a run of its own, and what may be said of them."""

from training.study.definition import StudyDefinition, load_study
from training.study.study import Outcome, run_study

__all__ = ["Outcome", "StudyDefinition", "load_study", "run_study"]
