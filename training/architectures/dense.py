"""A classifier of dense layers on features that were written to disk (`vgg16_features`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers

from training.architectures.base import InputShape, add_dense_layers, make_logits


def make_dense(
    *, input_shape: InputShape, outputs: int, dense: Sequence[int] = (256,), dropout: Sequence[float] = (0.5,)
) -> Any:
    """Flatten, dense ReLU layers with dropout, logits. ``input_shape`` is the features' shape; nothing is scaled."""
    features = keras.Input(input_shape, name="features")
    x = add_dense_layers(layers.Flatten()(features), units=dense, dropout=dropout)
    return keras.Model(features, make_logits(x, outputs), name="dense")
