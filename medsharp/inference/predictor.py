"""The predictor: loads a bundle, reads images, answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from medsharp.bundle import MODEL, BundleSpec, digest_of, read_bundle
from medsharp.errors import InputError
from medsharp.images import DecodedImage, ImageLimits, ValueRange
from medsharp.images.box import Box
from medsharp.inference.checks import Finding
from medsharp.inference.heatmap import evidence_of_cam, evidence_of_occlusion, place
from medsharp.inference.prediction import Prediction
from medsharp.inference.reading import FindLesion, Frames, Prepared, Reading, Source, read_source
from medsharp.inference.session import Session
from medsharp.preprocess import Placement, placement, preprocess
from medsharp.progress import Progress


class Predictor:
    """A loaded bundle.

    Attributes:
        folder: The bundle's folder.
        spec: What `bundle.yaml` says.
        session: The network on its device.
        preprocessing: How an image becomes the network's input: the bundle's, but for what `load` was told.
        limits: What is refused before it is decoded.
        value_range: What is black and white in images of more than 8 bits, unless a data set declares it.
        answer_anyway: Whether an image that a check refuses gets its number all the same.
        digest: SHA-256 of `bundle.yaml`, and so of all files of the bundle.
    """

    def __init__(
        self,
        folder: Path,
        spec: BundleSpec,
        session: Session,
        *,
        limits: ImageLimits = ImageLimits(),
        inpaint: bool | None = None,
        value_range: ValueRange | None = None,
        answer_anyway: bool = False,
    ) -> None:
        self.folder = folder
        self.spec = spec
        self.session = session
        self.limits = limits
        self.value_range = value_range
        self.answer_anyway = answer_anyway
        place = spec.preprocess.spec()
        self.preprocessing = place if inpaint is None else replace(place, inpaint=inpaint)
        self.digest = digest_of(spec)
        self._positive = spec.classes.index(spec.positive)

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        *,
        device: str = "auto",
        verify: bool = True,
        threads: int | None = None,
        limits: ImageLimits = ImageLimits(),
        inpaint: bool | None = None,
        value_range: ValueRange | None = None,
        answer_anyway: bool = False,
    ) -> Predictor:
        """Load a bundle, after checking the SHA-256 of its files.

        Args:
            bundle: Folder, as `medsharp export` makes it.
            device: `auto` (CUDA where it works), `cpu` or `cuda`.
            verify: Check the hashes.
            threads: Of ONNX Runtime on the CPU; all cores by default.
            limits: What is refused before it is decoded.
            inpaint: Replace calipers and text by what surrounds them, or do not, whatever the bundle says: this
                measures their influence.
            value_range: Declares what is black and white in images of more than 8 bits.
            answer_anyway: Give images that a check refuses their number all the same.

        Raises:
            InputError: A file is missing or was changed, or CUDA was asked for and cannot be used.
        """
        folder = Path(bundle)
        spec = read_bundle(folder, verify=verify)
        session = Session(folder / MODEL, device=device, threads=threads)
        return cls(
            folder,
            spec,
            session,
            limits=limits,
            inpaint=inpaint,
            value_range=value_range,
            answer_anyway=answer_anyway,
        )

    def predict(
        self,
        sources: Sequence[Source],
        *,
        names: Sequence[str] | None = None,
        batch_size: int = 32,
        limits: ImageLimits | None = None,
        frames: Frames | Sequence[Frames] = "sharpest",
        lesion: FindLesion | None = None,
        value_ranges: Sequence[ValueRange | None] = (),
        known: Sequence[Prepared | None] = (),
        progress: Progress | None = None,
    ) -> list[Prediction]:
        """Predict images; one that cannot be read gets its reason and does not stop the others.

        Args:
            sources: Files, or their bytes.
            names: How each is called; the path, or `image 1`, by default.
            batch_size: Images at once.
            limits: What is refused; the predictor's own by default.
            frames: Of DICOM clips: the sharpest, the one of a number, or `all`, which gives a prediction for each; for
                all sources, or one for each of them.
            lesion: Gives the lesion's box of source number n, for a bundle that crops to it.
            value_ranges: What is black and white in images of more than 8 bits, for each source; the predictor's own
                where nothing is said.
            known: What was made ready before, for each source; such a source is not read again.
            progress: Called with images done, images in all and what is being done.

        Returns:
            A prediction for each source, in their order; with a number or `all`, those of a clip are called
            `name#frame`.

        Raises:
            InputError: `names` or `frames` has another length than `sources`.
        """
        if names is None:
            names = [f"image {n}" if isinstance(s, bytes) else str(s) for n, s in enumerate(sources, start=1)]
        if len(names) != len(sources):
            raise InputError(f"{len(names)} names for {len(sources)} images")
        if self.preprocessing.crop != "lesion":
            lesion = None
        elif lesion is None:
            lesion = _no_lesion
        wanted = [frames] * len(sources) if isinstance(frames, (str, int)) else list(frames)
        if len(wanted) != len(sources):
            raise InputError(f"{len(wanted)} frames for {len(sources)} images")
        ranges = [given or self.value_range for given in value_ranges or [None] * len(sources)]
        read_with = partial(read_source, limits=limits or self.limits, lesion=lesion)

        def read(source: tuple[int, Source, str]) -> Iterator[Reading]:
            number, _, name = source
            if known and known[number] is not None:
                return iter([Reading(name, name, prepared=known[number])])
            return read_with(source, frames=wanted[number], value_range=ranges[number])

        predictions: list[Prediction] = []
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(sources), batch_size):
                part = range(start, min(start + batch_size, len(sources)))
                given = [(number, sources[number], names[number]) for number in part]
                # A clip is read while its frames are predicted, so that not all of them are in memory.
                streams = map(read, given) if "all" in wanted else pool.map(lambda one: list(read(one)), given)
                readings = itertools.chain.from_iterable(streams)
                while batch := list(itertools.islice(readings, batch_size)):
                    predictions += self.predict_readings(batch)
                if progress is not None:
                    progress(part.stop, len(sources), "predicting")
        return predictions

    def predict_pixels(self, images: Sequence[np.ndarray], *, names: Sequence[str] | None = None) -> list[Prediction]:
        """Predict decoded grey images, uint8 [H, W] each.

        Raises:
            InputError: An array is not two-dimensional uint8.
        """
        names = names or [f"image {number}" for number in range(1, len(images) + 1)]
        return self.predict_readings(
            [Reading(name, image=DecodedImage(pixels, "array")) for name, pixels in zip(names, images, strict=True)]
        )

    def predict_readings(self, read: Sequence[Reading]) -> list[Prediction]:
        """Predict images that were read already, in one batch; a reading with an error gives one with its reason.

        Args:
            read: As `read_source` gives them; what shows the image too need not decode it twice.
        """
        ready = [one.prepared or (None if one.image is None else self.prepare(one.image, one.lesion)) for one in read]
        answers = iter(self._infer([(one, part) for one, part in zip(read, ready, strict=True) if part is not None]))
        return [
            next(answers) if part is not None else Prediction(one.name, error=one.error, source=one.source or one.name)
            for one, part in zip(read, ready, strict=True)
        ]

    def prepare(self, image: DecodedImage, lesion: Box | None = None) -> Prepared:
        """Make a decoded image ready for the network.

        Args:
            image: The image.
            lesion: Its box, for a bundle that crops to it.
        """
        place = self.preprocessing
        return Prepared(
            preprocess(image.pixels, place, lesion=lesion, coloured=image.coloured),
            # What drawing a heat map later needs: the shape and the place, not the pixels of thousands of images.
            (image.pixels.shape[0], image.pixels.shape[1]),
            placement(image.pixels, place, lesion=lesion),
            tuple(image.flags),
            image.frame,
        )

    def _infer(self, ready: Sequence[tuple[Reading, Prepared]]) -> list[Prediction]:
        if not ready:
            return []
        inputs = np.stack([part.pixels for _, part in ready])
        outputs = self.session.run(inputs)
        shares = softmax(outputs["logits"].astype(np.float64) / self.spec.temperature)
        findings = self._findings(inputs, outputs["features"])
        changed = ("calipers and text inpainted",) if self.preprocessing.inpaint else ()
        return [
            self._answer(one, part, share, found, evidence, changed, self._heatmap_method(outputs))
            for (one, part), share, found, evidence in zip(
                ready, shares, findings, self._evidence(inputs, outputs), strict=True
            )
        ]

    def _answer(
        self,
        one: Reading,
        part: Prepared,
        share: np.ndarray,
        found: tuple[Finding, ...],
        evidence: Callable[[], np.ndarray],
        changed: tuple[str, ...],
        method: str,
    ) -> Prediction:
        """Return the prediction of an image; one that a check refuses has no number."""
        plain = Prediction(
            name=one.name,
            flags=(*part.flags, *changed),
            findings=found,
            source=one.source or one.name,
            frame=part.frame,
            model=self.spec.name,
            digest=self.digest,
        )
        if plain.status == "refused" and not self.answer_anyway:
            return plain
        return replace(
            plain,
            probabilities=dict(zip(self.spec.classes, map(float, share), strict=True)),
            positive_probability=float(share[self._positive]),
            decision=self._decide(share),
            threshold=self.spec.operating_point.threshold,
            heatmap_method=method,
            _explain=partial(self._heatmap, part.where, part.shape, evidence),
        )

    def _heatmap_method(self, outputs: dict[str, np.ndarray]) -> str:
        if "cam" not in outputs:
            return "occlusion"
        return "class activation map" if self.spec.exact_map else "mean class activation map"

    def _decide(self, share: np.ndarray) -> str:
        if share[self._positive] >= self.spec.operating_point.threshold:
            return self.spec.positive
        others = [name for name in self.spec.classes if name != self.spec.positive]
        return others[0] if len(others) == 1 else f"not {self.spec.positive}"

    def _findings(self, inputs: np.ndarray, features: np.ndarray) -> list[tuple[Finding, ...]]:
        check = self.spec.input_check
        standard = (features - np.array(check.feature_mean)) / np.array(check.feature_scale)
        distances = np.sqrt((standard**2).mean(axis=1))
        low, high = check.brightness
        findings = []
        for brightness, distance in zip(inputs.mean(axis=(1, 2)), distances, strict=True):
            found = [
                (distance > check.distance_limit, "distance", "unlike the training images", distance),
                (brightness < low, "brightness", "very dark", brightness),
                (brightness > high, "brightness", "very bright", brightness),
            ]
            limits = (check.distance_limit, low, high)
            findings.append(
                tuple(
                    Finding(key, "caution", sentence, float(value), limit)
                    for (holds, key, sentence, value), limit in zip(found, limits, strict=True)
                    if holds
                )
            )
        return findings

    def _evidence(self, inputs: np.ndarray, outputs: dict[str, np.ndarray]) -> list[Callable[[], np.ndarray]]:
        """Return for each input what gives its evidence [h, w]: cheap maps are there already, occlusion comes if asked.

        Maps and inputs are copied, so that one kept prediction does not keep the whole batch.
        """
        if "cam" in outputs:
            return [partial(np.asarray, cam.copy()) for cam in evidence_of_cam(outputs["cam"], self._positive)]
        return [partial(evidence_of_occlusion, self.session, sample.copy(), self._positive) for sample in inputs]

    def _heatmap(
        self,
        where: Placement,
        shape: tuple[int, int],
        evidence: Callable[[], np.ndarray],
        longest_side: int | None,
    ) -> np.ndarray:
        reference, size = self.spec.heatmap_reference, self.preprocessing.size
        return place(evidence(), reference, where, shape, size, longest_side)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return shares [B, C] of logits [B, C]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _no_lesion(number: int, name: str, image: DecodedImage) -> Box:
    raise InputError(
        f"{name}: the model looks at the lesion only; give a manifest with its mask or box, or the box with --box"
    )
