"""What the routes of an application need."""

from __future__ import annotations

from dataclasses import dataclass

from serve.engine import Shared
from serve.engine.capacity import Memory
from serve.models import Models
from serve.security.audit import AuditLog
from serve.uploads import Limits


@dataclass(frozen=True)
class Context:
    """What the routes of an application need.

    Attributes:
        models: By name.
        limits: How much one request may bring.
        memory: Counts the bytes of requests.
        shared: What the models' engines share, the metrics among it.
        audit: Told of each image that is answered, before the answer leaves; None where nothing is logged.
        has_login: Whether whoever asks must say who they are.
    """

    models: Models
    limits: Limits
    memory: Memory
    shared: Shared
    audit: AuditLog | None = None
    has_login: bool = False
