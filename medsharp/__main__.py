"""The command line as `python -m medsharp`, and as `torchrun -m medsharp` starts it."""

from __future__ import annotations

from medsharp.cli import main

if __name__ == "__main__":
    main()
