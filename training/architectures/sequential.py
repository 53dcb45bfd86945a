"""`sequential6`: three blocks of two convolutions, each followed by batch norm; a dense layer of 128."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from training.architectures.base import InputShape, make_logits, open_input


def make_sequential(
    *,
    input_shape: InputShape,
    outputs: int,
    filters: Sequence[int] = (32, 64, 128),
    dense: int = 128,
    dropout: float = 0.5,
) -> Any:
    """Blocks of Conv 3x3 same ReLU, BN, twice, max-pool 2 and dropout; flatten, dense ReLU, BN, dropout.

    With 48x48x1 pixels and six outputs: 879,462 parameters, 878,310 of them trainable.
    """
    pixels, x = open_input(input_shape)
    for width in filters:
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
            x = layers.BatchNormalization()(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.Dropout(dropout)(x)
    x = layers.Dense(dense, activation="relu")(layers.Flatten()(x))
    x = layers.Dropout(dropout)(layers.BatchNormalization()(x))
    return keras.Model(pixels, make_logits(x, outputs), name="sequential")
