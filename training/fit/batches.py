"""What enters a training step, decided by (seed, epoch, step) alone: that makes resuming exact."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from training.augment import augment_batch, mix_batch
from training.fit.targets import Floats
from training.fit.views import Views
from training.recipe import Recipe

Teach = Callable[[Floats], Floats]
"""Teachers' probabilities (n, heads, classes) for pixels (n, height, width, channels) float32 in 0..255."""

_AHEAD: Final = 4
"""Batches that are made while the network computes."""


def predict_in_batches(
    predict: Callable[[Floats], npt.ArrayLike], inputs: npt.NDArray[np.generic], *, batch_size: int = 256
) -> Floats:
    """(n, …) float32: what a network says of pictures (n, height, width, channels) of any dtype."""
    parts = [
        np.asarray(predict(inputs[start : start + batch_size].astype(np.float32)), np.float32)
        for start in range(0, len(inputs), batch_size)
    ]
    return np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class Batches:
    """Augmented, mixed batches of a training set.

    Attributes:
        inputs: (n, height, width, channels) uint8, or float32 features, which are not augmented.
        targets: (n, heads, classes) float32.
        recipe: batch size, augmentation, seed.
        teach: appends the teachers' opinion of the augmented pictures to the targets.
        views: pictures and opinions that were made before, in the place of augmentation and ``teach``.
    """

    inputs: npt.NDArray[np.uint8] | Floats
    targets: Floats
    recipe: Recipe
    teach: Teach | None = None
    views: Views | None = None

    @property
    def size(self) -> int:
        """Pictures a batch: the recipe's, or all there are."""
        return min(self.recipe.train.batch_size, len(self.inputs))

    def __len__(self) -> int:
        """Steps an epoch; the last pictures of an epoch's order that fill no batch wait for the next epoch."""
        return len(self.inputs) // self.size

    def of_epoch(self, epoch: int) -> Iterator[tuple[Floats, Floats]]:
        """All batches of an epoch, counted from 1, in their order; the next ones are made in a thread meanwhile."""
        order = self._order(epoch)
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as maker:
            made = deque(maker.submit(self._make, order, epoch, step) for step in range(min(_AHEAD, len(self))))
            for step in range(len(self)):
                inputs, targets = made.popleft().result()
                if step + _AHEAD < len(self):
                    made.append(maker.submit(self._make, order, epoch, step + _AHEAD))
                if self.teach is not None:  # not in the thread: a backend's networks belong to the main one
                    targets = np.concatenate([targets, self.teach(inputs)], axis=1)
                yield inputs, targets

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng([self.recipe.train.seed, epoch]).permutation(len(self.inputs))

    def _make(self, order: npt.NDArray[np.int64], epoch: int, step: int) -> tuple[Floats, Floats]:
        """Inputs (n, ...) float32 and targets (n, heads, classes) float32 of one step, counted from 0."""
        rows = order[step * self.size : (step + 1) * self.size]
        rng = np.random.default_rng([self.recipe.train.seed, epoch, step])
        picked = self.inputs[rows]
        inputs, targets = picked.astype(np.float32), self.targets[rows]
        if self.views is not None:
            pictures, opinions = self.views.of_epoch(rows, epoch)
            mirrored = rng.random(len(rows)) < self.recipe.augment.flip
            pictures[mirrored] = pictures[mirrored][:, :, ::-1]
            inputs, targets = pictures.astype(np.float32), np.concatenate([targets, opinions], axis=1)
        elif picked.dtype == np.uint8:
            inputs = augment_batch(picked.astype(np.uint8, copy=False), rng, self.recipe.augment).astype(np.float32)
        if picked.dtype == np.uint8:
            draw, mixup = rng.random(), self.recipe.train.mixup
            if draw < mixup + self.recipe.train.cutmix:
                inputs, targets = mix_batch(inputs, targets, rng, kind="mixup" if draw < mixup else "cutmix")
        return inputs, targets
