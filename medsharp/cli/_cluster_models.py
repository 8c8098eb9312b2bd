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


def assert_on_cluster(address: str | None, **asked: object) -> None:
    """Refuse options that are of a cluster where none was asked for, rather than ignore them.

    Args:
        address: As for `--ray`.
        asked: The options by name, such as `gpus_each`; None where they were not given.

    Raises:
        InputError: One was given without an address.
    """
    for name, value in asked.items():
        if value is not None and address is None:
            raise InputError(f"--{name.replace('_', '-')} is of a cluster; give --ray too")


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
    assert_on_cluster(address, gpus_each=gpus_each)
    if address is None:
        yield []
        return
    from medsharp.cluster import ClusterModel, joined

    with joined(address) as cluster:
        models = [ClusterModel(one, cluster, device=device, gpus_each=gpus_each, **loaded) for one in bundles]
        for text in dict.fromkeys(model.runs_on for model in models):
            note(text)
        yield models
