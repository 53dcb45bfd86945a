"""The networks that runs have kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from edge.errors import DataError
from training.fit.run_folder import model_file
from training.recipe import Recipe


def load_keras_model(path: Path) -> Any:
    """The network of a run folder or of a Keras file.

    Raises:
        DataError: when there is none.
    """
    file = model_file(path) if path.is_dir() else path
    if not file.is_file():
        raise DataError(file, "no Keras file")
    try:
        return keras.models.load_model(file, compile=False)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise DataError(file, f"no Keras model that can be loaded: {' '.join(str(error).split())[:200]}") from error


def target_files(path: Path, recipe: Recipe) -> list[Path]:
    """A Keras file for each target of a recipe: a run folder's own for it, or its last; a file is for all of them."""
    if not path.is_dir():
        return [path] * len(recipe.data.targets)
    own = [model_file(path, target) for target in recipe.data.targets]
    return [file if file.is_file() else model_file(path) for file in own]
