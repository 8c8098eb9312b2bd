"""Running medsharp's commands and reading what they wrote: the one place that knows how files are laid out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from brute_force import USUAL, Images, Replicated, basic, bca_shares, newcombe, wilson
from typer.testing import CliRunner, Result

from medsharp.cli import app


def run(*arguments: str | Path | float) -> Result:
    """Run a command, which must succeed."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def document_of(folder: Path, name: str = "evaluation.json") -> dict[str, Any]:
    """Read what a command wrote as JSON."""
    found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return found


def rows_of(folder: Path, name: str = "figures.csv") -> list[dict[str, str]]:
    """Read what a command wrote as CSV."""
    with (folder / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def equal_value(figure: dict[str, Any], value: float, name: str = "") -> None:
    """The value is that of the brute force, to rounding."""
    if not np.isfinite(value):
        assert figure["value"] is None, name
        assert figure["reason"], name
    else:
        assert figure["value"] == pytest.approx(value, rel=1e-7, abs=1e-9), name


def near_limits(
    figure: dict[str, Any],
    replicates: np.ndarray,
    name: str = "",
    shares: tuple[float, float] = (0.025, 0.975),
    drawn: int = USUAL,
) -> None:
    """As many of our own resamples lie below each limit as should, to within four standard errors of that share.

    Of a ratio, some may be infinite: they lie above each limit that there is, and are too many for one that is not.
    """
    finite = replicates[~np.isnan(replicates)]
    for limit, share in ((figure["low"], shares[0]), (figure["high"], shares[1])):
        error = (share * (1 - share) * (1 / drawn + 1 / len(finite))) ** 0.5
        if limit is None:
            assert share == shares[1], (name, figure)
            assert np.isinf(finite).mean() > 1 - share - 4 * error, (name, figure)
            assert "no upper limit" in figure["reason"], (name, figure)
            continue
        rounding = 1e-9 * max(1.0, abs(limit))
        # Shares of few images take few values, of which many resamples have the same.
        below, up_to = (finite < limit - rounding).mean(), (finite <= limit + rounding).mean()
        assert below - 4 * error < share < up_to + 4 * error, (name, figure, below, up_to, share)


def equal_figure(
    figure: dict[str, Any],
    found: Replicated,
    images: Images,
    among: np.ndarray | None = None,
    name: str = "",
    drawn: int = USUAL,
) -> None:
    """Value, denominator, method and limits are those of the brute force.

    Args:
        figure: As it was written.
        found: As it should be.
        images: What it is of.
        among: The images that a share is a share of [N]; all of them by default.
        name: For the message.
        drawn: How many resamples medsharp takes for it.
    """
    among = np.ones(len(images.y), dtype=bool) if among is None else among
    equal_value(figure, found.value, name)
    if "n" in figure:
        assert figure["n"] == among.sum(), name
    method = figure["method"]
    if method.startswith("Wilson"):
        assert found.value in (0, 1), name
        assert (figure["low"], figure["high"]) == pytest.approx(wilson(found.value, images.patients(among))), name
        return
    if method.startswith("Newcombe"):
        lower = newcombe(images.patients(images.y), images.patients(~images.y))
        expected = (lower, 1) if found.value == 1 else (0, 1 - lower)
        assert (figure["low"], figure["high"]) == pytest.approx(expected, abs=1e-6), name
        return
    shares = (0.025, 0.975)
    if method.endswith("BCa"):
        assert found.left_out is not None, name
        defined, left_out = found.replicates[~np.isnan(found.replicates)], found.left_out[np.isfinite(found.left_out)]
        shares = bca_shares(found.value, defined, left_out)
    elif ", normal" in method:
        near_spread(figure, found, name)
        return
    else:
        assert method.endswith("percentile"), (name, method)
    near_limits(figure, found.replicates, name, shares, drawn)


def near_spread(figure: dict[str, Any], found: Replicated, name: str = "") -> None:
    """Limits that are made of a standard deviation are of one within a seventh of that of our own resamples.

    They are compared on the scale where they are made, as resamples of a slope of few images are skewed.
    """
    how = figure["method"].split(", ", 1)[1]
    finite = found.replicates[np.isfinite(found.replicates)]
    for side, limit in enumerate((figure["low"], figure["high"])):
        near, far = (spread_limits(how, found.value, finite, factor)[side] for factor in (0.86, 1.16))
        assert min(near, far) - 1e-9 <= limit <= max(near, far) + 1e-9, (name, figure, near, far)


def spread_limits(how: str, value: float, replicates: np.ndarray, factor: float = 1.0) -> tuple[float, float]:
    """The value less and plus 1.96 standard deviations, times a factor, on the scale that the method names."""
    reach = 1.959964 * factor
    if how == "normal on the log scale":
        half = reach * np.log(replicates[replicates > 0]).std(ddof=1)
        return float(value * np.exp(-half)), float(value * np.exp(half))
    if how == "normal on the scale of log(1 - value)":
        half = reach * np.log(1 - replicates[replicates < 1]).std(ddof=1)
        return float(max(9 / 19, 1 - (1 - value) * np.exp(half))), float(1 - (1 - value) * np.exp(-half))
    centre = {"normal": value, "normal, bias taken off": value - (replicates.mean() - value)}[how]
    half = reach * replicates.std(ddof=1)
    return float(centre - half), float(centre + half)


def debiased(figure: dict[str, Any], found: dict[str, Replicated], name: str = "calibration error") -> None:
    """The debiased calibration error has a basic interval, made for its square."""
    square = found["squared_calibration_error"]
    low, high = basic(square.value, found["brier_reliability"].value, square.replicates)
    equal_value(figure, max(0.0, square.value) ** 0.5, name)
    for written, limit in ((figure["low"], low), (figure["high"], high)):
        assert abs(written**2 - max(0.0, limit)) < 0.3 * square.replicates.std(), (name, figure, low, high)


def change_of(document: dict[str, Any], name: str, figure: str) -> dict[str, Any]:
    """Return how a figure changed from the internal to an external data set: external minus internal."""
    (entry,) = [entry for entry in document["changes"] if entry["name"] == name]
    return dict(entry["figures"][figure])
