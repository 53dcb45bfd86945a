"""What enters a training step, decided by (seed, epoch, step) alone: that makes resuming exact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.augment import augment_batch, mix_batch
from training.recipe import Recipe
from training.targets import Floats

Teach = Callable[[Floats], Floats]
"""Teachers' probabilities (n, heads, classes) for pixels (n, height, width, channels) float32 in 0..255."""


@dataclass(frozen=True, slots=True)
class Batches:
    """Augmented, mixed batches of a training set.

    Attributes:
        inputs: (n, height, width, channels) uint8, or float32 features, which are not augmented.
        targets: (n, heads, classes) float32.
        recipe: batch size, augmentation, seed.
        teach: appends the teachers' opinion of the augmented pictures to the targets.
    """

    inputs: npt.NDArray[np.uint8] | Floats
    targets: Floats
    recipe: Recipe
    teach: Teach | None = None

    @property
    def size(self) -> int:
        """Pictures a batch: the recipe's, or all there are."""
        return min(self.recipe.train.batch_size, len(self.inputs))

    def __len__(self) -> int:
        """Steps an epoch; the last pictures of an epoch's order that fill no batch wait for the next epoch."""
        return len(self.inputs) // self.size

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """The pictures' order in an epoch."""
        return np.random.default_rng([self.recipe.train.seed, epoch]).permutation(len(self.inputs))

    def batch(self, order: npt.NDArray[np.int64], *, epoch: int, step: int) -> tuple[Floats, Floats]:
        """Inputs (n, ...) float32 and targets (n, heads, classes) float32 of one step, counted from 0."""
        rows = order[step * self.size : (step + 1) * self.size]
        rng = np.random.default_rng([self.recipe.train.seed, epoch, step])
        picked = self.inputs[rows]
        inputs, targets = picked.astype(np.float32), self.targets[rows]
        if picked.dtype == np.uint8:
            inputs = augment_batch(picked.astype(np.uint8, copy=False), rng, self.recipe.augment).astype(np.float32)
            draw, mixup = rng.random(), self.recipe.train.mixup
            if draw < mixup + self.recipe.train.cutmix:
                inputs, targets = mix_batch(inputs, targets, rng, kind="mixup" if draw < mixup else "cutmix")
        if self.teach is not None:
            targets = np.concatenate([targets, self.teach(inputs)], axis=1)
        return inputs, targets
