"""Training the members of a cross-validation: one after another, a process for each device, or elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medsharp import runs
from medsharp.data.manifest import Manifest
from medsharp.data.prepare import split_as
from training.crossvalidation.plan import Member
from training.events import Events
from training.loop import train
from training.run_folder import clear_unbegun
from training.side_by_side import Failure, HandOut, Pieces, work_elsewhere, work_here, work_on_devices

_WORKER = "training.crossvalidation.worker"


def is_finished(folder: Path) -> bool:
    """Whether a member's run came to its end."""
    return (folder / runs.PREDICTIONS).is_file()


def train_member(folder: Path, member: Member, manifest: Manifest, device: str | None, events: Events) -> None:
    """Train a member, from where it stopped if it was begun.

    Raises:
        InputError: As `training.train`.
    """
    clear_unbegun(folder)
    begun = (folder / runs.CONFIG).is_file()
    train(
        member.config,
        split_as(member.config.data, manifest),
        out=folder,
        resume=begun,
        events=events,
        device=device,
    )


def train_here(
    root: Path, members: Sequence[Member], manifest: Manifest, device: str | None, events: Events
) -> list[Failure]:
    """Train members one after another; one that fails does not keep the others from being trained."""
    by_name = {member.name: member for member in members}
    return work_here(
        _pieces(root, members),
        lambda name, tell: train_member(root / name, by_name[name], manifest, device, tell),
        events,
    )


def train_on_devices(root: Path, members: Sequence[Member], devices: Sequence[str], events: Events) -> list[Failure]:
    """Train members in a process each, one at a time on each device.

    Args:
        root: The cross-validation's folder, whose plan and manifest the processes read.
        members: To be trained.
        devices: Such as `cuda:0`, `cuda:1`.
        events: Called from several threads, one call at a time.
    """
    return work_on_devices(_pieces(root, members), devices, events)


def train_elsewhere(root: Path, members: Sequence[Member], hand_out: HandOut, events: Events) -> list[Failure]:
    """Have members trained by others, as `training.side_by_side.work_elsewhere`."""
    return work_elsewhere(_pieces(root, members), hand_out, events)


def _pieces(root: Path, members: Sequence[Member]) -> Pieces:
    return Pieces(root, [member.name for member in members], "member", _WORKER)
