"""Beginning with the weights of a trained network, instead of random ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edge.errors import ConfigError
from edge.system.files import hash_file
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


def begin_with(model: Any, weights: KnownWeights, recipe: Recipe) -> str:
    """Copy what fits into a new network, layer by layer.

    Layers with a name of their own are matched by it; names that Keras counted (``conv2d_3``) say nothing, and those
    layers are matched by their order, kind and shapes. A network may be larger than the one it begins with. A residual
    branch that the other does not have starts at zero, so that nothing changes by it at first (Chen et al., Net2Net,
    2016). Logits are copied when they are of the recipe's classes in number, into every head, or each head's own out of
    a run folder with several targets; else they start anew: this is how a network is trained on other classes.

    Args:
        model: of the recipe, with all heads in its last layer.
        weights: from `load_weights` for this recipe.
        recipe: its classes say what the last layer is.

    Returns:
        How much was copied, in words: ``14 of 16 layers copied, head new``.

    Raises:
        ConfigError: a network that has no layer in common with the recipe's.
    """
    known = [layer for layer in weights.sources[-1].layers if layer.weights]
    wanted = [layer for layer in model.layers[:-1] if layer.weights]
    pairs = _pair_layers(wanted, known[:-1])
    for layer, source in pairs:
        layer.set_weights(source.get_weights())
    if not pairs:
        raise ConfigError(
            "model.architecture",
            f"{weights.path}: no layer in common with {recipe.model.architecture}",
            file=recipe.name,
        )
    _silence_new_branches(model, {layer.name for layer, _ in pairs})
    heads = [source.layers[-1] for source in weights.sources]
    copied = _copy_logits(model.layers[-1], heads, classes=len(recipe.data.classes))
    return f"{len(pairs)} of {len(wanted)} layers copied, head {'copied' if copied else 'new'}"


def _pair_layers(wanted: Sequence[Any], known: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Return each layer of a new network with the one that its weights come from, in the new network's order."""
    named = {layer.name: layer for layer in known if not _is_counted(layer)}
    pairs = [
        (layer, named[layer.name])
        for layer in wanted
        if layer.name in named and not _is_counted(layer) and _shapes(layer) == _shapes(named[layer.name])
    ]
    ours, theirs = [layer for layer in wanted if _is_counted(layer)], [layer for layer in known if _is_counted(layer)]
    mine, known_kinds = ([(type(layer).__name__, *_shapes(layer)) for layer in layers] for layers in (ours, theirs))
    for block in SequenceMatcher(a=mine, b=known_kinds, autojunk=False).get_matching_blocks():
        pairs += zip(ours[block.a : block.a + block.size], theirs[block.b : block.b + block.size], strict=True)
    order = {layer.name: position for position, layer in enumerate(wanted)}
    return sorted(pairs, key=lambda pair: order[pair[0].name])


def _is_counted(layer: Any) -> bool:
    """Return whether Keras named a layer: its kind, with a number behind it from the second one on."""
    return re.fullmatch(rf"{to_snake_case(type(layer).__name__)}(_\d+)?", layer.name) is not None


def to_snake_case(name: str) -> str:
    """Return a class's name as Keras makes layer names of it: ``BatchNormalization`` to ``batch_normalization``."""
    spread = re.sub(r"\W+", "", name)
    spread = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", spread)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", spread).lower()


def _silence_new_branches(model: Any, copied: set[str]) -> None:
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Add):
            continue
        for tensor in layer.input:
            source = tensor._keras_history.operation
            if isinstance(source, keras.layers.BatchNormalization) and source.name not in copied:
                source.gamma.assign(np.zeros(source.gamma.shape, np.float32))


def _copy_logits(logits: Any, sources: Sequence[Any], *, classes: int) -> bool:
    """Copy the last layer of each source into its head; return whether they fitted."""
    wanted = (int(logits.kernel.shape[0]), classes)
    if not all(isinstance(source, keras.layers.Dense) and source.kernel.shape == wanted for source in sources):
        return False
    kernels, biases = zip(*(source.get_weights() for source in sources), strict=True)
    logits.set_weights([np.concatenate(kernels, axis=1), np.concatenate(biases)])
    return True


def _shapes(layer: Any) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]
