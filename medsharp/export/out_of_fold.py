"""Which images may decide for several runs in one bundle: those that some of them did not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from medsharp.data.manifest import Manifest
from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.keys import site_key
from medsharp.runs import WEIGHTS, Run

_SAME = {
    "data.classes": "classes",
    "data.positive": "positive class",
    "data.image_size": "image size",
    "data.crop": "crop",
    "data.margin": "margin",
    "data.fit": "fit",
    "data.inpaint": "inpainting",
    "data.range": "range of values",
}
"""Settings that the members of one bundle share, as they see one input."""


@dataclass(frozen=True)
class Evidence:
    """The images of one or several runs, and which of them may decide temperature and operating point.

    Attributes:
        manifest: What the runs together made of each image: `split` is `train` where one of them learned from it, else
            `val` where one of them, or the bundle, chooses by it, else `test`.
        rows: Those that decide, of the manifest's table.
        answered_by: bool [rows, runs], which runs did not learn from each, and answer it.
    """

    manifest: Manifest
    rows: pd.DataFrame
    answered_by: np.ndarray

    @property
    def pooled(self) -> bool:
        """Whether some images are answered by a part of the runs only."""
        return not bool(self.answered_by.all())


def evidence_of(runs: Sequence[Run]) -> Evidence:
    """Find the images that decide: of one run its validation images, of several those out of the folds of each.

    An image that is out of the folds of several runs, as of one fold trained with several seeds, is answered by their
    mean; one that every run learned from decides nothing. Images that are tested, and that no run learned from or chose
    by, are the bundle's test split where the runs share one. Where each drew its own, chance leaves a handful: they
    decide with the others, as internal figures of them alone would say nothing.

    Args:
        runs: Finished.

    Raises:
        InputError: A run is not finished, or several do not belong together, are not of the same images, or learned
            from all of them.
    """
    if len(runs) == 1:
        check_finished(runs[0])
        manifest = runs[0].manifest
        rows = manifest.of_split("val")
        return Evidence(manifest, rows, np.ones((len(rows), 1), dtype=bool))
    check_members(runs)
    tables = [_aligned(runs[0], run) for run in runs]
    splits = np.stack([table["split"].where(table["exclude"] == "", "").to_numpy() for table in tables], axis=1)
    answered = np.stack([splits[:, number] == run.out_of_fold_split for number, run in enumerate(runs)], axis=1)
    answered |= _seldom_tested(runs, splits, answered)[:, None]
    decides = answered.any(axis=1)
    if not decides.any():
        raise InputError(
            f"the {len(runs)} runs learned from every image, so that none can decide temperature and operating point; "
            "train them with data.folds"
        )
    roles = np.where((splits == "train").any(axis=1), "train", np.where((splits == "test").any(axis=1), "test", ""))
    roles = np.where((roles != "train") & ((splits == "val").any(axis=1) | decides), "val", roles)
    table = runs[0].manifest.table.copy()
    table["split"] = roles
    # Left out of the bundle is only what every run left out.
    table["exclude"] = table["exclude"].where(roles == "", "")
    manifest = runs[0].manifest.replace(table=table)
    return Evidence(manifest, manifest.table[decides], answered[decides])


def _seldom_tested(runs: Sequence[Run], splits: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """Return which images are left of test splits that are not the runs' common one: bool [N].

    Args:
        runs: Several.
        splits: What each made of each image, str [N, runs].
        answered: Which runs' answers decide, bool [N, runs].
    """
    tested = splits == "test"
    learned = np.isin(splits, ("train", "val")).any(axis=1)
    never = tested.any(axis=1) & ~learned & ~answered.any(axis=1)
    # A hospital that was left out decides nothing.
    shared = any(run.config.data.leave_site for run in runs) or never.sum() >= tested.sum(axis=0).min() / 2
    return np.zeros_like(never) if shared else never


def check_finished(run: Run) -> None:
    """Check that a run came to its end: before, the weights that it will keep are not there, or are of another epoch.

    Raises:
        InputError: It did not.
    """
    if not run.finished:
        raise InputError(f"{run.folder} is not trained to its end; continue it: medsharp train --resume {run.folder}")


def check_members(runs: Sequence[Run]) -> None:
    """Check that runs can be the members of one bundle: finished, different, and looking at images in one way.

    Raises:
        InputError: They cannot; the sentence names the run and the setting.
    """
    first, weights = runs[0], dict[str, Run]()
    for run in runs:
        check_finished(run)
        path = run.folder / WEIGHTS[run.kept]
        digest = sha256_file(path) if path.is_file() else str(run.folder)
        if digest in weights:
            raise InputError(f"{weights[digest].folder} and {run.folder} hold the same weights; give each run once")
        weights[digest] = run
        settings, own = first.config.data.model_dump(), run.config.data.model_dump()
        for key, words in _SAME.items():
            expected, given = (values[key.removeprefix("data.")] for values in (settings, own))
            if expected != given:
                raise InputError(
                    f"{run.folder} has another {words} than {first.folder} ({key} {_plain(given)}, not "
                    f"{_plain(expected)}); members of one bundle see the same input and answer in the same classes"
                )


def left_out_site(runs: Sequence[Run]) -> str:
    """Return the site that none of the runs learned from or chose by, or an empty string.

    Raises:
        InputError: The runs leave out different sites.
    """
    sites = [run.config.data.leave_site or "" for run in runs]
    for run, site in zip(runs, sites, strict=True):
        if site_key(site) != site_key(sites[0]):
            raise InputError(
                f"{run.folder} leaves out {_site(site)} and {runs[0].folder} {_site(sites[0])}; together they learned "
                "from both, and neither tells how the bundle does there"
            )
    return sites[0]


def _site(name: str) -> str:
    return f"site '{name}'" if name else "no site"


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _aligned(first: Run, run: Run) -> pd.DataFrame:
    """Return the table of a run in the order of the first one's.

    Raises:
        InputError: It is of other images, files or labels.
    """
    ours, theirs = (one.manifest.table.set_index(["image", "frame"], drop=False) for one in (first, run))
    missing = [*ours.index.difference(theirs.index), *theirs.index.difference(ours.index)]
    if missing:
        raise InputError(
            f"{run.folder} is of other data than {first.folder}: {len(missing)} images are in one of them only "
            f"(such as {missing[0][0]}); the members of one bundle are trained on folds of the same data"
        )
    theirs = theirs.loc[ours.index]
    for column, words in (("label", "label"), ("sha256", "SHA-256")):
        differ = (ours[column] != theirs[column]) & (ours[column] != "") & (theirs[column] != "")
        if differ.any():
            image = ours.index[differ.to_numpy()][0][0]
            raise InputError(
                f"{run.folder} is of other data than {first.folder}: {image} has another {words} there; the members of "
                "one bundle are trained on folds of the same data"
            )
    return theirs.reset_index(drop=True)
