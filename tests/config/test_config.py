"""The training configuration: what is refused, and how plainly."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from medsharp.config import TrainConfig, dump_config, load_config
from medsharp.errors import InputError
from medsharp.optimizer_config import METHODS

CONFIGS = Path(__file__).parents[2] / "configs"


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
        ("data.fold=2", ["data", "fold 2", "folds or official_folds"]),
        ("data.positive=cyst", ["data", "cyst", "benign"]),
        ("data.classes=[benign, benign]", ["data", "repeats"]),
        ("schedule.batch_size=0", ["schedule.batch_size", "0"]),
        ("run.device=tpu", ["run.device", "tpu", "cuda"]),
        ("seed", ["--set seed", "section.key=value"]),
        ("seed.x=1", ["seed"]),
        ("data.range=5", ["data.range = 5: Input should be a list in brackets", "black and white"]),
        ("data.range=[1]", ["data.range = [1]: value 2 is missing", "black and white"]),
        ("data.fractions=[0.9, 0.1]", ["data.fractions = [0.9, 0.1]: value 3 is missing"]),
        ("optimizer.sam=3", ["optimizer.sam = 3: Input should be a section of keys"]),
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


def test_file_of_defaults_holds_every_key_and_says_the_defaults() -> None:
    path = CONFIGS / "default.yaml"
    assert load_config(path) == TrainConfig()
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert written.keys() == TrainConfig.model_fields.keys()
    for name, section in written.items():
        if isinstance(section, dict):
            keys = TrainConfig.model_fields[name].annotation.model_fields.keys()  # type: ignore[union-attr]
            assert section.keys() - METHODS.keys() == keys - METHODS.keys(), name


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_recipes_are_right(path: Path) -> None:
    load_config(path)


@pytest.mark.parametrize(
    "override", ["seed=true", "schedule.epochs=true", "data.fractions=[0.7, 0.3, false]", "run.clip_grad_norm=true"]
)
def test_truth_values_are_no_numbers(override: str) -> None:
    with pytest.raises(InputError, match="true and false are no value here"):
        load_config(None, [override])
    assert load_config(None, ["network.pretrained=true", "data.augmentation={shadow: true}"]).network.pretrained


def test_empty_section_means_its_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("data:\noptimizer:\nrun: {workers: 2}\nschedule:\n")
    config = load_config(path, ["optimizer.rho=0.2", "schedule.epochs=3"])
    assert (config.optimizer.wsam.rho, config.schedule.epochs, config.run.workers) == (0.2, 3, 2)
    assert config.data == TrainConfig().data
    with pytest.raises(InputError, match="seed = None"):
        load_config(None, ["seed=null"])


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("seed: 1\noptimizer: {lr: 0.1}\nrun: {workers: 1}\noptimizer: {name: sam}\n", 4, "optimizer"),
        ("schedule:\n  epochs: 3\n  epochs: 5\n", 3, "epochs"),
    ],
)
def test_key_that_stands_twice_is_refused(text: str, line: int, key: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"mine\.yaml, line {line}: '{key}' stands twice"):
        load_config(path)


def test_numbers_are_read_where_numbers_belong(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    values = "path: 2e5, classes: [1e1, 2e1], positive: 1e1, limits: {max_pixels: 1e6}, fractions: [8e-1, 1e-1, 1e-1]"
    path.write_text(f"data: {{{values}}}")
    data = load_config(path).data
    assert (data.path, data.classes) == ("2e5", ("1e1", "2e1"))  # names
    assert (data.limits.max_pixels, data.fractions) == (1_000_000, (0.8, 0.1, 0.1))
