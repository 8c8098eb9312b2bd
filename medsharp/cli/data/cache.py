"""`medsharp data cache`: how large the cache of decoded images is, and its removal."""

from __future__ import annotations

from typing import Annotated

import typer

from medsharp.cli._console import note


def cache(clear: Annotated[bool, typer.Option("--clear", help="Remove it all.")] = False) -> None:
    """Show where decoded images are kept, and how many; they are pixels of patients.

    Nobody but you may read them. What was used longest ago goes when they reach 20 GiB; `data.cache=memory` keeps none.
    """
    from medsharp.data.cache import LIMIT_BYTES, cache_size, clear_cache, extracted_size, image_cache

    files, size = cache_size()
    note(f"{image_cache()}: {files} files, {size / 2**20:,.1f} MiB of at most {LIMIT_BYTES / 2**30:.0f} GiB")
    files, size = extracted_size()
    if files:
        note(f"{image_cache().parent}: {files} files of archives and simulated hospitals, {size / 2**20:,.1f} MiB")
    if clear:
        clear_cache()
        note("removed")
