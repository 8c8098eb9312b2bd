"""Every figure worked out again from its definition, sharing no code with medsharp.

An image is a row: `y` whether it is positive, `p` the probability that a model gave it, `patient` whose it is. A figure
is computed for many weightings of the images at once, by comparing every image with every other: dense matrices in
place of medsharp's sorted running sums. `test_oracle_figures` holds the same formulas against scikit-learn and
statsmodels, which know nothing of weights of patients.

Limits come from resamples of our own. Of these 2.5 % lie below medsharp's lower limit and above its upper one, give or
take what chance does to resamples of two random streams; a wrong denominator, another unit that is resampled or a
turned sign moves those shares by much more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import norm
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

RESAMPLES = 6000
"""As many as make our own part in that chance small."""

USUAL = 2000
"""What medsharp draws by default."""

_STEPS = 30


@dataclass(frozen=True)
class Images:
    """Labels bool [N], probabilities [N], patients int [N] and the threshold, or that of each image [N]."""

    y: np.ndarray
    p: np.ndarray
    patient: np.ndarray
    threshold: float | np.ndarray = 0.5

    def chosen(self, mask: np.ndarray) -> Images:
        threshold = self.threshold[mask] if isinstance(self.threshold, np.ndarray) else self.threshold
        return Images(self.y[mask], self.p[mask], self.patient[mask], threshold)

    def patients(self, mask: np.ndarray | None = None) -> int:
        return len(set(self.patient if mask is None else self.patient[mask]))

    @cached_property
    def flagged(self) -> np.ndarray:
        return self.p >= self.threshold

    @property
    def alike(self) -> np.ndarray:
        """The images as they are: a weight of 1 each, [1, N]."""
        return np.ones((1, len(self.y)))

    def resampled(self, count: int = RESAMPLES, seed: int = 12345) -> np.ndarray:
        """Weights [count, N]: patients drawn with replacement, each with all images."""
        rng = np.random.default_rng(seed)
        who, place = np.unique(self.patient, return_inverse=True)
        return rng.multinomial(len(who), np.full(len(who), 1 / len(who)), size=count)[:, place].astype(float)

    def without_each(self) -> np.ndarray:
        """Weights [patients, N]: everyone but one patient."""
        return (self.patient[None] != np.unique(self.patient)[:, None]).astype(float)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, part / whole, np.nan)


def likelihood_ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Infinite over 0, and no number only as 0 over 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return part / whole


def auroc(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Every positive against every negative, half for a tie."""
    above, below = p[y][:, None], p[~y][None, :]
    wins = (above > below) + 0.5 * (above == below)
    one, other = w[:, y], w[:, ~y]
    return ratio(((one @ wins) * other).sum(axis=1), one.sum(axis=1) * other.sum(axis=1))


def auprc(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The mean over positives of the precision at their own score."""
    reach = (p[None, :] >= p[y][:, None]).astype(float)  # [P, N]: who is called positive at each positive's score
    precision = ratio(w[:, y] @ reach[:, y].T, w @ reach.T)
    return ratio((w[:, y] * np.nan_to_num(precision)).sum(axis=1), w[:, y].sum(axis=1))


def partial_auroc(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Sensitivities from 0.9 on, corrected: scikit-learn's for specificities, of classes and scores turned over."""
    return np.array([_partial(y, p, row) for row in w])


def _partial(y: np.ndarray, p: np.ndarray, row: np.ndarray) -> float:
    kept = row > 0
    if y[kept].all() or not y[kept].any():
        return float("nan")
    return float(roc_auc_score(~y[kept], -p[kept], sample_weight=row[kept], max_fpr=0.1))


def best_at(y: np.ndarray, p: np.ndarray, w: np.ndarray, held: str, rate: float) -> np.ndarray:
    """The best sensitivity (specificity) of all thresholds whose specificity (sensitivity) is at least `rate`."""
    called = p[None, :] >= np.r_[np.unique(p), np.inf][:, None]  # [U + 1, N]
    found = ratio(w[:, y] @ called[:, y].T, w[:, y].sum(axis=1, keepdims=True))
    spared = ratio(w[:, ~y] @ (~called[:, ~y]).T.astype(float), w[:, ~y].sum(axis=1, keepdims=True))
    keep, wish = (spared, found) if held == "specificity" else (found, spared)
    return np.where(keep >= rate - 1e-9, wish, -1).max(axis=1)


def recalibrated(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The intercept at slope 1, and intercept and slope of a logistic fit, by plain Newton steps; NaN without a fit."""
    score = np.log(p / (1 - p))
    large = np.zeros(len(w))
    b = np.zeros(len(w))
    with np.errstate(all="ignore"):
        for _ in range(_STEPS):
            fitted = expit(large[:, None] + score)
            step = (w @ y - (w * fitted).sum(axis=1)) / (w * fitted * (1 - fitted)).sum(axis=1)
            large += np.clip(step, -1, 1)
            if abs(step).max() < 1e-9:
                break
        a = np.log((w @ y) / (w @ ~y))
        for _ in range(_STEPS):
            fitted = expit(a[:, None] + b[:, None] * score)
            rest, spread = w * (y - fitted), w * fitted * (1 - fitted)
            g0, g1 = rest.sum(axis=1), rest @ score
            h0, h1, h2 = spread.sum(axis=1), spread @ score, spread @ score**2
            whole = h0 * h2 - h1**2
            a, b = a + (h2 * g0 - h1 * g1) / whole, b + (h0 * g1 - h1 * g0) / whole
            if (abs(g0) + abs(g1)).max() < 1e-8:
                break
        # Where the classes of a resample are separated the fit runs away.
        exists = (abs(g0) + abs(g1) < 1e-6) & (abs(b) < 50)
    large[(w[:, y].sum(axis=1) == 0) | (w[:, ~y].sum(axis=1) == 0)] = np.nan
    return large, np.where(exists, a, np.nan), np.where(exists, b, np.nan)


def bins_of(p: np.ndarray, wished: int = 10) -> list[np.ndarray]:
    """Bins of equally many images from the highest probability down, equal ones together: the places in each."""
    order = sorted(range(len(p)), key=lambda place: -p[place])
    wished = min(wished, max(1, len(p) // 10))
    starts = {0}
    for number in range(1, wished):
        start = number * len(p) // wished
        while start and p[order[start]] == p[order[start - 1]]:
            start -= 1
        starts.add(start)
    edges = [*sorted(starts), len(p)]
    return [np.array(order[one:other]) for one, other in itertools.pairwise(edges)]


def decided(images: Images, w: np.ndarray, prevalence: float | None = None) -> dict[str, np.ndarray]:
    """Figures of decisions at the threshold."""
    y, f = images.y, images.flagged
    tp, fn, fp, tn = ((w[:, mask]).sum(axis=1) for mask in (y & f, y & ~f, ~y & f, ~y & ~f))
    sensitivity, specificity = ratio(tp, tp + fn), ratio(tn, tn + fp)
    n = w.sum(axis=1)
    values = {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": ratio(tp, tp + fp),
        "npv": ratio(tn, tn + fn),
        "lr_positive": likelihood_ratio(sensitivity, 1 - specificity),
        "lr_negative": likelihood_ratio(1 - sensitivity, specificity),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "accuracy": (tp + tn) / n,
        "prevalence": (tp + fn) / n,
    }
    if not isinstance(images.threshold, np.ndarray):
        odds = images.threshold / (1 - images.threshold)
        benefit, everyone = tp / n - fp / n * odds, (tp + fn) / n - (fp + tn) / n * odds
        values["net_benefit_at_threshold"] = benefit
        values["net_benefit_gain_at_threshold"] = benefit - np.maximum(0, everyone)
        values["interventions_avoided"] = 100 * (tn - fn / odds) / n
    if prevalence is not None:
        q = prevalence
        right, wrong = sensitivity * q, (1 - specificity) * (1 - q)
        values["ppv_at_prevalence"] = ratio(right, right + wrong)
        clear, missed = specificity * (1 - q), (1 - sensitivity) * q
        values["npv_at_prevalence"] = ratio(clear, clear + missed)
        four = {"true_positives": right, "false_negatives": missed, "false_positives": wrong, "true_negatives": clear}
        values |= {f"{name}_per_1000": 1000 * share for name, share in four.items()}
    return values


def aurc(images: Images, w: np.ndarray) -> np.ndarray:
    """The mean share of wrong decisions among the k surest images, k = 1, 2, ..., each weight a number of copies."""
    odds = np.log(images.p / (1 - images.p)) - np.log(images.threshold / (1 - images.threshold))
    return risk_coverage(np.round(np.abs(odds), 12), images.flagged != images.y, w)


def risk_coverage(sure: np.ndarray, wrong: np.ndarray, w: np.ndarray) -> np.ndarray:
    """The same of any order: among tied images, on average over their orders, each of the k is as wrong as all are."""
    order = np.argsort(-sure, kind="stable")
    block = np.unique(-sure[order], return_inverse=True)[1]
    found = np.empty(len(w))
    for row, weights in enumerate(w.round().astype(int)[:, order]):
        errors, images = (np.bincount(block, part) for part in (weights * wrong[order], weights))
        share = np.repeat(ratio(errors, images)[block], weights)  # an image a place
        found[row] = float((np.cumsum(share) / np.arange(1, len(share) + 1)).mean())
    return found


def binned(images: Images, w: np.ndarray) -> dict[str, np.ndarray]:
    """The Brier score and its parts, and calibration errors."""
    y, p = images.y.astype(float), images.p
    n = w.sum(axis=1)
    brier, overall = w @ (p - y) ** 2 / n, w @ y / n
    reliability, resolution, ece, noise = (np.zeros(len(w)) for _ in range(4))
    for places in bins_of(p):
        mass = w[:, places].sum(axis=1)
        filled = np.maximum(mass, 1e-300)
        expected, observed = w[:, places] @ p[places] / filled, w[:, places] @ y[places] / filled
        reliability += mass / n * (expected - observed) ** 2
        resolution += mass / n * (observed - overall) ** 2
        ece += mass / n * abs(expected - observed)
        noise += mass / n * observed * (1 - observed) / (max(2, len(set(images.patient[places]))) - 1)
    uncertainty = overall * (1 - overall)
    return {
        "brier": brier,
        "brier_scaled": 1 - ratio(brier, uncertainty),
        "brier_reliability": reliability,
        "brier_resolution": resolution,
        "brier_uncertainty": uncertainty,
        "brier_within_bins": brier - reliability + resolution - uncertainty,
        "ece": ece,
        "calibration_error": np.sqrt(np.maximum(0, reliability - noise)),
        "squared_calibration_error": reliability - noise,
    }


def figures(
    images: Images, w: np.ndarray, *, prevalence: float | None = None, dear: bool = True
) -> dict[str, np.ndarray]:
    """Every figure for each row of weights [R, N]; with `dear` those too that take their time."""
    y, p = images.y, images.p
    large, _, slope = recalibrated(y, p, w)
    likelihood = np.where(y, p, 1 - p)
    values = {
        "auroc": auroc(y, p, w),
        "auprc": auprc(y, p, w),
        "log_loss": w @ -np.log(likelihood) / w.sum(axis=1),
        "calibration_intercept": large,
        "calibration_slope": slope,
        "aurc": aurc(images, w),
        "oe_ratio": (w * y).sum(axis=1) / (w * p).sum(axis=1),
        **decided(images, w, prevalence),
        **binned(images, w),
    }
    if dear:
        values["partial_auroc"] = partial_auroc(y, p, w)
        for rate in (90, 95):
            values[f"sensitivity_at_specificity_{rate}"] = best_at(y, p, w, "specificity", rate / 100)
            values[f"specificity_at_sensitivity_{rate}"] = best_at(y, p, w, "sensitivity", rate / 100)
    return values


def about(images: Images) -> dict[str, np.ndarray]:
    """The images that each share is a share of, bool [N]; all of them for the others."""
    everyone = np.ones(len(images.y), dtype=bool)
    return {
        "sensitivity": images.y,
        "specificity": ~images.y,
        "ppv": images.flagged,
        "npv": ~images.flagged,
        "accuracy": everyone,
        "prevalence": everyone,
        "true_positives_per_1000": images.y,
        "false_negatives_per_1000": images.y,
        "false_positives_per_1000": ~images.y,
        "true_negatives_per_1000": ~images.y,
    }


def wilson(share: float, total: int) -> tuple[float, float]:
    low, high = proportion_confint(share * total, total, method="wilson")
    return max(0.0, float(low)), min(1.0, float(high))


def newcombe(positives: int, negatives: int) -> float:
    """The lower limit of an AUROC of 1 (Newcombe's method 5), by bisection."""
    z, half = norm.ppf(0.975), (positives + negatives) / 2 - 1
    low, high = 0.0, 1.0 - 1e-12
    for _ in range(200):
        a = (low + high) / 2
        spread = a * (1 - a) * (1 + half * (1 - a) / (2 - a) + half * a / (1 + a)) / (positives * negatives)
        low, high = (a, high) if 1 - a > z * spread**0.5 else (low, a)
    return low


def bca_shares(value: float, replicates: np.ndarray, left_out: np.ndarray) -> tuple[float, float]:
    """Which shares of the replicates lie below Efron's limits, from the definition."""
    below = (replicates < value).sum() + (replicates == value).sum() / 2
    bias = norm.ppf(below / len(replicates))
    distance = left_out.mean() - left_out
    a = (distance**3).sum() / (6 * (distance**2).sum() ** 1.5)
    low, high = (norm.cdf(bias + (bias + z) / (1 - a * (bias + z))) for z in (norm.ppf(0.025), norm.ppf(0.975)))
    return float(low), float(high)


def basic(value: float, plugged_in: float, replicates: np.ndarray) -> tuple[float, float]:
    """A debiased value, less how far resamples stray from what the data have."""
    low, high = np.quantile(replicates - plugged_in, [0.025, 0.975])
    return float(value - high), float(value - low)


def placements(y: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the negatives that each positive beats, and of the positives that beat each negative, half for ties."""
    wins = (p[y][:, None] > p[~y][None]) + 0.5 * (p[y][:, None] == p[~y][None])
    return wins.mean(axis=1), wins.mean(axis=0)


def delong_variance(over: np.ndarray, under: np.ndarray) -> float:
    """Of an area, or of a difference of two, from its placements, images being independent."""
    return float(np.var(over, ddof=1) / len(over) + np.var(under, ddof=1) / len(under))


def obuchowski_variance(over: np.ndarray, under: np.ndarray, y: np.ndarray, who: np.ndarray) -> float:
    """Of an area, or of a difference of two, from its placements, patients being independent."""
    m, n = len(over), len(under)
    patients = sorted(set(who))
    d = np.array([(over - over.mean())[who[y] == one].sum() for one in patients])
    h = np.array([(under - under.mean())[who[~y] == one].sum() for one in patients])
    ill, well, everyone = len(set(who[y])), len(set(who[~y])), len(patients)
    own = ill / (ill - 1) * (d @ d) / m**2 + well / (well - 1) * (h @ h) / n**2
    return float(own + 2 * everyone / (everyone - 1) * (d @ h) / (m * n))


Statistic = Callable[[np.ndarray], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Replicated:
    """A figure's value, its values in resamples [R] and without each patient [patients]."""

    value: float
    replicates: np.ndarray
    left_out: np.ndarray | None = None


def replicated(images: Images, statistic: Statistic, *, leave_out: bool = False, **more: Any) -> dict[str, Replicated]:
    """What a statistic of weights comes to on the images as they are, resampled and, for BCa, without each patient."""
    value, resamples = statistic(images.alike), statistic(images.resampled(**more))
    left_out = statistic(images.without_each()) if leave_out else {}
    return {name: Replicated(float(v[0]), resamples[name], left_out.get(name)) for name, v in value.items()}
