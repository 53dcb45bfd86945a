"""Our own network: a small residual network of plain 3x3 convolutions.

Made for XNNPACK and Edge TPU int8 kernels: convolution (batch norm folds into it), ReLU, 2x2 max-pooling, addition,
one global average and one dense layer, nothing else. On a CPU's int8 kernels plain 3x3 convolutions of 32 to 128
channels do more arithmetic per microsecond than depthwise ones, which wait for memory. Residual blocks after He et al.,
Deep Residual Learning for Image Recognition, 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from training.architectures.base import InputShape, make_logits, open_input


def make_resnet(
    *,
    input_shape: InputShape,
    outputs: int,
    stem: int = 32,
    widths: Sequence[int] = (32, 64, 128),
    blocks: Sequence[int] = (1, 2, 2),
    dropout: float = 0.3,
) -> Any:
    """Stem at full size; then per stage max-pool 2, a convolution to the stage's width and its residual blocks.

    Args:
        input_shape: see `make_model`.
        outputs: see `make_model`.
        stem: filters of the first convolution.
        widths: filters of each stage.
        blocks: residual blocks (two convolutions each) of each stage.
        dropout: rate before the logits.
    """
    if len(widths) != len(blocks):
        raise ValueError(f"{len(widths)} widths but {len(blocks)} block counts")
    pixels, x = open_input(input_shape)
    x = _conv(x, stem, "stem")
    for stage, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        x = layers.MaxPooling2D(2, name=f"pool{stage}")(x)
        x = _conv(x, width, f"enter{stage}")
        for block in range(count):
            x = _residual(x, width, f"res{stage}_{block}")
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(pixels, make_logits(x, outputs), name="resnet")


def _conv(x: Any, width: int, name: str, *, relu: bool = True, gamma: float = 1.0) -> Any:
    init = keras.initializers.HeNormal()
    x = layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer=init, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(
        momentum=0.9, epsilon=1e-3, gamma_initializer=keras.initializers.Constant(gamma), name=f"{name}_bn"
    )(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _residual(x: Any, width: int, name: str) -> Any:
    # A small scale on the branch's end lets the block start near the identity, which steadies high learning rates.
    branch = _conv(_conv(x, width, f"{name}a"), width, f"{name}b", relu=False, gamma=0.2)
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, branch]))
