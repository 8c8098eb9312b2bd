"""`medsharp bench serve`: what its figures are of; how large they are is the machine's matter."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from medsharp.cli import app
from serve.benchmark import Figure
from serve.benchmark.clients import Exchange, percentile
from serve.benchmark.measures import steady_throughput, throughput
from serve.benchmark.probe import summary


def run(*arguments: str) -> tuple[int, str]:
    told = CliRunner().invoke(app, ["bench", "serve", *arguments])
    return told.exit_code, told.output


@pytest.mark.slow
def test_every_part_is_measured_and_written(bundle: Path, save_picture: Any, tmp_path: Path) -> None:
    for number in range(3):
        save_picture(tmp_path / "images" / f"{number}.png")
    out = tmp_path / "figures.json"
    shortly = ["--seconds", "1", "--clients", "3", "--count", "6", "--repeats", "1", "--large", "1"]
    code, told = run(str(bundle), "--images", str(tmp_path / "images"), *shortly, "--json", str(out))
    assert code == 0, told
    figures = {one["what"]: one for one in json.loads(out.read_text())["figures"]}
    assert figures["requests, 3 clients, 1 s"]["value"] > 0
    assert (figures["requests that failed"]["value"], figures["failed otherwise"]["value"]) == (0, 0)
    for beside in ("under load", "under overload", "beside large images"):
        for path in ("/healthz", "/readyz"):
            slowest = figures[f"slowest {path} {beside}"]
            assert 0 < slowest["value"] < 60_000
            assert (slowest["unit"], slowest["at_most"]) == ("ms", True)
            assert re.fullmatch(r"99 % of [1-9]\d* within \d+ ms", slowest["beside"])
        assert figures[f"/healthz or /readyz not 200 {beside}"]["value"] == 0
    beside_overload = figures["answers under 4 times the load"]["beside"]
    assert re.search(r"images/s; clients took [\d.]+ of \d+ s of the cores", beside_overload)
    assert figures["large ones answered"]["value"] == figures["large ones answered"]["limit"] == 1
    assert figures["throughput"]["value"] > 0
    assert not figures["throughput"]["at_most"]
    assert figures["throughput"]["beside"].startswith("predictor at batch")
    assert figures["latency of one client, median"]["at_most"]
    assert figures["latency, p50"]["value"] <= figures["latency, p99"]["value"]
    assert "throughput" in told


@pytest.mark.slow
def test_settings_of_the_batcher_reach_servers_of_their_own(bundle: Path, save_picture: Any, tmp_path: Path) -> None:
    save_picture(tmp_path / "images" / "a.png")
    out = tmp_path / "figures.json"
    options = ["--images", str(tmp_path / "images"), "--part", "batching", "--seconds", "1", "--clients", "2"]
    code, told = run(str(bundle), *options, "--sizes", "3", "--waits", "5", "--json", str(out))
    assert code == 0, told
    (row,) = json.loads(out.read_text())["batching"]
    assert (row["max_batch"], row["max_wait_ms"]) == (3, 5)
    assert row["images_per_second"] > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--part", "speed"], "--part speed: choose from throughput"),
        (["--sizes", "1,x"], "--sizes 1,x: give numbers from 1 to 512"),
        (["--waits", "-1"], "--waits -1: give numbers from 0 to 1000"),
    ],
)
def test_wrong_option_is_one_sentence(arguments: list[str], sentence: str) -> None:
    code, told = run(*arguments)
    assert code == 2
    assert sentence in " ".join(told.split())


def test_figures_are_judged_from_their_side() -> None:
    assert Figure("a", 1.0, "s", 1.0).is_met
    assert not Figure("a", 1.1, "s", 1.0).is_met
    assert Figure("a", 1.0, "s", 1.0, False).is_met
    assert not Figure("a", 0.9, "s", 1.0, False).is_met
    assert Figure("a", 5.0, "s").is_met


def test_probe_tells_the_slowest_answer_99_percent_and_failures() -> None:
    answers = [(second / 1000, second != 7) for second in range(200, 0, -1)]
    assert summary(answers) == {"slowest": 0.2, "p99": 0.199, "asked": 200, "failed": 1}
    assert summary([(0.5, True)]) == {"slowest": 0.5, "p99": 0.5, "asked": 1, "failed": 0}


def test_rate_is_of_good_answers_within_the_time_in_which_requests_were_sent() -> None:
    # Sent every second; answered in half a one; the last is sent at 10, so the window of 4 s is from 6 to 10.
    good = [Exchange(200, 0.5, second + 0.5) for second in range(11)]
    refused = [Exchange(429, 0.1, second + 0.1) for second in range(10)]
    assert steady_throughput([*good, *refused], 4.0) == 1.0
    assert throughput([*good, *refused]) == pytest.approx(11 / 10.5)
    assert percentile(good, 0.5) == 0.5
