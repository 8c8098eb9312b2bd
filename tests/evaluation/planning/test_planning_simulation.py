"""Plans keep their promise: simulated evaluations of the planned size have intervals as wide as was wished."""

from __future__ import annotations

import pytest

from medsharp.evaluation.planning import FIGURES
from medsharp.evaluation.planning.simulation import WIDTHS, Setting, simulate


@pytest.mark.parametrize(
    ("setting", "keys"),
    [
        (Setting(0.85, 0.3, 0.9), ("specificity", "net_benefit")),
        (Setting(0.85, 0.3, 0.9, images=3, icc=0.8), ("auroc", "oe", "slope")),
    ],
    ids=str,
)
def test_mean_widths_are_those_wished(setting: Setting, keys: tuple[str, ...]) -> None:
    for kept in simulate(setting, evaluations=50, resamples=200, keys=keys, seed=1):
        assert kept.width == pytest.approx(kept.criterion.width, rel=0.07), kept
        assert kept.error < 0.03 * kept.criterion.width
        assert kept.covered > 0.8


def test_every_figure_that_is_planned_is_simulated() -> None:
    setting = Setting(0.85, 0.3, 0.9, images=2, icc=0.5)
    assert list(WIDTHS) == list(FIGURES)
    assert [kept.criterion.key for kept in simulate(setting, evaluations=2, resamples=100)] == list(FIGURES)
