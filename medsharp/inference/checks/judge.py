"""Asking all checks of an image and of what the network says of it."""

from __future__ import annotations

from collections.abc import Mapping

from medsharp.images import DecodedImage
from medsharp.inference.checks.finding import Finding
from medsharp.inference.checks.picture import Picture
from medsharp.inference.checks.registry import IMAGE_CHECKS


class Judge:
    """The checks with a bundle's limits.

    Args:
        limits: By key, where a bundle has its own; those of the checks hold otherwise.
    """

    def __init__(self, limits: Mapping[str, float] | None = None) -> None:
        self._limits = limits or {}

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
