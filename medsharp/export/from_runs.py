"""One or several run folders as one bundle."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from medsharp.bundle import Average, BundleSpec, Combination, Member, Precision, TrainingRecord
from medsharp.config import TrainConfig
from medsharp.data.audit.report import folder_name
from medsharp.data.exclusions import count_exclusions
from medsharp.data.manifest import AUDITED, SPLITS, Manifest
from medsharp.export.export import export_network
from medsharp.export.half_weights import Weights
from medsharp.export.held_out import held_out_of_all
from medsharp.export.inputs import CALIBRATION_IMAGES, check_without_lesion, load_inputs, spread
from medsharp.export.members import Ensemble
from medsharp.export.out_of_fold import Evidence, evidence_of, left_out_site
from medsharp.export.settings import flat, folders_of, making_of, told
from medsharp.files import sha256_file
from medsharp.progress import Progress
from medsharp.runs import ENVIRONMENT, WEIGHTS, Run

_TRAIN = "medsharp train {data} --config settings.yaml --out RUN"
_AUDIT = "medsharp data audit {data} --out AUDIT"
"""What the card says of a run on an audited manifest."""


def export_run(run_folder: str | Path, out: str | Path, **options: Any) -> BundleSpec:
    """Write the weights that one run keeps as a bundle: `export_runs` with one."""
    return export_runs([run_folder], out, **options)


def export_runs(
    run_folders: Sequence[str | Path],
    out: str | Path,
    *,
    average: Average = "probabilities",
    flip: bool = False,
    weights: Weights = "fp32",
    precisions: Sequence[Precision] = ("fp32",),
    image_sizes: Sequence[int] = (),
    sensitivity: float = 0.95,
    held_out: Sequence[str | Path] = (),
    no_lesion: Manifest | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> BundleSpec:
    """Write the weights that one or several runs keep as a bundle with one graph.

    Of one run, its validation images decide temperature and operating point. Of several, the images out of the folds of
    each do, answered by those members alone that did not learn from them, with weights and views as they are served.

    Args:
        run_folders: As `training.train` leaves them; their images must still be where the manifest says.
        out: The bundle's folder; its name becomes the model's.
        average: What the answer is the mean of.
        flip: Whether each member also sees the mirror image.
        weights: How `model.onnx` stores them.
        precisions: In which the graph is written too, where it passes its gate; int8 is calibrated on training images.
        image_sizes: Side of the input in pixels; that of training without it. Networks that were trained on enlarged
            parts of images have seen objects larger than they are in whole ones, and may answer better at a larger size
            (H. Touvron et al., "Fixing the train-test resolution discrepancy", NeurIPS 2019). Of several the largest is
            the input's, and each member also sees the input at the others.
        sensitivity: What the operating point reaches on the images that decide it.
        held_out: Figures at hospitals left out wholly: what `medsharp crossvalidate --by site` wrote, or bundles of
            runs that each left one hospital out, made in the same way.
        no_lesion: Images that show no lesion: the bundle then says where there may be none. Of a model that has a class
            for them there are none.
        overwrite: Replace an existing bundle.
        progress: Called with images done, images in all and what is being done.

    Raises:
        InputError: A run is not finished or has no weights, runs do not belong together, an image is missing, images
            without a lesion are of a class, or ONNX and PyTorch disagree; nothing is written then.
    """
    runs = [Run.load(folder) for folder in run_folders]
    evidence = evidence_of(runs)
    data = runs[0].config.data
    check_without_lesion(no_lesion, data.classes)
    size, *smaller = sorted({*image_sizes} or {data.image_size}, reverse=True)
    place = replace(data.preprocessing(), size=size)
    site = left_out_site(runs)
    record = _record(runs, evidence)
    sizes = (size, *smaller) if smaller else ()
    answers = Combination(members=len(runs), average=average, flip=flip, sizes=sizes)
    figures = held_out_of_all(held_out, evidence.manifest, making_of(record, answers, weights, size), data)
    networks = [run.load_network(image_size=size) for run in runs]
    if smaller:
        Ensemble(networks, sizes=sizes)  # refuses a size that a network does not take before images are read
    deciding, test = evidence.rows, evidence.manifest.of_split("test")
    learned = spread(evidence.manifest.of_split("train"), CALIBRATION_IMAGES if "int8" in precisions else 0)
    limits = data.limits.limits()
    images, pictures = load_inputs(deciding, evidence.manifest, limits, place, progress)
    tested, _ = load_inputs(test, evidence.manifest, limits, place, progress)
    lesionless = None
    if no_lesion is not None:
        lesionless, _ = load_inputs(no_lesion.included, no_lesion, limits, place, progress)
    calibration, _ = load_inputs(learned, evidence.manifest, limits, place, progress)
    return export_network(
        networks,
        out,
        classes=data.classes,
        positive=data.positive,
        preprocess_spec=place,
        average=average,
        flip=flip,
        smaller=smaller,
        weights=weights,
        precisions=precisions,
        calibration_images=calibration,
        validation_images=images,
        pictures=pictures,
        without_lesion=lesionless,
        validation_labels=np.array([data.classes.index(label) for label in deciding["label"]], dtype=int),
        validation_rows=deciding,
        answered_by=evidence.answered_by,
        training=record,
        internal=test,
        internal_images=tested,
        left_out=site,
        seen=evidence.manifest,
        held_out=figures,
        sensitivity=sensitivity,
        overwrite=overwrite,
    )


def _record(runs: Sequence[Run], evidence: Evidence) -> TrainingRecord:
    first, manifest = runs[0], evidence.manifest
    environment = first.folder / ENVIRONMENT
    names = list(dict.fromkeys(run.config.network.name for run in runs))
    return TrainingRecord(
        dataset=manifest.info.name,
        licence=manifest.info.licence,
        citation=manifest.info.citation,
        images={split: len(manifest.of_split(split)) for split in SPLITS},
        excluded=count_exclusions(manifest.table["exclude"]),
        network=" and ".join(names),
        optimizer=first.config.optimizer.summary(),
        command=_command(first.config, manifest),
        config=told(first.config),
        environment=json.loads(environment.read_text(encoding="utf-8")) if environment.exists() else {},
        weights=first.origin,
        members=_members(runs, evidence) if len(runs) > 1 else (),
    )


def _members(runs: Sequence[Run], evidence: Evidence) -> tuple[Member, ...]:
    common = flat(told(runs[0].config))
    members = []
    for number, run in enumerate(runs):
        data = run.config.data
        folds = data.folds or data.official_folds
        own = flat(told(run.config))
        members.append(
            Member(
                seed=run.config.seed,
                fold=f"{data.fold} of {folds}" if folds else "",
                left_out=data.leave_site or "",
                images={split: len(run.manifest.of_split(split)) for split in SPLITS},
                out_of_fold=int(evidence.answered_by[:, number].sum()),
                weights=sha256_file(run.folder / WEIGHTS[run.kept]),
                differences={key: value for key, value in own.items() if value != common.get(key)},
            )
        )
    return tuple(members)


def _command(config: TrainConfig, manifest: Manifest) -> str:
    """Return how the runs were trained, where there is more to tell than one folder."""
    folders = folders_of(config)
    audited = any(note.startswith(AUDITED) for note in manifest.notes)
    if not audited and len(folders) == 1:
        return ""
    data = folders
    if audited:
        below = [f"AUDIT/{folder_name(part.name)}" for part in manifest.parts]
        data = below if len(below) == len(folders) > 1 else ["AUDIT"]
    train = _TRAIN.format(data=" ".join(f"--data {shlex.quote(folder)}" for folder in data))
    return "\n".join([_AUDIT.format(data=" ".join(folders)), train] if audited else [train])
