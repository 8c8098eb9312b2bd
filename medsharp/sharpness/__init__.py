"""How sharp a minimum is: Hessian spectrum, rise of the loss within a ball; needs torch and medsharp.optim alone."""

from medsharp.sharpness.ball import Norm, Slope, WorstCase, average_case, slope, worst_case
from medsharp.sharpness.cost import Cost
from medsharp.sharpness.lanczos import Eigenvalue, Eigenvalues, Lanczos, eigenvalues
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
    "WorstCase",
    "average_case",
    "density",
    "eigenvalues",
    "find_rescalings",
    "scaled_product",
    "slope",
    "trace",
    "weight_scale",
    "worst_case",
]
