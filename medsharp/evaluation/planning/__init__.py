"""How many patients and cancers an evaluation needs, before it is begun."""

from medsharp.evaluation.planning.anticipated import Anticipated, binormal, from_predictions
from medsharp.evaluation.planning.figures import FIGURES
from medsharp.evaluation.planning.page import answer, assumption_lines, cells, closed_forms, header, write_plan
from medsharp.evaluation.planning.plan import Criterion, Plan, make_plan

__all__ = [
    "FIGURES",
    "Anticipated",
    "Criterion",
    "Plan",
    "answer",
    "assumption_lines",
    "binormal",
    "cells",
    "closed_forms",
    "from_predictions",
    "header",
    "make_plan",
    "write_plan",
]
