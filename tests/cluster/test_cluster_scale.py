"""Sums and simulations of scale: against what queueing theory and arithmetic say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from medsharp.bundle import default_bundle
from medsharp.cli import app
from medsharp.cluster.scale.autoscaling import Autoscaler, simulate_step
from medsharp.cluster.scale.bulk import bulk, simulate_bulk
from medsharp.cluster.scale.cells import simulate_cells
from medsharp.cluster.scale.rates import Assumed, Measured, Rates, measure
from medsharp.cluster.scale.serving import Replica, Traffic, simulate_serving
from medsharp.data.phantom import simulate_image
from medsharp.inference import Predictor

RATES = Rates(
    measured=Measured(
        image_bytes=2e5,
        decode_seconds=0.01,
        network_seconds=0.03,
        call_seconds=0.002,
        start_seconds=5,
        row_bytes=50,
        statistics_seconds=1e-5,
        cell_seconds=100,
        cell_spread=0.5,
        cell_images=30,
        cell_bytes=3e6,
    ),
    assumed=Assumed(
        node_cores=4,
        node_bytes_per_second=1e8,
        store_bytes_per_second=1e9,
        store_requests_per_second=4000,
        gpu_images_per_second=500,
        answer_bytes=700,
        gpu_cells=8,
        core_hour=0.1,
        gpu_hour=2.0,
        failures=0.2,
    ),
)


def with_(**values: float) -> Rates:
    """The same with other assumptions."""
    return RATES.model_copy(update={"assumed": RATES.assumed.model_copy(update=values)})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["bench", "scale", *map(str, arguments)], env={"COLUMNS": "200"})


def test_a_batch_evaluation_sums_up() -> None:
    one = bulk(1_000_000, 3, RATES)
    assert one.parts == pytest.approx(
        {
            "store requests": 1e6 / 4000,
            "store bandwidth": 2e11 / 1e9,
            "machines' network": 2e11 / 3e8,
            "cores": 1e6 * 0.04 / 12,
            "figures": 10,
        }
    )
    assert one.bottleneck == "cores"
    assert one.seconds == pytest.approx(5 + 1e6 * 0.04 / 12 + 10)
    assert (one.gigabytes_in, one.gigabytes_out) == pytest.approx((200, 0.05))
    assert one.core_hours == pytest.approx(40_000 / 3600)
    assert one.cost == pytest.approx(40_000 / 3600 * 0.1)
    assert one.gpu_hours == pytest.approx(2000 / 3600)
    assert one.cost_gpus == pytest.approx(2000 / 3600 * 2 + 10_000 / 3600 * 0.1)


@pytest.mark.parametrize(
    ("assumed", "machines", "images", "bottleneck"),
    [
        ({}, 1, 200_000, "cores"),
        ({"node_bytes_per_second": 1e6}, 2, 100_000, "machines' network"),
        ({"store_bytes_per_second": 2e6}, 2, 100_000, "store bandwidth"),
        ({"store_requests_per_second": 20}, 2, 100_000, "store requests"),
    ],
)
def test_the_simulation_agrees_whatever_the_bottleneck(
    assumed: dict[str, float], machines: int, images: int, bottleneck: str
) -> None:
    rates = with_(**assumed)
    summed = bulk(images, machines, rates)
    assert summed.bottleneck == bottleneck
    expected = summed.seconds - summed.parts["figures"]
    assert simulate_bulk(images, machines, rates) == pytest.approx(expected, rel=0.05)


def test_the_bottleneck_moves_and_packing_takes_requests_away() -> None:
    assert bulk(10, 1, RATES).bottleneck == "start"
    assert bulk(10**9, 1000, RATES).bottleneck == "store requests"
    packed = bulk(10**9, 1000, with_(images_per_object=100, store_prefixes=2))
    assert packed.parts["store requests"] == pytest.approx(1e9 / 100 / 8000)
    assert packed.bottleneck == "store bandwidth"


@pytest.mark.parametrize("load", [0.3, 0.7])
def test_one_image_a_batch_waits_as_in_an_m_d_1_queue(load: float) -> None:
    replica = Replica(1, 0.0, 0.0, 0.02, max_batch=1, waiting=10**6, deadline=1e6)
    assert replica.capacity == pytest.approx(50)
    found = simulate_serving(replica, 1, 50 * load, seconds=2000, balancer="random", seed=1)
    # Pollaczek and Khinchine, with service that always takes as long.
    assert found.mean == pytest.approx(0.02 + load * 0.02 / (2 * (1 - load)), rel=0.05)
    assert (found.refused, found.late, found.batch) == (0, 0, 1)
    assert found.answered == pytest.approx(50 * load, rel=0.03)


def test_batches_grow_with_the_load_and_carry_more_than_single_images() -> None:
    replica = Replica(4, 0.005, 0.03, 0.01, max_batch=8)
    assert replica.capacity == pytest.approx(8 / 0.11)
    calm, full = (simulate_serving(replica, 1, load, seconds=60) for load in (5, 60))
    assert calm.batch < 1.3
    assert full.batch > 2  # one at a time 25 a second would be answered
    assert full.answered == pytest.approx(60, rel=0.1)
    assert full.p99 > calm.p99 > calm.p50 >= 0.045


def test_more_than_it_carries_is_refused_or_late_and_the_rest_answered() -> None:
    replica = Replica(2, 0.001, 0.0, 0.02, waiting=30, deadline=10)
    found = simulate_serving(replica, 2, 4 * 2 * replica.capacity, seconds=30)
    assert found.answered == pytest.approx(2 * replica.capacity, rel=0.05)
    assert found.refused == pytest.approx(0.75, abs=0.03)
    assert found.late == 0
    assert found.p99 <= 31 * 0.02 + 0.1


def test_a_queue_longer_than_the_deadline_answers_nobody_in_time() -> None:
    """What is served has waited as long as it may: the queue must hold less than the capacity times the deadline."""
    long, short = (
        simulate_serving(Replica(2, 0.001, 0.0, 0.02, waiting=waiting, deadline=1), 2, 400, seconds=30)
        for waiting in (300, 40)
    )
    assert long.answered < 5
    assert long.late > 0.9
    assert short.answered == pytest.approx(100, rel=0.05)
    assert short.late == 0


def test_the_less_busy_of_two_has_shorter_tails_than_chance() -> None:
    replica = Replica.of(RATES, 2)
    assert replica.capacity == pytest.approx(4 / (0.001 + 4 * 0.02))
    chance, two = (
        simulate_serving(replica, 10, 8 * replica.capacity, seconds=60, balancer=balancer)
        for balancer in ("random", "two")
    )
    assert two.p99 < 0.7 * chance.p99


@pytest.mark.parametrize("workers", [1, 7, 50])
def test_a_study_takes_no_less_than_its_work_and_little_more(workers: int) -> None:
    rates = with_(failures=0.0)
    one = simulate_cells(200, workers, rates, seed=2)
    longest = 100 * np.exp(0.5 * 4)
    assert one.bound <= one.seconds <= one.bound + longest + 5 * (200 / workers + 1)
    assert one.bound == pytest.approx(max(200 * 100 / workers, 1), rel=0.2) or workers == 50
    assert one.failed == 0
    assert 0 < one.busy <= 1
    # Paid are workers from begin to end, the busy share of which is work; GPUs are paid for work alone.
    assert one.core_hours == pytest.approx(workers * one.seconds / 3600)
    assert one.cost == pytest.approx(one.core_hours * 0.1)
    assert one.gpu_hours == pytest.approx(one.busy * one.core_hours / 8)
    assert one.cost_gpus == pytest.approx(one.gpu_hours * 2)
    assert (one.gigabytes_in, one.gigabytes_out) == pytest.approx((200 * 30 * 2e5 / 1e9, 200 * 3e6 / 1e9))


def test_requests_move_bytes_and_need_gpus_at_the_same_share_of_their_capacity() -> None:
    one = Traffic.of(RATES, load=1000, replicas=40, cores=3, busy=0.5)
    assert (one.megabytes_in, one.megabytes_out) == pytest.approx((200, 0.7))
    assert one.price == pytest.approx(40 * 3 * 0.1)
    assert one.gpus == 4
    assert one.price_gpus == pytest.approx(4 * 2.0 + 1000 * 0.01 / 0.5 * 0.1)


def test_the_sums_need_no_ray() -> None:
    program = "import sys\nfrom medsharp.cluster.scale import bulk, cells, serving\nassert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_failed_cells_cost_less_where_they_are_resumed() -> None:
    resumed, anew = (simulate_cells(300, 4, RATES, resumed=flag, seed=3) for flag in (True, False))
    assert resumed.failed == anew.failed == pytest.approx(60, abs=20)
    lost = (anew.seconds - resumed.seconds) * 4
    assert lost == pytest.approx(anew.failed * 50, rel=0.4)  # half a cell each, on the mean


def test_an_autoscaler_follows_a_step_and_more_replicas_lose_less() -> None:
    replica = Replica.of(RATES, 2, waiting=20)
    before = 2 * replica.capacity
    few, many = (simulate_step(replica, Autoscaler(least=least), before, 4 * before, seed=1) for least in (2, 12))
    assert few.lost > many.lost
    assert few.most > 4
    assert few.recovered < 200
    stuck = simulate_step(replica, Autoscaler(most=2), before, 4 * before, seed=1)
    assert stuck.most == 3  # what the load before needs; no more are added
    assert stuck.recovered > 200


def test_rates_are_measured_on_files(tmp_path: Path) -> None:
    paths = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.fromarray(simulate_image("A", "benign", np.random.default_rng(number)).pixels).save(path)
        paths.append(path)
    predictor = Predictor.load(default_bundle().parent / "busi-resnet18", device="cpu", threads=1)
    found = measure(predictor, paths, Measured(start_seconds=7), repeats=2)
    assert found.image_bytes == pytest.approx(np.mean([path.stat().st_size for path in paths]))
    assert 0 < found.decode_seconds < 5
    assert 0 < found.network_seconds < 5
    assert found.start_seconds == 7


def test_the_command_takes_rates_from_a_file(tmp_path: Path) -> None:
    said = {"measured": {"network_seconds": 0.5}, "assumed": {"core_hour": 1.0, "failures": 0.0}}
    (tmp_path / "rates.yaml").write_text(yaml.safe_dump(said))
    result = run(
        "--rates",
        tmp_path / "rates.yaml",
        "--cells",
        20,
        "--simulated",
        1000,
        "--json",
        tmp_path / "scale.json",
        "--markdown",
    )
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "scale.json").read_text())
    assert found["rates"]["measured"]["network_seconds"] == 0.5
    thousand = found["bulk"][0]
    assert thousand["cost"] == pytest.approx(1000 * (0.5 + found["rates"]["measured"]["decode_seconds"]) / 3600)
    assert {one["cells"] for one in found["cells"]} == {20}
    assert [one["asked"] for one in found["serving"][1::2]] == pytest.approx([10, 100, 1000, 10_000], rel=0.3)
    assert "| 1,000,000,000 | 1,000 |" in result.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("measured: {netwrok_seconds: 1}", "unknown key 'measured.netwrok_seconds'; did you mean network_seconds"),
        ("assumed: {node_cores: 0}", "assumed.node_cores"),
        ("- 1", "must hold sections"),
    ],
)
def test_wrong_rates_are_one_sentence(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "rates.yaml").write_text(text)
    result = run("--rates", tmp_path / "rates.yaml")
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())


def test_images_without_a_bundle_are_refused(tmp_path: Path) -> None:
    result = run("--images", tmp_path)
    assert result.exit_code == 2
    assert "give one" in result.output
