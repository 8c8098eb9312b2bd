"""The models that a server has loaded, by name."""

from serve.models.models import Models, Served

__all__ = ["Models", "Served"]
