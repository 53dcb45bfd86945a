"""`cnn_150px`: a plain network without batch norm or dropout on 150x150 pixels: the overfitting example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from training.architectures.base import InputShape, make_logits, open_input


def make_cnn_150px(
    *, input_shape: InputShape, outputs: int, filters: Sequence[int] = (32, 64, 128, 128), dense: int = 512
) -> Any:
    """Convolutions (3x3 valid, assumed: the description gives no kernel) with ReLU and max-pool 2; one dense layer."""
    pixels, x = open_input(input_shape)
    for width in filters:
        x = layers.MaxPooling2D(2)(layers.Conv2D(width, 3, activation="relu")(x))
    x = layers.Dense(dense, activation="relu")(layers.Flatten()(x))
    return keras.Model(pixels, make_logits(x, outputs), name="cnn_150px")
