"""Lesions in the words of the BI-RADS ultrasound lexicon, and how often each class shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from medsharp.errors import InputError, nearest

CLASSES = ("benign", "malignant")

# Shares of each descriptor among lesions that look benign and malignant. Some lesions look like the other class
# (`Scanner.atypical`): cancers like fibroadenomas and scars like cancers are what makes the real task hard.
SHARES: dict[str, dict[str, tuple[float, float]]] = {
    "shape": {"oval": (0.75, 0.12), "round": (0.14, 0.13), "irregular": (0.11, 0.75)},
    "margin": {
        "circumscribed": (0.75, 0.08),
        "indistinct": (0.12, 0.24),
        "microlobulated": (0.08, 0.18),
        "angular": (0.04, 0.24),
        "spiculated": (0.01, 0.26),
    },
    "orientation": {"parallel": (0.90, 0.42), "not parallel": (0.10, 0.58)},
    "echo_pattern": {
        "anechoic": (0.18, 0.02),
        "hypoechoic": (0.55, 0.69),
        "isoechoic": (0.16, 0.05),
        "heterogeneous": (0.11, 0.24),
    },
    "posterior": {"enhancement": (0.43, 0.08), "none": (0.48, 0.34), "shadow": (0.09, 0.58)},
}
HALO_SHARES = (0.03, 0.40)
CALCIFICATION_SHARES = (0.10, 0.34)
# Median of the longest diameter in mm, and the standard deviation of its logarithm.
SIZE_MM = ((13.0, 0.42), (16.0, 0.40))


@dataclass(frozen=True)
class Lesion:
    """What a reader would write down about one lesion; both views of a patient share it."""

    label: str
    shape: str
    margin: str
    orientation: str
    echo_pattern: str
    posterior: str
    halo: bool
    calcifications: bool
    size_mm: float
    aspect: float

    @property
    def descriptors(self) -> dict[str, str | float]:
        """The BI-RADS descriptors by name, and the longest diameter in mm."""
        return {
            "shape": self.shape,
            "margin": self.margin,
            "orientation": self.orientation,
            "echo_pattern": self.echo_pattern,
            "posterior": self.posterior,
            "halo": "yes" if self.halo else "no",
            "calcifications": "yes" if self.calcifications else "no",
            "size_mm": self.size_mm,
        }

    @property
    def birads(self) -> str:
        """The category, 2 to 5, that the descriptors alone suggest; the label is not looked at."""
        points = (
            (self.shape == "irregular")
            + {"circumscribed": 0, "indistinct": 1, "microlobulated": 1, "angular": 2, "spiculated": 2}[self.margin]
            + (self.orientation == "not parallel")
            + (self.posterior == "shadow")
            + self.halo
        )
        if points == 0 and self.echo_pattern == "anechoic":
            return "2"
        return "3" if points < 2 else "4" if points < 4 else "5"


def draw_lesion(label: str, rng: np.random.Generator, *, atypical: float = 0.0, scale: float = 1.0) -> Lesion:
    """Draw a lesion of a class.

    Args:
        label: `benign` or `malignant`.
        rng: Source of chance.
        atypical: Chance that it looks like a lesion of the other class.
        scale: Factor on its size.

    Raises:
        InputError: The label is not a class of the phantom.
    """
    if label not in CLASSES:
        raise InputError(f"unknown label '{label}' for a simulated lesion{nearest(label, CLASSES)}")
    column = CLASSES.index(label)
    if rng.random() < atypical:
        column = 1 - column
    drawn = {name: _choose(shares, column, rng) for name, shares in SHARES.items()}
    halo = bool(rng.random() < HALO_SHARES[column])
    calcifications = bool(rng.random() < CALCIFICATION_SHARES[column])
    median, spread = SIZE_MM[column]
    size = float(np.clip(scale * median * np.exp(spread * rng.normal()), 5.0, 30.0))
    aspect = float(rng.uniform(0.86, 0.98) if drawn["shape"] == "round" else rng.uniform(0.52, 0.82))
    if drawn["echo_pattern"] == "anechoic" and drawn["posterior"] == "shadow":
        drawn["posterior"] = "none"  # fluid does not attenuate
    return Lesion(
        label=label,
        halo=halo,
        calcifications=calcifications,
        size_mm=round(size, 1),
        aspect=aspect,
        **drawn,
    )


def _choose(shares: dict[str, tuple[float, float]], column: int, rng: np.random.Generator) -> str:
    point = rng.random()
    for name, share in shares.items():
        point -= share[column]
        if point < 0:
            return name
    return name
