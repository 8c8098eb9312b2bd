"""Whether heat maps point at what decides: their share inside lesions, and what becomes of answers without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from medsharp.data.lesion import BOX, lesion_area, lesion_box
from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.evaluation.statistics.bootstrap import bootstrap
from medsharp.inference.heatmap import lay_over
from medsharp.inference.predictor import Predictor
from medsharp.inference.saliency import GRID, finder, margins_of
from medsharp.keys import clusters_of
from medsharp.preprocess import Placement, preprocess_mask
from medsharp.progress import Progress

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of the image that are covered, one after another."""

Figure = tuple[float, float, float]
"""A mean and its 95 % interval."""

Order = Literal["most for first", "at random", "most against first"]
ORDERS: tuple[Order, ...] = ("most for first", "at random", "most against first")

_RESAMPLES = 2000
_SHARES = 6
"""Of an image: area; what speaks for in it, of positive and other images; against, of both; pointing."""


@dataclass(frozen=True)
class Explained:
    """Means over images, each with its 95 % interval from resampled patients.

    Attributes:
        images: How many, and of them `above` the operating point.
        area: Of the lesion, as a share of the part of the image that the network saw.
        share_for: Of what speaks for the positive class, how much lies in the lesion: value, low, high; of images of
            the positive class, and of others.
        share_against: The same of what speaks against it.
        pointing: How often the place that speaks most for it lies in the lesion, in images of the positive class.
        curves: By order, the mean change of the log odds when so much of the image is covered by its mean grey, at each
            of `FRACTIONS`: value, low, high.
        contradictions: Images above the operating point whose map shows nothing for the positive class, or below it
            and nothing against.
    """

    images: int
    above: int
    area: Figure
    share_for: tuple[Figure, Figure]
    share_against: tuple[Figure, Figure]
    pointing: Figure
    curves: dict[Order, list[Figure]]
    contradictions: int


def measure_explanations(
    predictor: Predictor, manifest: Manifest, *, images: int = 60, seed: int = 0, progress: Progress | None = None
) -> Explained:
    """Measure the maps of some images with lesion masks, of each class as many where there are.

    Covering what a map says speaks for the positive class must lower the log odds faster than covering places at random
    of the same smoothness, and covering what speaks against it must not (Petsiuk et al., BMVC 2018, deletion).

    Args:
        predictor: The loaded bundle.
        manifest: With masks.
        images: How many.
        seed: Of the drawing and of the random order.
        progress: Called with images done, images in all and what is being done.

    Raises:
        InputError: The manifest has no masks, or an image cannot be read.
    """
    rng = np.random.default_rng(seed)
    rows = manifest.included
    rows = rows[(rows["mask"] != "").to_numpy()].reset_index(drop=True)
    if rows.empty:
        raise InputError(f"{manifest.info.name} names no lesion masks")
    drawn = rows.groupby("label").sample(frac=1, random_state=seed)
    turns = drawn.groupby("label").cumcount()
    drawn = drawn.iloc[np.argsort(turns.to_numpy(), kind="stable")[:images]].reset_index(drop=True)
    found = []
    for number, row in enumerate(drawn.to_dict("records")):
        found.append(_explained(predictor, manifest, row, rng))
        if progress is not None:
            progress(number + 1, len(drawn), "explaining")
    return _summary(found, clusters_of(drawn), np.random.default_rng(seed))


@dataclass(frozen=True)
class _One:
    """Of one image: shares as in `Explained`, whether it is above, and the log odds when covered [order, fraction]."""

    shares: np.ndarray
    above: bool
    contradicts: bool
    changes: np.ndarray


def _explained(predictor: Predictor, manifest: Manifest, row: Any, rng: np.random.Generator) -> _One:
    image = manifest.read(row, predictor.limits)
    masks = manifest.masks(row)
    area = lesion_area(masks, image, predictor.limits)
    lesion = None
    if predictor.preprocessing.crop == "lesion":
        lesion = lesion_box(row["image"], row.get(BOX, ""), masks, image, predictor.limits)
    prepared = predictor.prepare(image, lesion)
    sample, inner = prepared.pixels, prepared.where.inner
    seen = (slice(inner.top, inner.bottom), slice(inner.left, inner.right))
    mask = preprocess_mask(area, image.pixels, predictor.preprocessing, lesion=lesion)[seen].astype(bool)

    outputs = predictor.session.run(sample[None])
    margin = float(_margins(predictor, outputs["logits"])[0])
    cam = outputs["cam"][0] if "cam" in outputs else None
    positive, temperature = predictor.spec.classes.index(predictor.spec.positive), predictor.spec.temperature
    places = finder(predictor.session, sample, cam, outputs["logits"][0], positive, temperature, prepared.where)()
    box = (places.left, places.top, places.right, places.bottom)
    effects = _laid(places.effects, box, prepared.where, len(sample))
    evidence = effects - effects.mean() + margin  # as it is drawn

    random = _laid(rng.normal(size=(GRID, GRID)).astype(np.float32), (0, 0, GRID, GRID), prepared.where, len(sample))
    covered = np.stack([_covered(sample, seen, order) for order in (evidence, random, -evidence)])  # [order, f, S, S]
    logits = predictor.session.run(covered.reshape(-1, *sample.shape))["logits"]
    changes = _margins(predictor, logits).reshape(len(ORDERS), len(FRACTIONS)) - margin

    top = np.unravel_index(int(evidence.argmax()), evidence.shape)
    shares = np.full(_SHARES, np.nan)
    # Of the positive class first, then of others; what an image is not of stays unknown.
    first = 1 if row["label"] == predictor.spec.positive else 2
    shares[0], shares[first], shares[first + 2] = mask.mean(), _inside(evidence, mask), _inside(-evidence, mask)
    if first == 1:
        shares[5] = float(mask[top])
    above = margin >= 0
    return _One(shares, above, bool(evidence.max() <= 0 if above else evidence.min() >= 0), changes)


def _laid(effects: np.ndarray, box: tuple[float, float, float, float], where: Placement, size: int) -> np.ndarray:
    """Return effects on the part of the input that is of the image, float32 [h, w] in its pixels."""
    _, (_, _, values) = lay_over(effects, box, where.inner, (size, size))
    return values


def _margins(predictor: Predictor, logits: np.ndarray) -> np.ndarray:
    spec = predictor.spec
    return margins_of(logits, spec.classes.index(spec.positive), spec.temperature, spec.operating_point.threshold)


def _inside(evidence: np.ndarray, mask: np.ndarray) -> float:
    """Return how much of the positive part lies in the mask; NaN where there is none."""
    positive = np.clip(evidence, 0, None)
    return float(positive[mask].sum() / positive.sum()) if positive.any() else np.nan


def _covered(sample: np.ndarray, seen: tuple[slice, slice], order: np.ndarray) -> np.ndarray:
    """Return the input with each share of `FRACTIONS` of the image covered, the highest of `order` first."""
    ranks: np.ndarray = np.empty(order.size, dtype=np.intp)
    ranks[np.argsort(-order, axis=None, kind="stable")] = np.arange(order.size)
    ranks = ranks.reshape(order.shape)
    grey = round(float(sample[seen].mean()))
    stack = np.repeat(sample[None], len(FRACTIONS), axis=0)
    for changed, fraction in zip(stack, FRACTIONS, strict=True):
        changed[seen][ranks < fraction * order.size] = grey
    return stack


def _summary(found: Sequence[_One], clusters: np.ndarray, rng: np.random.Generator) -> Explained:
    values = np.stack([np.concatenate([one.shares, one.changes.ravel()]) for one in found])  # [N, figures]
    known = np.isfinite(values)
    filled = np.where(known, values, 0)

    def means(weights: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(invalid="ignore"):  # no image of a class
            return {"means": (weights @ filled) / (weights @ known)}

    drawn = bootstrap([means], clusters, resamples=_RESAMPLES, rng=rng)["means"]
    middle = means(np.ones((1, len(found))))["means"][0]
    low, high = np.full((2, len(middle)), np.nan)
    there = np.isfinite(middle)  # no image of a class: no figure
    low[there], high[there] = np.nanpercentile(drawn[:, there], [2.5, 97.5], axis=0)
    figures = [(float(a), float(b), float(c)) for a, b, c in zip(middle, low, high, strict=True)]
    curves = np.arange(_SHARES, len(figures)).reshape(len(ORDERS), len(FRACTIONS))
    return Explained(
        images=len(found),
        above=sum(one.above for one in found),
        area=figures[0],
        share_for=(figures[1], figures[2]),
        share_against=(figures[3], figures[4]),
        pointing=figures[5],
        curves={order: [figures[i] for i in places] for order, places in zip(ORDERS, curves, strict=True)},
        contradictions=sum(one.contradicts for one in found),
    )
