"""Which files of a folder are images: known by what they hold; every other file is counted with its reason."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from medsharp.data.sources.headers import Header, read_header
from medsharp.errors import InputError
from medsharp.images import is_dicom

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".dcm", ".dicom"}
)
"""Endings of images, in lower case: a file that has one stays listed even where its content is not known."""

IMAGE_FOLDERS = frozenset(
    {"image", "images", "img", "imgs", "original", "originals", "scan", "scans", "picture", "pictures"}
    | {"bild", "bilder", "imagen", "imagenes", "imágenes", "immagine", "immagini", "imagem", "imagens"}
)
"""Names of folders that say nothing but that images lie in them."""

_WORD = r"(?:masks?|masques?|masken?|m[aá]scaras?|maschere?)"
_MASK = rf"(?:{_WORD}|gt|ground[ _-]?truths?|segmentations?|segs?)"
_MASK_FOLDER = re.compile(
    rf"^(?:{_MASK}|{_WORD}[ _-](?:images?|files?)|labels?|annotations?|contours?|outlines?|binary)$"
    rf"|(?<!and)(?<!und)(?<!&)(?<!\+)[ _-]{_MASK}$"
)
"""Names of folders, in lower case, whose images are masks: `mask`, `GT`, `benign_masks`; not `images_and_masks`."""

_FORMAT = re.compile(r"[ _-](?:png|jpe?g|tiff?|bmp|gif|webp)s?$")
"""What stands behind the names of folders, in lower case, that hold one format: `masks_png`."""

_MASK_END = re.compile(rf"(?:[ ._-]{_MASK}(?:[ _-]?\d+|[ _-]?\(\d+\))?|(?<=\d)masks?)$", re.IGNORECASE)
_MASK_START = re.compile(rf"^(?:{_MASK}[ _-]|masks?(?=\d)|{_WORD}$)", re.IGNORECASE)
_MASK_BESIDE = re.compile(
    r"[ ._-](?:labels?|anno(?:tations?)?|contours?|lesion|tumou?r|outlines?|binary)(?:[ _-]?\d+)?$", re.IGNORECASE
)
_MASK_BEFORE = re.compile(r"^(?:masks?|labels?|anno(?:tations?)?|contours?|outlines?)[ _-]?", re.IGNORECASE)
_MASK_WITHIN = re.compile(rf"^(.+?)[ ._(-]+{_WORD}(?![a-z])", re.IGNORECASE)
"""Endings, beginnings and inner words (`0_mask_copy`) that are a mask's only with a file without them beside it."""

_SYSTEM = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_HEAD = 132
_SHOWN = 3


@dataclass(frozen=True)
class Listing:
    """The files of a folder.

    Attributes:
        folder: Where they were looked for.
        images: Pictures and DICOM images, in the order of their names; masks are none of them.
        masks: Files that are masks by their name or folder.
        headers: Of those images and masks that are DICOM.
        others: Names of the other files, relative to the folder, by the reason why they are none.
    """

    folder: Path
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    headers: dict[Path, Header] = field(repr=False)
    others: dict[str, tuple[str, ...]]

    def inside(self, file: Path) -> str:
        """Return a file's name relative to the folder, with slashes."""
        return file.relative_to(self.folder).as_posix()

    def notes(self, expected: frozenset[str] = frozenset()) -> list[str]:
        """Say in a sentence a reason which files are left out.

        Args:
            expected: Names of files that are used otherwise, such as the table of labels.
        """
        sentences = []
        for reason, names in self.others.items():
            left = [name for name in names if name not in expected]
            if left and reason.startswith("DICOM"):  # their names may be those of patients, and help nobody
                sentences.append(f"{_count(len(left), 'file')} left out: {reason}")
            elif left:
                sentences.append(f"{_count(len(left), 'file')} {reason}: {shown(left)}")
        return sentences


def list_images(folder: Path) -> Listing:
    """Look at every file of a folder and of the folders in it, links followed.

    Raises:
        InputError: The folder cannot be read.
    """
    candidates: list[tuple[Path, str]] = []
    headers: dict[Path, Header] = {}
    others: dict[str, list[str]] = {}
    for file, reason in _walk(folder):
        name = file.relative_to(folder).as_posix()
        kind, why = ("", reason) if reason else _kind_of(file, headers)
        if kind:
            candidates.append((file, name))
        else:
            others.setdefault(why, []).append(name)
    names = {name.rpartition(".")[0].casefold() or name.casefold() for _, name in candidates}
    masks = [file for file, name in candidates if _is_mask(PurePosixPath(name), names)]
    of_masks = set(masks)
    for file in [file for file in masks if ";" in file.relative_to(folder).as_posix()]:
        masks.remove(file)
        reason = "left out, as masks of an image are joined by semicolons, and one stands in the name of the mask"
        others.setdefault(reason, []).append(file.relative_to(folder).as_posix())
    images = tuple(file for file, _ in candidates if file not in of_masks)
    return Listing(
        folder,
        images,
        tuple(masks),
        headers,
        {reason: tuple(sorted(names)) for reason, names in sorted(others.items())},
    )


def mask_key(name: str) -> tuple[tuple[str, ...], str]:
    """Return what an image and its masks have in common: folders and stem, without the words of either kind."""
    path = PurePosixPath(name)
    plain = (_MASK_FOLDER.sub("", _FORMAT.sub("", part.casefold())) for part in path.parts[:-1])
    folders = tuple(part for part in plain if part and part not in IMAGE_FOLDERS)
    stem = _MASK_START.sub("", _MASK_END.sub("", path.stem))
    return folders, stem.casefold()


def mask_keys(name: str) -> tuple[tuple[tuple[str, ...], str], ...]:
    """Return the keys under which a mask may find its image, the likelier first."""
    folders, stem = mask_key(name)
    whole = PurePosixPath(name).stem.casefold()
    within = _MASK_WITHIN.match(whole)
    stems = [stem, _MASK_BESIDE.sub("", stem), _MASK_BEFORE.sub("", stem), within[1] if within else stem]
    if re.search(_WORD, whole):  # `mask_1` beside `image_1`
        stems += [re.sub(_WORD, word, whole) for word in sorted(IMAGE_FOLDERS)]
    return tuple((folders, one) for one in stems)


def is_mask_folder(name: str) -> bool:
    """Whether a folder is one of masks by its name: `mask`, `GT`, `benign_masks`, `masks_png`."""
    return _MASK_FOLDER.search(_FORMAT.sub("", name.casefold())) is not None


def shown(names: list[str]) -> str:
    """Write the first few names, and that there are more."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Give every file, and the reason why it is left out unopened, in the order of names."""
    met: set[tuple[int, int]] = set()

    def inside(place: Path) -> Iterator[tuple[Path, str]]:
        about = place.stat()
        if (about.st_dev, about.st_ino) in met:
            yield place, "not followed, as a link leads to a folder that was met already"
            return
        met.add((about.st_dev, about.st_ino))
        try:
            entries = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            if place == folder:
                raise InputError(f"cannot read {folder}: {error.strerror}") from error
            yield place, "cannot be opened (a folder)"
            return
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith(".") or entry.name.casefold() in _SYSTEM:
                yield path, "hidden or of the operating system"
            elif not _is_text(entry.name):
                yield (
                    path.with_name(entry.name.encode("utf-8", "replace").decode("ascii", "replace")),
                    "left out, as its name is not text",
                )
            elif path.is_dir():
                yield from inside(path)
            elif path.is_file():
                yield path, ""
            else:
                yield path, "linked to nothing, or no ordinary file"

    yield from inside(folder)


def _is_text(name: str) -> bool:
    """Whether a name can stand in a table: no control characters, and the bytes on disk are UTF-8."""
    if any(unicodedata.category(sign) == "Cc" for sign in name):
        return False
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _kind_of(file: Path, headers: dict[Path, Header]) -> tuple[str, str]:
    """Return `picture` or `dicom`, else an empty text and the reason."""
    ending = file.suffix.casefold() in SUFFIXES
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return "", "cannot be opened"
    if is_dicom(head):
        header = read_header(file)
        if header is not None and header.image:
            headers[file] = header
            return "dicom", ""
        if header is not None:
            return "", f"DICOM, but no image: {header.kind}"
    if ending or is_picture(head):
        return "picture", ""  # one that is cut off or empty is left out where it is read, by its name
    return "", "empty" if not head else "not images"


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so is a PNG, JPEG, TIFF, BMP, WebP or GIF."""
    return (
        head.startswith(
            (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF87a", b"GIF89a")
        )
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        # Two letters are too little to tell a bitmap by: the size of its header must be one that there is.
        or (head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in {12, 16, 40, 52, 56, 64, 108, 124})
    )


def _is_mask(path: PurePosixPath, stems: set[str]) -> bool:
    if any(is_mask_folder(part) for part in path.parts[:-1]):
        return True
    if _MASK_END.search(path.stem) or _MASK_START.search(path.stem):
        return True
    within = _MASK_WITHIN.match(path.stem)
    plain = (_MASK_BESIDE.sub("", path.stem), _MASK_BEFORE.sub("", path.stem), within[1] if within else "")
    return any(stem and stem != path.stem and path.with_name(stem).as_posix().casefold() in stems for stem in plain)
