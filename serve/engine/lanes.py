"""The threads in which images are decoded and drawn, and large texts read: nothing small waits behind what is large."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from medsharp.cores import usable_cores

Result = TypeVar("Result")

LARGE_PIXELS = 2**21
"""From so many pixels on an image is large, and decoded in a lane of its own; scans of devices have fewer."""

_MOST_LARGE = 4
"""Large images decoded at once, at most: 40 megapixels in colour take some 0.5 GB each."""


_LARGE_TEXT = 2**16
"""From so many bytes on, reading or writing JSON takes milliseconds, in which the event loop would answer nobody."""


class Lanes:
    """Pools of threads, shared by all models of a server.

    Attributes:
        small: Decodes small images, and finds out which are large.
        large: Decodes large ones.
        drawing: Draws heat maps and encodes pictures, at the size at which they are shown.
        text: Reads and writes large bodies, one after the other, since Python does one at a time anyway.
        window: So many images of one request at most are decoded or wait for it at once, so that requests take turns.
    """

    def __init__(self) -> None:
        cores = usable_cores()
        self.small = ThreadPoolExecutor(max(2, cores), thread_name_prefix="medsharp-decode")
        self.large = ThreadPoolExecutor(max(1, min(_MOST_LARGE, cores // 2)), thread_name_prefix="medsharp-large")
        self.drawing = ThreadPoolExecutor(max(1, cores // 2), thread_name_prefix="medsharp-draw")
        self.text = ThreadPoolExecutor(1, thread_name_prefix="medsharp-text")
        self.window = max(2, cores) + 1

    async def aside(self, size: int, work: Callable[[], Result]) -> Result:
        """Do work on so many bytes of text: at once where they are few, else in a thread, while others are answered.

        Python's own readers and writers of JSON let no other thread run before they return: work in pieces.
        """
        if size < _LARGE_TEXT:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self.text, work)
