"""A multipart form read into memory: no byte of an image touches the disk, and what is too large is not read on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message

from python_multipart.multipart import parse_options_header
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve.engine.capacity import Memory
from serve.security.gate import megabytes
from serve.uploads.archive import HEAD, is_archive
from serve.uploads.uploads import Limits, safe_name, shown

FILE_FIELDS = ("files", "file")
_MOST_FIELDS = 16


@dataclass(frozen=True)
class Form:
    """What a request brought.

    Attributes:
        names: Of the images, harmless to show.
        contents: Their bytes, in the order of the names.
        fields: The other fields.
    """

    names: list[str]
    contents: list[bytes]
    fields: dict[str, str]


@asynccontextmanager
async def read_form(
    request: Request, limits: Limits, memory: Memory, arrived: Callable[[str, bytes], None] | None = None
) -> AsyncIterator[Form]:
    """Read the images and fields of a request; `memory` counts them until the end of the context.

    Args:
        request: Not read yet.
        limits: How much it may bring.
        memory: What all requests together may bring.
        arrived: Called with the name of a file and each part of its bytes as they arrive.

    Raises:
        HTTPException: 400 for a form that is none, 413 for an image that is too large or one too many, 422 for no
            image, text where an image should be, or a field that is given twice and differently.
        BusyError: All requests together bring too much.
    """
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(422, NO_IMAGE)
    with memory.reservation() as reserve:

        async def stream() -> AsyncGenerator[bytes, None]:
            async for chunk in request.stream():
                reserve(len(chunk))
                yield chunk

        parser = _InMemoryParser(request, stream(), limits, arrived)
        try:
            items = (await parser.parse()).multi_items()
            if not parser.is_complete:
                raise HTTPException(400, "the form ends before its last boundary; send it whole")
            form = await _form(items, limits)
        except MultiPartException as error:
            if error.message.startswith("Too many files"):
                raise HTTPException(413, _too_many(limits)) from error
            raise HTTPException(400, f"the request is not a form with images: {error.message}") from error
        finally:
            await parser.close()
        yield form


class _InMemoryParser(MultiPartParser):
    # A spooled file of no largest size is never rolled over to the disk.
    spool_max_size = 0

    def __init__(
        self,
        request: Request,
        stream: AsyncGenerator[bytes, None],
        limits: Limits,
        arrived: Callable[[str, bytes], None] | None,
    ) -> None:
        super().__init__(request.headers, stream, max_files=limits.max_files + 1, max_fields=_MOST_FIELDS)
        self._limits = limits
        self._arrived = arrived
        self._part_bytes = 0
        self._part_head = b""
        self._files: list[UploadFile] = []
        self.is_complete = False

    async def close(self) -> None:
        """Let go of the files, also of one that did not arrive whole."""
        for file in self._files:
            await file.close()

    def on_headers_finished(self) -> None:
        part = self._current_part
        disposition = part.content_disposition or b""
        kind = dict(part.item_headers).get(b"content-type", b"text/plain").lower()
        # The parser knows a file by the plain `filename` alone, as RFC 7578 has it, and not every client writes it.
        _, options = parse_options_header(disposition)
        extended = _extended_filename(disposition)
        is_image = options.get(b"name", b"").decode("latin-1") in FILE_FIELDS and not kind.startswith(b"text/")
        if b"filename" not in options and (extended is not None or is_image):
            part.content_disposition = disposition + b'; filename=""'
        super().on_headers_finished()
        if part.file is not None:
            part.file.filename = part.file.filename or extended
            self._files.append(part.file)

    def on_end(self) -> None:
        self.is_complete = True
        super().on_end()

    def on_part_begin(self) -> None:
        self._part_bytes, self._part_head = 0, b""
        super().on_part_begin()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._part_bytes += end - start
        file = self._current_part.file
        if file is None and self._current_part.field_name in FILE_FIELDS:
            raise HTTPException(422, _TEXT)
        if file is not None:
            self._part_head += data[start : min(end, start + HEAD - len(self._part_head))]
            # Of an archive each file is held to that limit when it is unpacked.
            is_single = not is_archive(self._part_head)
            if is_single and self._part_bytes > self._limits.max_file_bytes:
                name = safe_name(file.filename, self._current_files)
                raise HTTPException(413, f"the image {name} is larger than {megabytes(self._limits.max_file_bytes)}")
            if self._arrived is not None:
                self._arrived(file.filename or "", data[start:end])
        super().on_part_data(data, start, end)


async def _form(items: list[tuple[str, UploadFile | str]], limits: Limits) -> Form:
    uploads = [
        value
        for name, value in items
        # A browser sends an empty file without a name where none was chosen.
        if name in FILE_FIELDS and isinstance(value, UploadFile) and (value.filename or value.size)
    ]
    if not uploads:
        raise HTTPException(422, NO_IMAGE)
    for name, value in items:
        if name not in FILE_FIELDS and isinstance(value, UploadFile):
            raise HTTPException(422, "a file was sent in another field than 'files', where it would be overlooked")
    if len(uploads) > limits.max_files:
        raise HTTPException(413, _too_many(limits))
    names = [safe_name(upload.filename, position) for position, upload in enumerate(uploads, start=1)]
    contents = []
    for upload in uploads:
        contents.append(await upload.read())
        # Of each image one copy only.
        await upload.close()
        await asyncio.sleep(0)  # a copy of many bytes, and others are answered between two
    texts = [(name, value) for name, value in items if isinstance(value, str) and name not in FILE_FIELDS]
    return Form(names, contents, said_once(texts, "the form"))


def said_once(given: Iterable[tuple[str, str]], where: str) -> dict[str, str]:
    """Return what names are given.

    Args:
        given: Names and values as they came.
        where: They came from, for the error.

    Raises:
        HTTPException: 422, a name has two values that differ.
    """
    values: dict[str, str] = {}
    for name, value in given:
        if values.setdefault(name, value) != value:
            raise HTTPException(422, f"{shown(name)} is said twice and differently in {where}; say it once")
    return values


def _extended_filename(disposition: bytes) -> str | None:
    """Return the name of a file that is written as RFC 5987 has it, `filename*=UTF-8''...`, or None."""
    message = Message()
    message["Content-Disposition"] = disposition.decode("latin-1")
    try:
        return message.get_filename()
    except UnicodeError:  # Damaged, or of no charset: the file has no name, and its place is its name.
        return ""


NO_IMAGE = "no image was sent; send one or several in the multipart field 'files'"

_TEXT = "the field 'files' holds text where a file should be; curl takes the file of a path with -F files=@path"


def _too_many(limits: Limits) -> str:
    return f"more than {limits.max_files} images were sent; send fewer in one request"
