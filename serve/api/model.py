"""What `GET /model` says: what the model is, and how it did."""

from __future__ import annotations

from pydantic import BaseModel, Field

from medsharp.bundle import Figure
from medsharp.inference import Predictor
from medsharp.inference.glance import FIGURES, NOT_MEASURED, recorded_glances
from serve.security.gate import NOTICE


class Measured(BaseModel):
    """Figures of the model on some images; `low` and `high` bound the 95 % interval."""

    images: str = Field(description="Which images, such as a test split or a hospital")
    left_out: bool = Field(description="Whether they are of a hospital that the measured models never saw")
    size: str = Field(description="How many images of how many patients; empty where that is not recorded")
    figures: dict[str, Figure] = Field(description=f"{', '.join(FIGURES)}")


class Model(BaseModel):
    """What the model is, and how it did: internal figures, and those of each hospital left out."""

    model: str = Field(description="Name of the bundle")
    digest: str = Field(description="SHA-256 of the bundle's model file")
    classes: list[str] = Field(description="What it tells apart")
    positive: str = Field(description="The class whose probability is thresholded")
    threshold: float = Field(description="Operating point, fixed on the images of `threshold_from`")
    threshold_from: str = Field(description="Which images the operating point was fixed on")
    threshold_interval: tuple[float, float] | None = Field(description="95 % interval of the threshold, where known")
    training_data: str = Field(description="What it was trained on")
    answer: str | None = Field(description="What its answer is the mean of, where it is one")
    updates: list[str] = Field(description="How it was updated on local data after its export, the oldest first")
    measured: list[Measured] = Field(description="Internal figures, then those of each hospital left out")
    left_out_measured: bool = Field(description="Whether there are figures of a hospital left out")
    remark: str | None = Field(description="That there are none, where there are none")
    notice: str = NOTICE


def describe(predictor: Predictor) -> Model:
    """Say in JSON's terms what the model is and how it did."""
    spec = predictor.spec
    rows = recorded_glances(spec, predictor.folder)
    left_out = any(row.left_out for row in rows)
    return Model(
        model=spec.name,
        digest=spec.files.get("model.onnx", ""),
        classes=list(spec.classes),
        positive=spec.positive,
        threshold=spec.operating_point.threshold,
        threshold_from=spec.decided_on,
        threshold_interval=spec.operating_point.interval,
        training_data=spec.training.dataset,
        answer=None if spec.combination is None else spec.combination.sentence(),
        updates=[update.sentence() for update in spec.updates],
        measured=[
            Measured(images=row.name, left_out=row.left_out, size=row.size, figures=dict(row.figures)) for row in rows
        ],
        left_out_measured=left_out,
        remark=None if left_out else NOT_MEASURED,
    )
