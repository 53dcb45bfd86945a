"""Beginning with the weights of a trained network, instead of random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edge.errors import ConfigError
from training.fit.run_folder import hash_file
from training.fit.saved_models import load_keras_model, target_files
from training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """Networks to begin with.

    Attributes:
        path: as they were asked for.
        sources: a Keras network for each target of the recipe, in their order.
        sha256: of each file, by its name.
    """

    path: Path
    sources: tuple[Any, ...]
    sha256: dict[str, str]


def load_weights(path: Path, recipe: Recipe) -> KnownWeights:
    """Reads what a recipe is to begin with.

    Args:
        path: a Keras file or a run folder.
        recipe: its targets say which networks of a folder are wanted.

    Raises:
        DataError: for a file that cannot be loaded.
    """
    files = target_files(path, recipe)
    loaded = {file: load_keras_model(file) for file in files}
    return KnownWeights(path, tuple(loaded[file] for file in files), {file.name: hash_file(file) for file in loaded})


def begin_with(model: Any, weights: KnownWeights, recipe: Recipe) -> None:
    """Copies what fits into a new network, layer by layer, by name and shape.

    A network may be larger than the one it begins with. A residual branch that the other does not have starts at zero,
    so that nothing changes by it at first (Chen et al., Net2Net, 2016). Logits are copied when they are of the recipe's
    classes in number, into every head, or each head's own out of a run folder with several targets; else they start
    anew: this is how a network is trained on other classes.

    Args:
        model: of the recipe, with all heads in its last layer.
        weights: from `load_weights` for this recipe.
        recipe: its classes say what the last layer is.

    Raises:
        ConfigError: for a network that has no layer in common with the recipe's.
    """
    known = {layer.name: layer for layer in weights.sources[-1].layers if layer.weights}
    copied = set()
    for layer in model.layers[:-1]:
        if layer.name in known and _shapes(layer) == _shapes(known[layer.name]):
            layer.set_weights(known[layer.name].get_weights())
            copied.add(layer.name)
    if not copied:
        raise ConfigError(
            "model.architecture",
            f"{weights.path}: no layer in common with {recipe.model.architecture}",
            file=recipe.name,
        )
    _silence_new_branches(model, copied)
    _copy_logits(model.layers[-1], [source.layers[-1] for source in weights.sources], classes=len(recipe.data.classes))


def _silence_new_branches(model: Any, copied: set[str]) -> None:
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Add):
            continue
        for tensor in layer.input:
            source = tensor._keras_history.operation
            if isinstance(source, keras.layers.BatchNormalization) and source.name not in copied:
                source.gamma.assign(np.zeros(source.gamma.shape, np.float32))


def _copy_logits(logits: Any, sources: Sequence[Any], *, classes: int) -> None:
    wanted = (int(logits.kernel.shape[0]), classes)
    if all(isinstance(source, keras.layers.Dense) and source.kernel.shape == wanted for source in sources):
        kernels, biases = zip(*(source.get_weights() for source in sources), strict=True)
        logits.set_weights([np.concatenate(kernels, axis=1), np.concatenate(biases)])


def _shapes(layer: Any) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]
