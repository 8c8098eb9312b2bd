"""The smallest network of each of timm's families takes grey images, learns, and goes back to evaluation unharmed."""

from __future__ import annotations

import fnmatch

import pytest
import timm
import torch
from torch import nn

from medsharp.errors import InputError
from medsharp.networks import create_network, list_networks

SMALLEST = {
    "beit": "beit_base_patch16_224",
    "byoanet": "eca_botnext26ts_256",
    "byobnet": "mobileone_s0",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "convnext_zepto_rms",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "cspnet": "cs3darknet_focus_s",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "mobilenetv2_035",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xxtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_l",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128s",
    "lowformer": "lowformer_b0",
    "mambaout": "mambaout_femto",
    "maxxvit": "maxvit_pico_rw_256",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmixer_12_224",
    "mobilenetv3": "lcnet_035",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_parfac_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "nf_regnet_b0",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2net50_14w_8s",
    "resnest": "resnest14d",
    "resnet": "resnet18",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11",
    "visformer": "visformer_tiny",
    "vision_transformer": "vit_tiny_patch16_224",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41p",
    "xcit": "xcit_nano_12_p8_224",
}
"""By timm's module; of one that is not here, the first network is taken."""

SIDES = {
    "crossvit_tiny_240": 240,
    "deepseek_vit_412m": 224,
    "efficientformer_l1": 224,
    "inception_resnet_v2": 96,
    "inception_v3": 96,
    "inception_v4": 96,
}
"""Of networks that take no 64 x 64 pixels."""

NO_CLASSIFIERS = {"csatv2"}
"""Families of which nothing is offered."""

# Of the largest, shapes alone are followed: they have more than 40 million weights.
LARGE = {
    "beit",
    "deepseek_vit",
    "gemma4_vit",
    "inception_resnet_v2",
    "inception_v4",
    "mobilenetv5",
    "naflexvit",
    "nasnet",
    "pnasnet",
    "qwen3_vit",
    "vgg",
    "vision_transformer_sam",
}


def family(module: str) -> tuple[str, int]:
    name = SMALLEST.get(module) or timm.list_models(module=module)[0]
    return name, SIDES.get(name, 64)


@pytest.mark.parametrize("module", sorted(set(timm.list_modules()) - NO_CLASSIFIERS))
def test_a_network_of_every_family_learns_from_grey_images(module: str) -> None:
    name, side = family(module)
    assert name in list_networks(name)
    torch.manual_seed(0)
    with torch.device("meta" if module in LARGE else "cpu"):
        network = create_network(name, num_classes=2, image_size=side)
        images = torch.randint(0, 256, (2, 1, side, side), dtype=torch.uint8)
    assert network.training
    logits = network(images)
    assert logits.shape == (2, 2)
    nn.functional.cross_entropy(logits, torch.tensor([0, 1], device=logits.device)).backward()
    gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
    assert len(gradients) > 0.5 * len(list(network.parameters()))
    assert all(gradient.is_meta or gradient.isfinite().all() for gradient in gradients)
    with torch.no_grad():
        outputs = network.eval().forward_all(images)
    assert outputs["features"].ndim == 2
    assert outputs["logits"].shape == (2, 2)
    assert network.no_weight_decay() <= {key for key, _ in network.named_parameters()}


@pytest.mark.parametrize("module", sorted(NO_CLASSIFIERS))
def test_a_family_that_classifies_no_grey_images_is_not_offered_and_says_why(module: str) -> None:
    for name in timm.list_models(module=module):
        assert list_networks(name) == []
        with pytest.raises(InputError, match=f"network {name} reads three colours"):
            create_network(name, num_classes=2, image_size=512)


def test_encoders_without_a_classifier_are_not_offered_and_say_why() -> None:
    assert not fnmatch.filter(list_networks(), "*_enc")
    for name in ("qwen3_vit_88m_enc", *timm.list_models("qwen3_vit_88m_enc*", pretrained=True)):
        with pytest.raises(InputError, match="is an encoder for language models without a classifier"):
            create_network(name, num_classes=2, image_size=224)
