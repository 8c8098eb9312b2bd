"""The predictor: loads a bundle, reads images, answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from medsharp.bundle import MODEL, BundleSpec, read_bundle
from medsharp.errors import InputError
from medsharp.images import DecodedImage, ImageLimits, read_image
from medsharp.inference.heatmap import evidence_of_cam, evidence_of_occlusion, place
from medsharp.inference.prediction import Prediction
from medsharp.inference.session import Session
from medsharp.preprocess import Placement, placement, preprocess

Source = Path | str | bytes


class Predictor:
    """A loaded bundle.

    Attributes:
        folder: The bundle's folder.
        spec: What `bundle.yaml` says.
        session: The network on its device.
    """

    def __init__(self, folder: Path, spec: BundleSpec, session: Session) -> None:
        self.folder = folder
        self.spec = spec
        self.session = session
        self._place = spec.preprocess.spec()
        self._positive = spec.classes.index(spec.positive)

    @classmethod
    def load(
        cls, bundle: str | Path, *, device: str = "auto", verify: bool = True, threads: int | None = None
    ) -> Predictor:
        """Load a bundle, after checking the SHA-256 of its files.

        Args:
            bundle: Folder, as `medsharp export` makes it.
            device: `auto` (CUDA where it works), `cpu` or `cuda`.
            verify: Check the hashes.
            threads: Of ONNX Runtime on the CPU; all cores by default.

        Raises:
            InputError: A file is missing or was changed, or CUDA was asked for and cannot be used.
        """
        folder = Path(bundle)
        spec = read_bundle(folder, verify=verify)
        return cls(folder, spec, Session(folder / MODEL, device=device, threads=threads))

    def predict(
        self,
        sources: Sequence[Source],
        *,
        names: Sequence[str] | None = None,
        batch_size: int = 32,
        limits: ImageLimits = ImageLimits(),
        progress: Callable[[int, int, str], None] | None = None,
    ) -> list[Prediction]:
        """Predict images; one that cannot be read gets its reason and does not stop the others.

        Args:
            sources: Files, or their bytes.
            names: How each is called; the path, or `image 1`, by default.
            batch_size: Images at once.
            limits: What is refused.
            progress: Called with images done, images in all and what is being done.

        Returns:
            A prediction for each source, in their order.

        Raises:
            InputError: `names` has another length than `sources`.
        """
        if names is None:
            names = [f"image {n}" if isinstance(s, bytes) else str(s) for n, s in enumerate(sources, start=1)]
        if len(names) != len(sources):
            raise InputError(f"{len(names)} names for {len(sources)} images")
        predictions: list[Prediction] = []
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(sources), batch_size):
                part, called = sources[start : start + batch_size], names[start : start + batch_size]
                read = list(pool.map(partial(_read, limits=limits), part, called))
                predictions += self._answer(read, called)
                if progress is not None:
                    progress(len(predictions), len(sources), "predicting")
        return predictions

    def predict_pixels(self, images: Sequence[np.ndarray], *, names: Sequence[str] | None = None) -> list[Prediction]:
        """Predict decoded grey images, uint8 [H, W] each.

        Raises:
            InputError: An array is not two-dimensional uint8.
        """
        names = names or [f"image {number}" for number in range(1, len(images) + 1)]
        return self._answer([DecodedImage(pixels, "array") for pixels in images], names)

    def _answer(self, read: Sequence[DecodedImage | InputError], names: Sequence[str]) -> list[Prediction]:
        good = [(name, image) for name, image in zip(names, read, strict=True) if isinstance(image, DecodedImage)]
        answers = iter(self._infer([image for _, image in good], [name for name, _ in good]))
        return [
            next(answers) if isinstance(image, DecodedImage) else Prediction(name, error=str(image))
            for name, image in zip(names, read, strict=True)
        ]

    def _infer(self, decoded: Sequence[DecodedImage], names: Sequence[str]) -> list[Prediction]:
        if not decoded:
            return []
        inputs = np.stack([preprocess(image.pixels, self._place) for image in decoded])
        # What drawing a heat map later needs: the shape and the place, not the pixels of thousands of images.
        places = [(image.pixels.shape, placement(image.pixels, self._place)) for image in decoded]
        outputs = self.session.run(inputs)
        shares = softmax(outputs["logits"].astype(np.float64) / self.spec.temperature)
        unusual = self._unusual(inputs, outputs["features"])
        return [
            Prediction(
                name=name,
                probabilities=dict(zip(self.spec.classes, map(float, share), strict=True)),
                positive_probability=float(share[self._positive]),
                decision=self._decide(share),
                flags=(*image.flags, *odd),
                heatmap_method="class activation map" if "cam" in outputs else "occlusion",
                _explain=partial(self._heatmap, where, shape, evidence),
            )
            for name, image, (shape, where), share, odd, evidence in zip(
                names, decoded, places, shares, unusual, self._evidence(inputs, outputs), strict=True
            )
        ]

    def _decide(self, share: np.ndarray) -> str:
        if share[self._positive] >= self.spec.operating_point.threshold:
            return self.spec.positive
        others = [name for name in self.spec.classes if name != self.spec.positive]
        return others[0] if len(others) == 1 else f"not {self.spec.positive}"

    def _unusual(self, inputs: np.ndarray, features: np.ndarray) -> list[tuple[str, ...]]:
        check = self.spec.input_check
        standard = (features - np.array(check.feature_mean)) / np.array(check.feature_scale)
        distances = np.sqrt((standard**2).mean(axis=1))
        low, high = check.brightness
        flags = []
        for brightness, distance in zip(inputs.mean(axis=(1, 2)), distances, strict=True):
            found = [
                ("unlike the training images", distance > check.distance_limit),
                ("very dark", brightness < low),
                ("very bright", brightness > high),
            ]
            flags.append(tuple(flag for flag, holds in found if holds))
        return flags

    def _evidence(self, inputs: np.ndarray, outputs: dict[str, np.ndarray]) -> list[Callable[[], np.ndarray]]:
        """Return for each input what gives its evidence [h, w]: cheap maps are there already, occlusion comes if asked.

        Maps and inputs are copied, so that one kept prediction does not keep the whole batch.
        """
        if "cam" in outputs:
            return [partial(np.asarray, cam.copy()) for cam in evidence_of_cam(outputs["cam"], self._positive)]
        return [partial(evidence_of_occlusion, self.session, sample.copy(), self._positive) for sample in inputs]

    def _heatmap(self, where: Placement, shape: tuple[int, int], evidence: Callable[[], np.ndarray]) -> np.ndarray:
        return place(evidence(), self.spec.heatmap_reference, where, shape, self._place.size)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return shares [B, C] of logits [B, C]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _read(source: Source, name: str, limits: ImageLimits) -> DecodedImage | InputError:
    try:
        return read_image(source, name=name, limits=limits)
    except InputError as error:
        return error
