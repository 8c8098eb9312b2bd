"""Asks `/healthz` and `/readyz` of a server again and again, as an orchestrator does, until its own input ends.

It is a program of its own, called by its path with a host and a port, and imports nothing of medsharp: in the process
of a benchmark's clients it would wait for its turn among them, and that would be measured. At the end it prints, for
each path, the seconds of the slowest answer and of 99 % of them, how many there were, and how many were not 200.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time

PATHS = ("/healthz", "/readyz")
EVERY = 0.05
"""Seconds between two rounds."""

_PATIENCE = 60.0


def ask(host: str, port: int, path: str) -> tuple[float, bool]:
    """Ask over a new connection; return the seconds until the whole answer, and whether it was 200."""
    start = time.perf_counter()
    connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        is_good = answer.status == 200
    except (OSError, http.client.HTTPException):
        is_good = False
    finally:
        connection.close()
    return time.perf_counter() - start, is_good


def summary(answers: list[tuple[float, bool]]) -> dict[str, float]:
    """Summarise the answers to one path."""
    seconds = sorted(one for one, _ in answers)
    return {
        "slowest": seconds[-1],
        "p99": seconds[min(len(seconds) - 1, int(0.99 * len(seconds)))],
        "asked": len(seconds),
        "failed": sum(not is_good for _, is_good in answers),
    }


def main() -> None:
    """Ask until the input ends, and print what was found as JSON."""
    host, port = sys.argv[1], int(sys.argv[2])
    over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    found: dict[str, list[tuple[float, bool]]] = {path: [] for path in PATHS}
    while True:
        for path, answers in found.items():
            answers.append(ask(host, port, path))
        if over.wait(EVERY):
            break
    print(json.dumps({path: summary(answers) for path, answers in found.items()}))


if __name__ == "__main__":
    main()
