"""A multipart form read into memory: no byte of an image touches the disk, and what is too large is not read on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from serve.engine.capacity import Memory
from serve.security.gate import megabytes
from serve.uploads.archive import HEAD, is_archive
from serve.uploads.uploads import Limits, safe_name

FILE_FIELDS = ("files", "file")
_MOST_FIELDS = 16


@dataclass(frozen=True)
class Form:
    """What a request brought.

    Attributes:
        names: Of the images, harmless to show.
        contents: Their bytes, in the order of the names.
        fields: The other fields; of one that comes twice the last.
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
            image.
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
        super().on_headers_finished()
        if self._current_part.file is not None:
            self._files.append(self._current_part.file)

    def on_end(self) -> None:
        self.is_complete = True
        super().on_end()

    def on_part_begin(self) -> None:
        self._part_bytes, self._part_head = 0, b""
        super().on_part_begin()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._part_bytes += end - start
        file = self._current_part.file
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
        for field in FILE_FIELDS
        for name, value in items
        # A browser sends an empty file without a name where none was chosen.
        if name == field and isinstance(value, UploadFile) and (value.filename or value.size)
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
    return Form(names, contents, {name: value for name, value in items if isinstance(value, str)})


NO_IMAGE = "no image was sent; send one or several in the multipart field 'files'"


def _too_many(limits: Limits) -> str:
    return f"more than {limits.max_files} images were sent; send fewer in one request"
