"""What a bundle's threshold and probabilities stand on: calibrated scores of the positive class, of validation images.

The classes are unlike in number, the logits are not centred, and they are four times too large: a threshold chosen on
the raw scores, of the other class, or of other images would be another one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from medsharp.bundle import BundleSpec
from medsharp.inference import Predictor
from medsharp.networks import Classifier

from .conftest import make_network

Export = Callable[..., BundleSpec]
CLASSES = ("benign", "malignant")
OVERCONFIDENT = 4.0


@pytest.fixture(scope="module")
def speckle() -> np.ndarray:
    """Speckle of many strengths, uint8 [300, 64, 64]; the first 200 validate, the others test."""
    rng = np.random.default_rng(5)
    strengths = rng.uniform(15, 110, size=(300, 1, 1))
    return np.clip(rng.rayleigh(strengths, size=(300, 64, 64)), 0, 255).astype(np.uint8)


def logits_of(network: Classifier, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return network(torch.from_numpy(images[:, None])).double().numpy()


@pytest.fixture(scope="module")
def overconfident(speckle: np.ndarray) -> tuple[Classifier, np.ndarray]:
    """A network whose log odds, mean -1 and deviation 2, are four times too large, and labels int [300]."""
    network = make_network()
    head = network.backbone.get_classifier()  # type: ignore[operator]
    with torch.no_grad():
        # Logits of opposite sign: what is common to both classes says nothing and would only cost digits.
        half = (head.weight[1] - head.weight[0]) / 2
        head.weight.copy_(torch.stack([-half, half]))
        head.bias.zero_()
    odds = np.diff(logits_of(network, speckle), axis=1)
    with torch.no_grad():
        factor = 2 / float(odds.std())
        head.weight *= factor
        head.bias[1] = -factor * float(odds.mean()) - 1
    logits = logits_of(network, speckle)
    honest = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    labels = (np.random.default_rng(6).random(len(honest)) < honest).astype(int)
    with torch.no_grad():
        head.weight *= OVERCONFIDENT
        head.bias *= OVERCONFIDENT
    return network, labels


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Cross entropy's minimum over a fine grid."""
    grid = np.exp(np.linspace(np.log(0.5), np.log(20), 20_000))
    margin = (2 * labels - 1) * (logits[:, 1] - logits[:, 0])
    return float(grid[np.argmin([np.logaddexp(0, -margin / temperature).mean() for temperature in grid])])


@pytest.mark.parametrize("positive", CLASSES)
def test_threshold_stands_on_calibrated_scores_of_the_positive_class_of_validation_images(
    export: Export, overconfident: tuple[Classifier, np.ndarray], speckle: np.ndarray, tmp_path: Path, positive: str
) -> None:
    network, labels = overconfident
    rows = pd.DataFrame(
        {
            "image": [f"{number}.png" for number in range(100)],
            "label": [CLASSES[label] for label in labels[200:]],
            **dict.fromkeys(("patient", "group", "site", "device", "birads"), ""),
        }
    )
    spec = export(
        network,
        tmp_path / "bundle",
        positive=positive,
        validation_images=speckle[:200],
        validation_labels=labels[:200],
        internal=rows,
        internal_images=speckle[200:],
        sensitivity=0.9,
    )
    logits = logits_of(network, speckle)
    temperature = best_temperature(logits[:200], labels[:200])
    assert temperature > 2.5
    assert spec.temperature == pytest.approx(temperature, rel=2e-3)
    assert spec.uncalibrated == ""

    def scores(temperature: float) -> np.ndarray:
        column = CLASSES.index(positive)
        return 1 / (1 + np.exp((logits[:, 1 - column] - logits[:, column]) / temperature))

    def threshold(scores: np.ndarray) -> float:
        found = scores[:200][labels[:200] == CLASSES.index(positive)]
        least = max(score for score in found if (found >= score).mean() >= 0.9)
        return (least + max(score for score in scores[:200] if score < least)) / 2

    calibrated = scores(temperature)
    assert spec.operating_point.threshold == pytest.approx(threshold(calibrated), abs=2e-3)
    assert abs(threshold(scores(1.0)) - threshold(calibrated)) > 0.02

    # Whoever serves the bundle reaches on these images what it says, and every file holds the same probabilities.
    told = [
        prediction.positive_probability
        for prediction in Predictor.load(tmp_path / "bundle", device="cpu").predict_pixels(speckle)
    ]
    np.testing.assert_allclose(told, calibrated, atol=2e-3)
    hit = np.array(told[:200])[labels[:200] == CLASSES.index(positive)] >= spec.operating_point.threshold
    assert hit.mean() == spec.operating_point.sensitivity
    validation = pd.read_csv(tmp_path / "bundle" / "validation.csv")
    np.testing.assert_allclose(validation[f"p_{positive}"], calibrated[:200], atol=2e-3)
    assert list(validation["label"]) == [CLASSES[label] for label in labels[:200]]
    internal = pd.read_csv(tmp_path / "bundle" / "internal.csv")
    np.testing.assert_allclose(internal[f"p_{positive}"], calibrated[200:], atol=2e-3)
    assert list(internal["label"]) == list(rows["label"])


def test_bundle_of_few_images_is_not_calibrated_and_says_so(
    export: Export, overconfident: tuple[Classifier, np.ndarray], speckle: np.ndarray, tmp_path: Path
) -> None:
    network, _ = overconfident
    logits = logits_of(network, speckle[:12])
    order = logits[:, 1] - logits[:, 0]
    spec = export(
        network,
        tmp_path / "bundle",
        validation_images=speckle[:12],
        validation_labels=(order > np.median(order)).astype(int),
    )
    assert spec.temperature == 1.0
    assert "12 validation images are too few" in spec.uncalibrated
    card = " ".join((tmp_path / "bundle" / "MODEL_CARD.md").read_text().split())
    assert f"The probabilities are not calibrated (the temperature is 1): {spec.uncalibrated}." in card
    assert "only 6 positives and 6 negatives, so it is uncertain" in card
    raw = 1 / (1 + np.exp(-order))
    np.testing.assert_allclose(pd.read_csv(tmp_path / "bundle" / "validation.csv")["p_malignant"], raw, atol=1e-4)
