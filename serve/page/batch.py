"""Many images at once: answers with progress, a table, and with labels the report of `medsharp evaluate`; in memory."""

from __future__ import annotations

import asyncio
import base64
import binascii
import functools
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from medsharp.errors import InputError
from medsharp.images import read_image
from medsharp.inference import Prediction, Predictor
from serve.engine.capacity import Memory
from serve.page.asking import Asking
from serve.page.batch_table import batch_table
from serve.page.paper import DRAWING
from serve.page.told import add_work
from serve.security.access import Access
from serve.uploads.forms import Form
from serve.uploads.uploads import Limits, safe_name

if TYPE_CHECKING:
    import pandas as pd

    from medsharp.data.duplicates import Look
    from medsharp.data.manifest import Manifest
    from medsharp.evaluation import Evaluation

_TOGETHER = 8
"""Images that are asked together: others' requests come in between."""


def add_batch(app: FastAPI, asking: Asking, limits: Limits, memory: Memory) -> None:
    """Add `POST /page/batch`: `files`, and as fields `labels` (a table in base64), `labels_name` and `model`."""
    # Many files without an archive are as many as an archive may hold.
    most = replace(limits, max_files=limits.max_archive_files)
    # One after the other: each takes all cores, and whoever waits holds no thread that others need.
    reports = ThreadPoolExecutor(1, thread_name_prefix="medsharp-report")
    add_work(app, "/page/batch", functools.partial(_batch, asking, reports), most, memory)


async def _batch(asking: Asking, reports: Executor, form: Form, who: Access) -> AsyncIterator[dict[str, Any]]:
    model = asking.model(form.fields.get("model", ""))
    background = await asyncio.to_thread(model.background)
    predictor = model.predictor
    labelled = await asyncio.to_thread(_labelled, form, predictor)
    total = len(form.contents)
    yield {"done": 0, "total": total, "what": "assessing"}
    predictions: list[Prediction] = []
    for start in range(0, total, _TOGETHER):
        part = slice(start, start + _TOGETHER)
        assessments = await model.assess_in_turn(form.contents[part], form.names[part], who)
        predictions += [assessment.prediction for assessment in assessments]
        yield {"done": len(predictions), "total": total, "what": "assessing"}
    rows, places = labelled or (None, list(range(total)))
    labels = {} if rows is None else dict(zip(places, rows.table["label"], strict=True))
    answer: dict[str, Any] = {
        "html": await asyncio.to_thread(
            batch_table, predictions, background, labels, () if rows is None else rows.notes
        ),
        "csv": await asyncio.to_thread(_csv, predictions, predictor, rows, places),
    }
    if rows is not None:
        yield {"done": total, "total": total, "what": "evaluating"}
        try:
            work = functools.partial(_report, predictor, form, rows, places, predictions)
            answer["report"] = await asyncio.get_running_loop().run_in_executor(reports, work)
        except InputError as error:  # The answers are worth having without it.
            answer["no_report"] = str(error)
    yield answer


def _labelled(form: Form, predictor: Predictor) -> tuple[Manifest, list[int]] | None:
    """Return the rows of the labels, and the place of each one's image; None where no labels were sent.

    Raises:
        InputError: The table cannot be used.
    """
    from medsharp.data.labelled import label_images

    data = _table_bytes(form.fields)
    if data is None:
        return None
    name = safe_name(form.fields.get("labels_name"), 1)
    return label_images(data, name, form.names, predictor.spec.classes, "Images of this batch")


def _table_bytes(fields: Mapping[str, str]) -> bytes | None:
    text = fields.get("labels", "")
    if not text:
        return None
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InputError("the table of labels arrived damaged; please choose it again") from error


def _csv(predictions: Sequence[Prediction], predictor: Predictor, rows: Manifest | None, places: Sequence[int]) -> str:
    """Return the table as `medsharp predict` writes it: of images, or of a manifest where there are labels.

    Images without a label come last.
    """
    import pandas as pd

    from medsharp.data.manifest import complete
    from medsharp.inference.table import frozen_columns, predictions_table

    if rows is None:
        table = predictions_table(predictions, predictor.spec.classes).assign(**frozen_columns(predictor.spec))
    else:
        rest = sorted(set(range(len(predictions))) - set(places))
        unlabelled = complete(pd.DataFrame({"image": [predictions[place].name for place in rest]}, dtype=object))
        every = pd.concat([rows.table, unlabelled], ignore_index=True).fillna("")
        table = _with_labels(predictions, predictor, every, [*places, *rest])
    return str(table.to_csv(index=False, lineterminator="\n"))


def _with_labels(
    predictions: Sequence[Prediction], predictor: Predictor, rows: pd.DataFrame, places: Sequence[int]
) -> pd.DataFrame:
    from medsharp.inference.table import with_rows

    return with_rows(rows.reset_index(drop=True), [predictions[place] for place in places], predictor.spec)


def _report(
    predictor: Predictor, form: Form, rows: Manifest, places: Sequence[int], predictions: Sequence[Prediction]
) -> str:
    """Return the page that `medsharp evaluate` writes for these images.

    Raises:
        InputError: No figures can be made of them, such as where all are of one class.
    """
    from medsharp.data.duplicates import tie_looks
    from medsharp.evaluation.report import make_document, render_page
    from medsharp.inference.external import evaluate_table

    included = rows.included.index
    looks = [_look(form.contents[places[row]], form.names[places[row]], predictor) for row in included]
    tied = tie_looks(rows, looks)
    kept = tied.included
    table = _with_labels(predictions, predictor, kept, [places[row] for row in kept.index])
    evaluation = evaluate_table(predictor, tied, table, name=rows.info.name)
    internal = _internal(predictor)
    evaluations = [evaluation] if internal is None else [internal, evaluation]
    with DRAWING:
        return render_page(make_document(evaluations, predictor.spec.model_dump(mode="json")))


def _look(content: bytes, name: str, predictor: Predictor) -> Look:
    """Look at an image for duplicates of it, among these and among those that the model was trained on."""
    from medsharp.data.duplicates import Look, look_at_pixels

    digest = hashlib.sha256(content).hexdigest()
    try:
        image = read_image(content, name=name, limits=predictor.limits, value_range=predictor.value_range)
    except InputError as error:
        return Look(digest, f"unreadable: {error}")
    return look_at_pixels(image.pixels, digest, image.flags)


def _internal(predictor: Predictor) -> Evaluation | None:
    """Return the internal figures, which are the same in every report of a model and take seconds."""
    from medsharp.inference.external import evaluate_internal

    key = predictor.digest
    if key not in _INTERNAL:
        _INTERNAL.clear()
        _INTERNAL[key] = evaluate_internal(predictor.spec, predictor.folder)
    return _INTERNAL[key]


_INTERNAL: dict[str, Evaluation | None] = {}
