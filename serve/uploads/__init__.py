"""What becomes of an upload: how much of it is taken, how it is read, and that it is kept in memory only."""

from serve.uploads.uploads import Limits, private_cache

__all__ = ["Limits", "private_cache"]
