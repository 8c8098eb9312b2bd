"""A process that trains one member of a cross-validation and prints its events, a line of JSON each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from medsharp.errors import InputError
from training.crossvalidation.members import train_member
from training.crossvalidation.request import Request
from training.run_folder import Interrupted


def main(root: str, name: str, device: str) -> int:
    """Train the member of a name; return the exit code."""

    def tell(event: dict[str, Any]) -> None:
        # Whoever reads this has gone where writing fails; then this process ends too.
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


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
