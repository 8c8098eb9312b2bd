"""The images of a request, however they were sent: a form, one file as the whole body, or a zip archive in either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.exceptions import HTTPException
from starlette.requests import Request

from serve.engine.capacity import Memory
from serve.security.gate import megabytes
from serve.uploads.archive import HEAD, is_archive, read_archive
from serve.uploads.forms import NO_IMAGE, Form, read_form
from serve.uploads.uploads import Limits, safe_name

FORM = "multipart/form-data"
RAW_TYPES = (
    "image/*",
    "application/dicom",
    "application/zip",
    "application/x-zip-compressed",
    "application/octet-stream",
)
"""Types of a body that is one file. What it holds is told by its bytes, whichever of them it is said to be."""

_LARGE = 2**20
"""Bytes from which on Python lets other threads run while it joins them."""


@asynccontextmanager
async def read_images(
    request: Request, limits: Limits, memory: Memory, arrived: Callable[[str, bytes], None] | None = None
) -> AsyncIterator[Form]:
    """Read the images of a request, archives unpacked; `memory` counts them until the end of the context.

    A form is read as `read_form` does it. A body of another accepted type is one file, called as the query's `name`
    says. The images of an archive stand in its place, under their paths in it.

    Args:
        request: Not read yet.
        limits: How much it may bring; `max_files` images, or `max_archive_files` where there is an archive.
        memory: What all requests together may bring.
        arrived: As in `read_form`.

    Raises:
        HTTPException: 415 for a body of another type, and as `read_form` and `read_archive` say.
        BusyError: All requests together bring too much.
    """
    with memory.reservation() as reserve:
        if media_type(request) == FORM:
            async with read_form(request, limits, memory, arrived) as form:
                yield await unpacked(form, limits, reserve)
        else:
            form = await _read_raw(request, limits, reserve)
            yield await unpacked(form, limits, reserve)


async def unpacked(form: Form, limits: Limits, reserve: Callable[[int], None]) -> Form:
    """Put the files of each archive in its place; `reserve` counts their bytes.

    Raises:
        HTTPException: As `read_archive` says, or 413 where all archives together hold too many files or bytes.
        BusyError: From `reserve`.
    """
    if not any(map(is_archive, form.contents)):
        return form
    names: list[str] = []
    contents: list[bytes] = []
    for name, content in zip(form.names, form.contents, strict=True):
        if is_archive(content):
            # In a thread, since unpacking takes a while, and meanwhile others are answered.
            inner_names, inner = await asyncio.to_thread(read_archive, content, limits, name, reserve)
        else:
            inner_names, inner = [name], [content]
        names += inner_names
        contents += inner
        if len(names) > limits.max_archive_files:
            raise HTTPException(413, f"more than {limits.max_archive_files} images were sent; send fewer at once")
        if sum(map(len, contents)) > limits.max_unpacked_bytes:
            raise HTTPException(413, f"the images unpack to more than {megabytes(limits.max_unpacked_bytes)}")
    return Form(names, contents, form.fields)


def media_type(request: Request) -> str:
    """Return the type of a request's body without its parameters, in small letters; empty where none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_raw(request: Request, limits: Limits, reserve: Callable[[int], None]) -> Form:
    given = media_type(request)
    is_raw = given in RAW_TYPES or (given.startswith("image/") and len(given) > len("image/"))
    parts: list[bytes] = []
    size, head = 0, b""
    name = safe_name(request.query_params.get("name"), 1)
    async for part in request.stream():
        if not is_raw and part:
            raise HTTPException(415, _unknown_type(given))
        size += len(part)
        head += part[: HEAD - len(head)]
        largest = limits.max_request_bytes if is_archive(head) else limits.max_file_bytes
        if size > largest:
            raise HTTPException(413, f"the image {name} is larger than {megabytes(largest)}")
        reserve(len(part))
        if part:
            parts.append(part)
    if not parts:
        raise HTTPException(422, NO_IMAGE)
    return Form([name], [await joined(parts, size)], {})


async def joined(parts: list[bytes], size: int) -> bytes:
    """Join the parts of a body, of many bytes in a thread: nothing else is held up by it there."""
    return b"".join(parts) if size < _LARGE else await asyncio.to_thread(b"".join, parts)


def _unknown_type(given: str) -> str:
    # Only what is sure to be a type is repeated; a header may hold anything.
    said = given if given.isascii() and given.replace("/", "").replace("-", "").isalnum() else "none that is known"
    return f"the body's type is {said}; send a form ({FORM}) with 'files', or a file as {', '.join(RAW_TYPES)}"
