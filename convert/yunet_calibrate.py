"""Ranges for YuNet's int8 tensors, measured where they matter: around faces.

Far from faces the network says "no" with any number it likes (objectness logits reach −44, sizes explode). Ranges that include those
numbers waste the 8 bits; what is measured here therefore comes from the cells near plausible faces only, and saturates elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from convert.yunet_network import (
    ADDED_TOGETHER,
    INPUT_OF,
    STRIDES,
    Array,
    YuNetWeights,
    between,
    build_network,
    decode_cells,
    range_heads,
    rescale,
)
from edge.errors import DataError

PLAUSIBLE_SCORE = 0.1
LOGIT_FLOOR = -8.0
_SAMPLES_A_SCENE = 1024
_FEWEST_CELLS = 50
_HEAD_MARGIN = 0.03
_OBJECTNESS_PEAK = 7.5
"""Magnitude at which a head's inner objectness channel saturates; beyond it the answer is settled."""
_EARLY = tuple(between(unit) for unit in ("u0", "u1a", "u1b"))
"""Inner tensors whose largest values are a few strong edges: they saturate at the 99.9th percentile."""
_EARLY_PERCENTILE = 99.9


@dataclass(frozen=True, slots=True)
class CalibratedYuNet:
    """A network ready to be quantized.

    Attributes:
        weights: rescaled; the heads' outputs lie in 0..1.
        ranges: lowest and highest value of every tensor, by name.
        low: float32 (3, 16), the raw head value that 0 stands for, by stride and channel.
        high: float32 (3, 16), the raw head value that 1 stands for.
    """

    weights: YuNetWeights
    ranges: dict[str, tuple[float, float]]
    low: Array
    high: Array


def pad_stem(picture: NDArray[np.uint8]) -> Array:
    """The network's float32 input (height + 1, width + 1, 3) of a uint8 picture: black first row and column."""
    return np.pad(picture, ((1, 0), (1, 0), (0, 0))).astype(np.float32)


def calibrate(
    weights: YuNetWeights, scenes: Sequence[NDArray[np.uint8]], *, size_wh: tuple[int, int], seed: int = 0
) -> CalibratedYuNet:
    """Measures the ranges on scenes and rewrites the weights to them.

    Args:
        weights: weights as loaded.
        scenes: uint8 (height, width, 3) BGR pictures with faces of all sizes.
        size_wh: the scenes' width and height, multiples of 32.
        seed: of the drawing of samples.

    Raises:
        DataError: the scenes show too few faces of some size.
    """
    samples, cells = _collect(weights, scenes, size_wh=size_wh, seed=seed)
    peaks = {name: _peak(name, values) for name, values in samples.items()}
    own = {name: peak.copy() for name, peak in peaks.items()}
    for group in ADDED_TOGETHER:
        shared = np.maximum.reduce([peaks[name] for name in group])
        peaks |= dict.fromkeys(group, shared)
    low, high = _head_ranges(cells)
    ranges = {"picture": (0.0, 255.0)}
    for name, peak in own.items():
        top = float((peak / peaks[name]).max())
        ranges[name] = (-top, top) if name.endswith(".between") else (0.0, top)
    ranges |= dict.fromkeys([f"head{stride}" for stride in STRIDES], (0.0, 1.0))
    return CalibratedYuNet(range_heads(rescale(weights, peaks), low=low, high=high), ranges, low, high)


def _collect(
    weights: YuNetWeights, scenes: Sequence[NDArray[np.uint8]], *, size_wh: tuple[int, int], seed: int
) -> tuple[dict[str, Array], list[Array]]:
    """Samples, per tensor (n, channels), of the places near faces; and per stride the raw values (n, 16) of plausible cells."""
    names = ["stem", *(between(unit) for unit in INPUT_OF), *INPUT_OF.keys(), *(group[2] for group in ADDED_TOGETHER)]
    names = [name for name in names if not (name.startswith("head") and not name.endswith(".between"))]
    network = build_network(weights, size_wh=size_wh)
    probe = keras.Model(network.input, [network.output, *(network.get_layer(name).output for name in names)])
    rng = np.random.default_rng(seed)
    samples: dict[str, list[Array]] = {name: [] for name in names}
    cells: list[list[Array]] = [[] for _ in STRIDES]
    for scene in scenes:
        output, *tensors = (np.asarray(tensor)[0] for tensor in probe(pad_stem(scene)[None], training=False))
        plausible = decode_cells(output, size_wh=size_wh).scores >= PLAUSIBLE_SCORE
        near = np.zeros((size_wh[1] // STRIDES[0], size_wh[0] // STRIDES[0]), np.uint8)
        for level, (part, mask) in enumerate(_split_levels(output, plausible, size_wh=size_wh)):
            cells[level].append(part[mask.ravel()])
            grown = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8))
            near |= _scale_mask(grown, near.shape)
        for name, tensor in zip(names, tensors, strict=True):
            values = tensor[_scale_mask(near, tensor.shape[:2]) > 0]
            if len(values) > _SAMPLES_A_SCENE:
                values = values[rng.choice(len(values), _SAMPLES_A_SCENE, replace=False)]
            samples[name].append(values)
    return {name: np.concatenate(values) for name, values in samples.items()}, [np.concatenate(c) for c in cells]


def _split_levels(
    output: Array, plausible: NDArray[np.bool_], *, size_wh: tuple[int, int]
) -> Iterator[tuple[Array, NDArray[np.bool_]]]:
    """Per stride the rows (n, 16) of the output and the mask (rows, columns) of its plausible cells."""
    at = 0
    for stride in STRIDES:
        shape = size_wh[1] // stride, size_wh[0] // stride
        end = at + shape[0] * shape[1]
        yield output[at:end], plausible[at:end].reshape(shape)
        at = end


def _scale_mask(mask: NDArray[np.uint8], shape_hw: tuple[int, ...]) -> NDArray[np.uint8]:
    """A mask at a finer or coarser grid; coarser cells are set where any of theirs is."""
    if mask.shape[0] > shape_hw[0]:
        factor = mask.shape[0] // shape_hw[0]
        coarse: NDArray[np.uint8] = mask.reshape(shape_hw[0], factor, shape_hw[1], factor).max(axis=(1, 3))
        return coarse
    factor = shape_hw[0] // mask.shape[0]
    return mask.repeat(factor, axis=0).repeat(factor, axis=1)


def _peak(name: str, values: Array) -> Array:
    """The magnitude, float32 (channels,), at which each channel saturates."""
    magnitude = np.abs(values)
    largest = magnitude.max(axis=0)
    if name in _EARLY:
        largest = np.maximum(np.percentile(magnitude, _EARLY_PERCENTILE, axis=0), largest / 20)
    if name.startswith("head"):
        largest[1] = min(largest[1], _OBJECTNESS_PEAK)
    # A channel that never leaves zero keeps a range: dividing by nothing would only stretch its noise.
    return np.maximum(largest, 1e-3 * largest.max()).astype(np.float32)


def _head_ranges(cells: list[Array]) -> tuple[Array, Array]:
    """Lowest and highest raw head value, float32 (3, 16) each, that the output has to tell apart."""
    low, high = [], []
    for stride, values in zip(STRIDES, cells, strict=True):
        if len(values) < _FEWEST_CELLS:
            raise DataError(
                "calibration", f"{len(values)} cells of stride {stride} see a face; at least {_FEWEST_CELLS} must"
            )
        bottom, top = values.min(axis=0), values.max(axis=0)
        slack = _HEAD_MARGIN * (top - bottom)
        bottom, top = bottom - slack, top + slack
        bottom[:2] = LOGIT_FLOOR
        low.append(bottom)
        high.append(top)
    return np.asarray(low, np.float32), np.asarray(high, np.float32)
