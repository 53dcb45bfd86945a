"""Accuracy by the protocols of published figures: without copies, over several views, by FER+'s eight classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from convert.datasets import Dataset
from convert.datasets.ferplus import COLUMNS, count_votes
from edge.contract.preprocess import resize
from edge.contract.scores import softmax
from edge.records import Floats

Pixels = npt.NDArray[np.uint8]
CUT: Final = 11 / 12
"""Side of the five cuts of ten views, as a share of the picture's: 44 of 48 pixels."""


def flip_views(pixels: Pixels) -> Iterator[Pixels]:
    """Yield pictures (n, height, width, channels) and their mirror images."""
    yield pixels
    yield np.ascontiguousarray(pixels[:, :, ::-1])


def ten_views(pixels: Pixels) -> Iterator[Pixels]:
    """Yield the four corners and the centre of pictures (n, height, width, channels), and their mirror images.

    Each cut is enlarged to the picture's size. Source: Krizhevsky et al., ImageNet classification with deep
    convolutional neural networks, 2012.
    """
    count, height, width, channels = pixels.shape
    cut_h, cut_w = round(CUT * height), round(CUT * width)
    down, right = height - cut_h, width - cut_w
    for top, left in ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)):
        cuts = pixels[:, top : top + cut_h, left : left + cut_w]
        view = np.stack([resize(np.ascontiguousarray(cut), (width, height)) for cut in cuts])
        yield from flip_views(view.reshape(count, height, width, channels))


def mean_scores(logits: Callable[[Pixels], Floats], views: Iterator[Pixels]) -> Floats:
    """(n, classes) mean probabilities of views (n, height, width, channels) of the same pictures."""
    scores: Floats = np.mean([softmax(logits(view)) for view in views], axis=0)
    return scores


def count_contempt(dataset: Dataset) -> int:
    """How many pictures have FER+'s majority for contempt, its eighth class, which a model of seven gets wrong."""
    if dataset.votes is None:
        return 0
    counted = count_votes(dataset.votes)
    column = counted[:, COLUMNS.index("contempt")]
    return int((column * 2 > counted.sum(axis=1)).sum())
