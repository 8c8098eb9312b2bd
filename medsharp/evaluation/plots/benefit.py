"""The decision curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medsharp.evaluation.plots.svg import BAND, DASHED, DOTTED, INK, MODEL, POINT, POSITIVE, SOFT

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_net_benefit(figure: Figure, entry: dict[str, Any]) -> None:
    """Draw net benefit against treating every image and none, with sensible thresholds and the operating point."""
    curve, axes = entry["curves"]["net_benefit"], figure.add_subplot()
    cuts = curve["threshold"]
    if "sensible" in curve:
        axes.axvspan(*curve["sensible"], color=SOFT, alpha=0.14, linewidth=0)
    if curve["low"]:
        axes.fill_between(cuts, curve["low"], curve["high"], **BAND)
    axes.plot(cuts, curve["treat_all"], color=POSITIVE, linewidth=1.4, linestyle=DASHED, label="every image")
    axes.axhline(0, color=INK, linewidth=1.4, linestyle=DOTTED, label="none")
    axes.plot(cuts, curve["model"], color=MODEL, linewidth=1.8, label="model")
    top = max(*curve["model"], *curve["treat_all"], *(curve["high"] or [0.05]), 0.05)
    bottom = -0.25 * top
    point = entry["figures"].get("net_benefit_at_threshold") or {}
    # Not where the images have several thresholds, nor beyond the curve.
    if point.get("value") is not None and entry["threshold"] <= max(cuts):
        axes.plot([entry["threshold"]], [point["value"]], **POINT)
        bottom = min(bottom, point["value"] - 0.05 * top)  # drawn where it lies, inside
    axes.set(xlabel="threshold probability", ylabel="net benefit", xlim=(0, max(cuts)), ylim=(bottom, 1.05 * top))
    figure.legend(
        frameon=False, fontsize=10, loc="outside upper left", ncols=3, borderpad=0, columnspacing=1.4, reverse=True
    )
