"""Loss landscapes of runs: each along its own directions, and the lines and the plane between them."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from medsharp.errors import InputError
from medsharp.progress import Progress
from medsharp.runs import Run
from medsharp.sharpness import Problem, Triangle, barrier, between, eigenvalues, filter_normalised, line, plane

MARGIN = 0.25
"""How far the plane through three runs reaches beyond them, as a share of its sides."""


def own_landscape(
    problem: Problem, points: int, span: float, seed: int, max_products: int, progress: Progress | None = None
) -> dict[str, Any]:
    """Return the loss along two random filter-normalised directions and the two top eigenvectors, and on their planes.

    The seed gives runs of one network the same random numbers, each scaled to its own filters. Eigenvectors have length
    1, so that their coordinates are lengths.

    Args:
        problem: The loss.
        points: In each direction, odd, so that the weights themselves are among them.
        span: How far to either side.
        seed: Of the directions.
        max_products: With the Hessian, for the eigenvectors.
        progress: Called with rows of planes done, rows in all and what is being done.
    """
    steps = torch.linspace(-span, span, points, dtype=torch.float64).tolist()
    generator = torch.Generator().manual_seed(seed * 1009 + 5)
    random = [filter_normalised(problem, generator) for _ in range(2)]
    _, gradient = problem.gradient()
    found = eigenvalues(problem.product, gradient, generator, largest=2, max_products=max(2, max_products))
    kinds = {"random": random, "eigenvectors": list(found.vectors)}
    row_done = _counted(len(kinds) * points, "landscape", progress)
    return {
        "steps": steps,
        "eigenvalues": [end.value for end in found.largest],
        "lines": {kind: line(problem, vectors[0], steps) for kind, vectors in kinds.items()},
        "planes": {kind: plane(problem, vectors[0], vectors[1], steps, row_done) for kind, vectors in kinds.items()},
    }


def _counted(total: int, what: str, progress: Progress | None) -> Callable[[], None]:
    """Return what to call when another of so many is done."""
    numbers = itertools.count(1)
    return lambda: None if progress is None else progress(next(numbers), total, what)


def check_between(runs: Sequence[Run]) -> None:
    """Refuse runs between which no line leads.

    Raises:
        InputError: There is one run only, or networks, classes or image sizes differ, or the first three lie on a line.
    """
    if len(runs) < 2:
        raise InputError("--between: give two runs or more")
    first = runs[0]
    for run in runs[1:]:
        for what, get in _SAME.items():
            one, other = get(first), get(run)
            if one != other:
                raise InputError(
                    f"--between: {what} of {first.folder} is {one} and of {run.folder} {other}; "
                    "no line leads between such networks"
                )
    if len(runs) >= 3:
        _through([run.load_network() for run in runs[:3]])


_SAME: dict[str, Callable[[Run], Any]] = {
    "network.name": lambda run: run.config.network.name,
    "network.pooling": lambda run: run.config.network.pooling,
    "network.normalization": lambda run: run.config.network.without_weights().normalization,
    "data.image_size": lambda run: run.config.data.image_size,
    "data.classes": lambda run: ", ".join(run.config.data.classes),
}


def between_runs(
    problem: Problem, runs: Sequence[Run], names: Sequence[str], points: int, progress: Progress | None = None
) -> dict[str, Any]:
    """Return the loss on the line between each pair of runs, and on the plane through the first three.

    All by the images and the loss of the first run. Running statistics of batch norm are blended as weights are.

    Args:
        problem: Of the first run.
        runs: As `check_between` lets pass.
        names: Of the runs.
        points: On each line, and a side of the plane.
        progress: Called with what is done.
    """
    networks = [_as_first(problem, run) for run in runs]
    steps = torch.linspace(0, 1, points, dtype=torch.float64).tolist()
    pairs = list(itertools.combinations(range(len(runs)), 2))
    line_done = _counted(len(pairs), "lines between runs", progress)
    paths = []
    for one, other in pairs:
        losses = between(problem, [networks[one], networks[other]], [(1 - t, t) for t in steps])
        paths.append({"first": names[one], "second": names[other], "loss": losses, "barrier": barrier(losses, steps)})
        line_done()
    result: dict[str, Any] = {"steps": steps, "paths": paths, "triangle": None}
    if len(runs) >= 3:
        row_done = _counted(points, "plane through runs", progress)
        result["triangle"] = _triangle(problem, networks[:3], names[:3], points, row_done)
    return result


def _through(networks: Sequence[nn.Module]) -> Triangle:
    try:
        return Triangle.through([parameters_to_vector(network.parameters()).detach() for network in networks])
    except ValueError as error:
        raise InputError(f"--between: {error}") from error


def _triangle(
    problem: Problem, networks: Sequence[nn.Module], names: Sequence[str], points: int, row_done: Callable[[], None]
) -> dict[str, Any]:
    triangle = _through(networks)
    sides = []
    for axis in range(2):
        values = [corner[axis] for corner in triangle.corners]
        margin = MARGIN * (max(values) - min(values))
        sides.append(torch.linspace(min(values) - margin, max(values) + margin, points, dtype=torch.float64).tolist())
    losses = []
    for y in sides[1]:
        losses.append(between(problem, networks, [triangle.shares(x, y) for x in sides[0]]))
        row_done()
    return {"names": list(names), "corners": triangle.corners, "x": sides[0], "y": sides[1], "loss": losses}


def _as_first(problem: Problem, run: Run) -> nn.Module:
    """Return the objective of the first run with the network of another one in it."""
    objective = copy.deepcopy(problem.network)
    network = run.load_network().to(device=problem.device, dtype=problem.dtype)
    if network.lesion is not None:
        network.lesion.requires_grad_(False)
    objective.network = network
    return objective.eval()
