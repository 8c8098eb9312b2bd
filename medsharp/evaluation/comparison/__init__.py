"""Several models on the same images: paired differences, tests, and what may be concluded from them."""

from medsharp.evaluation.comparison.compare import Comparison, compare_models
from medsharp.evaluation.comparison.models import Group, Model, align, group_name, read_models
from medsharp.evaluation.comparison.page import write_comparison

__all__ = ["Comparison", "Group", "Model", "align", "compare_models", "group_name", "read_models", "write_comparison"]
