"""Which files of a folder are images: known by what they hold; every other file is counted with its reason."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from medsharp.data.sources.headers import Header, read_header
from medsharp.errors import InputError
from medsharp.files import is_utf8
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

_WORD = r"(?:masken?|masks?|masques?|m[aá]scaras?|mascher[ae])"
_MASK = rf"(?:{_WORD}|gt|ground[ _-]?truths?|segmentations?|segs?)"
_MASK_FOLDER = re.compile(
    rf"^(?:{_MASK}|{_WORD}[ _-](?:images?|files?)|labels?|annotations?|contours?|outlines?|binary)$"
    rf"|(?<!and)(?<!und)(?<!&)(?<!\+)[ _-]{_MASK}$"
)
"""Names of folders, in lower case, whose images are masks: `mask`, `GT`, `benign_masks`; not `images_and_masks`."""

_FORMAT = re.compile(r"[ _-](?:png|jpe?g|tiff?|bmp|gif|webp)s?$")
"""What stands behind the names of folders, in lower case, that hold one format: `masks_png`."""

_MASK_END = re.compile(rf"(?:[ ._-]{_MASK}(?:[ _-]?\d+|[ _-]?\(\d+\))?|(?<=\d){_WORD})$", re.IGNORECASE)
_MASK_START = re.compile(rf"^(?:{_MASK}[ _-]|{_WORD}(?=\d|$))", re.IGNORECASE)
_MASK_BESIDE = re.compile(
    r"[ ._-](?:labels?|anno(?:tations?)?|contours?|lesion|tumou?r|outlines?|binary)(?:[ _-]?\d+)?$", re.IGNORECASE
)
_MASK_BEFORE = re.compile(r"^(?:masks?|labels?|anno(?:tations?)?|contours?|outlines?)[ _-]?", re.IGNORECASE)
_MASK_WITHIN = re.compile(rf"^(.+?)[ ._(-]+{_WORD}(?![a-z])(.*)$", re.IGNORECASE)
"""Endings, beginnings and inner words (`0_mask_copy`) that are a mask's only with a file without them beside it."""

_WHOLE_WORD = re.compile(rf"(?<![a-z]){_WORD}(?![a-z])")
_COPIED = re.compile(
    r"\d*(?:[ ._()-]+(?:(?:another|copy|copie|kopie|c[oó]pia)\d*|\d+(?:st|nd|rd|th)?))*[ ._()-]*", re.IGNORECASE
)
"""What tools write behind the name of a file that they copy: ` - Copy (2)`, `_copy`, ` (Kopie)`."""

_DRAWN = (
    "left out, as they are called like an image and its mask with more behind, as drawings of both are; a list of "
    "labels may name them under mask"
)

MaskKey = tuple[tuple[str, ...], str]
"""Folders and stem."""

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
        drawings: Pictures such as `1_mask_overlay` beside `1`, which are taken for neither images nor masks.
    """

    folder: Path
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    headers: dict[Path, Header] = field(repr=False)
    others: dict[str, tuple[str, ...]]
    drawings: tuple[Path, ...] = ()

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
        if self.drawings:
            sentences.append(
                f"{_count(len(self.drawings), 'file')} {_DRAWN}: {shown(list(map(self.inside, self.drawings)))}"
            )
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
    names = {_folded(name.rpartition(".")[0] or name) for _, name in candidates}
    roles = {file: _role(PurePosixPath(_composed(name)), names) for file, name in candidates}
    masks = [file for file, role in roles.items() if role == "mask"]
    for file in [file for file in masks if ";" in file.relative_to(folder).as_posix()]:
        masks.remove(file)
        reason = "left out, as masks of an image are joined by semicolons, and one stands in the name of the mask"
        others.setdefault(reason, []).append(file.relative_to(folder).as_posix())
    return Listing(
        folder,
        tuple(file for file, role in roles.items() if role == "image"),
        tuple(masks),
        headers,
        {reason: tuple(sorted(names)) for reason, names in sorted(others.items())},
        tuple(file for file, role in roles.items() if role == "drawing"),
    )


def mask_key(name: str) -> MaskKey:
    """Return what an image and its masks have in common: folders and stem, without the words of either kind."""
    path = PurePosixPath(_composed(name))
    plain = (_MASK_FOLDER.sub("", _FORMAT.sub("", part.casefold())) for part in path.parts[:-1])
    folders = tuple(part for part in plain if part and part not in IMAGE_FOLDERS)
    stem = _MASK_START.sub("", _MASK_END.sub("", path.stem))
    return folders, stem.casefold()


def mask_keys(name: str) -> tuple[MaskKey, ...]:
    """Return the keys under which a mask may find its image, the likelier first; the first is `mask_key`."""
    folders, stem = mask_key(name)
    whole = _folded(PurePosixPath(name).stem)
    stems = [stem, _MASK_BESIDE.sub("", stem), _MASK_BEFORE.sub("", stem)]
    within = _MASK_WITHIN.match(whole)
    if within and _COPIED.fullmatch(within[2]):
        stems.append(within[1])
    if _WHOLE_WORD.search(whole):  # `mask_1` beside `image_1`
        stems += [_WHOLE_WORD.sub(word, whole) for word in sorted(IMAGE_FOLDERS)]
    return tuple((folders, one) for one in stems)


def is_mask_folder(name: str) -> bool:
    """Whether a folder is one of masks by its name: `mask`, `GT`, `benign_masks`, `masks_png`."""
    return _MASK_FOLDER.search(_FORMAT.sub("", _folded(name))) is not None


def is_image_folder(name: str) -> bool:
    """Whether the name of a folder says nothing but that images lie in it: `images`, `Bilder`, `images_png`."""
    return _FORMAT.sub("", _folded(name)) in IMAGE_FOLDERS


def shown(names: list[str]) -> str:
    """Write the first few names, and that there are more."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _composed(name: str) -> str:
    """Return a name with accents in their letters: some systems store them apart."""
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(name).casefold()


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
    return is_utf8(name) and not any(unicodedata.category(sign) == "Cc" for sign in name)


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


def is_image(file: Path) -> bool:
    """Whether a file is a picture or a DICOM image, by its ending or by what it holds; hidden ones are none."""
    return not file.name.startswith(".") and _is_text(file.name) and bool(_kind_of(file, {})[0])


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


def _role(path: PurePosixPath, stems: set[str]) -> Literal["image", "mask", "drawing"]:
    """Say by a picture's name what it is.

    Args:
        path: From the folder on.
        stems: What all pictures there are called, without their endings, casefolded.
    """

    def is_there(stem: str) -> bool:
        return bool(stem) and stem != path.stem and path.with_name(stem).as_posix().casefold() in stems

    if any(is_mask_folder(part) for part in path.parts[:-1]):
        return "mask"
    if _MASK_END.search(path.stem) or _MASK_START.search(path.stem):
        return "mask"
    within = _MASK_WITHIN.match(path.stem)
    if within and is_there(within[1]):
        return "mask" if _COPIED.fullmatch(within[2]) else "drawing"
    beside = _MASK_BESIDE.sub("", path.stem), _MASK_BEFORE.sub("", path.stem)
    return "mask" if any(map(is_there, beside)) else "image"
