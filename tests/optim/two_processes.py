"""Two processes of one group on this machine, and the weights that each of them has trained."""

from __future__ import annotations

import gc
import socket
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

Weights = dict[str, dict[str, Tensor]]
"""Those of a model, by the name of what trained it."""


def weights_of_two(worker: Callable[[int], Weights], folder: Path) -> list[Weights]:
    """Run a function of a module in two processes, each with its rank, and return what either returned."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_run, (worker, port, folder), nprocs=2)
    return [torch.load(folder / str(rank), weights_only=True) for rank in range(2)]


def _run(rank: int, worker: Callable[[int], Weights], port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    torch.save(worker(rank), folder / str(rank))
    # Leave together, when nothing holds the group any more: its threads abort a process that exits first.
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()
