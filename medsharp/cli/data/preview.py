"""`medsharp data preview`: what an augmentation does, as a contact sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from medsharp.cli._console import console, heading, note, progress_bar
from medsharp.errors import InputError
from medsharp.yaml_text import load_yaml


def preview(
    out: Annotated[Path, typer.Option(help="PNG file to write.")],
    data: Annotated[str, typer.Option(help="Manifest or data set folder; simulated images without it.")] = "phantom",
    augmentation: Annotated[
        str | None,
        typer.Option(help="none, light, standard, strong, ultrasound, or YAML such as '{shadow: {strength: 0.5}}'."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of a training, whose augmentation and size are used.")
    ] = None,
    images: Annotated[int, typer.Option(min=1, max=50, help="Rows of the sheet.")] = 4,
    together: Annotated[int, typer.Option(min=0, max=20, help="Draws of the whole recipe a row.")] = 3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Draw a contact sheet: some images, each transform by itself, and the whole recipe.

    The sheet shows images of the data set: treat it as you treat them.
    """
    import numpy as np

    from medsharp.config import load_config
    from medsharp.data.pipeline import make_dataset
    from medsharp.data.preview import contact_sheet
    from medsharp.data.sources import open_dataset
    from medsharp.files import assert_other_file, atomic_path

    overrides = [] if augmentation is None else [f"data.augmentation={_yaml(augmentation)}"]
    settings = load_config(config, overrides).data
    if out.suffix.lower() != ".png":
        raise InputError(f"--out {out} must end in .png")
    heading(f"Data: {data}")
    manifest = open_dataset(data, value_range=settings.value_range())
    masks = (mask for row in manifest.table.to_dict("records") for mask in manifest.masks(row))
    assert_other_file(out, (*map(manifest.path, manifest.table["image"]), *masks))
    rows = manifest.included
    if rows.empty:
        raise InputError(f"{manifest.info.name} has no image that is not excluded")
    chosen = np.sort(np.random.default_rng(seed).choice(len(rows), size=min(images, len(rows)), replace=False))
    labels = sorted(set(rows["label"]))
    with progress_bar() as report:
        dataset = make_dataset(
            rows.iloc[chosen],
            manifest,
            spec=settings.preprocessing(),
            classes=labels,
            limits=settings.limits.limits(),
            progress=report,
        )
    sheet = contact_sheet(list(dataset.images), settings.augmentation, together=together, seed=seed)
    with atomic_path(out, private=True) as temporary:
        sheet.save(temporary, format="PNG")
    for index, name in enumerate(dataset.table["image"], start=1):
        note(f"row {index}: {name}")
    console.print(f"contact sheet: [bold]{out}[/]", soft_wrap=True)


def _yaml(text: str) -> str:
    """Refuse what is not YAML in the words of this command, not of `--set`."""
    try:
        load_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(
            f"--augmentation {text}: neither a name nor YAML such as {{shadow: {{strength: 0.5}}}}"
        ) from error
    return text
