"""A server of its own process, for as long as it is measured."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from medsharp.errors import InputError
from medsharp.inference.benchmark import resident_bytes

_PROGRAM = "from medsharp.cli import main; main()"
_STOP_SECONDS = 90


@dataclass(frozen=True)
class RunningServer:
    """A server that listens on loopback.

    Attributes:
        host: Its address.
        port: Its port.
        process: Its number.
    """

    host: str
    port: int
    process: int

    def memory(self) -> int:
        """Return its resident bytes.

        Raises:
            InputError: The system does not tell.
        """
        return resident_bytes(self.process)


@contextmanager
def running_server(bundle: Path, options: Sequence[str] = ()) -> Iterator[RunningServer]:
    """Run `medsharp serve` on a free port of loopback, and stop it in the end.

    Args:
        bundle: Its folder.
        options: Further ones of the command.

    Raises:
        InputError: It does not start; the sentence is its own.
    """
    command = [sys.executable, "-c", _PROGRAM, "serve", str(bundle), "--port", "0", "--no-browser", *options]
    # What it says goes to a file: nobody reads a pipe meanwhile, and it would stop when that is full.
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            address = urlsplit(next((line.strip() for line in process.stdout if line.startswith("http")), ""))
            if address.hostname is None or address.port is None:
                process.wait()
                said.seek(0)
                raise InputError(f"the server did not start: {' '.join(said.read().split())[-500:]}")
            yield RunningServer(address.hostname, address.port, process.pid)
        finally:
            process.terminate()
            try:
                process.communicate(timeout=_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
