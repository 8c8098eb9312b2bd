"""The training configuration: what is refused, and how plainly."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsharp.config import TrainConfig, dump_config, load_config
from medsharp.errors import InputError


def test_dumped_configuration_reads_back_equal(tmp_path: Path) -> None:
    config = load_config(None, ["optimizer.lr=3e-4", "data.classes=[benign, malignant, normal]", "optimizer.rho=0.1"])
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    assert config.optimizer.lr == 3e-4
    assert config.optimizer.wsam.rho == 0.1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("schedule.epoch=3", ["unknown key 'schedule.epoch'", "epochs"]),
        ("netwrok.name=resnet18", ["unknown key 'netwrok'", "network"]),
        ("optimizer.lr=-0.1", ["optimizer.lr", "-0.1", "greater than 0"]),
        ("optimizer.lr=nan", ["optimizer.lr"]),
        ("optimizer.lr=fast", ["optimizer.lr", "fast", "number"]),
        ("data.fractions=[0.9, 0.2, 0.1]", ["data", "fractions", "sum to 1"]),
        ("data.positive=cyst", ["data", "cyst", "benign"]),
        ("data.classes=[benign, benign]", ["data", "repeats"]),
        ("schedule.batch_size=0", ["schedule.batch_size", "0"]),
        ("run.device=tpu", ["run.device", "tpu", "cuda"]),
        ("seed", ["--set seed", "section.key=value"]),
        ("seed.x=1", ["seed"]),
    ],
)
def test_wrong_override_is_one_sentence_that_names_the_key(override: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_config(None, [override])
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"optimizer: [", "is not YAML"), (b"\xff\xfe\x00", "is not YAML"), (b"- a\n- b\n", "must hold sections")],
)
def test_wrong_file_is_one_sentence_that_names_it(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=word) as caught:
        load_config(path)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothere\.yaml"):
        load_config(tmp_path / "nothere.yaml")


def test_override_within_a_file_keeps_the_rest_of_its_section(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("schedule: {epochs: 7, batch_size: 8}\n")
    config = load_config(path, ["schedule.epochs=9"])
    assert (config.schedule.epochs, config.schedule.batch_size) == (9, 8)


def test_empty_file_means_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_config(path) == TrainConfig()


def test_limits_and_preprocessing_are_what_the_file_says(tmp_path: Path) -> None:
    from medsharp.images import ImageLimits
    from medsharp.preprocess import PreprocessSpec

    config = load_config(None, ["data.limits.max_frames=9", "data.limits.max_pixels=1e6", "data.crop=lesion"])
    assert config.data.limits.limits() == ImageLimits(max_frames=9, max_pixels=1_000_000)
    assert config.data.preprocessing() == PreprocessSpec(128, "lesion", "letterbox", 0.2, False)
    assert load_config(None).data.limits.limits() == ImageLimits()
    for wrong, word in (("data.limits.max_frame=9", "max_frames"), ("data.limits.min_side=0", "data.limits.min_side")):
        with pytest.raises(InputError, match=word):
            load_config(None, [wrong])
