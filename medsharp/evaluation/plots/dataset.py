"""The plots of one data set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from medsharp.evaluation.plots.benefit import draw_net_benefit
from medsharp.evaluation.plots.probabilities import draw_histogram, draw_reliability
from medsharp.evaluation.plots.ranking import draw_precision_recall, draw_roc
from medsharp.evaluation.plots.selective import draw_risk_coverage
from medsharp.evaluation.plots.svg import draw

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def drawings_of(entry: dict[str, Any], prefix: str) -> dict[str, Callable[[], str]]:
    """Return what draws each plot of one data set of `evaluation.json` as SVG text, by name.

    Args:
        entry: The data set.
        prefix: Makes the names inside the SVG unique on the page.
    """
    name, positive = entry["name"], entry["positive"]
    scores = "Scores" if entry.get("scale") == "score" else "Predicted probabilities"
    drawn: dict[str, tuple[Callable[[Figure], None], str]] = {
        "roc": (lambda figure: draw_roc(figure.add_subplot(), entry), f"ROC curve on {name}"),
        "precision_recall": (
            lambda figure: draw_precision_recall(figure.add_subplot(), entry),
            f"Precision-recall curve on {name}",
        ),
        "histogram": (lambda figure: draw_histogram(figure, entry), f"{scores} by class on {name}"),
    }
    if "reliability" in entry["curves"]:  # scores that are no probabilities have none
        drawn["reliability"] = (
            lambda figure: draw_reliability(figure.add_subplot(), entry),
            f"Calibration plot: observed share of {positive} by predicted probability on {name}",
        )
    if "net_benefit" in entry["curves"]:
        drawn["net_benefit"] = (lambda figure: draw_net_benefit(figure, entry), f"Decision curve on {name}")
    if "risk_coverage" in entry["curves"]:
        drawn["risk_coverage"] = (
            lambda figure: draw_risk_coverage(figure.add_subplot(), entry),
            f"Risk-coverage curve on {name}",
        )
    return {
        key: partial(draw, function, title, f"{prefix}-{key}", size=(4.4, 4.0))
        for key, (function, title) in drawn.items()
    }
