"""Run folders as training leaves them, made by hand: small untrained networks on folds of speckle."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from medsharp.cli import app
from medsharp.config import dump_config, load_config
from medsharp.data.duplicates import tie_duplicates
from medsharp.data.manifest import DatasetInfo, Manifest, make_table, write_manifest
from medsharp.networks import Classifier, create_network

SIZE = 64
FOLDS = 3


def speckle_manifest(folder: Path, count: int = 60) -> Manifest:
    """Speckle of 50 x 70, two images a patient, asymmetric; a dark blob, to the left, in a third of the patients."""
    rng = np.random.default_rng(3)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(count):
        malignant = number // 2 % 3 == 1
        pixels = rng.rayleigh(60.0, size=(50, 70)) * np.linspace(0.3 + rng.random(), 1.2 - rng.random() / 2, 70)
        if malignant:
            pixels[15:35, 8:30] *= rng.uniform(0.1, 0.8)
        name = f"images/Doe-{number}.png"
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(folder / name)
        label = "malignant" if malignant else "benign"
        rows.append({"image": name, "label": label, "patient": f"MRN{number // 2}", "site": "AB"[number // 2 % 2]})
    manifest = Manifest(make_table(rows), DatasetInfo("Speckle", ("benign", "malignant"), licence="CC0"), folder)
    return tie_duplicates(manifest)


def member_network(seed: int, name: str = "resnet10_w16", spread: float = 2.0) -> Classifier:
    """An untrained network whose log odds on speckle have this spread; each seed leans and sees grey its own way."""
    torch.manual_seed(seed)
    network = create_network(name, num_classes=2, image_size=SIZE).eval()
    network.set_normalization(0.15 + 0.1 * seed, 0.2)
    rng = np.random.default_rng(5)
    pixels = (
        rng.rayleigh(60.0, size=(24, 1, SIZE, SIZE)) * np.linspace(0.3, 1.4, SIZE) * rng.uniform(0.3, 1, (24, 1, 1, 1))
    )
    head = network.backbone.get_classifier()  # type: ignore[operator]
    with torch.no_grad():
        logits = network(torch.from_numpy(np.clip(pixels, 0, 255).astype(np.uint8)))
        factor = spread / float((logits[:, 1] - logits[:, 0]).std())
        head.weight *= factor
        head.bias.copy_(-factor * logits.mean(dim=0) + torch.tensor([0.0, seed - 1.0]))
    return network


def write_run(
    folder: Path,
    manifest: Manifest,
    splits: Sequence[str],
    settings: Sequence[str] = (),
    *,
    seed: int = 0,
    finished: bool = True,
) -> Path:
    """Write a run whose images have these splits; an empty one leaves the image out."""
    table = manifest.table.copy()
    table["split"] = splits
    table.loc[table["split"] == "", "exclude"] = "left out of this run"
    write_manifest(manifest.replace(table=table), folder)
    (folder / "checkpoints").mkdir()
    chosen = [f"data.image_size={SIZE}", "network.name=resnet10_w16", f"seed={seed}", *settings]
    config = load_config(overrides=chosen)
    (folder / "config.yaml").write_text(dump_config(config))
    network = member_network(seed, config.network.name)
    save_file(network.state_dict(), folder / "checkpoints" / "best.safetensors")
    if finished:
        (folder / "predictions.csv").write_text("written last\n")
    return folder


def fold_splits(manifest: Manifest, fold: int, *, test: bool = False) -> list[str]:
    """Splits of one of three folds, dealt by patient: it validates, or is tested while the next one validates."""
    patients = pd.factorize(manifest.table["patient"])[0]
    # Three neighbours are of one fold: every fold has both classes and both sites.
    dealt = patients // 3 % FOLDS
    names = {fold: "test", (fold + 1) % FOLDS: "val"} if test else {fold: "val"}
    return [names.get(number, "train") for number in dealt]


def folds_of(folder: Path, manifest: Manifest, *, role: str = "val") -> list[Path]:
    """Three runs, one a fold, with seeds 0, 1 and 2."""
    return [
        write_run(
            folder / f"fold{fold}",
            manifest,
            fold_splits(manifest, fold, test=role == "test"),
            [f"data.folds={FOLDS}", f"data.fold={fold}", f"data.fold_role={role}"],
            seed=fold,
        )
        for fold in range(FOLDS)
    ]


def run_export(*arguments: object) -> Result:
    """Run `medsharp export`, on a terminal too wide to break its sentences."""
    return CliRunner().invoke(app, ["export", *map(str, arguments)], env={"COLUMNS": "300"})


def copy_run(run: Path, to: Path) -> Path:
    """Copy a run, to change it."""
    shutil.copytree(run, to)
    return to
