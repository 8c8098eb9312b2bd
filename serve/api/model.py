"""What `GET /model` and `GET /v1/models` say: what a model is, and how it did."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI
from fastapi import Path as InPath
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from medsharp.bundle import Figure
from medsharp.errors import InputError
from medsharp.inference import Predictor
from medsharp.inference.glance import FIGURES, NOT_MEASURED, recorded_glances
from serve.api.context import Context
from serve.api.refusals import DOOR, Reason, refusals, with_example
from serve.models import Served
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
    digest: str = Field(description="SHA-256 of its `bundle.yaml`, which has those of its files")
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
        digest=predictor.digest,
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


_EXAMPLE = Model(
    model="bus-lite0",
    digest="0" * 64,
    classes=["benign", "malignant"],
    positive="malignant",
    threshold=0.088,
    threshold_from="images out of the folds of its members",
    threshold_interval=(0.074, 0.123),
    training_data="BUSI + BUS-BRA",
    answer="the answer is the mean of the logits that 5 networks give of the image",
    updates=[],
    measured=[
        Measured(
            images="Baheya Hospital, Cairo",
            left_out=True,
            size="624 images, 490 patients or groups, 202 malignant",
            figures={"auroc": Figure(value=0.9, low=0.869, high=0.929)},
        )
    ],
    left_out_measured=True,
    remark=None,
).model_dump(mode="json")

LONGEST_NAME = 200
"""Characters of a name in a path."""

Name = Annotated[
    str,
    InPath(description="Name of a bundle", max_length=LONGEST_NAME, openapi_examples={"one": {"value": "bus-lite0"}}),
]
NO_MODEL = Reason("There is no model of that name", "there is no model 'bus-lite' here; did you mean bus-lite0?")
LONG_NAME = Reason("No name is that long", f"name: String should have at most {LONGEST_NAME} characters")


class ModelList(BaseModel):
    """The models that are served."""

    default: str = Field(description="Answers where a request names none")
    models: list[str] = Field(description="Names of all, the default first")
    notice: str = NOTICE


def find_model(context: Context, name: str | None) -> Served:
    """Return the model of a name, or the default one.

    Raises:
        HTTPException: 404, there is none of that name.
    """
    try:
        return context.models.named(name)
    except InputError as error:
        raise HTTPException(404, str(error)) from error


def add_model_routes(app: FastAPI, context: Context) -> None:
    """Add `/model`, `/v1/models` and `/v1/models/{name}`."""

    described = {200: with_example(_EXAMPLE), **refusals(DOOR)}

    @app.get(
        "/model",
        response_model=Model,
        responses=described,
        summary="What is the default model, and how did it do?",
        tags=["models"],
    )
    async def default() -> Any:
        return describe(context.models.default.predictor)

    @app.get(
        "/v1/models",
        response_model=ModelList,
        responses={
            200: with_example({"default": "bus-lite0", "models": ["bus-lite0"], "notice": NOTICE}),
            **refusals(DOOR),
        },
        summary="Which models are served?",
        tags=["models"],
    )
    async def models() -> Any:
        return ModelList(default=context.models.names[0], models=list(context.models.names))

    @app.get(
        "/v1/models/{name}",
        response_model=Model,
        responses={**described, **refusals({404: NO_MODEL, 422: LONG_NAME})},
        summary="What is a model, and how did it do?",
        tags=["models"],
    )
    async def model(name: Name) -> Any:
        return describe(find_model(context, name).predictor)
