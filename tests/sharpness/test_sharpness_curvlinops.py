"""The product with the Hessian equals that of curvlinops-for-pytorch."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from medsharp.sharpness import Problem, eigenvalues

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its dependencies
    HessianLinearOperator = pytest.importorskip("curvlinops").HessianLinearOperator


def test_products_and_top_eigenvalue_equal_those_of_curvlinops() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 6), nn.Tanh(), nn.Linear(6, 2)
    )
    network[1].running_var.uniform_(0.5, 2)
    network = network.double().eval()
    images, labels = torch.randn(11, 1, 5, 5).double(), torch.randint(0, 2, (11,))
    batches: list[tuple[Tensor, Tensor]] = list(zip(images.split([4, 7]), labels.split([4, 7]), strict=True))

    ours = Problem(
        network, batches, lambda n, b: nn.functional.cross_entropy(n(b[0]), b[1], reduction="none"), dtype=torch.float64
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = HessianLinearOperator(network, nn.CrossEntropyLoss(), list(network.parameters()), batches)
        vectors = torch.randn(ours.size, 3, dtype=torch.float64)
        expected = theirs @ vectors
        matrix = theirs @ torch.eye(ours.size, dtype=torch.float64)
    found = torch.stack([ours.product(vector) for vector in vectors.T], dim=1)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)
    top = eigenvalues(ours.product, vectors[:, 0], torch.Generator().manual_seed(0), tolerance=1e-9).largest[0]
    assert top.value == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-6)
