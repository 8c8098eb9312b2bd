"""What a run ran on: versions, commit, device; no host and no user name."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import medsharp

_PACKAGES = ("torch", "timm", "monai", "numpy", "pandas", "scikit-learn", "pillow")


def describe_environment(seed: int, device: torch.device, precision: str, processes: int = 1) -> dict[str, Any]:
    """Return versions of Python and packages, git commit, seed, device, its precision, processes and threads."""
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "medsharp": medsharp.__version__,
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "git_commit": git_commit(),
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "precision": precision,
        "processes": processes,
        "threads": torch.get_num_threads(),
    }


def git_commit() -> str | None:
    """The commit of the source checkout, with `+` when files were changed; None for an installed wheel."""
    folder = Path(__file__).resolve().parents[1]
    if not (folder / ".git").exists():
        return None
    try:
        commands = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
        commit, changes = (
            subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
            for command in commands
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no git on this machine
    return commit + ("+" if changes else "")
