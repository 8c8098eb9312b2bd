"""A robustness run: every image under every corruption at every severity, by one or several bundles, measured."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from medsharp import __version__
from medsharp.bundle import answers_digest_of, digest_of
from medsharp.data.leaks import assert_no_leak
from medsharp.errors import InputError
from medsharp.inference.leaks import leaks
from medsharp.inference.predictor import Predictor
from medsharp.keys import resampled
from medsharp.progress import Progress
from medsharp.robustness.attacked import Adversary
from medsharp.robustness.cells import Judge, Resamples
from medsharp.robustness.comparison import compare
from medsharp.robustness.contact_sheet import Example
from medsharp.robustness.corruptions import SEVERITIES, Corruption, parameters_of
from medsharp.robustness.handing_out import HandOut, predict_elsewhere
from medsharp.robustness.kept import Kept
from medsharp.robustness.lesions import CONTROL, counted_apart, crowded
from medsharp.robustness.predicting import Missing, predict_missing
from medsharp.robustness.sample import Sample, take_sample
from medsharp.robustness.summary import Cells, answers_moved, describe, describe_cell, idle, summarised

CLEAN = "clean"
Key = tuple[str, int]


class Interrupted(KeyboardInterrupt):
    """The run was stopped by the user; what was predicted is kept and the message says how to go on."""


def measure_robustness(
    predictors: Sequence[Predictor],
    data: Sequence[str | Path],
    corruptions: Sequence[Corruption],
    out: Path,
    *,
    sources: Sequence[str | None] | None = None,
    images: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
    adversary: Adversary | None = None,
    hand_out: HandOut | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], Example]:
    """Predict what is not in the output folder yet, and measure.

    Args:
        predictors: Loaded bundles with the same classes; the first one's limits hold for the images.
        data: Manifests, which may be at URLs, or data set folders.
        corruptions: To apply; those that move tissue are left out where a bundle crops to the lesion.
        out: New, or that of the same run.
        sources: What each data set is, as `open_dataset` takes it; found out by default.
        images: How many of each data set; all by default.
        resamples: Of patients.
        seed: Of the choice of images, their noise and the resamples.
        adversary: Attacks the first bundle; its answers are not kept.
        hand_out: Has images corrupted and predicted elsewhere; here by default.
        progress: Called with what is done, what there is to do and what is being done.

    Returns:
        Settings, corruptions and data sets, as `robustness.json` holds them; and the first image.

    Raises:
        InputError: The bundles' classes differ, the data cannot be used, two data sets share images, or the folder
            holds something else or is in use by another process.
        Interrupted: In place of a KeyboardInterrupt while predicting.
    """
    first = predictors[0].spec
    for predictor in predictors[1:]:
        if (predictor.spec.classes, predictor.spec.positive) != (first.classes, first.positive):
            raise InputError(
                f"{predictor.folder} and {predictors[0].folder} have different classes; give each a run of its own"
            )
    if any(predictor.preprocessing.crop == "lesion" for predictor in predictors):
        # The box of the lesion is that of the clean image.
        corruptions = [entry for entry in corruptions if not entry.moves]
        if not corruptions:
            raise InputError("a model that crops to the lesion takes no corruption that moves it; choose others")
    names = _names([predictor.spec.name for predictor in predictors])
    with ExitStack() as copies:  # of images in object stores, which are read for each corruption
        samples = [
            take_sample(
                path,
                first.classes,
                first.positive,
                source=source,
                images=images,
                seed=seed,
                limits=predictors[0].limits,
                value_range=predictors[0].value_range,
                copies=copies,
                progress=progress,
            )
            for path, source in zip(data, sources or [None] * len(data), strict=True)
        ]
        assert_no_leak(*(sample.manifest for sample in samples))
        keys = [answers_digest_of(predictor.spec)[:12] for predictor in predictors]
        kept = Kept(
            out,
            {
                "medsharp": __version__,
                "seed": seed,
                "images": images,
                "bundles": [f"{name} {key}" for name, key in zip(names, keys, strict=True)],
                "data": [f"{sample.manifest.info.name} {sample.key}" for sample in samples],
            },
        )
        titles = _names([sample.manifest.info.name for sample in samples])
        try:
            with kept.taken():
                answers = [
                    _answers(sample, predictors, keys, corruptions, kept, seed, hand_out, _labelled(progress, title))
                    for sample, title in zip(samples, titles, strict=True)
                ]
        except KeyboardInterrupt as interrupt:
            raise Interrupted(
                f"stopped; what was predicted is kept in {out}: the same command goes on there"
            ) from interrupt
        content = {
            "settings": {"seed": seed, "resamples": resamples, "images": images},
            "corruptions": [
                {
                    "name": entry.name,
                    "family": entry.family,
                    "description": entry.description,
                    "source": entry.source,
                    "control_of": entry.control_of,
                    "parameters": [dict(level) for level in entry.levels],
                    "text": parameters_of(entry),
                }
                for entry in corruptions
            ],
            "datasets": [
                _dataset(title, sample, predictors, names, found, resamples, seed, adversary, progress)
                for title, sample, found in zip(titles, samples, answers, strict=True)
            ],
        }
        return content, Example(samples[0].pixels(0), samples[0].lesion_area(0))


def _answers(
    sample: Sample,
    predictors: Sequence[Predictor],
    keys: Sequence[str],
    corruptions: Sequence[Corruption],
    kept: Kept,
    seed: int,
    hand_out: HandOut | None,
    progress: Progress | None,
) -> list[dict[Key, np.ndarray]]:
    """Return, by model, probabilities [N, C] by corruption and severity; ('clean', 0) among them."""
    wanted: list[Key] = [(CLEAN, 0), *((entry.name, severity) for entry in corruptions for severity in SEVERITIES)]
    shape = (len(sample), len(predictors[0].spec.classes))
    found: list[dict[Key, np.ndarray]] = [{} for _ in predictors]
    own = sample.key
    missing = []
    for name, severity in wanted:
        lacking = []
        for place, key in enumerate(keys):
            values = kept.read(own, key, name, severity, shape)
            if values is None:
                lacking.append(place)
            else:
                found[place][name, severity] = values
        if lacking:
            missing.append(Missing(name, severity, tuple(lacking)))
    done = len(wanted) - len(missing)
    if hand_out is None:
        answered = predict_missing(sample, predictors, missing, seed)
    else:
        answered = predict_elsewhere(sample, hand_out, missing, seed)
    for one, answers in answered:
        for place, values in zip(one.places, answers, strict=True):
            kept.write(own, keys[place], one.name, one.severity, values)
            found[place][one.name, one.severity] = values
        done += 1
        if progress is not None:
            progress(done, len(wanted), "corrupting and predicting")
    return [{key: values[key] for key in wanted} for values in found]


def _dataset(
    title: str,
    sample: Sample,
    predictors: Sequence[Predictor],
    names: Sequence[str],
    answers: Sequence[dict[Key, np.ndarray]],
    resamples: int,
    seed: int,
    adversary: Adversary | None,
    progress: Progress | None,
) -> dict[str, Any]:
    spec, info = predictors[0].spec, sample.manifest.info
    draws = Resamples(sample.clusters(), resamples, seed)
    models: list[dict[str, Any]] = []
    judged: list[tuple[str, Cells]] = []
    unknown = sample.unknown_lesions()
    apart = counted_apart(list(dict.fromkeys(name for name, _ in answers[0])), unknown, len(sample))
    for number, (predictor, name, found) in enumerate(zip(predictors, names, answers, strict=True)):
        attacker = adversary if number == 0 else None
        told = _labelled(progress, f"{name}, {title}")
        entry, cells = _model(sample, predictor, found, draws, apart, unknown > 0, seed, attacker, told)
        models.append({"name": name, **entry})
        judged.append((name, summarised(cells, apart)))
    return {
        "name": title,
        "simulated": any(text.casefold().startswith("simulated") for text in (info.name, info.source)),
        "about": {key: text for key in ("source", "licence", "citation", "doi") if (text := getattr(info, key))},
        "classes": list(spec.classes),
        "positive": spec.positive,
        "images": len(sample),
        "clusters": draws.patients(),
        "labels": {label: int((sample.rows["label"] == label).sum()) for label in spec.classes},
        "unit": resampled(sample.rows, draws.clusters),
        "notes": list(sample.notes),
        "lesions": {
            "known": len(sample) - unknown,
            "unknown": unknown,
            "crowded": crowded(sample, seed) if (CONTROL, SEVERITIES[0]) in answers[0] else None,
        },
        "apart": apart,
        "models": models,
        "comparisons": [compare(judged[0], other) for other in judged[1:] if other[1]],
    }


def _model(
    sample: Sample,
    predictor: Predictor,
    found: dict[Key, np.ndarray],
    draws: Resamples,
    apart: Collection[str],
    guessed: bool,
    seed: int,
    adversary: Adversary | None,
    progress: Progress | None,
) -> tuple[dict[str, Any], Cells]:
    spec = predictor.spec
    column = spec.classes.index(spec.positive)
    judge = Judge(sample.labels(spec.positive), spec.operating_point.threshold, draws)
    before = found[CLEAN, 0][:, column]
    clean, cells = judge.judge(before, before), {}
    for key, values in found.items():
        if key != (CLEAN, 0):
            cells[key] = judge.judge(values[:, column], before)
            if progress is not None:
                progress(len(cells), len(found) - 1, "measuring")
    moved = {key: answers_moved(values[:, column], before) for key, values in found.items() if key != (CLEAN, 0)}
    described = describe(judge, clean, cells, apart, guessed)
    for cell in described["cells"]:
        cell["moved"] = moved[cell["corruption"], cell["severity"]]
    attacked = None
    if adversary is not None:
        labels = np.array([spec.classes.index(label) for label in sample.rows["label"]])
        attacked = [
            {
                "attack": one.attack,
                "norm": one.norm,
                "epsilon": one.epsilon,
                "steps": one.steps,
                **describe_cell(judge.judge(one.probabilities[:, column], before), clean),
            }
            for one in adversary(predictor, sample, labels, seed, progress)
        ]
    entry = {
        "threshold": judge.threshold,
        "digest": digest_of(spec),
        "answers_digest": answers_digest_of(spec),
        "network": spec.network,
        "optimizer": spec.optimizer,
        "notes": list(leaks(predictor.folder, sample.manifest)),
        **described,
        "idle": idle(moved),
        "adversarial": attacked,
    }
    return entry, cells


def _names(given: Sequence[str]) -> list[str]:
    """Tell equal names apart by a number."""
    names: list[str] = []
    for name in given:
        number, unique = 1, name
        while unique in names:
            number += 1
            unique = f"{name} {number}"
        names.append(unique)
    return names


def _labelled(progress: Progress | None, title: str) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, what: progress(done, total, f"{what}: {title}")
