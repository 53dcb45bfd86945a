"""Which pictures are learned from and which are held out: stratified by label, and no person on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from convert.datasets import Dataset, Dropped, read_datasets
from convert.datasets.spec import absolute_spec
from convert.datasets.split_names import PRIVATE_TEST, PUBLIC_TEST, TEST, TRAIN, UNSPLIT, VALIDATION
from edge.errors import DataError
from training.recipe import Recipe

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What a run is trained and selected on.

    Attributes:
        train: pictures to learn from.
        validation: pictures that choose the best epoch; never learned from.
        specs: the data sets as asked for, for the record; with absolute paths, so that they are found from any folder.
    """

    train: Dataset
    validation: Dataset
    specs: tuple[str, ...] = ()


def load_training_data(specs: Sequence[str], recipe: Recipe) -> TrainingData:
    """Reads data sets and holds out validation pictures.

    Pictures of a test split are left alone, and so are training pictures that are pixel-identical to one of them. The
    validation split is the data's own where they name one, else a share of the training split.

    Raises:
        DataError: when no picture is left to train on.
    """
    dataset, named = read_datasets(specs), tuple(map(absolute_spec, specs))
    pool = learnable(dataset)
    held_out = dataset.in_splits(VALIDATION)
    if len(held_out):
        return TrainingData(train=pool, validation=held_out, specs=named)
    folds = assign_folds(pool, count=round(1 / recipe.data.validation), seed=recipe.data.seed)
    return TrainingData(
        train=pool.select(folds != 0), validation=pool.select(folds == 0), specs=tuple(map(absolute_spec, specs))
    )


def learnable(dataset: Dataset) -> Dataset:
    """The training and unsplit pictures that are not, pixel for pixel, in a test or validation split too."""
    pool = dataset.in_splits(TRAIN, UNSPLIT)
    others = set(picture_hashes(dataset.in_splits(TEST, PUBLIC_TEST, PRIVATE_TEST, VALIDATION)))
    new = np.array([digest not in others for digest in picture_hashes(pool)], bool)
    kept = pool.select(new)
    if copies := int((~new).sum()):
        record = Dropped(dataset.name, "pixel-identical to a held-out picture", copies)
        kept = replace(kept, dropped=(*kept.dropped, record))
    if not len(kept):
        raise DataError(dataset.name, "no picture of a training split; name one, or a data set without splits")
    return kept


def assign_folds(dataset: Dataset, *, count: int, seed: int) -> Ints:
    """Deals pictures into folds of equal size and label distribution; a group is never torn.

    A group is a subject where one is known, else a picture with its pixel-identical copies. Groups are dealt largest
    first, in a shuffled order, each to the fold that has the fewest pictures of the group's labels.

    Args:
        dataset: the pictures.
        count: of folds, >= 2.
        seed: of the shuffle.

    Returns:
        (n,) fold of each picture, 0 to count - 1.

    Raises:
        DataError: for fewer groups than folds.
    """
    hashes = np.array(picture_hashes(dataset))
    names = np.where(dataset.subjects != "", dataset.subjects, hashes)
    _, group = np.unique(names, return_inverse=True)
    groups = int(group.max(initial=-1)) + 1
    if groups < count:
        raise DataError(dataset.name, f"{groups} subjects or different pictures cannot be dealt into {count} folds")
    classes = int(dataset.labels.max()) + 1
    content = np.zeros((groups, classes), np.int64)
    np.add.at(content, (group, dataset.labels), 1)
    shuffled = np.random.default_rng(seed).permutation(groups)
    dealt = shuffled[np.argsort(-content[shuffled].sum(axis=1), kind="stable")]
    have, fold_of = np.zeros((count, classes), np.int64), np.zeros(groups, np.int64)
    for number in dealt:
        crowding = (have @ content[number]) * (len(dataset) + 1) + have.sum(axis=1)
        fold = int(crowding.argmin())
        fold_of[number] = fold
        have[fold] += content[number]
    return fold_of[group]


def picture_hashes(dataset: Dataset) -> list[str]:
    """Return a hash of each picture's pixels."""
    return [
        hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=12).hexdigest() for image in dataset.images
    ]
