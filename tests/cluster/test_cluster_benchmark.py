"""`medsharp bench cluster`: what is measured is what was asked for, and what follows from it is arithmetic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import run

from medsharp.cluster import benchmark
from medsharp.cluster.benchmark import Line, Training, measure_prediction, measure_training
from medsharp.errors import InputError


def test_line_goes_through_the_smallest_and_the_largest_size() -> None:
    assert Line.through([20, 5, 10], [25.0, 10.0, 99.0]) == Line(start=5.0, each=1.0)


@pytest.mark.parametrize(
    ("machines", "expected"),
    [
        (1, None),  # 3 s an image against 2
        (2, 40),  # 30 + 1.5 n = 10 + 2 n
        (6, 13),  # 30 + 0.5 n = 10 + 2 n
    ],
)
def test_more_machines_pay_from_where_the_lines_cross(machines: int, expected: int | None) -> None:
    assert Line(start=30.0, each=3.0).pays_from(Line(start=10.0, each=2.0), machines) == expected


def test_what_starts_sooner_and_is_faster_pays_from_the_first_image() -> None:
    assert Line(start=5.0, each=1.0).pays_from(Line(start=10.0, each=2.0), 1) == 1


def test_both_ways_predict_as_many_images_as_asked_and_write_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for file in files:
        file.write_bytes(file.name.encode())
    commands: list[tuple[str, ...]] = []

    def counted(*words: str | Path, **variables: str) -> float:
        told = tuple(map(str, words))
        commands.append(told)
        rows = Path(told[4]).read_text(encoding="utf-8").splitlines()
        assert rows[0] == "image,label"
        images = [Path(told[4]).parent / row.partition(",")[0] for row in rows[1:]]
        assert len(set(images)) == 7
        assert [image.read_bytes() for image in images] == [b"a.png", b"b.png", b"c.png"] * 2 + [b"a.png"]
        Path(told[6]).write_text("ray" if "--ray" in told else "one", encoding="utf-8")
        return 9.0 if "--ray" in told else 2.0

    monkeypatch.setattr(benchmark, "_seconds", counted)
    found = measure_prediction(Path("bundle"), files, 7, tmp_path / "aside")
    assert [words[-2:] for words in commands] == [("--device", "cpu"), ("--ray", "local")]
    assert (found.images, found.local, found.ray, found.equal) == (7, 2.0, 9.0, False)


def test_two_processes_are_those_of_torchrun_and_epochs_after_the_first_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def trained(*words: str | Path, **variables: str) -> float:
        told.extend([*map(str, words), *(f"{key}={value}" for key, value in variables.items())])
        run_folder = Path(told[told.index("--out") + 1])
        run_folder.mkdir()
        seconds = [{"seconds": 1.0}, {"seconds": 7.0}, {"seconds": 6.0}]
        (run_folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in seconds))
        return 30.0

    monkeypatch.setattr(benchmark, "_seconds", trained)
    (tmp_path / "two").mkdir()
    options = {"network": "resnet10_w16", "optimizer": "asam"}
    found = measure_training(2, 3, tmp_path / "two", patients=20, image_size=64, **options)
    assert found == Training("resnet10_w16", 64, processes=2, threads=3, seconds=6.0, whole=30.0)
    assert "--nproc-per-node=2" in told
    assert told[-1] == "OMP_NUM_THREADS=3"
    for word in ("asam", "network.name=resnet10_w16", "data.image_size=64", "schedule.epochs=3"):
        assert word in told


def test_command_says_from_which_size_on_two_processes_pay(
    speckle_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = {("small", 1, 1): 4.0, ("small", 1, 2): 2.5, ("small", 2, 1): 5.0}
    seconds |= {("large", 1, 1): 40.0, ("large", 1, 2): 30.0, ("large", 2, 1): 24.0}
    asked: list[tuple[str, int]] = []

    def measured(processes: int, threads: int, aside: Path, *, network: str, image_size: int, **_: object) -> Training:
        asked.append((network, image_size))
        assert aside.is_dir()
        return Training(network, image_size, processes, threads, seconds[network, processes, threads], 60.0)

    monkeypatch.setattr(benchmark, "measure_training", measured)
    monkeypatch.setattr(benchmark, "_seconds", _instead({2: (3.0, 13.0), 6: (5.0, 16.0)}))
    options = ("--sizes", "6,2", "--networks", "small:48, large:160", "--json", tmp_path / "found.json", "--markdown")
    result = run("bench", "cluster", speckle_bundle, *options)
    assert result.exit_code == 0, result.output
    assert asked == [("small", 48)] * 3 + [("large", 160)] * 3
    said = " ".join(result.output.split())
    assert "| small, 48 px | 2 | 1 | 5.00 | 0.80 | 60.0 |" in said
    assert "| large, 160 px | 1 | 2 | 30.00 | 1.33 | 60.0 |" in said
    assert (
        "small at 48 pixels, 2.50 s an epoch by the threads of one process: two processes take 2.00 times that, "
        in said
    )
    assert "and do not pay. large at 160 pixels, 30.00 s an epoch" in said
    assert "two processes take 0.80 times that, and pay." in said
    assert len(json.loads((tmp_path / "found.json").read_text())["training"]) == 6


@pytest.mark.parametrize("networks", ["resnet18", "resnet18:", ":64", "resnet18:16", "resnet18:64,", "resnet18:6e1"])
def test_networks_that_cannot_be_read_are_refused(speckle_bundle: Path, networks: str) -> None:
    result = run("bench", "cluster", speckle_bundle, "--networks", networks)
    assert result.exit_code == 2
    assert f"--networks {networks}: write NAME:PIXELS" in " ".join(result.output.split())


def test_command_measures_and_says_where_sizes_tell_nothing(
    speckle_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "_seconds", _instead({2: (3.0, 13.0), 6: (5.0, 16.0)}))
    options = ("--sizes", "6,2", "--no-training", "--json", tmp_path / "found.json")
    result = run("bench", "cluster", speckle_bundle, *options)
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert [(one["images"], one["local"], one["ray"]) for one in found["prediction"]] == [(2, 3, 13), (6, 5, 16)]
    said = " ".join(result.output.split())
    assert "one process 2.0 s and 500.00 ms an image, Ray 11.5 s and 750.00 ms an image" in said
    assert "1 of them: never" in said
    assert "2 of them: from 76 images on" in said  # (11.5 - 2) / (0.5 - 0.375)
    monkeypatch.setattr(benchmark, "_seconds", _instead({2: (3.0, 13.0), 6: (3.0, 16.0)}))
    result = run("bench", "cluster", speckle_bundle, *options)
    assert "too near each other" in " ".join(result.output.split())


def _instead(seconds: dict[int, tuple[float, float]]) -> object:
    def taken(*words: str | Path, **variables: str) -> float:
        told = tuple(map(str, words))
        Path(told[6]).write_text("the same", encoding="utf-8")
        images = len(Path(told[4]).read_text(encoding="utf-8").splitlines()) - 1
        return seconds[images]["--ray" in told]

    return taken


@pytest.mark.parametrize("sizes", ["20", "20,20", "0,20", "a,b", ""])
def test_sizes_that_show_nothing_are_refused(speckle_bundle: Path, sizes: str) -> None:
    result = run("bench", "cluster", speckle_bundle, "--sizes", sizes)
    assert result.exit_code == 2
    assert "--sizes" in result.output


def test_what_is_not_there_is_a_sentence_before_anything_is_measured(speckle_bundle: Path, tmp_path: Path) -> None:
    result = run("bench", "cluster", tmp_path / "no-bundle", "--no-training")
    assert result.exit_code == 2
    assert "Predicting" not in result.output
    assert "no-bundle does not exist" in " ".join(result.output.split())
    for name, *options in (("cluster",), ("inference", "--no-torch"), ("scale",), ("serve",)):
        result = run("bench", name, speckle_bundle, "--images", tmp_path / "none", *options)
        assert result.exit_code == 2, name
        assert "none is no folder" in " ".join(result.output.split()), name


def test_command_that_fails_is_told_by_its_own_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ended with code 2: .*nowhere"):
        measure_prediction(tmp_path / "nowhere", [Path(__file__)], 2, tmp_path / "aside")
