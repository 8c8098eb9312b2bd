"""What learns: a network with its loss, optimizer and moving average, held by one process or shared by several."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from medsharp.config import TrainConfig
from medsharp.data.pipeline import ImageDataset
from medsharp.data.sharing import Division
from medsharp.networks import Classifier
from training.average import moving_average
from training.batch_norm import average_statistics
from training.datasets import class_counts, mask_share
from training.finetuning import Backbone, learning_rate_shares
from training.losses import Objective
from training.processes import Processes
from training.schedule import Schedule
from training.settings import make_optimizer
from training.sharding import load_optimizer, load_weights, whole_state, whole_weights
from training.step import Step
from training.strategy import distributed


class Learner:
    """A network that learns.

    Attributes:
        network: It.
        optimizer: Of its parameters, and of those of the loss.
        schedule: Of learning rate and rho.

    Args:
        network: As it was made.
        config: With its precision settled.
        training: What is learned from.
        division: Of a batch.
        steps: Of an epoch.
        device: To train on.
        processes: That share it; each must make one.

    Raises:
        InputError: Settings do not go with the network or the device.
    """

    def __init__(
        self,
        network: Classifier,
        config: TrainConfig,
        training: ImageDataset,
        division: Division,
        steps: int,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self.network = network
        self.config = config
        self.device = device
        self.processes = processes
        counts, share = class_counts(training.table, config), mask_share(training, config)
        with processes.agreed():
            self.objective = Objective(network, config.loss, counts, share).to(device)
        self.divided = processes.count > 1 and config.run.strategy == "fsdp"
        if config.run.channels_last and not self.divided:  # which divides tensors by their first dimension
            self.objective.to(memory_format=torch.channels_last)
        if config.run.compile:
            # In place: what is saved, averaged and validated stays the network itself.
            self.objective.compile()
        # Of a network whose tensors are divided, a whole copy that validates.
        self._copy: Classifier | None = copy.deepcopy(network).cpu() if self.divided else None
        # The weights of the first process become those of all.
        shared = distributed(self.objective, config, processes, device)
        decay = config.run.ema_decay
        self.average = None if decay is None else moving_average(network, decay)
        self.backbone = Backbone(network)
        self.scaler = torch.amp.GradScaler(device.type) if config.run.precision == "fp16" else None
        self.optimizer = make_optimizer(
            config,
            self.objective,
            data_size=len(training),
            shares=learning_rate_shares(network, config),
            steps=steps,
            wrapped=shared,
            together=division.climbs == 0,
            scaler=self.scaler,
        )
        rho = config.optimizer.hyperparameters().get("rho")
        self.schedule = Schedule(self.optimizer, config.optimizer.lr, rho, config.schedule, steps)
        self.step = Step(shared, self.optimizer, config.run.precision, division, processes.rank, self.scaler)

    def begin_epoch(self, epoch: int) -> None:
        """Put layers into the mode of an epoch."""
        if self._copy is not None:
            self._copy.cpu()  # what it needs on the device is the steps' now
        self.objective.train()
        self.backbone.freeze(epoch < self.config.schedule.frozen_epochs)

    def end_step(self) -> None:
        """Move the average."""
        if self.average is not None:
            self.average.update_parameters(self.network)

    def end_epoch(self) -> nn.Module:
        """Bring running statistics together; return what is validated and kept, with whole weights, on the device."""
        average_statistics([self.network, *([] if self.average is None else [self.average])], self.processes)
        if self._copy is not None:
            self._copy.load_state_dict(whole_weights(self.network))
            return self._copy.to(self.device)
        return self.network if self.average is None else self.average.module

    @property
    def looks_for_scale(self) -> bool:
        """Whether skipped steps are those in which fp16 looks for the scale of its loss, and not a divergence."""
        return self.scaler is not None and self.scaler.get_scale() >= 1

    def state_dict(self) -> dict[str, Any]:
        """Return what going on needs, as one process has it."""
        return {
            "objective": whole_weights(self.objective),
            "optimizer": whole_state(self.optimizer),
            "average": None if self.average is None else self.average.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned, of however many processes."""
        load_weights(self.objective, state["objective"])
        load_optimizer(self.optimizer, state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
