"""Asking all checks of an image and of what the network makes of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medsharp.images import DecodedImage
from medsharp.inference.checks.answers import ANSWER_CHECKS, Answers
from medsharp.inference.checks.finding import Finding
from medsharp.inference.checks.learned import Learned
from medsharp.inference.checks.picture import Picture
from medsharp.inference.checks.registry import IMAGE_CHECKS


class Judge:
    """The checks with a bundle's limits.

    Args:
        limits: By key, where a bundle has its own; those of the checks hold otherwise.
        learned: What the bundle knows of its own features; without it the network's answers are not checked.
    """

    def __init__(self, limits: Mapping[str, float] | None = None, learned: Learned | None = None) -> None:
        self._limits = limits or {}
        self._learned = learned

    def of_image(self, image: DecodedImage) -> tuple[Finding, ...]:
        """Return what the picture itself shows: its first refusal, or else every caution."""
        picture = Picture(image)
        cautions = []
        for check in IMAGE_CHECKS:
            limit = self._limits.get(check.key, check.limit)
            if limit is None:
                continue
            finding = check.found(check.measure(picture), limit)
            if finding is not None and finding.outcome == "refusal":
                return (finding,)
            if finding is not None:
                cautions.append(finding)
        return tuple(cautions)

    def of_answers(self, features: np.ndarray, logits: np.ndarray) -> list[tuple[Finding, ...]]:
        """Return what the network's answers show, for each image of a batch.

        Args:
            features: float [B, D].
            logits: float [B, C].
        """
        found: list[list[Finding]] = [[] for _ in features]
        if self._learned is not None:
            answers = Answers(features, logits, self._learned)
            for check in ANSWER_CHECKS:
                limit = self._limits.get(check.key)
                if limit is None:
                    continue
                for one, value in zip(found, check.measure(answers), strict=True):
                    finding = check.found(float(value), limit)
                    one += [] if finding is None else [finding]
        return [tuple(one) for one in found]
