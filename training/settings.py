"""Checking a configuration against the registries that only training may import, and making its optimizer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from medsharp.config import TrainConfig
from medsharp.errors import InputError
from medsharp.export.translation import check_translation
from medsharp.networks import check_name, create_network, find_weights
from medsharp.optim import ClosureOptimizer, create_optimizer, parameter_groups
from medsharp.optimizer_config import METHODS, OptimizerConfig, methods_in_use
from medsharp.weights_origin import WeightsOrigin
from training.finetuning import Shares, divided_by_share, learning_rate_shares
from training.strategy import check_strategy


def check_config(config: TrainConfig) -> None:
    """Check the network's name, and whether the settings of the optimizer go together and with the network.

    Raises:
        InputError: The network is unknown, or has no layers to divide the learning rate by, or two settings contradict
            each other; the sentence names the key.
    """
    try:
        check_name(config.network.name)
    except InputError as error:
        raise InputError(f"network.name: {error}") from error
    if config.network.pooling == "lesion" and config.loss.mask_weight == 0:
        raise InputError(
            "network.pooling = lesion: where the lesion is, is learned from masks alone; set loss.mask_weight, such as "
            "to 1, or network.pooling: average"
        )
    if config.optimizer.layer_decay is not None:
        with torch.device("meta"):  # names alone, before there are data
            network = create_network(
                config.network.name, num_classes=len(config.data.classes), image_size=config.data.image_size
            )
        learning_rate_shares(network, config)
    check_strategy(config)
    try:
        # Made once for a look: it knows rules that a range of one value cannot say.
        make_optimizer(config, [torch.zeros(1, requires_grad=True)], data_size=1)
    except ValueError as error:
        raise InputError(f"{_culprit(config.optimizer, str(error))}: {error}") from error


def check_network(config: TrainConfig) -> WeightsOrigin | None:
    """Make the network once, with the checkpoint that it starts from: an audit of the data may take minutes.

    Returns:
        Where its initial weights come from, None for random ones; published ones are looked for, and not loaded.

    Raises:
        InputError: It cannot be made, cannot learn from such batches or could not be exported afterwards; its weights
            are out of reach or do not fit.
    """
    section = config.network
    classes, size = len(config.data.classes), config.data.image_size
    published = None
    if section.pretrained:
        published = find_weights(
            section.name, num_classes=classes, image_size=size, pretrained=True, checkpoint=section.checkpoint
        )
    network = create_network(
        section.name,
        num_classes=classes,
        image_size=size,
        checkpoint=section.checkpoint,
        drop_rate=section.drop_rate,
        drop_path_rate=section.drop_path_rate,
        normalization="auto" if section.pretrained else section.normalization,
        mean=section.mean,
        std=section.std,
        pooling=section.pooling,
    )
    check_batch_norm(config, network)
    check_translation(network, section.name)
    return published or network.origin


def check_batch_norm(config: TrainConfig, network: nn.Module) -> None:
    """Check that batch norm never has to learn from one image by itself.

    Raises:
        InputError: Batches or micro-batches are of one image, and the network has batch norm.
    """
    if not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules()):
        return
    micro = config.optimizer.hyperparameters().get("micro_batch")
    sizes = {"schedule.batch_size": config.schedule.batch_size, f"optimizer.{config.optimizer.name}.micro_batch": micro}
    for key, size in sizes.items():
        if size == 1:
            raise InputError(
                f"{key} = 1: network {config.network.name} has batch norm, which learns nothing from one image; set "
                "it to 2 or more, or choose a network without batch norm, such as convnext_atto"
            )


def make_optimizer(
    config: TrainConfig,
    model_or_params: nn.Module | list[Tensor],
    data_size: int,
    shares: Shares | None = None,
    steps: int | None = None,
    wrapped: nn.Module | None = None,
    together: bool | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> ClosureOptimizer:
    """Make the optimizer of a configuration.

    Plain methods come with the protocol of the sharpness-aware ones, so that whoever trains need not know which it is:
    it clips what it applies, and leaves out a step whose loss or gradient is not finite.

    Args:
        config: The method with its settings, the gradient norm to clip to, and the seed of what the method draws.
        model_or_params: Of a model, the norm layers, biases and the like are not decayed.
        data_size: Number of training images, for methods that count them and whose settings do not say another number.
        shares: Of the learning rate, for parameters of a model that do not learn at the whole.
        steps: Of an epoch, for a method that does something once an epoch, if its settings do not say how often.
        wrapped: The model as several processes share it, where it is not the model itself.
        together: Whether several processes climb along the gradient of all of them; by default as configured.
        scaler: What the loss is scaled with.

    Raises:
        ValueError: Two settings contradict each other.
    """
    section = config.optimizer
    options = section.hyperparameters()
    if options.get("data_size") is None:
        options["data_size"] = data_size
    if "interval" in options and options["interval"] is None:
        options["interval"] = steps
    params: Any = model_or_params
    if isinstance(model_or_params, nn.Module):
        groups = parameter_groups(model_or_params, section.weight_decay, decay_norm_and_bias=False)
        params, options["model"] = divided_by_share(groups, shares or {}, section.lr), wrapped or model_or_params
    if together is None:
        together = config.run.perturbation == "synchronised"
    optimizer = create_optimizer(
        section.name,
        params,
        base=section.base,
        lr=section.lr,
        weight_decay=section.weight_decay,
        seed=config.seed,
        protocol=True,
        sync_perturbation=together,
        scaler=scaler,
        **options,
    )
    optimizer.max_grad_norm = config.run.clip_grad_norm
    return optimizer


def _culprit(section: OptimizerConfig, sentence: str) -> str:
    """Return the key that a sentence of the optimizer's speaks of."""
    spoken = sentence.lower()
    if "sync_perturbation" in spoken:
        return "run.perturbation = synchronised"
    for method in methods_in_use(section.name, section.base):
        for key in sorted(METHODS[method].model_fields, key=len, reverse=True):
            if key in spoken:
                return f"optimizer.{method}.{key}"
    return "optimizer"
