"""Networks by name: what they return, what explains them exactly, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from medsharp.errors import InputError
from medsharp.networks import Classifier, create_network, list_networks


def network(name: str = "resnet10_w16", **options: object) -> Classifier:
    return create_network(name, **{"num_classes": 2, "image_size": 64, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("resnet10_w16", True),
        ("resnet18_w32", True),
        ("efficientnet_b0", True),
        ("swin_tiny_patch4_window7_224", True),
        ("convnext_atto", False),
        ("mobilenetv3_small_050", False),
        ("vit_tiny_patch16_224", False),
    ],
)
def test_outputs_have_their_shapes_and_the_cam_is_there_only_where_exact(name: str, exact: bool) -> None:
    made = network(name, num_classes=3).eval()
    assert made.exact_cam is exact
    with torch.inference_mode():
        found = made.forward_all(torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8))
    assert found["logits"].shape == (2, 3)
    assert found["features"].ndim == 2
    assert ("cam" in found) is exact
    if exact:
        bias = made.backbone.get_classifier().bias  # type: ignore[operator]
        torch.testing.assert_close(found["cam"].mean(dim=(2, 3)) + bias, found["logits"], atol=1e-4, rtol=1e-4)


def test_checking_the_cam_leaves_training_mode_statistics_and_random_state_alone() -> None:
    torch.manual_seed(7)
    made = network()
    torch.manual_seed(7)
    again = network()
    assert made.training
    for (key, one), other in zip(made.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other), key
    assert int(made.state_dict()["backbone.bn1.num_batches_tracked"]) == 0


def test_uint8_and_float_images_give_the_same_logits() -> None:
    made = network().eval()
    image = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(made(image), made(image.float()))


def test_normalization_is_part_of_the_weights() -> None:
    made = network()
    made.set_normalization(0.3, 0.1)
    other = network()
    other.load_state_dict(made.state_dict())
    assert float(other.mean) == pytest.approx(0.3)
    assert float(other.std) == pytest.approx(0.1)


def test_image_normalization_takes_a_scanners_gain_and_offset_away() -> None:
    made = network(normalization="image").eval()
    image = 20.0 + 60.0 * torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(made(image), made(2.5 * image + 30.0), atol=1e-4, rtol=1e-4)
    other = network().eval()
    assert not torch.allclose(other(image), other(2.5 * image + 30.0), atol=1e-3)


def test_image_normalization_does_not_see_how_much_black_surrounds_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network(normalization="image").eval()
    image = torch.zeros(2, 1, 64, 64)
    image[0, :, 16:48] = image[1, :, :32] = 40 + 60 * torch.rand(1, 32, 64)
    given: list[torch.Tensor] = []
    monkeypatch.setattr(made.backbone, "forward_features", given.append)
    made.forward_features(image)
    torch.testing.assert_close(given[0][0, :, 16:48], given[0][1, :, :32])
    tissue = given[0][0, :, 16:48]
    assert float(tissue.mean()) == pytest.approx(0, abs=1e-4)
    assert float(tissue.std(unbiased=False)) == pytest.approx(1, abs=1e-4)


def test_a_constant_image_is_normalized_without_dividing_by_zero() -> None:
    made = network(normalization="image").eval()
    assert torch.isfinite(made(torch.stack([torch.zeros(1, 64, 64), torch.full((1, 64, 64), 255.0)]))).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "resnet81"}, "unknown network 'resnet81'; did you mean"),
        ({"name": "resnet18_w32", "pretrained": True}, "has no published weights"),
        ({"checkpoint": "nowhere.pt"}, r"checkpoint nowhere\.pt does not exist"),
    ],
)
def test_wrong_requests_are_a_sentence(options: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        network(**options)  # type: ignore[arg-type]


def test_published_weights_that_cannot_be_fetched_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **options: object) -> None:
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match="published weights of resnet18 could not be loaded"):
        network("resnet18", pretrained=True)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "wrapped", "backbone only"])
def test_local_weights_are_loaded(tmp_path: Path, kind: str) -> None:
    source = network()
    weights = source.state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(weights, path)
    elif kind == "pt":
        torch.save({f"module.{key}": value for key, value in weights.items()}, path)
    elif kind == "wrapped":
        torch.save({"state_dict": weights}, path)
    else:
        torch.save(source.backbone.state_dict(), path)
    loaded = network(checkpoint=path)
    for key, value in source.backbone.state_dict().items():
        assert torch.equal(loaded.backbone.state_dict()[key], value), key


def test_head_of_another_shape_is_left_as_initialised_and_said(tmp_path: Path) -> None:
    save_file(network(num_classes=5).state_dict(), tmp_path / "five.safetensors")
    made = network(checkpoint=tmp_path / "five.safetensors")
    assert made.backbone.get_classifier().out_features == 2  # type: ignore[operator]
    assert any("fc.weight" in note for note in made.notes)


def test_weights_of_another_network_and_damaged_files_are_refused(tmp_path: Path) -> None:
    save_file(network("resnet18_w16").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="does not fit this network"):
        network("resnet10_w32", checkpoint=tmp_path / "other.safetensors")
    for name in ("broken.pt", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"not weights at all")
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            network(checkpoint=tmp_path / name)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))  # type: ignore[return-value]

    torch.save({"weight": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(InputError, match=r"trap\.pt cannot be read"):
        network(checkpoint=tmp_path / "trap.pt")
    assert not (tmp_path / "sprung").exists()


def test_listing_has_our_variants_first_and_timms() -> None:
    names = list_networks("resnet18*")
    assert names[:2] == ["resnet18_w16", "resnet18_w32"]
    assert "resnet18" in names


@pytest.mark.parametrize("name", ["vgg11", "densenet121", "inception_v3", "hrnet_w18_small"])
def test_networks_that_know_no_stochastic_depth_are_made_without_and_refuse_a_rate(name: str) -> None:
    with torch.device("meta"):
        assert network(name, image_size=96).num_classes == 2
        with pytest.raises(
            InputError, match=rf"network {name} has no stochastic depth; leave out network\.drop_path_r"
        ):
            network(name, image_size=96, drop_path_rate=0.1)


def test_a_rate_that_a_network_takes_and_does_nothing_with_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def deaf(*args: object, drop_path_rate: float = 0.0, **options: object) -> torch.nn.Module:
        return create(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(timm, "create_model", deaf)
    assert network().num_classes == 2
    with pytest.raises(InputError, match="network resnet10_w16 has no stochastic depth"):
        network(drop_path_rate=0.1)


@pytest.mark.parametrize(
    "name",
    [
        *("resnet10_w16", "vit_tiny_patch16_224", "efficientnet_b0", "tf_efficientnet_lite0", "convnext_atto"),
        "swin_tiny_patch4_window7_224",
    ],
)
def test_rates_reach_the_network_and_zero_asks_for_none(name: str) -> None:
    image = torch.randint(0, 256, (2, 1, 64, 64), dtype=torch.uint8)

    def varies(**rates: float) -> bool:
        torch.manual_seed(0)
        made = network(name, **rates)  # type: ignore[arg-type]
        with torch.no_grad():
            for weight in made.parameters():
                if weight.ndim == 1:
                    weight.fill_(0.5)  # some start with residual branches, or a head, that give nothing
            answers = [made(image) for _ in range(6)]
        return any(not torch.allclose(answers[0], other, atol=1e-4) for other in answers[1:])

    assert not varies()
    assert varies(drop_path_rate=0.5)
    assert varies(drop_rate=0.5)


@pytest.mark.parametrize(
    ("name", "side", "usual"),
    [("crossvit_tiny_240", 64, 240), ("efficientformer_l1", 128, 224), ("botnet26t_256", 100, 256), ("vgg11", 16, 224)],
)
def test_a_size_that_is_not_taken_is_a_sentence_with_one_that_is(name: str, side: int, usual: int) -> None:
    with torch.device("meta"):
        with pytest.raises(InputError, match=rf"network {name} does not take {side} x {side} images.*") as refusal:
            network(name, image_size=side)
        assert str(refusal.value).endswith(f"; it takes data.image_size: {usual}")
        network(name, image_size=usual)


def test_position_tables_and_tokens_are_named_as_not_to_be_decayed() -> None:
    made = network("vit_tiny_patch16_224")
    assert made.no_weight_decay() == {"backbone.pos_embed", "backbone.cls_token"}
    assert network("resnet10_w16").no_weight_decay() == set()
    # XCiT states a pattern.
    with torch.device("meta"):
        assert "backbone.cls_token" in network("xcit_nano_12_p16_224").no_weight_decay()
        branches = network("crossvit_tiny_240", image_size=240).no_weight_decay()
    assert {"backbone.pos_embed_0", "backbone.pos_embed_1", "backbone.cls_token_0"} <= branches


def test_only_networks_with_a_feature_map_of_channels_first_name_its_channels() -> None:
    assert network("resnet10_w16").map_channels == 128
    for name, side in (("swin_tiny_patch4_window7_224", 64), ("vit_tiny_patch16_224", 64), ("crossvit_tiny_240", 240)):
        with torch.device("meta"):
            assert network(name, image_size=side).map_channels is None


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_a_published_checkpoint_of_three_colours_answers_a_grey_image_as_three_equal_channels(
    name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    published = timm.create_model(name, num_classes=3).eval()
    torch.save({"state_dict": published.state_dict()}, tmp_path / "published.pth")
    side = 224 if "vit" in name else 64
    made = network(name, num_classes=3, image_size=side, checkpoint=tmp_path / "published.pth").eval()
    made.set_normalization(0.0, 1.0)
    (note,) = made.notes
    assert "three colours, which were summed for grey images" in note
    image = torch.randint(0, 256, (2, 1, side, side), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(made(image), published(image.expand(-1, 3, -1, -1) / 255), atol=1e-4, rtol=1e-4)


def test_a_published_position_table_is_resampled_to_the_image_size(tmp_path: Path) -> None:
    published = timm.create_model("vit_tiny_patch16_224")
    with torch.no_grad():
        published.pos_embed.fill_(0.25)
    save_file(published.state_dict(), tmp_path / "published.safetensors")
    made = network("vit_tiny_patch16_224", checkpoint=tmp_path / "published.safetensors")
    table = made.backbone.get_parameter("pos_embed")
    assert table.shape == (1, 17, 192)
    torch.testing.assert_close(table, torch.full_like(table, 0.25), atol=1e-3, rtol=0)
    assert any("head.weight" in note for note in made.notes)


def test_a_checkpoint_of_another_width_names_both_shapes(tmp_path: Path) -> None:
    save_file(network("resnet10_w16").state_dict(), tmp_path / "narrow.safetensors")
    with pytest.raises(InputError, match=r"conv1\.weight is \[\d+, 1, 7, 7\] there and \[\d+, 1, 7, 7\] here|layer"):
        network("resnet10_w32", checkpoint=tmp_path / "narrow.safetensors")
