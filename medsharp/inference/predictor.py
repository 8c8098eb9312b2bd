"""The predictor: loads a bundle, reads images, answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from time import perf_counter

import numpy as np

from medsharp.bundle import CHECKS, MODELS, BundleSpec, digest_of, read_bundle
from medsharp.bundle.prediction_sets import PredictionSets, read_prediction_sets
from medsharp.errors import InputError
from medsharp.images import DecodedImage, ImageLimits, Source
from medsharp.images.box import Box
from medsharp.images.values import declared_range
from medsharp.inference.checks import Finding
from medsharp.inference.checks.former import former_findings
from medsharp.inference.checks.judge import Judge
from medsharp.inference.checks.learned import Learned
from medsharp.inference.prediction import Prediction
from medsharp.inference.preparing import Preparation
from medsharp.inference.reading import FindLesion, Frames, Given, Prepared, Reading, assert_several, given_together
from medsharp.inference.saliency import Saliency, explanations_of, method_of
from medsharp.inference.session import Session, choose_precision
from medsharp.inference.stream import READERS, batches, read_ahead
from medsharp.progress import Progress

BATCH = 32
"""Images at once; more bring nothing on a CPU."""


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
        value_range: tuple[float, float] | None = None,
        answer_anyway: bool = False,
    ) -> None:
        self.folder = folder
        self.spec = spec
        self.session = session
        self.limits = limits
        self.value_range = declared_range(value_range)
        self.answer_anyway = answer_anyway
        place = spec.preprocess.spec()
        self.preprocessing = place if inpaint is None else replace(place, inpaint=inpaint)
        self.digest = digest_of(spec)
        learned = Learned.read(folder / CHECKS) if CHECKS in spec.files else None
        self.judge = Judge({key: one.limit for key, one in spec.checks.items()}, learned)
        self._positive = spec.classes.index(spec.positive)

    @property
    def preparation(self) -> Preparation:
        """What becomes of an image before the network is asked."""
        return Preparation(self.preprocessing, self.judge, self.limits, self.value_range)

    @property
    def runs_on(self) -> str:
        """What was chosen and why, in one line: the device and the precision."""
        session = self.session
        frozen = ", in which the operating point was frozen" if session.precision == "fp32" else ""
        return f"runs on {session.device} ({session.why}) in {session.precision}{frozen}"

    @cached_property
    def prediction_sets(self) -> PredictionSets | None:
        """What makes the prediction set of an image; None where the bundle has no validation predictions."""
        return read_prediction_sets(self.folder, self.spec.classes)

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        *,
        device: str = "auto",
        precision: str = "auto",
        verify: bool = True,
        threads: int | None = None,
        limits: ImageLimits = ImageLimits(),
        inpaint: bool | None = None,
        value_range: tuple[float, float] | None = None,
        answer_anyway: bool = False,
    ) -> Predictor:
        """Load a bundle, after checking the SHA-256 of its files.

        Args:
            bundle: Folder, as `medsharp export` makes it.
            device: `auto` (CUDA where it works, else the CPU), `cpu`, `cuda`, `tensorrt`, `openvino` or `coreml`.
            precision: `fp32`, `fp16` or `int8`, for which the bundle needs a file; `auto` is `fp32`, in which the
                operating point was frozen, so that the answer is the same on every device.
            verify: Check the hashes.
            threads: Of ONNX Runtime on the CPU; the cores that this process may use, at most 16, by default.
            limits: What is refused before it is decoded.
            inpaint: Replace calipers and text by what surrounds them, or do not, whatever the bundle says: this
                measures their influence.
            value_range: Declares what is black and white in images of more than 8 bits, such as `(0, 4095)`.
            answer_anyway: Give images that a check refuses their number all the same.

        Raises:
            InputError: A file is missing or was changed, the device that was asked for cannot be used, or the bundle
                has no network of the precision; or `value_range` is not two numbers, the smaller first.
        """
        value_range = declared_range(value_range)
        folder = Path(bundle)
        spec = read_bundle(folder, verify=verify)
        chosen = choose_precision(folder, spec, precision)
        session = Session(folder / MODELS[chosen], device=device, threads=threads, precision=chosen)
        return cls(
            folder,
            spec,
            session,
            limits=limits,
            inpaint=inpaint,
            value_range=value_range,
            answer_anyway=answer_anyway,
        )

    def answering_anyway(self) -> Predictor:
        """Return a predictor of the same session that gives refused images their number."""
        other = copy(self)
        other.answer_anyway = True
        return other

    def predict(
        self,
        sources: Sequence[Source],
        *,
        names: Sequence[str] | None = None,
        batch_size: int = BATCH,
        limits: ImageLimits | None = None,
        frames: Frames | Sequence[Frames] = "sharpest",
        lesion: FindLesion | None = None,
        value_ranges: Sequence[tuple[float, float] | None] = (),
        progress: Progress | None = None,
    ) -> list[Prediction]:
        """Predict images; one that cannot be read gets its reason and does not stop the others.

        Args:
            sources: Files, their bytes, or images in memory, as `read_image` takes them.
            names: How each is called; the path, or `image 1`, by default.
            batch_size: Images at once.
            limits: What is refused; the predictor's own by default.
            frames: Of DICOM clips: the sharpest, the one of a number, or `all`, which gives a prediction for each; for
                all sources, or one for each of them.
            lesion: Gives the lesion's box of source number n, for a bundle that crops to it.
            value_ranges: What is black and white in images of more than 8 bits, for each source; the predictor's own
                where nothing is said.
            progress: Called with images done, images in all and what is being done.

        Returns:
            A prediction for each source, in their order; with a number or `all`, those of a clip are called
            `name#frame`.

        Raises:
            InputError: `sources` is a single image, or `names`, `frames` or `value_ranges` has another length, or holds
                what is no range.
        """
        given = given_together(sources, names, frames, value_ranges)
        return self.predict_given(given, batch_size=batch_size, limits=limits, lesion=lesion, progress=progress)

    def predict_given(
        self,
        given: Sequence[Given],
        *,
        batch_size: int = BATCH,
        limits: ImageLimits | None = None,
        lesion: FindLesion | None = None,
        progress: Progress | None = None,
    ) -> list[Prediction]:
        """Predict images of which more is known, as `predict` does.

        Args:
            given: What there is; the sharpest frame of a clip where nothing is said of it.
            batch_size: As for `predict`.
            limits: As for `predict`.
            lesion: As for `predict`.
            progress: As for `predict`.
        """
        predictions: list[Prediction] = []
        for done, batch in self._batches(given, batch_size, limits, "sharpest", lesion, None):
            predictions += batch
            if progress is not None:
                progress(done, len(given), "predicting")
        return predictions

    def stream(
        self,
        sources: Iterable[Source | Given],
        *,
        batch_size: int = BATCH,
        limits: ImageLimits | None = None,
        frames: Frames = "sharpest",
        lesion: FindLesion | None = None,
        picture_side: int | None = None,
    ) -> Iterator[Prediction]:
        """Predict any number of images one after another, in their order, in bounded memory.

        The next batches are read while one is predicted: some `3 * batch_size` sources are taken ahead of what was
        given out, and each is decoded once. One that cannot be read gets its reason.

        Args:
            sources: As for `predict`, with what is known of one where it is `Given`; such as a generator of millions.
            batch_size: Images at once.
            limits: What is refused; the predictor's own by default.
            frames: Of DICOM clips, where `Given` does not say.
            lesion: Gives the lesion's box of source number n, for a bundle that crops to it.
            picture_side: Keep each image, at most this many pixels high and wide, as `picture`, to draw its map on.

        Raises:
            InputError: `batch_size` is less than 1, or `sources` is a single image.
        """
        assert_several(sources)
        given = (one if isinstance(one, Given) else Given(one) for one in sources)
        batches = self._batches(given, batch_size, limits, frames, lesion, picture_side)
        return (prediction for _, batch in batches for prediction in batch)

    def _batches(
        self,
        given: Iterable[Given],
        batch_size: int,
        limits: ImageLimits | None,
        frames: Frames,
        lesion: FindLesion | None,
        picture_side: int | None,
    ) -> Iterator[tuple[int, list[Prediction]]]:
        """Return what gives batches of predictions, each with how many sources were begun with it."""
        if batch_size < 1:
            raise InputError(f"a batch of {batch_size} images; the least is 1")
        preparation = self.preparation

        def read(numbered: tuple[int, Given]) -> Iterator[Reading]:
            number, one = numbered
            one = replace(one, frames=frames if one.frames is None else one.frames)
            return preparation.readings(number, one, lesion=lesion, limits=limits, picture_side=picture_side)

        ahead = read_ahead(read, enumerate(given), ahead=2 * batch_size + READERS, part=max(2, batch_size))
        return batches(ahead, batch_size, self.predict_readings)

    def predict_pixels(self, images: Sequence[np.ndarray], *, names: Sequence[str] | None = None) -> list[Prediction]:
        """Predict decoded grey images, uint8 [H, W] each.

        Raises:
            InputError: An array is not two-dimensional uint8, `images` is a single one, or `names` has another length.
        """
        assert_several(images)
        names = names or [f"image {number}" for number in range(1, len(images) + 1)]
        if len(names) != len(images):
            raise InputError(f"{len(names)} names for {len(images)} images")
        return self.predict_readings(
            [Reading(name, image=DecodedImage(pixels, "array")) for name, pixels in zip(names, images, strict=True)]
        )

    def predict_readings(self, read: Sequence[Reading]) -> list[Prediction]:
        """Predict images that were read already, in one batch; a reading with an error gives one with its reason.

        Args:
            read: As `read_source` gives them; what shows the image too need not decode it twice.
        """
        start = perf_counter()
        ready = [one.prepared or (None if one.image is None else self.prepare(one.image, one.lesion)) for one in read]
        asked = [(one, part) for one, part in zip(read, ready, strict=True) if part is not None and self._asks(part)]
        answers = iter(self._infer(asked))
        found = [
            next(answers) if part is not None and self._asks(part) else self._unanswered(one, part)
            for one, part in zip(read, ready, strict=True)
        ]
        share = (perf_counter() - start) / max(1, len(read))
        return [
            replace(prediction, seconds=one.seconds + share, model=self.spec.name, digest=self.digest)
            for one, prediction in zip(read, found, strict=True)
        ]

    def prepare(self, image: DecodedImage, lesion: Box | None = None) -> Prepared:
        """Make a decoded image ready for the network.

        Args:
            image: The image.
            lesion: Its box, for a bundle that crops to it.
        """
        return self.preparation.prepare(image, lesion)

    def _asks(self, part: Prepared) -> bool:
        """Whether the network is asked of an image: a check of the picture that refuses it spares the time."""
        return self.answer_anyway or not part.refused

    def _unanswered(self, one: Reading, part: Prepared | None, more: tuple[Finding, ...] = ()) -> Prediction:
        """Return what is told of an image without a number: why it could not be read, or what the checks found."""
        if part is None:
            return Prediction(one.name, error=one.error, source=one.source or one.name)
        changed = ("calipers and text inpainted",) if self.preprocessing.inpaint else ()
        return Prediction(
            name=one.name,
            flags=(*part.flags, *changed),
            findings=(*part.findings, *more),
            source=one.source or one.name,
            frame=part.frame,
            picture=one.picture,
        )

    def _infer(self, ready: Sequence[tuple[Reading, Prepared]]) -> list[Prediction]:
        if not ready:
            return []
        inputs = np.stack([part.pixels for _, part in ready])
        outputs = self.session.run(inputs)
        shares = softmax(outputs["logits"].astype(np.float64) / self.spec.temperature)
        findings = self._findings(inputs, outputs)
        explanations = explanations_of(self.session, self.spec, inputs, outputs, [part for _, part in ready])
        method = method_of(self.spec, outputs)
        return [
            self._answer(one, part, share, found, explain_one, method)
            for (one, part), share, found, explain_one in zip(ready, shares, findings, explanations, strict=True)
        ]

    def _answer(
        self,
        one: Reading,
        part: Prepared,
        share: np.ndarray,
        found: tuple[Finding, ...],
        explain_one: Callable[[int], Saliency],
        method: str,
    ) -> Prediction:
        """Return the prediction of an image; one that a check refuses has no number."""
        plain = self._unanswered(one, part, found)
        if plain.status == "refused" and not self.answer_anyway:
            return plain
        return replace(
            plain,
            probabilities=dict(zip(self.spec.classes, map(float, share), strict=True)),
            positive_probability=float(share[self._positive]),
            threshold=self.spec.operating_point.threshold,
            prediction_set=None if self.prediction_sets is None else self.prediction_sets.of(share),
            heatmap_method=method,
            _explain=explain_one,
        )

    def _findings(self, inputs: np.ndarray, outputs: dict[str, np.ndarray]) -> list[tuple[Finding, ...]]:
        if self.spec.input_check is not None and not self.spec.checks:
            return former_findings(self.spec.input_check, inputs, outputs["features"])
        return self.judge.of_answers(outputs["features"], outputs["logits"])


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return shares [B, C] of logits [B, C]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
