"""What a graph must reproduce before it is written: the numbers, and the comparison with what it is held to.

A graph in float32 is held to PyTorch in float64 on some of the internal validation images; one of lower precision, or
with rounded weights, to that graph on all of them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from medsharp.errors import InputError
from medsharp.evaluation.statistics.discrimination import auroc
from medsharp.export.members import Ensemble
from medsharp.inference.predictor import softmax
from medsharp.inference.session import Session

BATCHES = (1, 2, 5)
"""Numbers of images at once that must give the same answers."""

OF_SPREAD = 1e-4
"""Largest difference of a float32 logit from float64, as a share of the standard deviation of the logits."""

PROBABILITY = {"fp32": 1e-5, "fp16": 5e-3}
"""Largest difference of a calibrated probability."""

_OWN_ROUNDING = 5
"""Where PyTorch's own float32 probabilities differ from float64 by more than a fifth of the above, as those of extreme
logits that could not be calibrated do, so many times as much is allowed: no order of the same sums does better."""

AUROC = {"fp16": 1e-3, "int8": 1e-2}
"""Largest difference of the AUROC on the validation images."""

DECISIONS = {"int8": 1e-2}
"""Largest share of validation images whose decision at the operating point changes."""

_RESOLUTION = 16 * float(np.finfo(np.float32).eps)
"""Share of the largest logit that float32 does not resolve after a few sums, whatever their spread."""

_REFERENCE_IMAGES = 32
"""float64 takes about ten times as long as float32, and rounding hardly differs from image to image."""

_BATCH = 64


@dataclass(frozen=True)
class Difference:
    """How far a graph is from what it is held to, in one respect, and how far it may be."""

    name: str
    value: float
    limit: float

    @property
    def passes(self) -> bool:
        """Whether it is within the limit; what is no number is not."""
        return self.value <= self.limit

    def __str__(self) -> str:
        return f"{self.value:.2g} in {self.name}, more than {self.limit:.2g}"


@dataclass(frozen=True)
class Parity:
    """How one graph was compared.

    Attributes:
        file: Its name in the bundle.
        reference: What it was held to.
        images: How many internal validation images it was compared on.
        gates: What must be within its limit.
        others: Largest differences of what has no limit, such as features, by name.
        spared: Share of the convolutions and matrix products, the first ones, that were left in float32.
    """

    file: str
    reference: str
    images: int
    gates: tuple[Difference, ...]
    others: dict[str, float] = field(default_factory=dict)
    spared: float = 0.0

    @property
    def failure(self) -> Difference | None:
        """The first difference beyond its limit; None where all are within."""
        return next((one for one in self.gates if not one.passes), None)

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is written to `parity.json`."""
        return {
            "file": self.file,
            "written": self.failure is None,
            "reference": self.reference,
            "images": self.images,
            "largest_difference": {one.name: one.value for one in self.gates} | self.others,
            "limit": {one.name: one.limit for one in self.gates},
            **({"left_in_float32": self.spared} if self.spared else {}),
        }


@dataclass(frozen=True)
class Decisions:
    """How logits become decisions: what a bundle freezes.

    Attributes:
        labels: Of the validation images, int [N].
        positive: Number of the positive class.
        temperature: What logits are divided by.
        threshold: On the positive class's probability.
    """

    labels: np.ndarray
    positive: int
    temperature: float
    threshold: float

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities [N, C] of logits [N, C]."""
        return softmax(logits.astype(np.float64) / self.temperature)

    def difference(self, name: str, found: np.ndarray, expected: np.ndarray, limit: float) -> Difference:
        """Return the largest difference of a probability between two sets of logits [N, C]."""
        return Difference(name, _largest(self.probabilities(found), self.probabilities(expected)), limit)


def run_all(session: Session, images: np.ndarray) -> dict[str, np.ndarray]:
    """Run uint8 images [N, S, S] through a graph in batches, and return its outputs."""
    parts = [session.run(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    return {name: np.concatenate([part[name] for part in parts]) for name in session.outputs}


def check_finite(logits: np.ndarray) -> None:
    """Refuse a network that gives something else than numbers.

    Args:
        logits: Of the validation images [N, C].

    Raises:
        InputError: A logit is infinite or not a number.
    """
    wrong = ~np.isfinite(logits).all(axis=1)
    if wrong.any():
        example = logits[wrong][0]
        raise InputError(
            f"the network's logits of {wrong.sum()} of {len(logits)} validation images are no finite numbers "
            f"({', '.join(f'{value:g}' for value in example)})"
        )


@torch.inference_mode()
def compare_with_float64(
    network: Ensemble,
    session: Session,
    images: np.ndarray,
    decisions: Decisions,
    *,
    file: str,
    members: Sequence[Session] = (),
    rounded: bool = False,
) -> Parity:
    """Compare a float32 graph with PyTorch in float64 on some of the validation images, evenly spread.

    Held to it are the logits, what the class activation map explains of them, each member's, and those of batches of 1,
    2 and 5 images, within `OF_SPREAD` of the standard deviation of the logits, and the probabilities.

    Args:
        network: In eval mode.
        session: The exported network.
        images: uint8 [N, S, S].
        decisions: How logits become probabilities.
        file: The graph's name in the bundle.
        members: The graph of each member by itself, where there are several.
        rounded: Whether their weights are rounded to 16 bits, so that their probabilities are compared.
    """
    some = images[np.linspace(0, len(images) - 1, min(len(images), _REFERENCE_IMAGES)).astype(int)]
    exact = copy.deepcopy(network).double()
    answers = [exact.forward_members(torch.from_numpy(image[None, None])) for image in some]
    combined = [exact.combine(answer) for answer in answers]
    expected = {name: np.concatenate([one[name].numpy() for one in combined]) for name in session.outputs}
    found = run_all(session, some)
    logits = expected["logits"]
    pairs = {"logits": (found["logits"], logits)}
    if "cam" in session.outputs:
        # The map of an ensemble explains the mean of the members' logits, be its answer another mean.
        mean = np.concatenate([exact.mean_logits(torch.from_numpy(image[None, None])).numpy() for image in some])
        pairs["logits from cam"] = (found["cam"].mean(axis=(2, 3)) + exact.mean_bias().double().numpy(), mean)
    alone = [
        (member.run(some)[member.outputs[0]], np.concatenate([answer[number]["logits"].numpy() for answer in answers]))
        for number, member in enumerate(members)
    ]
    if not rounded:
        pairs |= {f"logits of member {number}": pair for number, pair in enumerate(alone)}
    pairs |= {name: (batch, logits[: len(batch)]) for name, batch in _in_batches(session, some).items()}
    gates = [Difference(name, _largest(*pair), _limit(pair[1])) for name, pair in pairs.items()]
    own = network(torch.from_numpy(some[:, None])).numpy()
    rounding = decisions.difference("probabilities of PyTorch in float32", own, logits, np.inf).value
    limit = max(PROBABILITY["fp32"], _OWN_ROUNDING * rounding)
    gates.append(decisions.difference("probabilities", found["logits"], logits, limit))
    limit = PROBABILITY["fp16"] if rounded else limit
    gates += [
        decisions.difference(f"probabilities of member {number}", *pair, limit) for number, pair in enumerate(alone)
    ]
    others = {name: _largest(found[name], expected[name]) for name in session.outputs if name != "logits"}
    others["probabilities of PyTorch in float32"] = rounding
    return Parity(file, "PyTorch in float64", len(some), tuple(gates), others)


def compare_with_float32(
    session: Session,
    reference: dict[str, np.ndarray],
    images: np.ndarray,
    decisions: Decisions,
    *,
    file: str,
    precision: str,
    spared: float = 0.0,
) -> Parity:
    """Compare a graph of lower precision, or with rounded weights, with the float32 graph on all validation images.

    Args:
        session: The graph.
        reference: What the float32 graph gives of the images.
        images: uint8 [N, S, S].
        decisions: How logits become decisions.
        file: The graph's name in the bundle.
        precision: `fp16` or `int8`, whose limits hold.
        spared: Share of its products that stayed in float32, for the record.
    """
    found = run_all(session, images)
    ours, theirs = (decisions.probabilities(values["logits"]) for values in (found, reference))
    scores, expected = ours[:, decisions.positive], theirs[:, decisions.positive]
    labels = (decisions.labels == decisions.positive).astype(int)
    changed = (scores >= decisions.threshold) != (expected >= decisions.threshold)
    apart = {
        "probabilities": (_largest(ours, theirs), PROBABILITY.get(precision)),
        "auroc": (abs(auroc(labels, scores) - auroc(labels, expected)), AUROC.get(precision)),
        "decisions": (float(changed.mean()), DECISIONS.get(precision)),
    }
    # The same graph in batches of other sizes is no other model: it may be no farther off than rounding to 16 bits is.
    for name, logits in _in_batches(session, images).items():
        shares = decisions.probabilities(logits)
        apart[name.replace("logits", "probabilities")] = (_largest(shares, ours[: len(shares)]), PROBABILITY["fp16"])
    gates = tuple(Difference(name, value, limit) for name, (value, limit) in apart.items() if limit is not None)
    others = {name: value for name, (value, limit) in apart.items() if limit is None}
    others |= {name: _largest(found[name], reference[name]) for name in session.outputs}
    return Parity(file, "ONNX Runtime in float32", len(images), gates, others, spared)


def _in_batches(session: Session, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the logits of the first images, run so many at once."""
    first = images[: max(BATCHES)]
    return {
        f"logits in batches of {size}": np.concatenate(
            [session.run(first[start : start + size])["logits"] for start in range(0, len(first), size)]
        )
        for size in BATCHES
    }


def _limit(expected: np.ndarray) -> float:
    """Return how far logits may be from those expected [N, C]."""
    return max(OF_SPREAD * float(expected.std(axis=0).max()), _RESOLUTION * float(np.abs(expected).max()))


def _largest(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found.astype(np.float64) - expected).max())
