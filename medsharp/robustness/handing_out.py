"""Versions of the images handed out in pieces, such as to a cluster: the answers are those of one process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from medsharp.inference.predictor import Predictor
from medsharp.robustness.predicting import BATCH, Missing, predict_corrupted
from medsharp.robustness.sample import Sample

_IMAGES = 4 * BATCH
"""Of a piece, which holds them decoded; a whole number of batches, so that these are made of the same images."""

_MOST_PIECES = 8192
"""Beyond them, pieces are of more images; each costs who does them some milliseconds."""

Answers = list[list[np.ndarray]]
"""Of a piece: by version and by model, probabilities float64 [n, C]."""


class HandOut(Protocol):
    """Has pieces of work done elsewhere, where the same bundles are loaded.

    Attributes:
        cores: That a piece is given.
    """

    cores: int

    def __call__(
        self, work: AnswerPiece, parts: Sequence[Sample], pieces: Sequence[tuple[int, Any]]
    ) -> Iterator[tuple[int, Answers]]:
        """Do pieces.

        Args:
            work: Is called with predictors, a part and what is asked of it.
            parts: Are sent once.
            pieces: The number of a part, and what is asked of it.

        Returns:
            The number of each piece and what came of it, in whatever order.
        """
        ...


@dataclass(frozen=True)
class AnswerPiece:
    """Answers versions of some images.

    Attributes:
        seed: Of the run.
        cores: That corrupt and preprocess ahead of the network.
    """

    seed: int
    cores: int

    def __call__(self, predictors: Sequence[Predictor], part: Sample, asked: Sequence[Missing]) -> Answers:
        """Return the answers to each version of the models that lack it."""
        with part.at_hand() as here, ThreadPoolExecutor(self.cores) as pool:
            return [
                predict_corrupted(
                    here, [predictors[place] for place in one.places], one.name, one.severity, self.seed, pool
                )
                for one in asked
            ]


def predict_elsewhere(
    sample: Sample, hand_out: HandOut, missing: Sequence[Missing], seed: int
) -> Iterator[tuple[Missing, list[np.ndarray]]]:
    """Give what `medsharp.robustness.predicting.predict_missing` does, a corruption as soon as all pieces of it came.

    A piece is one corruption at its severities on some images, which are decoded once for them.

    Args:
        sample: The images.
        hand_out: Does the pieces.
        missing: Those of a corruption stand together.
        seed: Of the run.
    """
    by_name: dict[str, list[Missing]] = {}
    for one in missing:
        by_name.setdefault(one.name, []).append(one)
    asked = list(by_name.values())
    size = _IMAGES
    while len(asked) * len(sample) > _MOST_PIECES * size:
        size *= 2
    parts = [sample.part(start, start + size) for start in range(0, len(sample), size)]
    pieces = [(place, versions) for versions in asked for place in range(len(parts))]
    begun: list[dict[int, Answers]] = [{} for _ in asked]
    for number, answers in hand_out(AnswerPiece(seed, hand_out.cores), parts, pieces):
        corruption, place = divmod(number, len(parts))
        found = begun[corruption]
        found[place] = answers
        if len(found) < len(parts):
            continue
        for version, one in enumerate(asked[corruption]):
            yield (
                one,
                [
                    np.concatenate([found[part][version][model] for part in range(len(parts))])
                    for model in range(len(one.places))
                ],
            )
        begun[corruption] = {}
