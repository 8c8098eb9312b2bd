"""A contact sheet of an augmentation: each transform by itself, and all of them together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.transforms import Compose
from PIL import Image, ImageDraw

from medsharp.data.augmentation import TRANSFORMS, make_augmentation
from medsharp.recipes import Augmentation, find_augmentation

_GAP = 6
_LABEL = 18
_PAPER = 255
_INK = 40


def contact_sheet(
    images: Sequence[np.ndarray], augmentation: str | Augmentation, *, together: int = 3, seed: int = 0
) -> Image.Image:
    """Draw images in rows: as they are, after each transform alone, and after the whole recipe.

    Alone, a transform is done for certain; together, each as often as it says.

    Args:
        images: uint8 [S, S] each, all of one size.
        augmentation: A recipe by name, or its settings.
        together: How many draws of the whole recipe a row shows.
        seed: Of the draws.

    Raises:
        InputError: No recipe has the name.
    """
    whole = make_augmentation(augmentation)
    columns = [("input", Compose([])), *_alone(find_augmentation(augmentation))]
    columns += [(f"together {number + 1}", whole) for number in range(together)]
    side = images[0].shape[0]
    step = side + _GAP
    sheet = Image.new("L", (_GAP + step * len(columns), _GAP + _LABEL + step * len(images)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for place, (name, transforms) in enumerate(columns):
        draw.text((_GAP + place * step, _GAP), name, fill=_INK, font_size=_LABEL - 6)
        for row, image in enumerate(images):
            drawn = _apply(transforms, image, (seed, row, place))
            sheet.paste(Image.fromarray(drawn), (_GAP + place * step, _GAP + _LABEL + row * step))
    return sheet


def _alone(recipe: Augmentation) -> list[tuple[str, Compose]]:
    columns = []
    for name, settings in recipe.transforms().items():
        values = settings.model_dump()
        if "prob" in values:
            values["prob"] = 1.0
        columns.append((name.replace("_", " "), Compose([TRANSFORMS[name](**values)])))
    return columns


def _apply(transforms: Compose, image: np.ndarray, key: tuple[int, int, int]) -> np.ndarray:
    for transform, number in zip(
        transforms.transforms, np.random.SeedSequence(key).generate_state(len(transforms.transforms) + 1)
    ):
        transform.set_random_state(seed=int(number))
    changed = transforms({"image": image[None].astype(np.float32)})["image"][0]
    return np.rint(np.clip(changed, 0, 255)).astype(np.uint8)
