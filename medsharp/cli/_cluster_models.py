"""Bundles on a cluster, where that was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsharp.cli._console import note
from medsharp.errors import InputError

if TYPE_CHECKING:
    from medsharp.cluster import ClusterModel


@contextmanager
def models_on(
    address: str | None, bundles: Sequence[Path], device: str, gpus_each: float | None, loaded: dict[str, Any]
) -> Iterator[list[ClusterModel]]:
    """Give bundles that the actors of a cluster load, which is left afterwards; none without an address.

    Args:
        address: As for `--ray`.
        bundles: Their folders.
        device: As for `--device`.
        gpus_each: As for `--gpus-each`.
        loaded: What else `Predictor.load` is given.

    Raises:
        InputError: Nothing answers there, or the cluster lacks what the device needs; or GPUs are asked for without an
            address.
    """
    if address is None:
        if gpus_each is not None:
            raise InputError("--gpus-each is of a cluster; give --ray too")
        yield []
        return
    from medsharp.cluster import ClusterModel, joined

    with joined(address) as cluster:
        models = [ClusterModel(one, cluster, device=device, gpus_each=gpus_each, **loaded) for one in bundles]
        for text in dict.fromkeys(model.runs_on for model in models):
            note(text)
        yield models
