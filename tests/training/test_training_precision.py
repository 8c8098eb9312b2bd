"""Which precision is chosen for which device and network; no machine's own capabilities are asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from medsharp.config import TrainConfig
from medsharp.data.manifest import Manifest
from medsharp.networks import Classifier, create_network
from training import Interrupted, Run, precision, train
from training.losses import Objective
from training.precision import choose_precision, depthwise_and_products, multiplies_bf16
from training.sharpness import Measures, measure_runs

CPU = torch.device("cpu")
WITH_BF16 = {"avx2": True, "avx512_f": True, "avx512_bf16": True, "architecture": "x86_64"}
WITHOUT = {"avx2": True, "avx512_f": True, "avx512_vnni": True, "avx512_bf16": False, "amx_bf16": False}


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, Any]], None]:
    """Make this a CPU of given capabilities, which nothing in the environment limits."""
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
    return lambda capabilities: monkeypatch.setattr(precision, "cpu_capabilities", lambda: capabilities)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        (WITH_BF16, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"architecture": "aarch64", "neon": True, "bf16": True}, True),
        ({"architecture": "aarch64", "sve": True, "sve_bf16": True}, True),
        ({"avx10_2": True}, True),
        (WITHOUT, False),
        ({"avx2": True, "avx_ne_convert": True}, False),
        ({"architecture": "aarch64", "neon": True, "fp16_arith": True, "bf16": False}, False),
        ({}, False),
    ],
)
def test_cpu_computes_in_bf16_only_with_instructions_for_it(
    capabilities: Mapping[str, Any], expected: bool, pretend: Callable[[Mapping[str, Any]], None]
) -> None:
    assert multiplies_bf16(capabilities) is expected
    pretend(capabilities)
    network = create_network("resnet10_w16", num_classes=2, image_size=32)
    chosen = choose_precision(CPU, network, 32)
    assert chosen.name == ("bf16" if expected else "fp32")
    assert "CPU" in chosen.reason


@pytest.mark.parametrize("variable", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("AVX2", "fp32"),
        ("avx512_core", "fp32"),
        ("AVX512_CORE_VNNI", "fp32"),
        ("AVX512_CORE_BF16", "bf16"),
        ("AVX512_CORE_AMX", "bf16"),
        ("ALL", "bf16"),
        ("", "bf16"),
    ],
)
def test_limit_on_instructions_is_respected(
    variable: str,
    limit: str,
    expected: str,
    pretend: Callable[[Mapping[str, Any]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(WITH_BF16)
    monkeypatch.setenv(variable, limit)
    chosen = choose_precision(CPU, create_network("resnet10_w16", num_classes=2, image_size=32), 32)
    assert chosen.name == expected
    assert ("ONEDNN_MAX_CPU_ISA" in chosen.reason) == (expected == "fp32")


def test_older_pytorch_is_asked_in_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    for supported in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda supported=supported: supported)
        assert multiplies_bf16(precision.cpu_capabilities()) is supported


def test_pytorch_without_onednn_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not multiplies_bf16(precision.cpu_capabilities())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", "bf16"),
        ("regnety_004", "bf16"),
        ("convnext_atto", "bf16"),
        ("mobilenetv3_small_100", "fp32"),
        ("efficientnet_b0", "fp32"),
        ("mobilenetv4_conv_small", "fp32"),
    ],
)
def test_networks_of_depthwise_convolutions_stay_in_fp32_on_a_cpu(
    name: str, expected: str, pretend: Callable[[Mapping[str, Any]], None]
) -> None:
    import timm

    pretend(WITH_BF16)
    chosen = choose_precision(CPU, timm.create_model(name, in_chans=1, num_classes=2), 64)
    assert chosen.name == expected
    assert ("depthwise" in chosen.reason) == (expected == "fp32")


@pytest.mark.parametrize("native", [True, False])
def test_gpu_computes_in_bf16_where_it_does_so_natively(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    network = torch.nn.Linear(1, 1)  # is not looked at
    assert choose_precision(torch.device("cuda"), network, 32).name == ("bf16" if native else "fp32")


def test_precision_is_chosen_unless_one_is_asked_for() -> None:
    assert TrainConfig().run.precision == "auto"


def test_looking_at_a_network_leaves_it_as_it_is() -> None:
    network = create_network("mobilenetv3_small_100", num_classes=2, image_size=32).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()
    depthwise, products = depthwise_and_products(network, 32)
    assert depthwise
    assert 20 < products < 100
    assert network.training
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(layer._forward_hooks for layer in network.modules())


def precision_of_passes(monkeypatch: pytest.MonkeyPatch) -> list[torch.dtype]:
    """Record in what the feature maps of training are computed."""
    seen: list[torch.dtype] = []
    forward = Objective.forward

    def watched(self: Objective, batch: dict[str, Tensor]) -> Tensor:
        hook = self.network.backbone.layer4.register_forward_hook(lambda *given: seen.append(given[2].dtype))
        try:
            return forward(self, batch)
        finally:
            hook.remove()

    monkeypatch.setattr(Objective, "forward", watched)
    return seen


@pytest.mark.parametrize(
    ("asked", "capabilities", "used"),
    [
        ("bf16", WITHOUT, "bf16"),
        ("fp32", WITH_BF16, "fp32"),
        ("auto", WITH_BF16, "bf16"),
        ("auto", WITHOUT, "fp32"),
    ],
)
@pytest.mark.parametrize("method", ["adamw", "wsam"])
def test_passes_are_in_the_precision_that_was_asked_for_or_chosen(
    method: str,
    asked: str,
    capabilities: Mapping[str, Any],
    used: str,
    squares: Manifest,
    configure: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pretend: Callable[[Mapping[str, Any]], None],
) -> None:
    pretend(capabilities)
    seen = precision_of_passes(monkeypatch)
    told: list[dict[str, Any]] = []
    config = configure(run={"precision": asked}, schedule={"epochs": 1}, optimizer={"name": method})
    run = train(config, squares, out=tmp_path / "run", events=told.append)
    assert set(seen) == {{"bf16": torch.bfloat16, "fp32": torch.float32}[used]}
    start = next(event for event in told if event["kind"] == "start")
    assert start["precision"] == used
    assert bool(start["precision_reason"]) == (asked == "auto")
    assert Run.load(run.folder).config.run.precision == used
    assert json.loads((run.folder / "environment.json").read_text())["precision"] == used


def test_run_resumed_on_another_machine_goes_on_in_its_own_precision(
    squares: Manifest,
    configure: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    pretend: Callable[[Mapping[str, Any]], None],
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["kind"] == "batch" and event["epoch"] == 1:
            raise KeyboardInterrupt

    config = configure(run={"precision": "auto"})
    pretend(WITH_BF16)
    with pytest.raises(Interrupted):
        train(config, squares, out=tmp_path / "run", events=stop)
    pretend(WITHOUT)
    seen = precision_of_passes(monkeypatch)
    # Both with the configuration that it was started with, and with the one in its folder.
    with pytest.raises(Interrupted):
        train(config, squares, out=tmp_path / "run", resume=True, events=stop)
    run = Run.load(tmp_path / "run")
    assert train(run.config, run.manifest, out=run.folder, resume=True).finished
    assert set(seen) == {torch.bfloat16}


def test_predictions_and_sharpness_are_not_rounded_to_ten_bits(
    squares: Manifest, configure: Callable[..., TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Convolutions on GPUs may round to TF32 in training, but not where a threshold or a small difference is found."""
    backends: Any = torch.backends
    seen: dict[bool, set[tuple[str, str]]] = {True: set(), False: set()}
    forward = Classifier.forward_features

    def rounding() -> tuple[str, str]:
        return backends.cudnn.conv.fp32_precision, backends.cuda.matmul.fp32_precision

    def watched(self: Classifier, image: Tensor) -> Any:
        seen[self.training].add(rounding())
        return forward(self, image)

    before = rounding()
    run = train(configure(run={"precision": "fp32"}, schedule={"epochs": 1}), squares, out=tmp_path / "run")
    monkeypatch.setattr(Classifier, "forward_features", watched)
    train(configure(run={"precision": "fp32"}, schedule={"epochs": 1}), squares, out=tmp_path / "again")
    assert before in seen[True]
    assert seen[True] == {before}
    seen[False].discard(before)  # of the look at a new network
    assert seen[False] == {("ieee", "ieee")}
    seen[False].clear()
    few = Measures(
        largest=1, smallest=0, max_products=2, trace_draws=0, density_vectors=0, ascent_steps=0, average_draws=0
    )
    measure_runs([run.folder], splits=["train"], images=4, measures=few)
    assert ("ieee", "ieee") in seen[False]
    assert rounding() == before
