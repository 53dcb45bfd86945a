"""`vgg_5m9`: a VGG-like network of eight convolutions and three dense layers on 48x48 grey pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from training.architectures.base import InputShape, add_dense_layers, make_logits, open_input


def make_vgg_5m9(
    *,
    input_shape: InputShape,
    outputs: int,
    conv_dropout: float = 0.25,
    dense: Sequence[int] = (512, 256, 128),
    dense_dropout: float = 0.25,
) -> Any:
    """Pairs of Conv 3x3 ReLU, BN with 64, 128, 256, 512 filters, max-pool 2 and dropout; the first is not padded.

    The description gives no dropout rates; 0.25 is our choice. With 48x48x1 pixels and seven outputs: 5,906,119
    parameters, 5,902,279 of them trainable.
    """
    pixels, x = open_input(input_shape)
    for width in (64, 128, 256, 512):
        for first in (True, False):
            padding = "valid" if width == 64 and first else "same"
            x = layers.Conv2D(width, 3, padding=padding, activation="relu")(x)
            x = layers.BatchNormalization()(x)
        x = layers.Dropout(conv_dropout)(layers.MaxPooling2D(2)(x))
    x = add_dense_layers(layers.Flatten()(x), units=dense, dropout=[dense_dropout] * len(dense))
    return keras.Model(pixels, make_logits(x, outputs), name="vgg_5m9")
