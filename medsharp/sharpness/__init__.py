"""How sharp a minimum is: Hessian, rise of the loss nearby, landscapes; needs torch and medsharp.optim only."""

from medsharp.sharpness.ball import Norm, Slope, WorstCase, average_case, slope, worst_case
from medsharp.sharpness.cost import Cost
from medsharp.sharpness.lanczos import Eigenvalue, Eigenvalues, Lanczos, eigenvalues
from medsharp.sharpness.landscape import Triangle, barrier, between, blend, filter_normalised, line, plane
from medsharp.sharpness.problem import Problem
from medsharp.sharpness.rescaling import Rescaling, find_rescalings
from medsharp.sharpness.scales import SCALES, Scale, scaled_product, weight_scale
from medsharp.sharpness.spectrum import Density, Estimate, density, trace

__all__ = [
    "SCALES",
    "Cost",
    "Density",
    "Eigenvalue",
    "Eigenvalues",
    "Estimate",
    "Lanczos",
    "Norm",
    "Problem",
    "Rescaling",
    "Scale",
    "Slope",
    "Triangle",
    "WorstCase",
    "average_case",
    "barrier",
    "between",
    "blend",
    "density",
    "eigenvalues",
    "filter_normalised",
    "find_rescalings",
    "line",
    "plane",
    "scaled_product",
    "slope",
    "trace",
    "weight_scale",
    "worst_case",
]
