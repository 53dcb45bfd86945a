"""Features of a frozen base network, computed once, kept on disk, and put back before the trained classifier."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import keras
import msgspec
import numpy as np

from training.architectures.imagenet import make_feature_extractor
from training.files import write_file
from training.fit.batches import predict_in_batches
from training.fit.targets import Arrays
from training.recipe import Features, Recipe


def extract(arrays: Arrays, recipe: Recipe, *, cache: Path) -> Arrays:
    """The arrays with their pictures replaced by the base's features (n, h, w, channels) float32.

    Args:
        arrays: pictures.
        recipe: names the base; its weights decide the file's name together with the pixels.
        cache: folder of the files; one that is there is read instead of computed.
    """
    assert recipe.features is not None
    digest = hashlib.sha256(msgspec.json.encode((recipe.features, recipe.input, recipe.train.seed)))
    digest.update(arrays.inputs.tobytes())
    file = cache / f"{recipe.features.base}-{digest.hexdigest()[:24]}.npy"
    if file.is_file():
        features = np.load(file, allow_pickle=False)
    else:
        model = _extractor(recipe.features, recipe)
        features = predict_in_batches(model.predict_on_batch, arrays.inputs, batch_size=64)
        stored = io.BytesIO()
        np.save(stored, features)
        write_file(file, stored.getvalue())
    return Arrays(inputs=features, targets=arrays.targets, labels=arrays.labels)


def put_behind_base(classifier: Any, recipe: Recipe) -> Any:
    """One network from pixels to logits: the base, then the classifier that was trained on its features."""
    assert recipe.features is not None
    base = _extractor(recipe.features, recipe)
    return keras.Model(base.input, classifier(base.output), name=recipe.name)


def _extractor(features: Features, recipe: Recipe) -> Any:
    # Random weights must be the same random weights for every file and for the network that is saved.
    keras.utils.set_random_seed(recipe.train.seed)
    return make_feature_extractor(features.base, input_shape=recipe.input.shape, weights=features.weights)
