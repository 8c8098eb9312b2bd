"""Uploaded bytes to what is shown of them, for the page and the API alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from medsharp.inference import Prediction, Predictor
from medsharp.inference.heatmap import shrink
from medsharp.inference.reading import Reading, read_source
from serve.engine.draw import Assessment, heatmap_uri, is_missing, png_uri

__all__ = ["Assessment", "Assessor", "is_missing", "png_uri", "shrink"]


class Assessor:
    """Reads, predicts and draws images with one predictor.

    Images are worked on one after another, each decoded once and drawn no larger than it is shown, so that a request
    needs little more memory than its largest image.

    Args:
        predictor: The loaded bundle.
        max_file_bytes: An image of more bytes is refused.
    """

    def __init__(self, predictor: Predictor, max_file_bytes: int) -> None:
        self.predictor = predictor
        self._limits = replace(predictor.limits, max_bytes=max_file_bytes)

    def assess(
        self,
        contents: Sequence[bytes],
        names: Sequence[str],
        *,
        image_side: int | None = None,
        heatmap_side: int | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> list[Assessment]:
        """Predict every image; one that cannot be read gets an error and does not stop the others.

        Args:
            contents: The bytes of each file.
            names: How each is called in its answer.
            image_side: Draw the image, at most this many pixels high and wide; None draws nothing.
            heatmap_side: The same for the heat map.
            wanted: Asked before each image; the rest is left out when nobody waits for the answer any longer.
        """
        assessments = []
        for number, (content, name) in enumerate(zip(contents, names, strict=True)):
            if not wanted():
                break
            source = (number, content, name)
            (reading,) = read_source(
                source,
                limits=self._limits,
                frames="sharpest",
                lesion=None,
                value_range=self.predictor.value_range,
            )
            (prediction,) = self.predictor.predict_readings([reading])
            assessments.append(_draw(reading, prediction, image_side, heatmap_side))
        return assessments


def _draw(reading: Reading, prediction: Prediction, image_side: int | None, heatmap_side: int | None) -> Assessment:
    if reading.image is None:
        return Assessment(prediction)
    pixels = reading.image.pixels
    height, width = pixels.shape
    image = None if image_side is None else png_uri(shrink(pixels, image_side))
    heatmap = evidence = None
    if heatmap_side is not None:
        heatmap, evidence = heatmap_uri(prediction, shrink(pixels, heatmap_side), heatmap_side)
    return Assessment(prediction, image, heatmap, (height, width), evidence)
