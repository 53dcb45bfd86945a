"""What every network begins with, and the layers that several share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

InputShape = tuple[int, int, int]
"""(height, width, channels) of the pixels."""


def open_input(input_shape: InputShape) -> tuple[Any, Any]:
    """The input (pixels 0..255) and the same scaled to -1..1 inside the graph."""
    pixels = keras.Input(input_shape, name="pixels")
    return pixels, layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(pixels)


def make_logits(x: Any, outputs: int) -> Any:
    """The last layer, in float32 also under mixed precision, so that the loss sees full logits."""
    return layers.Dense(outputs, dtype="float32", name="logits")(x)


def add_dense_layers(x: Any, *, units: Sequence[int], dropout: Sequence[float]) -> Any:
    """Dense ReLU layers, each followed by its dropout.

    Raises:
        ValueError: when the two lists differ in length.
    """
    if len(units) != len(dropout):
        raise ValueError(f"{len(units)} dense layers but {len(dropout)} dropout rates")
    for number, (width, rate) in enumerate(zip(units, dropout, strict=True), start=1):
        x = layers.Dense(width, activation="relu", name=f"dense{number}")(x)
        if rate:
            x = layers.Dropout(rate, name=f"dropout{number}")(x)
    return x
