"""Groups dealt to parts at random, so that images, groups and labels come in the shares asked for.

Groups differ in size and in what they hold, and none is divided. Dealing is random first: groups alike in label, site
and size lie together in blocks, and each block is dealt by the shares. Where few or very different groups leave the
parts out of balance, single groups are moved and exchanged until the tolerances are met, and no longer, so that every
seed gives another split. (Taking the best of all splits would always put the largest patients on one side.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

IMAGES = 0.2
"""Tolerance of a part's share of the images, in shares of it: 15 % may be 12 to 18 %."""

GROUPS = 1 / 3
"""Tolerance of a part's share of the groups, in shares of it: 15 % may be 10 to 20 %."""

LABELS = 0.05
"""Tolerance of a label's share of a part's images: 40 % may be 35 to 45 %."""

_AIM = 0.6
"""Share of the tolerances within which improving ends."""

_MOST_STRATA = 48
"""Of label and site that are balanced; the smallest sites beyond go with the others of their label."""

_STARTS = 8
_ROUNDS = 400
_EXCHANGES = 4_000
_LACKING = 1e9
"""What a part without a label costs: more than all else."""

_GOLDEN = (5**0.5 - 1) / 2


def deal(
    clusters: np.ndarray, labels: Sequence[str], sites: Sequence[str], shares: Sequence[float], seed: int
) -> np.ndarray:
    """Deal rows to parts, rows of a cluster to one.

    Args:
        clusters: int [n], 0, 1, ...; what must not be divided.
        labels: [n]
        sites: [n]; balanced as far as they have the images.
        shares: Of the parts; they sum to 1.
        seed: Of the dealing. The same rows in the same order and the same seed give the same parts.

    Returns:
        int [n], the part of each row.
    """
    code, _ = pd.factorize(np.asarray(labels, dtype=object), sort=True)
    strata = _strata(code, np.asarray(sites, dtype=object), len(shares))
    count = int(clusters.max()) + 1
    sizes = np.bincount(clusters, minlength=count).astype(np.float64)  # [groups]
    by_label = _table(clusters, code, count)  # [groups, labels]
    by_stratum = _table(clusters, strata, count)  # [groups, strata]
    share = np.asarray(shares, dtype=np.float64)
    rng = np.random.default_rng(seed)
    goal = _Goal.of(sizes, by_label, by_stratum, share)
    best, least = np.zeros(count, dtype=np.int64), np.inf
    for _ in range(_STARTS):
        parts = _deal_blocks(sizes, by_label, by_stratum, share, rng)
        parts, excess = _improve(parts, goal, rng)
        if excess < least:
            best, least = parts, excess
        if excess <= 1:
            break
    return best[clusters]


def choose_by_class(labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Choose some of many images, each class in its share, and one of each class at least.

    Args:
        labels: Of all images, [N].
        count: How many; a little more where classes are rare.
        rng: Draws them.

    Returns:
        Places, ascending: a random order within each class, dealt out by largest remainder.
    """
    names, counts = np.unique(labels, return_counts=True)
    wanted = count * counts / len(labels)
    shares = np.floor(wanted).astype(int)
    shares[np.argsort(shares - wanted, kind="stable")[: count - shares.sum()]] += 1
    places = [
        rng.permutation(np.flatnonzero(labels == name))[: max(1, share)]
        for name, share in zip(names, shares, strict=True)
    ]
    return np.sort(np.concatenate(places))


def imbalances(
    parts: np.ndarray, clusters: np.ndarray, labels: Sequence[str], shares: Sequence[float]
) -> dict[int, tuple[str, ...]]:
    """Say where parts are out of the tolerances `IMAGES`, `GROUPS` and `LABELS`.

    Args:
        parts: int [n], the part of each row.
        clusters: int [n], 0, 1, ...
        labels: [n]
        shares: What was asked for.

    Returns:
        By part, phrases such as `25 % of the images instead of 15 %`; parts within the tolerances are not there.
    """
    code, names = pd.factorize(np.asarray(labels, dtype=object), sort=True)
    prior = np.bincount(code) / len(code)
    groups = len(np.unique(clusters))
    missed: dict[int, tuple[str, ...]] = {}
    for part, asked in enumerate(shares):
        chosen = parts == part
        images, here = float(chosen.mean()), len(np.unique(clusters[chosen])) / groups
        phrases = []
        if abs(images - asked) > IMAGES * asked:
            phrases.append(f"{images:.0%} of the images instead of {asked:.0%}")
        if abs(here - asked) > max(GROUPS * asked, 1 / groups):
            phrases.append(f"{here:.0%} of the patients or groups instead of {asked:.0%}")
        have = np.bincount(code[chosen], minlength=len(names)) / max(int(chosen.sum()), 1)
        phrases += [
            f"{is_:.0%} {name} instead of {due:.0%}"
            for name, is_, due in zip(names, have, prior, strict=True)
            if abs(is_ - due) > LABELS
        ]
        if phrases:
            missed[part] = tuple(phrases)
    return missed


def _table(clusters: np.ndarray, codes: np.ndarray, count: int) -> np.ndarray:
    """Return how many rows of each code each cluster has, float64 [count, codes]."""
    width = int(codes.max()) + 1
    return np.bincount(clusters * width + codes, minlength=count * width).reshape(count, width).astype(np.float64)


def _strata(labels: np.ndarray, sites: np.ndarray, least: int) -> np.ndarray:
    """Return a number for label and site of each row; sites with few images of a label are taken together."""
    place, _ = pd.factorize(sites, sort=True)
    both = labels * (int(place.max()) + 1) + place
    codes, _ = pd.factorize(both, sort=True)
    counts = np.bincount(codes)
    largest = np.argsort(-counts, kind="stable")[:_MOST_STRATA]
    kept = np.zeros(len(counts), dtype=bool)
    kept[largest] = counts[largest] >= 3 * least
    together = np.where(kept[codes], both, -1 - labels)
    return pd.factorize(together, sort=True)[0]


def _deal_blocks(
    sizes: np.ndarray, by_label: np.ndarray, by_stratum: np.ndarray, share: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Deal groups in blocks of alike ones; within a block chance decides."""
    count = len(sizes)
    # A group is of its rarest label, and of where it has most of its images.
    rarity = np.argsort(np.argsort((by_label > 0).sum(axis=0), kind="stable"), kind="stable")
    rarest = np.where(by_label > 0, rarity, by_label.shape[1]).min(axis=1)
    order = np.lexsort((rng.random(count), -sizes, by_stratum.argmax(axis=1), rarest))
    # Multiples of the golden ratio fill every stretch of the line evenly, so that any run of groups has its shares.
    line = (rng.random() + np.arange(count) * _GOLDEN) % 1.0
    bounds = np.cumsum(share)[:-1]
    dealt = np.searchsorted(bounds, line, side="right")
    block = max(4, round(2 / float(share.min())))
    shuffled = np.lexsort((rng.random(count), np.arange(count) // block))
    parts = np.empty(count, dtype=np.int64)
    parts[order] = dealt[shuffled]
    return parts


@dataclass(frozen=True)
class _Goal:
    """What is balanced: linear counts of groups, and how far a part's sums may be from their targets.

    Attributes:
        counts: float64 [groups, features].
        targets: float64 [parts, features].
        slack: float64 [parts, features], what counts as one tolerance.
        present: bool [features], of which no part may have none.
    """

    counts: np.ndarray
    targets: np.ndarray
    slack: np.ndarray
    present: np.ndarray

    @staticmethod
    def of(sizes: np.ndarray, by_label: np.ndarray, by_stratum: np.ndarray, share: np.ndarray) -> _Goal:
        """Make it; counts are images, groups, images and groups of each label, and images of each label and site."""
        total, groups = sizes.sum(), float(len(sizes))
        part = share[:, None]
        with_label = (by_label > 0).astype(np.float64)
        prior = by_label.sum(axis=0) / total
        labels, strata = by_label.shape[1], by_stratum.shape[1]
        columns = [
            (sizes[:, None], part * total, _AIM * IMAGES * part * total),
            (np.ones((len(sizes), 1)), part * groups, np.maximum(_AIM * GROUPS * part * groups, 0.5)),
            # A label's share of a part is right where its images less their due of all are none.
            (by_label - prior * sizes[:, None], np.zeros((len(share), labels)), _AIM * LABELS * part * total),
            (with_label, part * with_label.sum(axis=0), np.maximum(GROUPS * part * with_label.sum(axis=0), 1.0)),
        ]
        if strata > labels:
            due = part * by_stratum.sum(axis=0)
            columns.append((by_stratum, due, np.maximum(0.4 * due, sizes.mean())))
        shape = (len(share),)
        return _Goal(
            np.concatenate([counts for counts, _, _ in columns], axis=1),
            np.concatenate([np.broadcast_to(due, (*shape, due.shape[1])) for _, due, _ in columns], axis=1),
            np.concatenate([np.broadcast_to(s, (*shape, c.shape[1])) for c, _, s in columns], axis=1),
            np.concatenate([np.full(c.shape[1], number == 3) for number, (c, _, _) in enumerate(columns)]),
        )


def _improve(parts: np.ndarray, goal: _Goal, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Move and exchange groups while that helps and the aim is not met; return the parts and the largest excess.

    What falls with every step is the sum over parts and features of ((sum - target) / slack)^2, and before all else how
    many labels are in no group of a part.
    """
    weight = 1 / goal.slack**2  # [parts, features]
    sums = np.stack([goal.counts[parts == part].sum(axis=0) for part in range(len(weight))])
    if (np.abs(sums - goal.targets) <= goal.slack).all() and not (sums[:, goal.present] < 0.5).any():
        return parts, 0.0
    order = rng.permutation(len(parts))  # so that chance decides among groups alike
    counts, parts = goal.counts[order], parts[order]
    squares = counts**2 @ weight.T  # [groups, parts]: what a group adds by itself
    everyone = np.arange(len(parts))
    held = counts[:, goal.present]  # [groups, labels]
    for _ in range(_ROUNDS):
        off = sums - goal.targets
        lacks = sums[:, goal.present] < 0.5  # [parts, labels]
        if (np.abs(off) <= goal.slack).all() and not lacks.any():
            break
        pull = weight * off
        slope = counts @ pull.T  # [groups, parts]: half of how the sum rises when a group joins a part
        rise = 2 * slope + squares - (2 * slope[everyone, parts] - squares[everyone, parts])[:, None]
        lost = ((held > 0) & (sums[parts][:, goal.present] < 1.5)).sum(axis=1)  # labels of which it is the last
        rise += _LACKING * (lost[:, None] - held @ lacks.T)
        rise[everyone, parts] = np.inf
        least = int(np.argmin(rise))
        steps, fall = [divmod(least, rise.shape[1])], float(rise.flat[least])
        one, other = rng.integers(len(parts), size=(2, _EXCHANGES))
        apart = parts[one] != parts[other]
        one, other = one[apart], other[apart]
        if len(one):
            a, b = parts[one], parts[other]
            change = counts[other] - counts[one]  # what part a gains, and b loses
            swap = ((2 * (pull[a] - pull[b]) + (weight[a] + weight[b]) * change) * change).sum(axis=1)
            of_label = change[:, goal.present]
            after = (sums[a][:, goal.present] + of_label < 0.5) * 1 + (sums[b][:, goal.present] - of_label < 0.5)
            swap += _LACKING * (after - lacks[a] * 1 - lacks[b]).sum(axis=1)
            least = int(np.argmin(swap))
            if swap[least] < fall:
                fall = float(swap[least])
                steps = [(int(one[least]), int(b[least])), (int(other[least]), int(a[least]))]
        if fall > -1e-9:
            break
        for group, target in steps:
            sums[parts[group]] -= counts[group]
            sums[target] += counts[group]
            parts[group] = target
    lacking = int((sums[:, goal.present] < 0.5).sum())
    given = np.empty_like(parts)
    given[order] = parts
    return given, float((np.abs(sums - goal.targets) / goal.slack).max()) + _LACKING * lacking
