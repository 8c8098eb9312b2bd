"""What a corruption is: a pure function of an image, a severity and a source of chance, with what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Family = Literal["medmnist-c", "ultrasound", "annotation", "control"]
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Corruption:
    """One way in which images change between hospitals.

    Calling it corrupts: `corruption(image, severity, rng)`. Severities are nested: `apply` draws the same at each of
    them, so that an image has one place, direction and field of noise, of which more and more is seen.

    Attributes:
        name: As on the command line.
        family: `medmnist-c` (its seven for BreastMNIST), `ultrasound`, `annotation`, or `control` of an annotation.
        description: What happens to the image, in a sentence.
        source: Where the definition comes from.
        levels: The parameters of severity 1 to 5.
        apply: Takes uint8 [H, W], the source of chance, and the parameters of a level by name; returns uint8 [H, W].
        colour: Whether `apply` takes uint8 [H, W, 3] as well; otherwise each channel is corrupted alike.
        moves: Whether tissue is elsewhere on the image afterwards.
        at_lesion: Whether `apply` takes `lesion` as well: bool [H, W], or None where it is not known.
        cuts: Whether tissue is lost, and the lesion with it where nobody knows where it is.
        control_of: The annotation whose control it is: drawn from the same chance, without what is tested.
    """

    name: str
    family: Family
    description: str
    source: str
    levels: tuple[Mapping[str, Any], ...]
    apply: Callable[..., np.ndarray] = field(repr=False)
    colour: bool = False
    moves: bool = False
    at_lesion: bool = False
    cuts: bool = False
    control_of: str | None = None

    def __call__(
        self, image: np.ndarray, severity: int, rng: np.random.Generator, lesion: np.ndarray | None = None
    ) -> np.ndarray:
        """Corrupt uint8 [H, W] or [H, W, 3]; the same state of `rng` gives the same bytes.

        `lesion` is bool [H, W], or None where it is not known.
        """
        level = dict(self.levels[severity - 1])
        if self.at_lesion:
            level["lesion"] = lesion
        if image.ndim == 2 or self.colour:
            return self.apply(image, rng, **level)
        # The same chance for each channel, so that grey stays grey.
        (seed,) = rng.integers(2**63, size=1)
        channels = np.moveaxis(np.ascontiguousarray(image), -1, 0)
        changed = [
            self.apply(np.ascontiguousarray(channel), np.random.default_rng(seed), **level) for channel in channels
        ]
        return np.stack(changed, axis=-1)


def levels(**parameters: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    """Turn five values by parameter into parameters by severity; a single value holds for all."""
    return tuple(
        {name: values[place] if len(values) > 1 else values[0] for name, values in parameters.items()}
        for place in range(len(SEVERITIES))
    )
