"""Ranges for YuNet's int8 tensors, measured where they matter: around faces.

Far from faces the network says "no" with any number it likes (objectness logits reach −44, sizes explode). Ranges
that include those numbers waste the 8 bits; what is measured here therefore comes from the cells near plausible faces
only, and saturates elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from convert.yunet.network import (
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
OBJECTNESS_LEAD = 0.1
"""Added to the objectness logit: rounding scatters the scores by ±0.016 around the float network's, so that at equal
thresholds faces just above it would be lost. Chosen on 4,688 faces of scenes that were not calibrated on: found 98.95
% → 99.15 %."""
_FEWEST_CELLS = 50
_HEAD_MARGIN = 0.03
_OBJECTNESS_PEAK = 7.5
"""Magnitude at which a head's inner objectness channel saturates; beyond it the answer is settled."""


_BETWEEN = tuple(between(unit) for unit in INPUT_OF)


@dataclass(frozen=True, slots=True)
class CalibratedYuNet:
    """A network ready to be quantized.

    Attributes:
        weights: rescaled; the heads' outputs lie in 0..1.
        ranges: lowest and highest value of every tensor, by name.
        low: float32 (3, 16), the raw head value that 0 stands for, by stride and channel; `OBJECTNESS_LEAD` is in it.
        high: float32 (3, 16), the raw head value that 1 stands for, likewise.
    """

    weights: YuNetWeights
    ranges: dict[str, tuple[float, float]]
    low: Array
    high: Array


def pad_stem(picture: NDArray[np.uint8]) -> Array:
    """The network's float32 input (height + 1, width + 1, 3) of a uint8 picture: black first row and column."""
    return np.pad(picture, ((1, 0), (1, 0), (0, 0))).astype(np.float32)


def calibrate(
    weights: YuNetWeights, scenes: Sequence[NDArray[np.uint8]], *, size_wh: tuple[int, int]
) -> CalibratedYuNet:
    """Measures the ranges on scenes and rewrites the weights to them.

    Args:
        weights: weights as loaded.
        scenes: uint8 (height, width, 3) BGR pictures with faces of all sizes.
        size_wh: the scenes' width and height, multiples of 32.

    Raises:
        DataError: the scenes show too few faces of some size.
    """
    extremes, cells = _observe(weights, scenes, size_wh=size_wh)
    low, high = _head_ranges(cells)
    ranges = {"picture": (0.0, 255.0)} | dict.fromkeys([f"head{stride}" for stride in STRIDES], (0.0, 1.0))
    scales: dict[str, Array] = {}
    for name, (lowest, highest) in extremes.items():
        if name in _BETWEEN:
            scales[name], ranges[name] = _fit_signed(lowest, highest)
        else:
            scales[name] = _keep_range(highest)
    for group in ADDED_TOGETHER:
        shared: Array = np.max([scales[name] for name in group], axis=0)
        ranges |= {name: (0.0, float((scales[name] / shared).max())) for name in group}
        scales |= dict.fromkeys(group, shared)
    ranges |= {name: (0.0, 1.0) for name in scales if name not in ranges}
    rewritten = range_heads(rescale(weights, scales), low=low, high=high)
    lead = np.zeros_like(low)
    lead[:, 1] = OBJECTNESS_LEAD
    return CalibratedYuNet(rewritten, ranges, low + lead, high + lead)


def _observe(
    weights: YuNetWeights, scenes: Sequence[NDArray[np.uint8]], *, size_wh: tuple[int, int]
) -> tuple[dict[str, tuple[Array, Array]], list[Array]]:
    """Per tensor the lowest and highest value (channels,) near faces; per stride the plausible raw cells (n, 16)."""
    names = ["stem", *_BETWEEN, *(name for name in INPUT_OF if not name.startswith("head"))]
    names += [group[-1] for group in ADDED_TOGETHER]
    network = build_network(weights, size_wh=size_wh)
    probe = keras.Model(network.input, [network.output, *(network.get_layer(name).output for name in names)])
    extremes: dict[str, tuple[Array, Array]] = {}
    cells: list[list[Array]] = [[] for _ in STRIDES]
    for scene in scenes:
        output, *tensors = (np.asarray(tensor)[0] for tensor in probe(pad_stem(scene)[None], training=False))
        plausible = decode_cells(output, size_wh=size_wh).scores >= PLAUSIBLE_SCORE
        near = np.zeros((size_wh[1] // STRIDES[0], size_wh[0] // STRIDES[0]), np.uint8)
        for level, (part, mask) in enumerate(_split_levels(output, plausible, size_wh=size_wh)):
            cells[level].append(part[mask.ravel()])
            grown = np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)), np.uint8)
            near |= _scale_mask(grown, near.shape)
        if not near.any():
            continue
        for name, tensor in zip(names, tensors, strict=True):
            values = tensor[_scale_mask(near, tensor.shape[:2]) > 0]
            low, high = values.min(axis=0), values.max(axis=0)
            if name in extremes:
                low, high = np.minimum(low, extremes[name][0]), np.maximum(high, extremes[name][1])
            extremes[name] = low, high
    for stride in STRIDES:
        for bound in extremes.get(between(f"head{stride}"), ()):
            bound[1] = np.clip(bound[1], -_OBJECTNESS_PEAK, _OBJECTNESS_PEAK)
    return extremes, [np.concatenate(parts) for parts in cells]


def _fit_signed(low: Array, high: Array) -> tuple[Array, tuple[float, float]]:
    """Scales, float32 (channels,), that bring all channels of a signed tensor into one range, and that range.

    The sign of a channel is free, so each is turned to have its larger side up. The common lower end −a then lies
    where the mean square of the channels' quantization steps, each relative to the channel's own size, is smallest.
    """
    up = np.maximum(np.maximum(-low, high), 1e-9)
    down = np.maximum(np.minimum(-low, high), 0)
    ends = np.linspace(0.2, 1.0, 17)
    costs = [np.mean((np.maximum(up, down / end) * (1 + end) / up) ** 2) for end in ends]
    end = float(ends[int(np.argmin(costs))])
    scale = _keep_range(np.maximum(up, down / end))
    return scale * np.where(-low > high, np.float32(-1), np.float32(1)), (-end, 1.0)


def _keep_range(peak: Array) -> Array:
    """Peaks, none below a thousandth of the largest: dividing by nothing would only stretch noise."""
    kept: Array = np.maximum(peak, 1e-3 * peak.max()).astype(np.float32)
    return kept


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
