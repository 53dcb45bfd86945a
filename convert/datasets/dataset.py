"""The record that every reader ends in: labelled face pictures with all that is known about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from convert.datasets.ferplus import NO_VOTES, Votes, vote_distributions
from edge.contract.crop import cut_square
from edge.contract.labels import LABELS
from edge.contract.preprocess import resize, to_grey
from edge.errors import DataError
from edge.records import Image

Images = npt.NDArray[np.uint8] | tuple[Image, ...]
"""(n, height, width) grey or (n, height, width, 3) BGR, uint8; a tuple of (h, w) or (h, w, 3) where sizes differ."""
Texts = npt.NDArray[np.str_]
Labels = npt.NDArray[np.int64]
Colour = Literal["grey", "bgr", "rgb"]


@dataclass(frozen=True, slots=True)
class Dropped:
    """Pictures that were left out on purpose.

    Attributes:
        source: name of the data set.
        reason: why, in words.
        count: how many.
    """

    source: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """Labelled pictures in memory; every array has one entry a picture.

    Attributes:
        name: what to call it in reports.
        images: see `Images`.
        labels: (n,) int64 in our order (`edge.contract.labels.LABELS`).
        splits: (n,) names of `convert.datasets.split_names`.
        subjects: (n,) who is shown, unique across data sets (``ckplus48/S010``); empty where unknown.
        sequences: (n,) which video the picture was cut from; empty where unknown.
        ids: (n,) the source row: ``fer2013.csv:18`` (line) or a path inside the folder.
        sources: (n,) name of the data set each picture comes from.
        votes: (n, 10) uint8 FER+ votes, 255 where there are none; None when no picture has any.
        sha256: of the files read and of what was asked for.
        dropped: what was left out and why.
    """

    name: str
    images: Images
    labels: Labels
    splits: Texts
    subjects: Texts
    sequences: Texts
    ids: Texts
    sources: Texts
    votes: Votes | None
    sha256: str
    dropped: tuple[Dropped, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def select(self, rows: npt.NDArray[np.generic]) -> Dataset:
        """The pictures at ``rows``: integer positions or (n,) bool."""
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        if len(positions) == len(self) and np.array_equal(positions, np.arange(len(self))):
            return self
        images = self.images
        picked = tuple(images[i] for i in positions) if isinstance(images, tuple) else images[positions]
        return replace(
            self,
            images=picked,
            labels=self.labels[positions],
            splits=self.splits[positions],
            subjects=self.subjects[positions],
            sequences=self.sequences[positions],
            ids=self.ids[positions],
            sources=self.sources[positions],
            votes=None if self.votes is None else self.votes[positions],
        )

    def in_splits(self, *names: str) -> Dataset:
        """The pictures of these splits; may be empty."""
        return self.select(np.isin(self.splits, names))

    def without_labels(self, *omitted: str) -> Dataset:
        """All pictures but those of the given labels of ours; what is left out is recorded in ``dropped``."""
        keep = ~np.isin(self.labels, [LABELS.index(label) for label in omitted])
        counts = self.label_counts()
        records = [Dropped(self.name, f"{label} left out", int(counts[LABELS.index(label)])) for label in omitted]
        return replace(self.select(keep), dropped=self.dropped + tuple(record for record in records if record.count))

    def label_counts(self) -> npt.NDArray[np.int64]:
        """(7,) pictures per label, in our order."""
        return np.bincount(self.labels, minlength=len(LABELS)).astype(np.int64)

    def soft_labels(self, classes: Sequence[str] = LABELS) -> npt.NDArray[np.float32]:
        """Target distributions over ``classes``: FER+ vote shares where there are votes, else all on the label.

        Args:
            classes: labels in the order wanted; shares of the others are removed and the rest scaled to sum 1.

        Returns:
            (n, len(classes)) float32, rows sum to 1.

        Raises:
            DataError: for a picture whose label is not in ``classes``.
        """
        columns = [LABELS.index(label) for label in classes]
        targets: npt.NDArray[np.float32] = np.eye(len(LABELS), dtype=np.float32)[self.labels]
        if self.votes is not None:
            shares = vote_distributions(self.votes)
            voted = shares[:, columns].sum(axis=1) > 0
            targets[voted] = shares[voted]
        picked = targets[:, columns]
        total = picked.sum(axis=1, keepdims=True)
        if len(self) and not total.all():
            row = int(np.flatnonzero(total[:, 0] == 0)[0])
            raise DataError(
                self.name, f"{self.ids[row]}: {LABELS[self.labels[row]]} is not one of {', '.join(classes)}"
            )
        normalised: npt.NDArray[np.float32] = picked / total
        return normalised

    def class_indices(self, classes: Sequence[str]) -> Labels:
        """Return each picture's position in ``classes``, (n,) int64; -1 for a label that is not in it.

        Args:
            classes: labels, by our names where they are ours; others (``contempt``) match no picture.
        """
        positions = [classes.index(label) if label in classes else -1 for label in LABELS]
        return np.array(positions, np.int64)[self.labels]

    def model_inputs(self, *, size_px: int, colour: Colour = "grey") -> npt.NDArray[np.uint8]:
        """The pictures as a model takes them, by the device's own code (`edge.contract.preprocess`).

        A picture is a crop already and is taken whole (geometry 1, see `edge.contract.crop`); of one that is not
        square, the largest centred square.

        Args:
            size_px: side of the model's input.
            colour: ``grey`` for one channel, else three; a grey picture has three equal channels.

        Returns:
            (n, size_px, size_px, 1 or 3) uint8, NHWC.
        """
        channels = 1 if colour == "grey" else 3
        inputs = np.empty((len(self), size_px, size_px, channels), np.uint8)
        for image, out in zip(self.images, inputs, strict=True):
            square = _centre_square(image)
            resized = resize(to_grey(square) if colour == "grey" else square, (size_px, size_px))
            pixels = resized if resized.ndim == 3 else resized[:, :, np.newaxis]
            out[:] = pixels[:, :, ::-1] if colour == "rgb" else pixels
        return inputs


def _centre_square(image: Image) -> Image:
    height, width = image.shape[:2]
    side = min(height, width)
    return image if height == width else cut_square(image, ((width - side) // 2, (height - side) // 2, side))


def concatenate(datasets: Sequence[Dataset]) -> Dataset:
    """One data set of several, in their order.

    Raises:
        DataError: for an empty sequence.
    """
    if not datasets:
        raise DataError("data", "no data set given")
    if len(datasets) == 1:
        return datasets[0]
    names = " + ".join(dataset.name for dataset in datasets)
    return Dataset(
        name=names,
        images=_concatenate_images([dataset.images for dataset in datasets]),
        labels=np.concatenate([dataset.labels for dataset in datasets]),
        splits=np.concatenate([dataset.splits for dataset in datasets]),
        subjects=np.concatenate([dataset.subjects for dataset in datasets]),
        sequences=np.concatenate([dataset.sequences for dataset in datasets]),
        ids=np.concatenate([dataset.ids for dataset in datasets]),
        sources=np.concatenate([dataset.sources for dataset in datasets]),
        votes=_concatenate_votes(datasets),
        sha256=hashlib.sha256(" ".join(dataset.sha256 for dataset in datasets).encode()).hexdigest(),
        dropped=tuple(record for dataset in datasets for record in dataset.dropped),
    )


def stack_images(images: Sequence[Image]) -> Images:
    """One array where all pictures have the same shape, else a tuple."""
    if len({image.shape for image in images}) == 1:
        return np.stack(images)
    return tuple(images) if images else np.zeros((0, 1, 1), np.uint8)


def _concatenate_images(parts: Sequence[Images]) -> Images:
    filled = [part for part in parts if len(part)]
    arrays = [part for part in filled if not isinstance(part, tuple)]
    if len(arrays) == len(filled) and len({array.shape[1:] for array in arrays}) == 1:
        return np.concatenate(arrays)
    return stack_images([image for part in filled for image in part])


def _concatenate_votes(datasets: Sequence[Dataset]) -> Votes | None:
    if all(dataset.votes is None for dataset in datasets):
        return None
    return np.concatenate([np.full((len(d), 10), NO_VOTES, np.uint8) if d.votes is None else d.votes for d in datasets])
