"""A bundle updated on local data: intercept, slope or threshold, as a new bundle that knows where it comes from."""

from medsharp.recalibration.log_odds import LogOddsUpdate, Wish, choose_update
from medsharp.recalibration.parts import CALIBRATION, EVALUATION, LEAST, check_share, draw_parts
from medsharp.recalibration.run import FIGURES, Recalibrated, check_parent, recalibrate_bundle

__all__ = [
    "CALIBRATION",
    "EVALUATION",
    "FIGURES",
    "LEAST",
    "LogOddsUpdate",
    "Recalibrated",
    "Wish",
    "check_parent",
    "check_share",
    "choose_update",
    "draw_parts",
    "recalibrate_bundle",
]
