"""A process group of one process, for models that are wrapped."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch.distributed as dist


@pytest.fixture
def process_group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    # Nothing may hold it when it goes: its threads would abort the process at the end.
    gc.collect()
    dist.destroy_process_group()
