"""Settings of several methods in one configuration: each has its own, whoever is chosen and whichever way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from medsharp.config import TrainConfig, dump_config, load_config, validate_config
from medsharp.errors import InputError
from medsharp.optim import list_optimizers, optimizer_info
from medsharp.optimizer_config import METHODS

BUSI = "optimizer: {name: sam, base: adamw, lr: 1.0e-3, weight_decay: 0.05, rho: 0.05}\n"


def load(tmp_path: Path, text: str, *overrides: str) -> TrainConfig:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return load_config(path, overrides)


def test_another_method_starts_from_its_own_defaults(tmp_path: Path) -> None:
    for name in list_optimizers():
        chosen = load(tmp_path, BUSI.replace("0.05}", "0.07}"), f"optimizer.name={name}").optimizer
        assert chosen.name == name
        assert (chosen.lr, chosen.weight_decay) == (1e-3, 0.05)
        own = chosen.hyperparameters()
        for entry in optimizer_info(name).hyperparameters:
            assert own[entry.name] == (0.07 if (name, entry.name) == ("sam", "rho") else entry.default)


def test_one_file_holds_settings_of_several_methods(tmp_path: Path) -> None:
    text = """
optimizer:
  name: asam
  base: sgd
  asam: {rho: 1.5}
  sam: {rho: 0.1, adaptive: true}
  sgd: {momentum: 0.8}
  adamw: {betas: [0.8, 0.99]}
"""
    expected: dict[str, dict[str, Any]] = {
        "asam": {"rho": 1.5, "eta": 0.01, "momentum": 0.8},
        "sam": {"rho": 0.1, "adaptive": True, "momentum": 0.8},
        "sgd": {"momentum": 0.8, "nesterov": False},
        "adamw": {"betas": (0.8, 0.99)},
        "wsam": {"rho": 0.05, "gamma": 0.9, "momentum": 0.8},
    }
    for name, settings in expected.items():
        own = load(tmp_path, text, f"optimizer.name={name}").optimizer.hyperparameters()
        assert settings.items() <= own.items()
    based = load(tmp_path, text, "optimizer.name=sam", "optimizer.base=adamw").optimizer.hyperparameters()
    assert (based["rho"], based["betas"], "momentum" in based) == (0.1, (0.8, 0.99), False)
    assert load(tmp_path, text, "optimizer.name=adamw").optimizer.hyperparameters().keys() == {"betas", "eps"}


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        # In a file a short key belongs to the method or base that the file names, by whatever spelling.
        ("{name: CR-SAM, gamma: 0.3}", ["optimizer.name=sam"], {"crsam": {"gamma": 0.3}}),
        ("{name: bsam, damping: 0.3}", ["optimizer.name=sam"], {"bayesiansam": {"damping": 0.3}}),
        ("{name: sam, base: SGD, momentum: 0.5}", ["optimizer.base=adamw"], {"sgd": {"momentum": 0.5}}),
        ("{name: sam, betas: [0.5, 0.6]}", ["optimizer.base=sgd"], {"adamw": {"betas": (0.5, 0.6)}}),
        ("{name: bayesiansam, betas: [0.5, 0.6]}", [], {"bayesiansam": {"betas": (0.5, 0.6)}}),
        ("{Bayesian-SAM: {damping: 0.2}}", [], {"bayesiansam": {"damping": 0.2}}),
        ("{sam: }", [], {"sam": {"rho": 0.05}}),
        # One that names none: to the method that is chosen in the end.
        ("{rho: 0.3}", [], {"wsam": {"rho": 0.3}}),
        ("{rho: 0.3}", ["optimizer.name=asam"], {"asam": {"rho": 0.3}}),
        # On the command line, to the method that is chosen in the end, wherever that stands; the last one wins.
        (
            "{name: sam, rho: 0.3}",
            ["optimizer.rho=0.7", "optimizer.name=asam"],
            {"sam": {"rho": 0.3}, "asam": {"rho": 0.7}},
        ),
        (
            "{name: sam, rho: 0.3}",
            ["optimizer.name=asam", "optimizer.rho=0.7"],
            {"sam": {"rho": 0.3}, "asam": {"rho": 0.7}},
        ),
        ("{name: sam, rho: 0.3}", ["optimizer.rho=0.7"], {"sam": {"rho": 0.7}}),
        ("{name: sam, sam: {rho: 0.3}}", ["optimizer.rho=0.7"], {"sam": {"rho": 0.7}}),
        ("{name: sam}", ["optimizer.sam.rho=0.7", "optimizer.rho=0.8"], {"sam": {"rho": 0.8}}),
        ("{name: sam}", ["optimizer.rho=0.8", "optimizer.sam.rho=0.7"], {"sam": {"rho": 0.7}}),
        ("{name: sam}", ["optimizer.CR-SAM.gamma=0.3"], {"crsam": {"gamma": 0.3}}),
        ("{name: sam}", ["optimizer.crsam={gamma: 0.3}"], {"crsam": {"gamma": 0.3}}),
        ("{name: sam}", ["optimizer={name: asam, rho: 0.9}", "optimizer.name=sam"], {"asam": {"rho": 0.9}}),
        ("{name: sam}", ["optimizer={rho: 0.9}"], {"wsam": {"rho": 0.9}}),
        ("{name: sam}", ["optimizer.momentum=0.1", "optimizer.base=sgd"], {"sgd": {"momentum": 0.1}}),
        ("", ["optimizer.rho=3e-1"], {"wsam": {"rho": 0.3}}),
        ("{rho: 0.3}", ["optimizer.rho=0.7"], {"wsam": {"rho": 0.7}}),
        ("{rho: 0.3}", ["optimizer.rho=0.7", "optimizer.name=asam"], {"asam": {"rho": 0.7}}),
        ("{rho: 0.3, sam: {adaptive: true}}", ["optimizer.name=sam"], {"sam": {"rho": 0.3, "adaptive": True}}),
        ("{base: sgd, momentum: 0.3}", ["optimizer.name=asam"], {"sgd": {"momentum": 0.3}}),
        ("{name: sam}", ["optimizer={rho: 0.9}", "optimizer.rho=0.7"], {"wsam": {"rho": 0.7}}),
    ],
)
def test_short_key_belongs_to_the_method_it_is_written_for(
    text: str, overrides: list[str], expected: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    config = load(tmp_path, f"optimizer: {text}\n", *overrides)
    for name in METHODS:
        assert getattr(config.optimizer, name) == METHODS[name](**expected.get(name, {})), name


def test_configuration_of_an_older_run_is_read(tmp_path: Path) -> None:
    text = """
seed: 3
optimizer: {name: wsam, base: adamw, lr: 0.002, weight_decay: 0.01, rho: 0.1, gamma: 0.8, decouple: true,
  max_norm: null, adaptive: false, replay_rng: false, micro_batch: null, betas: [0.8, 0.99], eps: 1.0e-08}
run: {device: auto, precision: bf16, workers: 0, clip_grad_norm: 5.0, ema_decay: null, channels_last: true}
"""
    config = load(tmp_path, text)
    assert (config.optimizer.wsam.rho, config.optimizer.wsam.gamma) == (0.1, 0.8)
    assert config.optimizer.adamw.betas == (0.8, 0.99)
    assert config.run.precision == "bf16"
    plain = load(tmp_path, "optimizer: {name: sgd, base: adamw, lr: 0.1, weight_decay: 0, momentum: 0.5}")
    assert plain.optimizer.hyperparameters() == {"momentum": 0.5, "nesterov": False}


@pytest.mark.parametrize("name", list_optimizers())
def test_dump_shows_what_is_used_and_what_was_given_and_reads_back_equal(name: str, tmp_path: Path) -> None:
    config = validate_config({"optimizer": {"name": name.upper(), "base": "sgd", "looksam": {"k": 7}}})
    text = dump_config(config)
    shown = yaml.safe_load(text)["optimizer"]
    info = optimizer_info(name)
    stands_on = {"sgd"} if info.sharpness_aware and not info.own_step else set()
    rates = {"lr", "backbone_lr_ratio", "layer_decay", "weight_decay"}
    assert shown.keys() == {"name", "base", *rates, name, "looksam", *stands_on}
    assert shown["looksam"]["k"] == 7
    assert shown["name"] == name
    again = load(tmp_path, text)
    assert again == config
    assert dump_config(again) == text


def test_summary_holds_what_trains_and_nothing_of_other_methods() -> None:
    config = validate_config({"optimizer": {"name": "sam", "base": "adam", "rho": 0.2, "asam": {"eta": 0.5}}})
    assert config.optimizer.summary() == {
        "name": "sam",
        "base": "adam",
        "lr": 1e-3,
        "weight_decay": 0.05,
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "rho": 0.2,
        "adaptive": False,
        "replay_rng": False,
        "micro_batch": None,
    }


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.lrr=1", ["unknown key 'optimizer.lrr' for wsam", "did you mean lr?"]),
        ("optimizer.weight_decy=1", ["did you mean weight_decay?"]),
        ("optimizer.rhoo=1", ["did you mean rho?"]),
        ("optimizer.beta=1", ["did you mean betas"]),
        ("optimizer.momentum=0.5", ["unknown key 'optimizer.momentum' for wsam"]),
        ("optimizer.asm.rho=0.1", ["unknown key 'optimizer.asm' for wsam", "asam"]),
        ("optimizer.asam.roh=0.1", ["unknown key 'optimizer.asam.roh'", "did you mean rho?"]),
        ("optimizer.rho=-1", ["optimizer.wsam.rho = -1", "greater than or equal to 0", "radius"]),
        ("optimizer.rho=true", ["optimizer.wsam.rho = True", "true and false are no value here"]),
        ("optimizer.lr=true", ["optimizer.lr = True", "true and false are no value here"]),
        ("optimizer.adaptive=1", ["optimizer.wsam.adaptive = 1", "valid boolean"]),
        ("optimizer.betas=[0.9, 1.5]", ["optimizer.wsam.betas".replace("wsam", "adamw"), "1.5", "less than 1"]),
        ("optimizer.betas=[0.9]", ["optimizer.adamw.betas"]),
        ("optimizer.gamma=1.0", ["optimizer.wsam.gamma = 1.0"]),
        ("optimizer.micro_batch=2.5", ["optimizer.wsam.micro_batch = 2.5", "integer"]),
        ("optimizer.micro_batch=0", ["optimizer.wsam.micro_batch = 0"]),
        ("optimizer.asam.normalization=layers", ["optimizer.asam.normalization = 'layers'", "names", "elementwise"]),
        ("optimizer.asam=0.5", ["optimizer.asam = 0.5", "section of keys"]),
        ("optimizer.name=wsma", ["optimizer.name: unknown optimizer 'wsma'", "wsam"]),
        ("optimizer.name=[sam]", ["optimizer.name", "string"]),
        ("optimizer.base=adamm", ["optimizer.base: unknown optimizer 'adamm'", "adam"]),
        ("optimizer.base=sam", ["optimizer.base", "must be sgd, adam or adamw, not sam"]),
        ("optimizer={rho: 0.1, wsam: {rho: 0.2}}", ["rho of wsam is given twice"]),
        ("optimizer=5", ["optimizer = 5"]),
    ],
)
def test_wrong_setting_is_one_sentence_with_the_nearest_right_key(override: str, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        load_config(None, [override])
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_setting_that_the_file_gives_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.yaml: optimizer: rho of sam is given twice"):
        load(tmp_path, "optimizer: {name: sam, rho: 0.1, SAM: {rho: 0.2}}")


def test_short_key_of_no_method_in_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown key 'optimizer\.rho' for sgd"):
        load(tmp_path, BUSI, "optimizer.name=sgd", "optimizer.rho=0.1")
    with pytest.raises(InputError, match=r"unknown key 'optimizer\.gamma' for sam"):
        load(tmp_path, BUSI.replace("rho", "gamma"))


def test_ranges_of_the_sections_are_those_of_the_catalogue() -> None:
    for name, model in METHODS.items():
        for entry in optimizer_info(name).hyperparameters:
            assert model.model_fields[entry.name].description == entry.doc
            outside = [
                value + sign for value, sign in ((entry.low, -1), (entry.high, 1)) if value not in {None, float("inf")}
            ]
            for value in [*outside, True if not isinstance(entry.default, bool) else 2, "none of these"]:
                with pytest.raises(ValidationError):
                    model(**{entry.name: value})
