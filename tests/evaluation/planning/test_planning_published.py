"""Published sample sizes, from the papers and from the packages that their authors wrote.

Riley et al., Statistics in Medicine 40, 2021: sections 3.1.1 and 3.3.1, with the standard errors that stand there.
`pmvalsampsize` 0.1.0 for R (Ensor, CRAN 2023), examples of its help and numbers of its tests: prevalence .018, AUROC
.8, a width of 1 for O:E, log odds N(-5, 2.5).
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from medsharp.evaluation.planning import binormal, make_plan
from medsharp.evaluation.planning.published import (
    auroc_images,
    net_benefit_images,
    oe_images,
    share_images,
    slope_images,
)


@pytest.mark.parametrize(
    ("prevalence", "error", "images"), [(0.5, 0.051, 384.5), (0.1, 0.051, 3460.2), (0.1, 0.175, 293.9)]
)
def test_observed_to_expected_is_that_of_the_paper(prevalence: float, error: float, images: float) -> None:
    assert oe_images(prevalence, error) == pytest.approx(images, abs=0.05)


@pytest.mark.parametrize(
    ("auroc", "prevalence", "images"), [(0.7, 0.1, 1154), (0.8, 0.5, 302), (0.8, 0.018, 4252), (0.75, 0.018, 5125)]
)
def test_auroc_is_that_of_the_paper_for_a_width_of_a_tenth(auroc: float, prevalence: float, images: int) -> None:
    assert math.ceil(auroc_images(auroc, prevalence, 0.1 / (2 * 1.96))) == pytest.approx(images, abs=1)


def test_observed_to_expected_is_that_of_the_package() -> None:
    # The package goes up in steps of .0001 until the width is reached: to .2456, of which the exact .24552 falls short.
    assert math.ceil(oe_images(0.018, 0.2456)) == 905
    plan = make_plan(binormal(0.8, 0.018), {"oe": 1.0})
    assert plan.criteria[0].standard_error == pytest.approx(0.2455, abs=1e-4)
    assert plan.criteria[0].independent_images == 906


def test_slope_is_that_of_the_package_but_for_its_simulation() -> None:
    points = np.linspace(-9, 9, 20_001)
    weights = np.exp(-(points**2) / 2)
    exact = slope_images(-5 + 2.5 * points, weights / weights.sum(), 0.2 / (2 * 1.96))
    # 4,501 is of 1,000 simulated log odds, which are as far off as this.
    assert exact == pytest.approx(4501, rel=0.03)


def test_slope_takes_the_anticipated_calibration() -> None:
    points = np.linspace(-4, 4, 4001)
    weights = np.full(4001, 1 / 4001)
    # Log odds that are twice too extreme: the slope of half of them has half the standard error.
    assert slope_images(2 * points, weights, 0.05, slope=0.5) == pytest.approx(slope_images(points, weights, 0.1))
    moved = slope_images(points - 0.7, weights, 0.1, constant=0.7)
    assert moved == pytest.approx(slope_images(points, weights, 0.1))


def test_slope_of_a_binormal_model_is_that_of_the_package_but_for_its_simulation() -> None:
    # `lpcstat`: 16,175 is of 10,000 simulated log odds, whose mean is fitted to the prevalence within .0005 of .018.
    assert make_plan(binormal(0.8, 0.018), {"slope": 0.2}).criteria[0].independent_images == pytest.approx(
        16175, rel=0.07
    )


def test_net_benefit_is_the_variance_of_a_ratio() -> None:
    # By the delta method of (TP - w' FP) / P on multinomial counts, written out apart from the formula.
    sensitivity, specificity, prevalence, threshold = 0.6, 0.88, 0.72, 0.8
    odds = threshold / (1 - threshold)
    shares = np.array(
        [sensitivity * prevalence, (1 - sensitivity) * prevalence, (1 - specificity) * (1 - prevalence)]
    )  # TP, FN, FP
    value = (shares[0] - odds * shares[2]) / prevalence
    gradient = np.array([1 - value, -value, -odds]) / prevalence
    variance = gradient @ (np.diag(shares) - np.outer(shares, shares)) @ gradient
    images = net_benefit_images(sensitivity, specificity, prevalence, threshold, 0.051)
    assert images == pytest.approx(variance / 0.051**2, rel=1e-9)
    assert images == pytest.approx(545.47, abs=0.01)


def test_sensitivity_is_that_of_a_share() -> None:
    assert share_images(0.9, 0.25, 0.02) == pytest.approx(0.09 / 0.0004 / 0.25)
