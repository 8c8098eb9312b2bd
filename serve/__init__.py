"""The web page and the HTTP API over an inference bundle. Research software: not for diagnostic use."""

from serve.app import create_app
from serve.server import run
from serve.uploads.uploads import Limits

__all__ = ["Limits", "create_app", "run"]
