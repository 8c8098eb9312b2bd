"""How large a lesion is in its image, from the manifest's masks: what the size subgroups are made of."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from medsharp.cores import usable_cores
from medsharp.data.lesion import read_mask
from medsharp.errors import InputError
from medsharp.images import ImageLimits

COLUMN = "lesion_area"


def lesion_shares(masks: Sequence[Sequence[Path]], limits: ImageLimits = ImageLimits()) -> list[float | None]:
    """Return the share of each image that its masks cover, in (0, 1).

    A share is no size in millimetres, which images without a scale cannot tell; among images of one depth setting it
    orders lesions by size.

    Args:
        masks: The mask files of each image.
        limits: Of the files.

    Returns:
        None for an image without a mask, with an empty one, or with one that cannot be read or has another size than
        the first: it is then among those whose size is not recorded.
    """
    with ThreadPoolExecutor(max(2, usable_cores())) as pool:
        return list(pool.map(partial(_share, limits=limits), masks))


def _share(files: Sequence[Path], limits: ImageLimits) -> float | None:
    area: np.ndarray | None = None
    for file in files:
        try:
            mask = read_mask(file, limits)
        except InputError:
            return None
        if area is not None and mask.shape != area.shape:
            return None
        area = mask if area is None else area | mask
    share = 0.0 if area is None else float(area.mean())
    return round(share, 6) if share > 0 else None
