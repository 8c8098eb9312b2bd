"""Runs of a study or a cross-validation on a cluster, where that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from medsharp.cli._cluster_models import assert_on_cluster
from medsharp.cli._console import note
from medsharp.errors import InputError

if TYPE_CHECKING:
    from training.side_by_side import HandOut


@contextmanager
def pieces_on(
    address: str | None, gpus_each: float | None, cpus_each: int | None, devices: str
) -> Iterator[HandOut | None]:
    """Give what has runs trained by a cluster, which is left afterwards; None without an address.

    Args:
        address: As for `--ray`.
        gpus_each: As for `--gpus-each`.
        cpus_each: As for `--cpus-each`; one by default.
        devices: As for `--devices`.

    Raises:
        InputError: Nothing answers there, no run would find so many GPUs, or devices were given too; or GPUs or cores
            were asked for without an address.
    """
    assert_on_cluster(address, gpus_each=gpus_each, cpus_each=cpus_each)
    if address is None:
        yield None
        return
    if devices:
        raise InputError("--devices are of this machine; with --ray give --gpus-each, which a cluster deals out")
    from medsharp.cluster import PieceTasks, joined

    with joined(address) as cluster:
        note(f"runs on {cluster.text}")
        yield PieceTasks(cluster, gpus_each=gpus_each, cpus_each=cpus_each or 1)
