"""The simulated images that the page offers to whoever has none at hand."""

from __future__ import annotations

import functools
import io

import numpy as np
from PIL import Image

# Whether a visitor sees a lesion that the simulation made benign or malignant is said on the button.
_EXAMPLES = (("benign", 3), ("malignant", 12), ("malignant", 4))


@functools.cache
def simulated_examples() -> list[tuple[str, np.ndarray]]:
    """Make the examples: label as simulated, and uint8 [256, 256]."""
    from medsharp.data.phantom import simulate_image

    return [(label, simulate_image("A", label, np.random.default_rng(seed)).pixels) for label, seed in _EXAMPLES]


def simulated_example(number: int) -> bytes | None:
    """Return an example as a PNG file, counted from 1; None where there is none of the number."""
    examples = simulated_examples()
    if not 1 <= number <= len(examples):
        return None
    buffer = io.BytesIO()
    Image.fromarray(examples[number - 1][1]).save(buffer, format="PNG")
    return buffer.getvalue()
