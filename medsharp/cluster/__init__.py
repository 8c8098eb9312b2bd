"""All that knows Ray: work that is many independent pieces, on one machine or many; nothing but commands imports it."""

from medsharp.cluster.model import ClusterModel
from medsharp.cluster.pieces import PieceTasks
from medsharp.cluster.session import LOCAL, Cluster, joined
from medsharp.cluster.work import ModelWork

__all__ = ["LOCAL", "Cluster", "ClusterModel", "ModelWork", "PieceTasks", "joined"]
