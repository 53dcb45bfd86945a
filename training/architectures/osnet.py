"""`osnet6`: an omni-scale network of small width.

Source: Zhou, Yang, Cavallaro, Xiang, Omni-Scale Feature Learning for Person Re-Identification, ICCV 2019. Its stem
(7x7 stride 2 and a pooling, for 256x128 pixels) is replaced by one 3x3 convolution, as faces here are 48x48.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from training.architectures.base import InputShape, make_logits, open_input

STREAMS = 4
"""Streams of a block: one to four lite convolutions, receptive fields 3 to 9."""
REDUCTION = 4
"""A block works at a quarter of its width."""
GATE_REDUCTION = 16


def make_osnet(
    *,
    input_shape: InputShape,
    outputs: int,
    stem: int = 32,
    widths: Sequence[int] = (64, 96, 128),
    blocks: int = 2,
    dense: int = 128,
    dropout: float = 0.2,
) -> Any:
    """Stem, stages of omni-scale blocks with average pooling between them, global average, dense, logits."""
    pixels, x = open_input(input_shape)
    x = layers.MaxPooling2D(2)(_conv(x, stem, side=3))
    for stage, width in enumerate(widths):
        for _ in range(blocks):
            x = _omni_scale_block(x, width)
        if stage + 1 < len(widths):
            x = layers.AveragePooling2D(2)(_conv(x, width))
    x = layers.GlobalAveragePooling2D()(_conv(x, widths[-1]))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(dense)(x)))
    return keras.Model(pixels, make_logits(layers.Dropout(dropout)(x), outputs), name="osnet")


def _conv(x: Any, width: int, *, side: int = 1, relu: bool = True) -> Any:
    x = layers.BatchNormalization()(layers.Conv2D(width, side, padding="same", use_bias=False)(x))
    return layers.ReLU()(x) if relu else x


def _lite_conv(x: Any, width: int) -> Any:
    """1x1 without activation, then depthwise 3x3, BN, ReLU: the paper's Lite 3x3."""
    x = layers.Conv2D(width, 1, use_bias=False)(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _omni_scale_block(x: Any, width: int) -> Any:
    middle = width // REDUCTION
    entered = _conv(x, middle)
    # One gate for all streams: the paper's unified aggregation gate.
    squeeze = layers.Dense(max(1, middle // GATE_REDUCTION), activation="relu")
    excite = layers.Dense(middle, activation="sigmoid")
    streams = []
    for depth in range(1, STREAMS + 1):
        stream = entered
        for _ in range(depth):
            stream = _lite_conv(stream, middle)
        gate = excite(squeeze(layers.GlobalAveragePooling2D(keepdims=True)(stream)))
        streams.append(layers.Multiply()([stream, gate]))
    branch = _conv(layers.Add()(streams), width, relu=False)
    identity = x if x.shape[-1] == width else _conv(x, width, relu=False)
    return layers.ReLU()(layers.Add()([identity, branch]))
