"""What a bundle's own network answers to adversarial images, for `medsharp robustness --adversarial RUN`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from medsharp.errors import InputError
from medsharp.inference import Predictor
from medsharp.inference.predictor import softmax
from medsharp.progress import Progress
from medsharp.robustness import Attacked, Sample, prepare
from medsharp.runs import Run
from training.adversarial import ATTACKS, Attack, attack

_BATCH = 32
_TOLERANCE = 1e-3


class Adversary:
    """Attacks the network that a bundle was exported from.

    The attack is made on the network's input, after cropping and resizing, where the gradient is; PyTorch answers.

    Args:
        run: The run folder that holds its weights.
        attacks: Which; all of `ATTACKS` by default.
    """

    def __init__(self, run: str | Path, attacks: Sequence[Attack] = ATTACKS) -> None:
        self.run = Path(run)
        self.attacks = tuple(attacks)
        self.network = Run.load(run).load_network()
        # Gradients by the images only.
        self.network.requires_grad_(False)

    def __call__(
        self,
        predictor: Predictor,
        sample: Sample,
        labels: np.ndarray,
        seed: int,
        progress: Progress | None = None,
    ) -> list[Attacked]:
        """Attack every image.

        Args:
            predictor: The bundle.
            sample: The images.
            labels: Number of the class of each, int [N].
            seed: Of PGD's starts.
            progress: Called with what is done, what there is to do and what is being done.

        Raises:
            InputError: The bundle was not exported from this run.
        """
        inputs = np.stack([prepare(place, sample, [predictor.preprocessing])[0] for place in range(len(sample))])
        self._check(predictor, inputs[:8])
        images, numbers = torch.from_numpy(inputs[:, None]), torch.from_numpy(labels.astype(np.int64))
        found = []
        for done, how in enumerate(self.attacks):
            generator = torch.Generator().manual_seed(seed)
            logits = []
            for start in range(0, len(images), _BATCH):
                part = slice(start, start + _BATCH)
                changed = attack(self.network, images[part], numbers[part], how, generator)
                with torch.inference_mode():
                    logits.append(self.network(changed).numpy())
                if progress is not None:
                    progress(done * len(images) + start, len(self.attacks) * len(images), "attacking")
            answers = softmax(np.concatenate(logits).astype(np.float64) / predictor.spec.temperature)
            found.append(Attacked(how.name, how.norm, how.epsilon, how.steps, answers))
        return found

    def _check(self, predictor: Predictor, inputs: np.ndarray) -> None:
        if any(update.intercept for update in predictor.spec.updates):
            raise InputError(
                f"{predictor.folder} was updated after its export, so that {self.run} gives other logits; attack the "
                f"bundle that it was made from, {predictor.spec.updates[0].parent}"
            )
        size = predictor.spec.preprocess.size
        if self.network.image_size == size:
            with torch.inference_mode():
                ours = self.network(torch.from_numpy(inputs[:, None])).numpy()
            theirs = predictor.session.run(inputs)["logits"]
            if ours.shape == theirs.shape and np.abs(ours - theirs).max() <= _TOLERANCE:
                return
        raise InputError(f"{predictor.folder} was not exported from {self.run}: they give different logits")
