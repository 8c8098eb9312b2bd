"""A process that trains one chain of a study and prints its events, a line of JSON each."""

from __future__ import annotations

import sys
from pathlib import Path

from medsharp.errors import InputError
from training.events import Events
from training.side_by_side import Failure, do_piece, end_with_parent
from training.study.chains import train_chain
from training.study.code import code_digest
from training.study.folder import StudyFolder
from training.study.plan import plan_chains


def main(root: str, name: str, device: str) -> int:
    """Train the chain of a name; return the exit code."""
    return do_piece(_train, root, name, device)


def raise_failures(failures: list[Failure]) -> None:
    """Tell in one sentence which cells of a chain failed.

    Raises:
        InputError: One did.
    """
    if failures:
        raise InputError("; ".join(f"{failure.name}: {failure.sentence}" for failure in failures))


def _train(root: Path, name: str, device: str, events: Events) -> None:
    folder = StudyFolder.open(root)
    if folder.codes[-1] != code_digest():
        raise InputError(
            f"{name} would be trained with other code than the study ({code_digest()} here, {folder.codes[-1]} there); "
            "was it changed while the study runs? Start the command again"
        )
    chain = next(chain for chain in plan_chains(folder.study) if chain.name == name)
    raise_failures(train_chain(folder, chain, device or None, events))


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(*sys.argv[1:]))
