"""What a bundle knows of the features of its own images: `checks.npz`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

_MOST_DIRECTIONS = 64


@dataclass(frozen=True)
class Learned:
    """Directions in which features of training images vary, where their classes lie, and what tells no lesion.

    Attributes:
        mean: Of each feature [D].
        directions: Principal directions of the standardised features, divided by their deviations [K, D].
        centres: Of each class, in these directions [C, K].
        precision: Inverse of the covariance within classes [K, K].
        no_lesion: Weights [K] and intercept of the log odds of no lesion; empty where that was not learned.
    """

    mean: np.ndarray
    directions: np.ndarray
    centres: np.ndarray
    precision: np.ndarray
    no_lesion: np.ndarray

    def _projected(self, features: np.ndarray) -> np.ndarray:
        return np.asarray((features - self.mean) @ self.directions.T)

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Return the Mahalanobis distance to the nearest class over the root of K: float64 [B], about 1 at home."""
        gaps = self._projected(features)[:, None] - self.centres  # [B, C, K]
        squares = np.einsum("bck,kl,bcl->bc", gaps, self.precision, gaps)
        return np.asarray(np.sqrt(squares.min(axis=1) / len(self.precision)))

    def no_lesion_odds(self, features: np.ndarray) -> np.ndarray:
        """Return the log odds that there is no lesion: float64 [B]."""
        return np.asarray(self._projected(features) @ self.no_lesion[:-1] + self.no_lesion[-1])

    def write(self, path: Path) -> None:
        """Write it, in single precision but for the small matrices."""
        np.savez_compressed(
            path,
            mean=self.mean.astype(np.float32),
            directions=self.directions.astype(np.float32),
            centres=self.centres,
            precision=self.precision,
            no_lesion=self.no_lesion,
        )

    @classmethod
    def read(cls, path: Path) -> Learned:
        """Read it; nothing in the file is executed."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{name: arrays[name].astype(np.float64) for name in arrays.files})


def learn(features: np.ndarray, labels: np.ndarray, without: np.ndarray) -> Learned:
    """Fit it.

    Args:
        features: Of images with a lesion [N, D].
        labels: Their classes, int [N].
        without: Features of images without a lesion [M, D]; M may be 0.
    """
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA

    every = np.concatenate([features, without]).astype(np.float64)
    mean, scale = every.mean(axis=0), every.std(axis=0) + 1e-6
    count = max(1, min(_MOST_DIRECTIONS, every.shape[1], len(every) // 5))
    found = PCA(count, svd_solver="full").fit((every - mean) / scale)
    deviations = np.sqrt(np.maximum(found.explained_variance_, 1e-12))
    directions = found.components_ / deviations[:, None] / scale
    projected = (features - mean) @ directions.T
    kinds = np.unique(labels)
    centres = np.stack([projected[labels == kind].mean(axis=0) for kind in kinds])
    within = projected - centres[np.searchsorted(kinds, labels)]
    precision = np.linalg.inv(LedoitWolf(assume_centered=True).fit(within).covariance_)
    no_lesion = _regression(projected, (without - mean) @ directions.T) if len(without) else np.empty(0)
    return Learned(mean, directions, centres, precision, no_lesion)


def _regression(lesions: np.ndarray, without: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    labels = np.repeat([0, 1], [len(lesions), len(without)])
    model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=5000)
    model.fit(np.concatenate([lesions, without]), labels)
    return np.append(model.coef_[0], model.intercept_[0])
