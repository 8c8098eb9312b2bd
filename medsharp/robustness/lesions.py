"""What follows from how much of a data set's lesions is known: which corruptions count, and which control has room."""

from __future__ import annotations

from collections.abc import Sequence

from medsharp.quantities import counted, whole
from medsharp.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from medsharp.robustness.sample import Sample

CONTROL = "calipers_off_lesion"


def counted_apart(names: Sequence[str], unknown: int, images: int) -> dict[str, str]:
    """Return the corruptions after which labels may not hold on a data set, with why.

    Args:
        names: What was applied; clean images may be among them.
        unknown: Images on which the lesion is not known.
        images: All.
    """
    if not unknown:
        return {}
    why = f"the lesion is not known on {whole(unknown)} of {counted(images, 'image')} and may have been cut away"
    return {name: why for name in names if name in CORRUPTIONS and CORRUPTIONS[name].cuts}


def crowded(sample: Sample, seed: int) -> int:
    """Count the images whose lesion leaves no room beside it: there the control of calipers touches it too."""
    count = 0
    for place in range(len(sample)):
        area, pixels = sample.lesion_area(place), sample.pixels(place)
        if area is not None and area.any():
            shown = corrupt(pixels, CONTROL, SEVERITIES[-1], sample.seed(place, seed), lesion=area)
            count += bool((shown != pixels)[area].any())
    return count
