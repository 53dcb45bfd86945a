"""YuNet as a Keras 3 network whose int8 form loses nothing and stays one delegate node.

The network is rebuilt from the convolutions of the published ONNX file. Its weights are then rewritten, exactly, into
a form that quantizes well:

* the four heads of a level become one unit of 16 channels (class, objectness, box 4, landmarks 10);
* every channel of every inner tensor is rescaled to its own range (`rescale`): one scale a tensor then serves all its
  channels;
* every head channel is mapped onto [0, 1] by an affine map folded into its depthwise convolution (`range_heads`): the
  48 channels of the three levels then share one output tensor and one scale, and no quantization step is wasted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from numpy.typing import NDArray

from convert.yunet.onnx_weights import Convolution, read_convolutions
from edge.errors import DataError, UsageError

STRIDES = (8, 16, 32)
HEAD_CHANNELS = 16
_BACKBONE = ("u0", "u1a", "u1b", "u2a", "u2b", "u3a", "u3b", "u4a", "u4b", "u5a", "u5b")
_NECK = ("f32", "f16", "f8")
_HEADS = ("cls", "bbox", "obj", "kps")
_CONVOLUTIONS = 1 + 2 * (len(_BACKBONE) + len(_NECK) + len(STRIDES) * len(_HEADS))

INPUT_OF = {
    **{"u0": "stem", "u1a": "u0", "u1b": "u1a", "u2a": "u1b", "u2b": "u2a", "u3a": "u2b", "u3b": "u3a"},
    **{"u4a": "u3b", "u4b": "u4a", "u5a": "u4b", "u5b": "u5a", "f32": "u5b", "f16": "a16", "f8": "a8"},
    **{"head8": "f8", "head16": "f16", "head32": "f32"},
}
"""The tensor that each unit reads (before pooling, which keeps ranges)."""
ADDED_TOGETHER = (("u4b", "f32", "a16"), ("u3b", "f16", "a8"))
"""Tensors that an addition binds together: the two terms and their sum have the same scale in every channel."""

Array = NDArray[np.float32]
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Unit:
    """A pointwise and a depthwise 3×3 convolution with nothing between them.

    Attributes:
        pointwise: float32, shape (in, out).
        pointwise_bias: float32, shape (out,).
        depthwise: float32, shape (3, 3, out).
        depthwise_bias: float32, shape (out,).
    """

    pointwise: Array
    pointwise_bias: Array
    depthwise: Array
    depthwise_bias: Array


@dataclass(frozen=True, slots=True)
class YuNetWeights:
    """All weights of YuNet, batch norm folded.

    Attributes:
        stem: float32, shape (3, 3, 3, 16), HWIO; input raw BGR 0..255.
        stem_bias: float32, shape (16,).
        units: the backbone's and neck's units by name, and one merged head unit a level: ``head8``, ``head16``,
            ``head32``, channels class, objectness, box (4), landmarks (10).
    """

    stem: Array
    stem_bias: Array
    units: dict[str, Unit]


def load_weights(path: Path) -> YuNetWeights:
    """Reads YuNet's weights from its ONNX file (``face_detection_yunet_2023mar.onnx`` or a re-export of the same
    network).

    Raises:
        DataError: the file is no ONNX model, or its convolutions are not YuNet's.
    """
    convolutions = read_convolutions(path)
    if len(convolutions) != _CONVOLUTIONS:
        raise DataError(path, f"{len(convolutions)} convolutions, YuNet has {_CONVOLUTIONS}")
    try:
        stem, *rest = convolutions
        names = [*_BACKBONE, *_NECK, *(f"{head}{stride}" for head in _HEADS for stride in STRIDES)]
        pairs = zip(rest[::2], rest[1::2], strict=True)
        single = {name: _unit(*pair) for name, pair in zip(names, pairs, strict=True)}
        units = {name: single[name] for name in (*_BACKBONE, *_NECK)}
        for stride in STRIDES:
            units[f"head{stride}"] = _merge([single[f"{head}{stride}"] for head in ("cls", "obj", "bbox", "kps")])
        return YuNetWeights(stem.kernel.transpose(2, 3, 1, 0).copy(), stem.bias, units)
    except ValueError as error:
        raise DataError(path, f"the convolutions are not shaped as YuNet's ({error})") from error


def _unit(pointwise: Convolution, depthwise: Convolution) -> Unit:
    out = pointwise.kernel.shape[0]
    return Unit(
        pointwise.kernel.reshape(out, -1).T.copy(),
        pointwise.bias,
        depthwise.kernel.reshape(out, 3, 3).transpose(1, 2, 0).copy(),
        depthwise.bias,
    )


def _merge(units: list[Unit]) -> Unit:
    """One unit whose output channels are those of `units`, one after the other."""
    return Unit(
        np.concatenate([u.pointwise for u in units], axis=-1),
        np.concatenate([u.pointwise_bias for u in units]),
        np.concatenate([u.depthwise for u in units], axis=-1),
        np.concatenate([u.depthwise_bias for u in units]),
    )


def build_network(weights: YuNetWeights, *, size_wh: tuple[int, int], ranges: Ranges | None = None) -> keras.Model:
    """Builds the network for one fixed input size.

    The input is one row and one column larger than `size_wh`: the stem's padding (top and left, as PyTorch's stride-2
    convolution pads) is part of the picture, which saves a PAD and costs the caller nothing.

    Args:
        weights: as `load_weights` returns them, or rewritten by `rescale` and `range_heads`.
        size_wh: width and height in pixels, multiples of 32.
        ranges: lowest and highest value of every tensor; with them the network computes with 8-bit activations, and the
            converter takes the ranges from it.

    Returns:
        A model from float32 (1, height + 1, width + 1, 3), BGR 0..255, first row and column 0, to float32 (1, cells,
        16): the cells of stride 8, then 16, then 32, each row by row. Every layer is named, so that the same
        arguments give the same file.

    Raises:
        UsageError: a side is not a positive multiple of 32.
    """
    width, height = size_wh
    if width <= 0 or height <= 0 or width % 32 or height % 32:
        raise UsageError(f"size {width}x{height}: both sides must be positive multiples of 32")
    pixels = keras.Input((height + 1, width + 1, 3), batch_size=1, name="pixels")
    graph = _Graph(weights, ranges)
    x = graph.tensor("picture", pixels)
    x = _pool("pool4", graph.unit("u0", graph.stem(x)))
    for name in ("u1a", "u1b", "u2a", "u2b"):
        x = graph.unit(name, x)
    p8 = graph.unit("u3b", graph.unit("u3a", _pool("pool8", x)))
    p16 = graph.unit("u4b", graph.unit("u4a", _pool("pool16", p8)))
    p32 = graph.unit("u5b", graph.unit("u5a", _pool("pool32", p16)))
    f32 = graph.unit("f32", p32)
    f16 = graph.unit("f16", graph.add("a16", p16, _upsample("up16", f32)))
    f8 = graph.unit("f8", graph.add("a8", p8, _upsample("up8", f16)))
    flat = []
    for level, stride in zip((f8, f16, f32), STRIDES, strict=True):
        head = graph.unit(f"head{stride}", level, activation=None)
        cells = height // stride * (width // stride)
        flat.append(layers.Reshape((cells, HEAD_CHANNELS), name=f"cells{stride}")(head))
    return keras.Model(pixels, layers.Concatenate(axis=1, name="cells")(flat), name="yunet")


class _FakeQuantize(layers.Layer):  # type: ignore[misc]
    """Rounds to the 256 values of a range, as the int8 tensor will; the converter reads the range from the operator."""

    def __init__(self, low: float, high: float, *, name: str) -> None:
        super().__init__(name=name)
        self._low, self._high = low, high

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return tf.quantization.fake_quant_with_min_max_vars(x, self._low, self._high, num_bits=8)


class _Graph:
    """Applies the layers of one network; every tensor is named, and rounded to its range where ranges are given."""

    def __init__(self, weights: YuNetWeights, ranges: Ranges | None) -> None:
        self._weights, self._ranges = weights, ranges

    def tensor(self, name: str, x: keras.KerasTensor) -> keras.KerasTensor:
        if self._ranges is None:
            return layers.Identity(name=name)(x)
        return _FakeQuantize(*self._ranges[name], name=name)(x)

    def stem(self, x: keras.KerasTensor) -> keras.KerasTensor:
        layer = layers.Conv2D(16, 3, strides=2, padding="valid", activation="relu", name="stem_conv")
        y = layer(x)
        layer.set_weights([self._weights.stem, self._weights.stem_bias])
        return self.tensor("stem", y)

    def unit(self, name: str, x: keras.KerasTensor, *, activation: str | None = "relu") -> keras.KerasTensor:
        unit = self._weights.units[name]
        pointwise = layers.Conv2D(unit.pointwise.shape[1], 1, name=f"{name}_pointwise")
        depthwise = layers.DepthwiseConv2D(3, padding="same", activation=activation, name=f"{name}_depthwise")
        y = self.tensor(name, depthwise(self.tensor(between(name), pointwise(x))))
        pointwise.set_weights([unit.pointwise[None, None], unit.pointwise_bias])
        depthwise.set_weights([unit.depthwise[..., None], unit.depthwise_bias])
        return y

    def add(self, name: str, x: keras.KerasTensor, y: keras.KerasTensor) -> keras.KerasTensor:
        return self.tensor(name, layers.Add(name=f"{name}_add")([x, y]))


def between(unit: str) -> str:
    """Name of the tensor between the two convolutions of a unit."""
    return f"{unit}.between"


def _pool(name: str, x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.MaxPooling2D(2, name=name)(x)


def _upsample(name: str, x: keras.KerasTensor) -> keras.KerasTensor:
    """Nearest-neighbour ×2 from CONCATENATION and RESHAPE, which are delegated where TILE and RESIZE_NEAREST_NEIGHBOR
    are not."""
    _, height, width, channels = x.shape
    columns = layers.Concatenate(name=f"{name}_twice_across")([x, x])  # each pixel twice in a row
    rows = layers.Reshape((height, 1, 2 * width * channels), name=f"{name}_rows")(columns)
    twice = layers.Concatenate(name=f"{name}_twice_down")([rows, rows])
    return layers.Reshape((2 * height, 2 * width, channels), name=name)(twice)


def rescale(weights: YuNetWeights, scales: Mapping[str, Array]) -> YuNetWeights:
    """Divides every channel of every inner tensor by its scale, without changing what the network computes.

    Nothing stands between the two convolutions of a unit, and ReLU, maximum and equally scaled addition commute with
    a positive factor: the factor goes into the convolution before the tensor and its inverse into the one after it.

    Args:
        weights: weights as loaded.
        scales: per tensor float32 (channels,); above 0, but for the tensors `between` two convolutions, where the
            sign is free too. The members of `ADDED_TOGETHER` share theirs. The heads' outputs stay.
    """
    units = {}
    for name, unit in weights.units.items():
        scale_in, scale_between = scales[INPUT_OF[name]], scales[between(name)]
        scale_out = scales.get(name, np.ones_like(unit.depthwise_bias))
        units[name] = Unit(
            unit.pointwise * scale_in[:, None] / scale_between,
            unit.pointwise_bias / scale_between,
            unit.depthwise * scale_between / scale_out,
            unit.depthwise_bias / scale_out,
        )
    return YuNetWeights(weights.stem / scales["stem"], weights.stem_bias / scales["stem"], units)


def range_heads(weights: YuNetWeights, *, low: Array, high: Array) -> YuNetWeights:
    """Folds an affine map of each head channel's range onto [0, 1] into the heads' depthwise convolutions.

    Args:
        weights: weights whose heads give raw values.
        low: float32 (3, 16), the raw value that becomes 0, by stride and channel.
        high: float32 (3, 16), the raw value that becomes 1.
    """
    units = dict(weights.units)
    for level, stride in enumerate(STRIDES):
        unit, span = units[f"head{stride}"], high[level] - low[level]
        units[f"head{stride}"] = replace(
            unit, depthwise=unit.depthwise / span, depthwise_bias=(unit.depthwise_bias - low[level]) / span
        )
    return replace(weights, units=units)


@dataclass(frozen=True, slots=True)
class DecodedCells:
    """Every cell of one picture, decoded in float; no threshold, no suppression.

    Attributes:
        scores: float32, shape (cells,), 0..1.
        xyxy: float32, shape (cells, 4), pixels of the network's picture.
        landmarks: float32, shape (cells, 5, 2), pixels; right eye, left eye, nose, right and left mouth corner (the
            person's).
    """

    scores: Array
    xyxy: Array
    landmarks: Array


def decode_cells(cells: Array, *, size_wh: tuple[int, int]) -> DecodedCells:
    """Decodes raw head values, as libfacedetection and OpenCV's ``FaceDetectorYN`` do.

    score = √(σ(cls)·σ(obj)); centre = ((dx + x)·s, (dy + y)·s); size = (e^dw·s, e^dh·s); landmark = ((kx + x)·s, (ky
    + y)·s).

    Args:
        cells: float32, shape (cells, 16), the output of a network built with ``ranged=False``.
        size_wh: as `build_network` takes it.
    """
    width, height = size_wh
    grids = []
    for stride in STRIDES:
        rows, columns = np.mgrid[0 : height // stride, 0 : width // stride]
        grids.append(np.stack([columns.ravel(), rows.ravel(), np.full(rows.size, stride)], axis=1))
    grid = np.concatenate(grids).astype(np.float32)
    corner, stride_column = grid[:, :2], grid[:, 2:]
    scores: Array = np.sqrt(_sigmoid(cells[:, 0]) * _sigmoid(cells[:, 1]))
    centre = (cells[:, 2:4] + corner) * stride_column
    half = np.exp(cells[:, 4:6]) * stride_column / 2
    landmarks = (cells[:, 6:].reshape(-1, 5, 2) + corner[:, None]) * stride_column[:, None]
    return DecodedCells(scores, np.concatenate([centre - half, centre + half], axis=1), landmarks)


def _sigmoid(x: Array) -> Array:
    result: Array = np.float32(1) / (np.float32(1) + np.exp(-x))
    return result
