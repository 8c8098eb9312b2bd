"""All that knows Ray: work that is many independent pieces, on one machine or many; nothing but commands imports it.

Ray is imported with the first of these names, so that `medsharp.cluster.scale`, which only computes, needs none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsharp.cluster.model import ClusterModel
    from medsharp.cluster.pieces import PieceTasks
    from medsharp.cluster.session import LOCAL, Cluster, joined
    from medsharp.cluster.work import ModelWork

__all__ = ["LOCAL", "Cluster", "ClusterModel", "ModelWork", "PieceTasks", "joined"]

_MODULES = {
    "ClusterModel": "model",
    "PieceTasks": "pieces",
    "LOCAL": "session",
    "Cluster": "session",
    "joined": "session",
    "ModelWork": "work",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
