"""`cnn_512`: four convolutions up to 512 filters, two dense layers, batch norm before every ReLU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from training.architectures.base import InputShape, make_logits, open_input

BLOCKS = ((64, 5), (128, 5), (512, 3), (512, 3))
"""Filters and kernel side of each block."""


def make_cnn_512(
    *, input_shape: InputShape, outputs: int, dense: Sequence[int] = (256, 512), dropout: float = 0.25
) -> Any:
    """Blocks of Conv, BN, ReLU, max-pool 2, dropout; then dense layers, each BN, ReLU, dropout.

    With 48x48x1 pixels and seven outputs: 4,479,751 parameters, 4,475,783 of them trainable.
    """
    pixels, x = open_input(input_shape)
    for width, side in BLOCKS:
        x = layers.Conv2D(width, side, padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Dropout(dropout)(layers.MaxPooling2D(2)(x))
    x = layers.Flatten()(x)
    for width in dense:
        x = layers.ReLU()(layers.BatchNormalization()(layers.Dense(width)(x)))
        x = layers.Dropout(dropout)(x)
    return keras.Model(pixels, make_logits(x, outputs), name="cnn_512")
