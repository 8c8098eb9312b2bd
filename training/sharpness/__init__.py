"""How sharp the minima are that runs have come to: measured on their own data, by their own loss."""

from training.sharpness.measures import BALLS, Ball, Measures, measure
from training.sharpness.page import write_sharpness
from training.sharpness.run_problem import RunProblem, open_run, problem_of
from training.sharpness.runs import measure_runs

__all__ = [
    "BALLS",
    "Ball",
    "Measures",
    "RunProblem",
    "measure",
    "measure_runs",
    "open_run",
    "problem_of",
    "write_sharpness",
]
