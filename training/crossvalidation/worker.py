"""A process that trains one member of a cross-validation and prints its events, a line of JSON each."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from medsharp.errors import InputError
from training.crossvalidation.members import train_member
from training.crossvalidation.request import Request
from training.run_folder import Interrupted


def main(root: str, name: str, device: str) -> int:
    """Train the member of a name; return the exit code."""

    def tell(event: dict[str, Any]) -> None:
        print(json.dumps(event), flush=True)

    folder = Path(root)
    try:
        request = Request.read(folder)
        manifest = request.manifest(folder)
        member = next(member for member in request.members(manifest) if member.name == name)
        train_member(folder / name, member, manifest, device, tell)
    except InputError as error:
        tell({"kind": "refused", "sentence": str(error)})
        return 2
    except Interrupted as interrupt:
        tell({"kind": "refused", "sentence": str(interrupt)})
        return 130
    return 0


def _end_with_parent() -> None:
    """End where the process that started this one has ended, however: its end of standard input is closed then.

    Nothing is lost by it: a run goes on from its last whole epoch, and must not hold its folder against a new start.
    """
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(*sys.argv[1:]))
