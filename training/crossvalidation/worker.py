"""A process that trains one member of a cross-validation and prints its events, a line of JSON each."""

from __future__ import annotations

import sys
from pathlib import Path

from training.crossvalidation.members import train_member
from training.crossvalidation.request import Request
from training.events import Events
from training.side_by_side import do_piece, end_with_parent


def main(root: str, name: str, device: str) -> int:
    """Train the member of a name; return the exit code."""
    return do_piece(_train, root, name, device)


def _train(root: Path, name: str, device: str, events: Events) -> None:
    request = Request.read(root)
    manifest = request.manifest(root)
    member = next(member for member in request.members(manifest) if member.name == name)
    train_member(root / name, member, manifest, device, events)


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(*sys.argv[1:]))
