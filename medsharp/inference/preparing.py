"""What becomes of an image before the network is asked: it needs no network, so another process may do it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from medsharp.bundle import BundleSpec
from medsharp.errors import InputError
from medsharp.images import DecodedImage, ImageLimits, ValueRange
from medsharp.images.box import Box
from medsharp.images.values import declared_range
from medsharp.inference.checks.judge import Judge
from medsharp.inference.reading import FindLesion, Given, Prepared, Reading, prepared_readings, read_given
from medsharp.preprocess import PreprocessSpec, placement, preprocess


@dataclass(frozen=True)
class Preparation:
    """How sources become readings that are ready for a bundle's network.

    Attributes:
        preprocessing: How an image becomes the network's input.
        judge: The checks; those of the picture are asked here.
        limits: What is refused before it is decoded.
        value_range: What is black and white in images of more than 8 bits, unless a data set declares it.
    """

    preprocessing: PreprocessSpec
    judge: Judge
    limits: ImageLimits = ImageLimits()
    value_range: ValueRange | None = None

    @classmethod
    def of(
        cls,
        spec: BundleSpec,
        *,
        limits: ImageLimits = ImageLimits(),
        inpaint: bool | None = None,
        value_range: tuple[float, float] | None = None,
    ) -> Preparation:
        """Return that of a bundle; what it knows of its own features is not among it.

        Args:
            spec: Of the bundle.
            limits: What is refused before it is decoded.
            inpaint: Replace calipers and text, or do not, whatever the bundle says.
            value_range: As the attribute, or any pair.

        Raises:
            InputError: It is not two numbers, the smaller first.
        """
        place = spec.preprocess.spec()
        place = place if inpaint is None else replace(place, inpaint=inpaint)
        judge = Judge({key: one.limit for key, one in spec.checks.items()})
        return cls(place, judge, limits, declared_range(value_range))

    def readings(
        self,
        number: int,
        given: Given,
        *,
        lesion: FindLesion | None = None,
        limits: ImageLimits | None = None,
        picture_side: int | None = None,
    ) -> Iterator[Reading]:
        """Read a source: its image, or each of its frames, made ready, or why it cannot be used.

        Args:
            number: Of the source, from 0.
            given: The source.
            lesion: Finds its lesion, for a bundle that crops to it.
            limits: In place of its own.
            picture_side: Keep each image, at most this many pixels high and wide, as `picture`.
        """
        finds = (lesion or _no_lesion) if self.preprocessing.crop == "lesion" else None
        given = replace(given, value_range=self.value_range if given.value_range is None else given.value_range)
        readings = read_given(number, given, limits=limits or self.limits, lesion=finds)
        return prepared_readings(readings, self.prepare, picture_side)

    def prepare(self, image: DecodedImage, lesion: Box | None = None) -> Prepared:
        """Make a decoded image ready for the network.

        Args:
            image: The image.
            lesion: Its box, for a bundle that crops to it.
        """
        place = self.preprocessing
        where = placement(image.pixels, place, lesion=lesion)
        return Prepared(
            preprocess(image.pixels, place, coloured=image.coloured if place.inpaint else None, where=where),
            # What drawing a heat map later needs: the shape and the place, not the pixels of thousands of images.
            (image.pixels.shape[0], image.pixels.shape[1]),
            where,
            tuple(image.flags),
            image.frame,
            self.judge.of_image(image),
        )


def _no_lesion(number: int, name: str, image: DecodedImage) -> Box:
    raise InputError(
        f"{name}: the model looks at the lesion only; give a manifest with its mask or box, or the box with --box"
    )
