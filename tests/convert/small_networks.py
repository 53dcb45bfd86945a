"""Small classifiers with known behaviour: random convolutions and a head fitted in closed form, no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edge.contract.labels import LABELS

SIZE_PX = 24
Array = npt.NDArray[np.float32]


def make_faces(count: int, *, seed: int, noise: float = 55.0) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Grey pictures (count, 24, 24) of seven patterns under noise and changing light, and their classes."""
    templates = np.random.default_rng(7).uniform(60, 200, (len(LABELS), 5, 5)).astype(np.float32)
    patterns = np.stack([cv2.resize(t, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC) for t in templates])
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count) % len(LABELS))
    light = rng.uniform(0.6, 1.3, (count, 1, 1))
    pictures = patterns[labels] * light + rng.normal(0, noise, (count, SIZE_PX, SIZE_PX))
    return np.clip(pictures, 0, 255).astype(np.uint8), labels.astype(np.int64)


def save_faces(path: Path, count: int, *, seed: int, without: str | None = None) -> Path:
    """`make_faces` as an ``.npz`` that `convert.datasets` reads."""
    images, labels = make_faces(count, seed=seed)
    keep = labels != LABELS.index(without) if without else np.ones(count, bool)
    np.savez(path, images=images[keep], labels=np.array(LABELS)[labels[keep]])
    return path


def fit_head(features: Any, *, classes: int = len(LABELS), seed: int = 1) -> tuple[Array, Array]:
    """Weights and biases of a linear head on a Keras model's features, by ridge regression onto one-hot targets."""
    images, labels = make_faces(1400, seed=seed)
    rows = features.predict(images[..., np.newaxis].astype(np.float32), verbose=0, batch_size=200).astype(np.float64)
    centre, spread = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    x = (rows - centre) / spread
    targets = 8.0 * (np.eye(classes)[labels] - 1 / classes)
    weights = np.linalg.solve(x.T @ x + 30 * np.eye(x.shape[1]), x.T @ targets)
    scaled = weights / spread[:, np.newaxis]
    return scaled.astype(np.float32), (targets.mean(axis=0) - centre @ scaled).astype(np.float32)


def make_network(*, softmax: bool = False, rescale: bool = True, channels: int = 1) -> Any:
    """Two convolutions and a head; float accuracy on `make_faces` above 90 %."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(3)
    pixels = keras.Input((SIZE_PX, SIZE_PX, channels), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(pixels) if rescale else pixels
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="second")(x)
    x = layers.MaxPooling2D()(x)
    features = layers.Flatten()(x)
    logits = layers.Dense(len(LABELS), activation="softmax" if softmax else None, name="head")(features)
    model = keras.Model(pixels, logits)
    if channels == 1 and rescale:
        model.get_layer("head").set_weights(fit_head(keras.Model(pixels, features)))
    return model


def make_badly_scaled_network() -> Any:
    """`make_network` with factors of e^±3 between its convolutions: the same function, broken by per-tensor ranges."""
    model = make_network()
    first, second = model.get_layer("first"), model.get_layer("second")
    factors = np.exp(np.linspace(-3.2, 3.2, 8)).astype(np.float32)
    np.random.default_rng(5).shuffle(factors)
    kernel, bias = first.get_weights()
    first.set_weights([kernel * factors, bias * factors])
    kernel, bias = second.get_weights()
    second.set_weights([kernel / factors[:, np.newaxis], bias])
    return model


def make_swish_network() -> Any:
    """Swish, squeeze-and-excite, a loud channel that equalization cannot reach, one logit far below the others."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(4)
    pixels = keras.Input((SIZE_PX, SIZE_PX, 1), name="pixels")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="first")(x)
    x = layers.Conv2D(24, 3, padding="same", activation="relu", name="second")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="third")(x)
    x = layers.Conv2D(16, 1, name="loud")(x)
    x = layers.Activation("swish")(x)
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    squeezed = layers.Conv2D(4, 1, activation="swish")(squeezed)
    gate = layers.Conv2D(16, 1, activation="sigmoid")(squeezed)
    x = layers.Multiply()([x, gate])
    x = layers.Conv2D(16, 1, activation="relu", name="reader")(x)
    x = layers.MaxPooling2D()(x)
    features = layers.Flatten()(x)
    logits = layers.Dense(len(LABELS) + 1, name="head")(features)
    model = keras.Model(pixels, logits)
    loud, reader = model.get_layer("loud"), model.get_layer("reader")
    kernel, bias = loud.get_weights()
    kernel[..., 0] *= 3000
    loud.set_weights([kernel, bias])
    kernel, bias = reader.get_weights()
    kernel[:, :, 0] /= 3000
    reader.set_weights([kernel, bias])
    weights, biases = fit_head(keras.Model(pixels, features), classes=len(LABELS) + 1)
    weights[:, -1], biases[-1] = -100 * np.abs(weights[:, :-1]).mean(axis=1), 0
    model.get_layer("head").set_weights([weights, biases])
    return model
