"""Where the evidence is: log odds at each place of an image, counted from the operating point."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from medsharp.bundle import BundleSpec
from medsharp.images.box import Box
from medsharp.inference.heatmap import lay_over
from medsharp.inference.prediction import log_odds
from medsharp.inference.reading import Prepared
from medsharp.inference.session import Session
from medsharp.preprocess import Placement

GRID = 12
"""Places a side that occlusion covers one after another."""

_BATCH = 36
_LEAST_SCALE = 0.5
"""Log odds that are drawn at full strength at least, so that a map of nothing does not look like one of something."""


@dataclass(frozen=True)
class Saliency:
    """Evidence at each place of an image, for and against the positive class.

    Attributes:
        values: float32 [h, w] of the image as it is shown, in log odds; 0 is the operating point. Their mean over the
            part of the image that the network saw is the answer's distance to the operating point, so an image above it
            has places above 0. What was cropped away is 0.
        scale: Log odds that are drawn at full strength: the largest of the image, at least 0.5.
    """

    values: np.ndarray
    scale: float

    @property
    def shades(self) -> np.ndarray:
        """From -1, against, to 1, for: float32 [h, w], as `overlay` draws it."""
        return self.values / np.float32(self.scale)


@dataclass(frozen=True)
class Places:
    """Effects on a coarse grid.

    Attributes:
        effects: float32 [h, w], in log odds an answer would have if all places were as this one; up to a constant.
        left: Where the part of the image that the network saw begins on the grid, in cells; so `top`.
        right: Where it ends; so `bottom`.
    """

    effects: np.ndarray
    left: float
    top: float
    right: float
    bottom: float


def explain(
    find: Callable[[], Places], margin: float, where: Placement, shape: tuple[int, int], longest_side: int
) -> Saliency:
    """Draw effects over the image, so that their mean is the answer's distance to the operating point.

    What no place brings (bias, threshold, the black around a letterboxed image, for occlusion what places do together)
    is spread evenly over the image.

    Args:
        find: Gives the effects; called once.
        margin: The answer's distance to the operating point in log odds.
        where: How the image was placed in the network's input.
        shape: Height and width of the original.
        longest_side: Of the map, which is never larger than the original.
    """
    places = find()
    box = (places.left, places.top, places.right, places.bottom)
    drawn, span = lay_over(places.effects, box, where.crop, shape, longest_side)
    values = np.zeros(drawn, dtype=np.float32)
    rows, columns, inside = span
    values[rows, columns] = inside - inside.mean(dtype=np.float64) + margin
    return Saliency(values, max(_LEAST_SCALE, float(np.abs(values).max())))


def margins_of(logits: np.ndarray, positive: int, temperature: float, threshold: float) -> np.ndarray:
    """Return the distances of answers to the operating point in log odds, float64 [B].

    Args:
        logits: [B, C].
        positive: Number of the positive class.
        temperature: What logits are divided by.
        threshold: The operating point, a probability.
    """
    scaled = logits.astype(np.float64) / temperature
    others = np.delete(scaled, positive, axis=1)
    highest = others.max(axis=1)
    together = highest + np.log(np.exp(others - highest[:, None]).sum(axis=1))
    return np.asarray(scaled[:, positive] - together - log_odds(threshold))


def places_of_cam(
    cam: np.ndarray, logits: np.ndarray, positive: int, temperature: float, where: Placement, size: int
) -> Places:
    """Return the effects that a class activation map gives: exact for the mean of the logits that it explains.

    With other classes k of shares w_k among themselves the log odds are z_p - sum w_k z_k - H(w), H the entropy; each z
    is the mean of its map and a bias (Zhou et al., CVPR 2016, eq. 2). Of two classes w is 1.

    Args:
        cam: Of one image, [C, h, w].
        logits: [C].
        positive: Number of the positive class.
        temperature: What logits are divided by.
        where: How the image was placed in the input.
        size: Side of the input.
    """
    others = np.delete(logits.astype(np.float64) / temperature, positive)
    weights = np.exp(others - others.max())
    weights /= weights.sum()
    against = np.tensordot(weights, np.delete(cam, positive, axis=0), axes=1)  # [h, w]
    effects = ((cam[positive] - against) / temperature).astype(np.float32)
    height, width = effects.shape
    top, left, bottom, right = where.inner
    return Places(effects, left * width / size, top * height / size, right * width / size, bottom * height / size)


def places_of_occlusion(
    session: Session, image: np.ndarray, positive: int, temperature: float, where: Placement
) -> Places:
    """Return how much the log odds fall when each of 12 x 12 places is covered by the image's mean grey.

    For networks whose pooling allows no exact map (Zeiler and Fergus, ECCV 2014). A fall is counted 144 times, as what
    it would be if all places were as this one: for a network that averages over places this is its exact map.

    Args:
        session: The network.
        image: Its input, uint8 [S, S].
        positive: Number of the positive class.
        temperature: What logits are divided by.
        where: How the image was placed in the input; what is beside it is not covered.
    """
    inner = where.inner
    grey = round(float(image[inner.top : inner.bottom, inner.left : inner.right].mean()))
    stack = np.stack([image, *(_covered(image, box, grey) for box in _cells(inner))])
    logits = np.concatenate([session.run(stack[i : i + _BATCH])["logits"] for i in range(0, len(stack), _BATCH)])
    margins = margins_of(logits, positive, temperature, 0.5)
    falls = (margins[0] - margins[1:]).reshape(GRID, GRID)
    return Places((falls * falls.size).astype(np.float32), 0, 0, GRID, GRID)


def _cells(inner: Box) -> list[Box]:
    rows = np.linspace(inner.top, inner.bottom, GRID + 1).round().astype(int)
    columns = np.linspace(inner.left, inner.right, GRID + 1).round().astype(int)
    return [
        Box(top, left, bottom, right)
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]


def _covered(image: np.ndarray, box: Box, grey: int) -> np.ndarray:
    changed = image.copy()
    changed[box.top : box.bottom, box.left : box.right] = grey
    return changed


def finder(
    session: Session,
    sample: np.ndarray,
    cam: np.ndarray | None,
    logits: np.ndarray,
    positive: int,
    temperature: float,
    where: Placement,
) -> Callable[[], Places]:
    """Return what finds the effects of one image; maps are there already, occlusion comes when it is asked for.

    Arrays are copied, so that one kept prediction does not keep the whole batch.

    Args:
        session: The network.
        sample: Its input, uint8 [S, S].
        cam: Its class activation map [C, h, w], where the network has one.
        logits: [C].
        positive: Number of the positive class.
        temperature: What logits are divided by.
        where: How the image was placed in the input.
    """
    if cam is None:
        return partial(places_of_occlusion, session, sample.copy(), positive, temperature, where)
    return partial(places_of_cam, cam.copy(), logits.copy(), positive, temperature, where, len(sample))


def explanations_of(
    session: Session, spec: BundleSpec, inputs: np.ndarray, outputs: dict[str, np.ndarray], parts: Sequence[Prepared]
) -> list[Callable[[int], Saliency]]:
    """Return for each input what draws its map when it is asked for, given the longest side.

    Args:
        session: The network.
        spec: Of the bundle.
        inputs: uint8 [B, S, S].
        outputs: Of the network for them.
        parts: How each image was made ready.
    """
    positive, temperature = spec.classes.index(spec.positive), spec.temperature
    margins = margins_of(outputs["logits"], positive, temperature, spec.operating_point.threshold)
    cams = outputs.get("cam", [None] * len(parts))
    return [
        partial(
            explain,
            finder(session, sample, cam, logits, positive, temperature, part.where),
            float(margin),
            part.where,
            part.shape,
        )
        for sample, cam, logits, margin, part in zip(inputs, cams, outputs["logits"], margins, parts, strict=True)
    ]


def method_of(spec: BundleSpec, outputs: dict[str, np.ndarray]) -> str:
    """Return how the evidence is found, as `Prediction.heatmap_method` says it."""
    if "cam" not in outputs:
        return "occlusion"
    return "class activation map" if spec.exact_map else "mean class activation map"
