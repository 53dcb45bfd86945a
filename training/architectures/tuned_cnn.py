"""`tuned_cnn`: the family of plain networks that `mien-train tune` searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from training.architectures.base import InputShape, add_dense_layers, make_logits, open_input


def make_tuned_cnn(
    *,
    input_shape: InputShape,
    outputs: int,
    filters: Sequence[int] = (32, 64, 128, 256),
    dense: Sequence[int] = (256, 128, 64),
    dropout: float = 0.0,
) -> Any:
    """Conv 3x3 same ReLU and max-pool 2 for each of ``filters``; then ``dense`` ReLU layers, each with ``dropout``."""
    pixels, x = open_input(input_shape)
    for width in filters:
        x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
        if dropout:
            x = layers.Dropout(dropout)(x)
    x = add_dense_layers(layers.Flatten()(x), units=dense, dropout=[dropout] * len(dense))
    return keras.Model(pixels, make_logits(x, outputs), name="tuned_cnn")
