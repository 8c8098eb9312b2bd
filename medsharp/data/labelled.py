"""A manifest of images that are in memory: a table of labels, matched to the names under which they were sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from medsharp.data.manifest import DatasetInfo, Manifest, read_rows
from medsharp.errors import InputError, nearest
from medsharp.tables import parse_table


def label_images(
    data: bytes, name: str, images: Sequence[str], classes: Sequence[str], dataset: str
) -> tuple[Manifest, list[int]]:
    """Read a table with `image` and `label`, and perhaps `patient`, `site` and others, for images in memory.

    Its cells are read as those of a manifest are (`medsharp.data.manifest.read_rows`).
    A row is of the image that has its name. Folders count where both name them: `benign/1.png` is of `1.png` and of
    `case/benign/1.png`, and never of `malignant/1.png`.

    Args:
        data: The table's bytes.
        name: The table's name, for errors.
        images: Names of the images, `/` between folders.
        classes: The labels that are right.
        dataset: What to call the images together.

    Returns:
        A manifest of the rows, and for each the place of its image in `images`. Images without a row are not in it;
        a note counts them.

    Raises:
        InputError: It is no table or lacks a column, a label is missing or wrong, an image is not among those sent, or
            stands twice; the sentence names table and row.
    """
    path = Path(name)
    read = parse_table(path, data, ("image", "label"))
    lines = tuple(int(line) for line in read.frame.index)
    if not lines:
        raise InputError(f"{name} lists no images")
    # Nothing lies beside a table that is sent; a manifest is known by its header.
    table, told = read_rows(path, read.frame, {})
    find = _Names(images)
    places: list[int] = []
    seen: dict[int, int] = {}
    for line, row in zip(lines, table.to_dict("records"), strict=True):
        place = find.place(row["image"], f"{name}, row {line}")
        if place in seen:
            raise InputError(f"{name}, row {line}: image '{row['image']}' stands in row {seen[place]} already")
        if not row["exclude"]:
            _check_label(row["label"], classes, f"{name}, row {line}")
        seen[place] = line
        places.append(place)
    notes = [*read.notes, *told]
    left = len(images) - len(places)
    if left:
        notes.append(f"{left} of {len(images)} images have no row in {name}; they are in no figure")
    table["image"] = [images[place] for place in places]
    # What the table says of files on a disk is of nothing here.
    table[["mask", "sha256"]] = ""
    info = DatasetInfo(name=dataset, classes=tuple(classes))
    return Manifest(table, info, Path(), tuple(notes), lines), places


class _Names:
    """The images by the last part of their names."""

    def __init__(self, images: Sequence[str]) -> None:
        self._parts = [PurePosixPath(image).parts for image in images]
        self._named: dict[str, list[int]] = {}
        for place, parts in enumerate(self._parts):
            self._named.setdefault(parts[-1], []).append(place)
        self._repeated = next((image for image, count in Counter(images).items() if count > 1), None)

    def place(self, named: str, where: str) -> int:
        """Return which image a row names: one name ends as the other, folder by folder.

        Raises:
            InputError: None, or several.
        """
        if self._repeated is not None:
            raise InputError(f"two images are called {self._repeated}; give each a name of its own, or send a zip")
        parts = PurePosixPath(named.replace("\\", "/")).parts
        if not parts:
            raise InputError(f"{where}: no image is named")
        found = [place for place in self._named.get(parts[-1], ()) if _end_alike(parts, self._parts[place])]
        whole = [place for place in found if self._parts[place] == parts]
        if len(whole or found) > 1:
            raise InputError(f"{where}: {len(found)} of the images sent are called '{named}'; name the folder too")
        if not found:
            raise InputError(f"{where}: no image called '{named}' was sent{nearest(parts[-1], self._named)}")
        return (whole or found)[0]


def _end_alike(one: Sequence[str], other: Sequence[str]) -> bool:
    return all(a == b for a, b in zip(reversed(one), reversed(other), strict=False))


def _check_label(label: str, classes: Sequence[str], where: str) -> None:
    if not label:
        raise InputError(f"{where}: there is no label")
    if label not in classes:
        raise InputError(f"{where}: label '{label}' is not one of {', '.join(classes)}{nearest(label, classes)}")
