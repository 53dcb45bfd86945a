"""From labelled pictures to what the loss compares with.

A target is a row of non-negative numbers, one a class, whose sum is the picture's weight: cross-entropy is linear in
it, so vote shares, weights, smoothing, mixing and class balance are all multiplications here, and the loss stays one
line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from convert.datasets import Dataset, majority_labels, vote_distributions
from convert.datasets.ferplus import NO_VOTES, OUR_COLUMNS, count_votes
from edge.contract.labels import LABELS
from edge.errors import DataError
from training.recipe import Recipe, Target

Floats = npt.NDArray[np.float32]
NOT_JUDGED: Final = -1
"""Label of a picture that a head is neither trained nor judged on."""


@dataclass(frozen=True, slots=True)
class Arrays:
    """Pictures and targets as training takes them.

    Attributes:
        inputs: (n, height, width, channels) uint8, or float32 features.
        targets: (n, heads, classes) float32; a row sums to the picture's weight for that head, 0 for none.
        labels: (n, heads) int64 positions in the recipe's classes; `NOT_JUDGED` where there is none.
    """

    inputs: npt.NDArray[np.uint8] | Floats
    targets: Floats
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def make_arrays(dataset: Dataset, recipe: Recipe) -> Arrays:
    """Pictures of the recipe's classes, resized by the device's own code, with one target a head."""
    dataset = dataset.select(dataset.class_indices(recipe.data.classes) >= 0)
    pairs = [_head(dataset, target, recipe.data.classes) for target in recipe.data.targets]
    return Arrays(
        inputs=dataset.model_inputs(size_px=recipe.input.size_px, colour=recipe.input.colour),
        targets=np.stack([targets for targets, _ in pairs], axis=1),
        labels=np.stack([labels for _, labels in pairs], axis=1),
    )


def prepare_targets(arrays: Arrays, recipe: Recipe, *, source: str) -> Floats:
    """(n, heads, classes) training targets: smoothed, and weighted by class where the recipe says so.

    Raises:
        DataError: for no picture, or a class that a head would never see.
    """
    if not len(arrays):
        raise DataError(source, "no training picture of the recipe's classes")
    classes = recipe.data.classes
    for head, target in enumerate(recipe.data.targets):
        missing = [name for k, name in enumerate(classes) if not (arrays.labels[:, head] == k).any()]
        if missing:
            rest = ",".join(name for name in classes if name not in missing)
            raise DataError(
                source, f"no training picture of {', '.join(missing)} (target {target}); leave it out: --classes {rest}"
            )
    weight = arrays.targets.sum(axis=2, keepdims=True)
    smoothing = recipe.train.label_smoothing
    smoothed: Floats = (1 - smoothing) * arrays.targets + smoothing * weight / len(classes)
    if recipe.train.class_weights == "balanced":
        per_class = arrays.targets.sum(axis=0)
        factors = per_class.mean(axis=1, keepdims=True) / per_class
        own = np.take_along_axis(factors[None], arrays.labels.clip(0)[:, :, None], axis=2)
        smoothed = smoothed * own
    return smoothed.astype(np.float32)


def class_offsets(arrays: Arrays, recipe: Recipe) -> Floats:
    """(heads, classes) float32 that the kept networks' logits are lowered by: see `Train.logit_adjustment`."""
    mass = arrays.targets.sum(axis=0)
    shares = np.array([[recipe.train.logit_adjustment.get(target, 0.0)] for target in recipe.data.targets])
    offsets: Floats = (shares * np.log(mass / mass.sum(axis=1, keepdims=True))).astype(np.float32)
    return offsets


def _head(dataset: Dataset, target: Target, classes: Sequence[str]) -> tuple[Floats, npt.NDArray[np.int64]]:
    own = dataset.class_indices(classes)
    one_hot = np.eye(len(classes), dtype=np.float32)[own]
    if target == "own":
        return one_hot, own
    if dataset.votes is None:
        raise DataError(
            dataset.name,
            "data.targets asks for votes, and no picture has FER+ votes; a recipe for own labels is finetune",
        )
    return _vote_targets(dataset, classes, one_hot, own)


def _vote_targets(
    dataset: Dataset, classes: Sequence[str], one_hot: Floats, own: npt.NDArray[np.int64]
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Vote shares over ``classes``, weighted by their part of all votes; the own label where FER+ did not judge."""
    assert dataset.votes is not None
    columns = [LABELS.index(name) for name in classes]
    judged = dataset.votes[:, 0] != NO_VOTES
    counted = count_votes(dataset.votes)
    ours = vote_distributions(dataset.votes) * _share_for_ours(counted)[:, None]
    majority = majority_labels(dataset.votes)
    positions = np.full(len(LABELS) + 1, NOT_JUDGED, np.int64)
    positions[columns] = np.arange(len(classes))
    targets = np.where(judged[:, None], ours[:, columns], one_hot)
    return targets.astype(np.float32), np.where(judged, positions[majority], own)


def _share_for_ours(counted: npt.NDArray[np.int64]) -> Floats:
    total = counted.sum(axis=1)
    ours = counted[:, list(OUR_COLUMNS)].sum(axis=1)
    share: Floats = np.divide(ours, total, out=np.zeros(len(total)), where=total > 0).astype(np.float32)
    return share
