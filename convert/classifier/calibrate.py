"""Calibration: which pictures, and the ranges of the activations that they make."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from convert.datasets import Dataset
from convert.datasets.dataset import Colour
from convert.frameworks import converting
from convert.tflite.graph import Graph
from convert.tflite.interpreter import Pixels
from edge.contract.labels import LABELS
from edge.contract.manifest import Calibration
from edge.errors import DataError
from edge.records import Floats

PIXEL_RANGE: Final = (0.0, 255.0)


@dataclass(frozen=True, slots=True)
class CalibrationSet:
    """The pictures that a model is calibrated with.

    Attributes:
        pixels: (n, height, width, channels) uint8 as the model takes them.
        labels: (n,) positions in the model's own labels.
        record: for the manifest.
    """

    pixels: Pixels
    labels: npt.NDArray[np.int64]
    record: Calibration


def draw_calibration_set(
    dataset: Dataset, *, labels: Sequence[str], size_px: int, colour: Colour, count: int, seed: int = 0
) -> CalibrationSet:
    """Draws pictures, as many of each class as there are, at most.

    Where a class has too few, the others fill up. The order is shuffled, so that a part of the set is balanced too.

    Args:
        dataset: labelled faces.
        labels: the model's, in its order, by our names.
        size_px: side of its input.
        colour: of its input.
        count: how many; fewer when there are not enough.
        seed: of the draw.

    Raises:
        DataError: no picture of one of the labels that the data set could have.
    """
    classes = dataset.class_indices(labels)
    named = [k for k, label in enumerate(labels) if label in LABELS]
    missing = [labels[k] for k in named if not (classes == k).any()]
    if missing:
        raise DataError(dataset.name, f"no picture of {', '.join(missing)}; calibration needs every class")
    rng = np.random.default_rng(seed)
    queues = [rng.permutation(np.flatnonzero(classes == k)) for k in named]
    ranks = np.concatenate([np.arange(len(queue)) for queue in queues])
    rows = np.concatenate(queues)[np.argsort(ranks, kind="stable")][:count]
    rows = rng.permutation(rows)
    pixels = dataset.select(rows).model_inputs(size_px=size_px, colour=colour)
    digest = hashlib.sha256(pixels.tobytes() + classes[rows].tobytes()).hexdigest()
    return CalibrationSet(pixels, classes[rows], Calibration(source=dataset.name, count=len(rows), sha256=digest))


def calibrate(tflite: bytes, pixels: Pixels) -> bytes:
    """Runs a float graph on pictures and writes the range of every activation into the file.

    The input's range is not measured but pinned to 0..255, which makes its scale exactly 1.

    Args:
        tflite: float graph that takes pixels 0..255.
        pixels: (n, height, width, channels) uint8.

    Raises:
        ConversionError: the calibrator refuses the graph.
    """
    with converting("TFLite's calibrator"):
        from tensorflow.lite.python.optimize.calibrator import Calibrator

        graph = Graph(bytes(Calibrator(tflite).calibrate(feed(pixels))))
    graph.set_range(graph.inputs[0], *PIXEL_RANGE)
    return graph.encode()


def feed(pixels: Pixels) -> Callable[[], Iterator[list[Floats]]]:
    """Return what TFLite's calibrator calls for its pictures: batches of one as float32."""
    return lambda: ([picture[np.newaxis].astype(np.float32)] for picture in pixels)
