"""Whether bf16 makes forward and backward passes faster on this device, and computing in all of float32's digits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medsharp.config import Precision

_LIMITED = ("sse41", "avx", "avx2", "avx2_vnni", "avx2_vnni_2", "avx512_core", "avx512_core_vnni")
"""Values of ONEDNN_MAX_CPU_ISA that allow no instructions which multiply bf16, as avx512_core_bf16 and others do."""

_LEAST_PRODUCTS = 100
"""Products for each value that layers put out, below which bf16 does not pay on a CPU where there are depthwise
convolutions. Measured on one core with avx512_bf16, forward and backward, 8 images of 128 pixels: bf16 is slower for
mobilenetv3_small (38 products; 2.2 times), ghostnet (40; 1.8), mobilenetv4_conv_small (91; 1.5), efficientnet_b0 (56;
1.5) and mixnet_s (38; 1.4), the same for mobilenetv2 (44) and edgenext_xx_small (78), and faster for convnext_atto
(142; 1.1 times), repvit_m0_9 (109; 2.0), convmixer_768_32 (400; 1.4) and resnet18 (700; 2.0)."""


@dataclass(frozen=True)
class ChosenPrecision:
    """A precision and why it was chosen.

    Attributes:
        name: `bf16` (autocast; weights stay float32) or `fp32`.
        reason: The end of a sentence that begins with the name.
    """

    name: Precision
    reason: str


@contextmanager
def full_precision() -> Iterator[None]:
    """Have GPUs compute float32 in float32, within the block or the function that this decorates.

    PyTorch lets convolutions on NVIDIA GPUs round their inputs to 10 bits (TF32), whatever the precision of weights
    and images. Training bears that; scores that a threshold is chosen on, and differences of losses as small as
    sharpness is, do not.
    """
    backends: Any = torch.backends  # PyTorch's type hints do not know them all
    settings = [backends.cudnn.conv, backends.cuda.matmul]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, value in zip(settings, before, strict=True):
            setting.fp32_precision = value


def choose_precision(device: torch.device, network: nn.Module, image_size: int) -> ChosenPrecision:
    """Choose bf16 where the device computes in it and the network gains by it, else fp32.

    A GPU computes in bf16 from compute capability 8.0 on. A CPU must have instructions that multiply bf16
    (avx512_bf16, AMX, those of ARM): PyTorch runs bf16 on others too, and takes several times as long. Even on such a
    CPU, depthwise convolutions are slower in bf16: a network that does little besides stays in fp32.

    Args:
        device: That will train.
        network: Takes images [B, 1, S, S] on the scale 0 to 255; on any device, and left as it is.
        image_size: Side S in pixels.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return ChosenPrecision("bf16", "this GPU computes in it")
        return ChosenPrecision("fp32", "this GPU does not compute in bf16")
    if not multiplies_bf16(cpu_capabilities()):
        return ChosenPrecision("fp32", "this CPU has no instructions that multiply bf16 and would be slower with it")
    limit = onednn_limit()
    if limit in _LIMITED:
        return ChosenPrecision("fp32", f"ONEDNN_MAX_CPU_ISA={limit} forbids the instructions that multiply bf16")
    depthwise, products = depthwise_and_products(network, image_size)
    if depthwise and products < _LEAST_PRODUCTS:
        return ChosenPrecision(
            "fp32", "depthwise convolutions, of which this network is made, are slower in bf16 on a CPU"
        )
    return ChosenPrecision("bf16", "this CPU multiplies bf16")


def cpu_capabilities() -> Mapping[str, Any]:
    """Return what PyTorch knows of this CPU's instructions, by name; less with older releases of PyTorch."""
    if not torch.backends.mkldnn.is_available():
        return {}  # bf16 is left to loops that convert each value
    if hasattr(torch.cpu, "get_capabilities"):
        return torch.cpu.get_capabilities()
    return {
        "avx512_bf16": torch.cpu._is_avx512_bf16_supported(),
        "amx_bf16": torch.cpu._is_amx_tile_supported(),  # no CPU has tiles without bf16
    }


def multiplies_bf16(capabilities: Mapping[str, Any]) -> bool:
    """Whether a CPU of these capabilities has instructions for products of bf16 numbers."""
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "avx10_2", "bf16", "sve_bf16"))


def onednn_limit() -> str:
    """Return the instructions that oneDNN, which computes convolutions on CPUs, is limited to; empty for no limit."""
    return (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "").strip().lower()


@torch.no_grad()
def depthwise_and_products(network: nn.Module, image_size: int) -> tuple[bool, float]:
    """Return whether there are depthwise convolutions, and the products for each value that layers put out.

    Counted are convolutions and linear layers.
    """
    products = values = 0
    depthwise = False

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal products, values, depthwise
        if isinstance(layer, nn.Conv2d):
            # [out, in / groups, kh, kw]
            products += output.numel() * layer.weight[0].numel()
            depthwise = depthwise or layer.groups == layer.in_channels > 1
        elif isinstance(layer, nn.Linear):
            products += output.numel() * layer.in_features
        values += output.numel()

    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    training, device = network.training, next(network.parameters()).device
    network.eval()  # so that batch norm's averages stay as they are
    try:
        network(torch.zeros(1, 1, image_size, image_size, device=device))
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return depthwise, products / max(1, values)
