"""How much of an upload has arrived, told to the page that sends it by the number that the page gave it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import Request

_STEP_SECONDS = 0.05
_FIRST_STEPS = 60
"""How long a page may ask before its upload has begun: both are sent at once."""

_REMEMBERED_SECONDS = 10.0


@dataclass
class Arriving:
    """An upload that is being received.

    Attributes:
        name: Of the file whose bytes came last, as the client calls it.
        count: Bytes that came since its page was told.
        is_done: Whether all has arrived, or nothing more will.
    """

    name: str = ""
    count: int = 0
    is_done: bool = False

    def arrived(self, name: str, part: bytes) -> None:
        """Count in a part of a file."""
        self.count = len(part) + (self.count if name == self.name else 0)
        self.name = name

    def take(self) -> str:
        """Return what is new, as an event for the page; empty where nothing is."""
        if not self.count:
            return ""
        told = {"msg": "update", "orig_name": self.name, "chunk_size": self.count}
        self.count = 0
        return f"data: {json.dumps(told)}\n\n"


class Progress:
    """The uploads that are being received, in place of Gradio's table, which keeps a number that somebody asks for."""

    def __init__(self) -> None:
        self._uploads: dict[str, Arriving] = {}

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._uploads)

    def begin(self, number: str | None) -> Arriving:
        """Begin to receive an upload; without a number nobody asks for it."""
        upload = Arriving()
        if number is not None:
            self._uploads[number] = upload
        return upload

    def end(self, number: str | None, upload: Arriving) -> None:
        """Say that all has arrived or nothing more will, and forget the name of the file after a while."""
        upload.is_done = True
        if number is not None:
            asyncio.get_running_loop().call_later(_REMEMBERED_SECONDS, self._forget, number, upload)

    async def find(self, number: str, request: Request) -> Arriving | None:
        """Return an upload, waited for in case that it begins in a moment; None where it does not."""
        for _ in range(_FIRST_STEPS):
            if number in self._uploads or await request.is_disconnected():
                break
            await asyncio.sleep(_STEP_SECONDS)
        return self._uploads.get(number)

    @staticmethod
    async def events(upload: Arriving, request: Request) -> AsyncIterator[str]:
        """Give what arrives, as events, until all has arrived or the page is closed."""
        while not await request.is_disconnected():
            told = upload.take()
            if told:
                yield told
            elif upload.is_done:
                yield 'data: {"msg": "done"}\n\n'
                return
            await asyncio.sleep(_STEP_SECONDS)

    def _forget(self, number: str, upload: Arriving) -> None:
        if self._uploads.get(number) is upload:
            del self._uploads[number]
