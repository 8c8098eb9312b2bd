"""Local weights: of this project's runs, and checkpoints as people have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from medsharp.errors import InputError
from medsharp.files import sha256_file
from medsharp.networks.checkpoint_file import Weights, read_checkpoint
from medsharp.networks.classifier import Classifier
from medsharp.networks.head import begin_near_zero, head_names
from medsharp.networks.layouts import (
    Layout,
    conversion_of,
    find_layout,
    is_replaceable,
    of_three_colours,
    sum_colours,
)
from medsharp.networks.normalization import grey
from medsharp.weights_origin import WeightsOrigin
from medsharp.yaml_text import read_yaml

_PREFIX = "backbone."
_STATISTICS = ("mean", "std")
"""Buffers of the classifier, by which it normalises."""

_WRAPPERS = {"", "state_dict", "model", "module", "_orig_mod", "backbone"}
"""Prefixes that every training script puts there: not worth telling."""

_DERIVED = (
    *("relative_position_index", "relative_coords_table", "attn_mask"),  # networks compute them for themselves
    *("total_ops", "total_params"),  # of profilers
    "num_batches_tracked",  # of batch norm: old files have none, and nothing here needs it
)
"""How tensors are named that are no weights: missing or left over, they mean nothing."""


def restore_weights(network: Classifier, path: Path) -> None:
    """Load what this project saved of the same network: every tensor, under its own name.

    Raises:
        InputError: The file is missing or damaged, or is of another network.
    """
    weights, own = read_checkpoint(path), network.state_dict()
    common = {key for key in weights.keys() & own.keys() if weights[key].shape == own[key].shape}
    differing = sorted((weights.keys() | own.keys()) - common)
    if differing:
        raise InputError(f"{path} does not fit this network: {_few(differing)} differ")
    _check_numbers(path, weights, own)
    network.load_state_dict(weights)


def load_weights(network: Classifier, path: str | Path, *, published: bool = True, whole: bool = False) -> None:
    """Load a checkpoint into a network, and keep in `network.origin` what it is and what was done to it.

    Found are a network's weights within nested dictionaries and behind any prefix, as timm, torchvision, Lightning,
    DDP, moving averages and self-supervised methods leave them; names of first publications are turned into timm's by
    timm's own functions, which resample position tables too. A first layer of three colours is summed over them, which
    gives a grey image the answer that it had as three equal channels. A head that is missing or of another shape stays
    as initialised. Mean and standard deviation are the file's where this project wrote it, else those of timm's
    configuration of the network; see `network.origin`. `network.weights_by_image` says where there are none, as each
    image was normalised by itself.

    Args:
        network: To load them into.
        path: The file.
        published: Whether the network is timm's own, so that timm knows how its images are normalised.
        whole: Whether every tensor must come from the file, those of the head too, and none that matters be left out.

    Raises:
        InputError: The file is missing or damaged, lacks a part of the network's body, holds a number that is not
            finite, or is of another network (`whole`: or pooling) or an unknown layout.
    """
    path = Path(path)
    content = read_checkpoint(path)
    layout = find_layout(network.backbone, content)
    fit = _fit(network.backbone, layout, path)
    beside = _beside(network, layout, content)
    used = {layout.prefix + key for key in layout.before}
    used |= {layout.prefix.removesuffix(_PREFIX) + key for key in beside}
    network.weights_by_image = _by_image(beside) or _is_of_image_run(path)
    if network.weights_by_image:
        beside = {key: value for key, value in beside.items() if key not in _STATISTICS}
    taken = {_PREFIX + key: value for key, value in fit.taken.items()} | beside
    if whole:
        _check_pooling(network, layout, content, path)
    if whole and (lacking := [key for key in network.state_dict() if not _given(key, taken)]):
        raise InputError(f"checkpoint {path} does not fit this network: it lacks {_few(_plain(lacking))} in its shape")
    own = network.state_dict()
    _check_numbers(path, taken, own)
    if fit.new_head:
        begin_near_zero(network.backbone)
    network.load_state_dict(own | taken)
    notes = list(fit.notes)
    if untouched := [key for key in own if key not in taken and not key.startswith((_PREFIX, *_STATISTICS))]:
        notes.append(f"left as initialised, being missing in {path.name}: {_few(untouched)}")
    if unused := [*fit.unused, *(key for key in content if key not in used)]:
        notes.append(f"{path.name}: not used: {_few(unused)}")
    statistics = {} if network.weights_by_image else _statistics(network.backbone, beside, published)
    network.origin = _origin(path).model_copy(update={**statistics, "notes": tuple(notes)})


def _origin(path: Path) -> WeightsOrigin:
    return WeightsOrigin(kind="file", name=path.name, file=path.name, sha256=sha256_file(path))


class _Fit(NamedTuple):
    """Tensors to load, what of the file is not among them, whether a head is left as initialised, and what to tell."""

    taken: Weights
    unused: list[str]
    new_head: bool
    notes: list[str]


def _fit(backbone: nn.Module, layout: Layout, path: Path) -> _Fit:
    own, weights = backbone.state_dict(), layout.weights
    taken: Weights = {}
    lacking: list[str] = []
    misfits: list[str] = []
    untouched: list[str] = []
    summed: list[str] = []
    for key, value in own.items():
        given = weights.get(key)
        if given is not None and given.shape == value.shape:
            taken[key] = given
        elif given is not None and of_three_colours(given, value):
            taken[key] = sum_colours(given)
            summed.append(key)
        elif is_replaceable(backbone, key):
            untouched.append(key)
        elif given is not None:
            misfits.append(key)
        elif not key.endswith(_DERIVED):
            lacking.append(key)
    unused = [key for key in weights if key not in taken and key not in own and not key.endswith(_DERIVED)]
    _check_body(backbone, layout, path, lacking, misfits, unused)
    notes = []
    if not set(layout.prefix.split(".")) <= _WRAPPERS:
        notes.append(f"{path.name}: the network's weights stand behind {layout.prefix.removesuffix('.')}")
    if layout.converted and set(layout.weights) != set(layout.before):
        notes.append(f"{path.name}: names were turned into timm's by timm's own conversion")
    resampled = [key for key in taken if key in layout.before and _resampled(key, layout)]
    if resampled:
        notes.append(f"{path.name}: resampled to this size by timm: {_few(resampled)}")
    if summed:
        notes.append(f"{_few(summed)} of {path.name} is of three colours, which were summed for grey images")
    if untouched:
        reason = "of another shape" if any(key in weights for key in untouched) else "missing"
        notes.append(f"left as initialised, being {reason} in {path.name}: {_few(untouched)}")
    new_head = any(key.startswith(f"{name}.") for key in untouched for name in head_names(backbone))
    return _Fit(taken, unused, new_head, notes)


def _resampled(key: str, layout: Layout) -> bool:
    return layout.converted and layout.before[key].shape != layout.weights[key].shape


def _check_body(
    backbone: nn.Module, layout: Layout, path: Path, lacking: list[str], misfits: list[str], unused: list[str]
) -> None:
    """Refuse a file that is not this network's, all but its head."""
    own, weights = backbone.state_dict(), layout.weights
    body = [key for key in own if not is_replaceable(backbone, key)]
    start = f"checkpoint {path} does not fit this network:"
    if len(lacking) > len(body) / 2:
        remedy = (
            "has a conversion, which does not know them" if conversion_of(backbone) else "has no conversion of others"
        )
        raise InputError(
            f"{start} its names begin {_few(list(layout.before))}, the network's begin {_few(list(own))}, and timm "
            f"{remedy}{_torchvision(layout.before)}"
        )
    if misfits:
        first = misfits[0]
        raise InputError(
            f"{start} {first} is {list(weights[first].shape)} there and {list(own[first].shape)} here "
            f"({len(misfits)} in all); was it trained with another data.image_size or network?"
        )
    if lacking:
        raise InputError(f"{start} it lacks {_few(lacking)}")
    # A deeper network of the same family has all of a shallower one's tensors, and more in the same places.
    places = {key.partition(".")[0] for key in body}
    strange = [key for key in unused if key.partition(".")[0] in places and not is_replaceable(backbone, key)]
    if strange:
        raise InputError(f"{start} it has weights that the network has not: {_few(strange)}")


def _torchvision(names: Weights) -> str:
    if any(name.startswith(("features.0.", "conv_proj.", "encoder.layers.encoder_layer_0.")) for name in names):
        return "; these look like torchvision's, so take timm's weights of this network instead"
    return ""


def _beside(network: Classifier, layout: Layout, content: Weights) -> Weights:
    """Return what this project's files have beside the backbone, such as mean and deviation; of others nothing."""
    if not f".{layout.prefix}".endswith(f".{_PREFIX}"):
        return {}
    outer = layout.prefix.removesuffix(_PREFIX)
    own = {key: value for key, value in network.state_dict().items() if not key.startswith(_PREFIX)}
    if network.channels != 1:  # this project's files are of grey networks
        own = {key: value for key, value in own.items() if key not in _STATISTICS}
    found = {key: content[outer + key] for key in own if outer + key in content}
    return {key: value for key, value in found.items() if value.shape == own[key].shape}


def _by_image(beside: Weights) -> bool:
    """Whether a file says that its network normalises each image by itself (`BY_IMAGE`)."""
    return "std" in beside and not bool(beside["std"].any())


def _is_of_image_run(path: Path) -> bool:
    """Whether a file lies in a run that normalised each image by itself: its weights say so since `BY_IMAGE` only."""
    path = path.resolve()
    settings = path.parent.parent / "config.yaml"
    if path.parent.name != "checkpoints" or not settings.is_file():
        return False
    try:
        section = read_yaml(settings).get("network")
    except InputError:  # it is no run's: what it says is nobody's business here
        return False
    return isinstance(section, dict) and section.get("normalization") == "image"


def _check_pooling(network: Classifier, layout: Layout, content: Weights, path: Path) -> None:
    """Refuse to leave out the convolution of lesion pooling: the features that it weighted would be others without."""
    convolution = layout.prefix.removesuffix(_PREFIX) + "lesion.weight"
    if network.lesion is None and layout.prefix.endswith(_PREFIX) and convolution in content:
        raise InputError(f"checkpoint {path} is of a network with lesion pooling; give pooling: lesion")


def _statistics(backbone: nn.Module, beside: Weights, published: bool) -> dict[str, Any]:
    """Return mean and deviation of the images behind the weights, and whether they are assumed; {} where unknown."""
    if all(name in beside for name in _STATISTICS):
        return {name: float(beside[name]) for name in _STATISTICS}
    if not published:
        return {}
    config: dict[str, Any] = getattr(backbone, "pretrained_cfg", {})
    return {name: grey(config.get(name)) for name in _STATISTICS} | {"assumed": True}


def _check_numbers(path: Path, weights: Weights, own: Weights) -> None:
    floating = {key for key, value in own.items() if value.is_floating_point()}
    other = [key for key, value in weights.items() if key in floating and not value.is_floating_point()]
    if other:
        names = _plain(other)
        raise InputError(f"checkpoint {path}: not floating-point but {weights[other[0]].dtype}: {_few(names)}")
    wrong = _plain([key for key, value in weights.items() if not value.float().isfinite().all()])
    if wrong:
        raise InputError(f"checkpoint {path} holds numbers that are not finite in {_few(wrong)}")


def _given(key: str, taken: Weights) -> bool:
    """Whether a tensor of the network is taken from the file, or is none that a file need have."""
    return key in taken or key in _STATISTICS or key.endswith(_DERIVED)


def _plain(keys: list[str]) -> list[str]:
    return [key.removeprefix(_PREFIX) for key in keys]


def _few(keys: list[str]) -> str:
    return f"{', '.join(keys[:3])}{f' ({len(keys)} in all)' if len(keys) > 3 else ''}"
