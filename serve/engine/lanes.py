"""The threads in which images are decoded and drawn: small images never wait behind large ones."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from medsharp.cores import usable_cores

LARGE_PIXELS = 2**21
"""From so many pixels on an image is large, and decoded in a lane of its own; scans of devices have fewer."""

_MOST_LARGE = 4
"""Large images decoded at once, at most: 40 megapixels in colour take some 0.5 GB each."""


class Lanes:
    """Three pools of threads, shared by all models of a server.

    Attributes:
        small: Decodes small images, and finds out which are large.
        large: Decodes large ones.
        drawing: Draws heat maps and encodes pictures, at the size at which they are shown.
        window: So many images of one request at most are decoded or wait for it at once, so that requests take turns.
    """

    def __init__(self) -> None:
        cores = usable_cores()
        self.small = ThreadPoolExecutor(max(2, cores), thread_name_prefix="medsharp-decode")
        self.large = ThreadPoolExecutor(max(1, min(_MOST_LARGE, cores // 2)), thread_name_prefix="medsharp-large")
        self.drawing = ThreadPoolExecutor(max(1, cores // 2), thread_name_prefix="medsharp-draw")
        self.window = max(2, cores) + 1
