"""Learning from one or several trained networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge.contract.scores import softmax
from edge.errors import ConfigError
from edge.system.files import hash_file
from training.fit.saved_models import load_keras_model, target_files
from training.fit.targets import Floats
from training.fit.trainer import Teachers, fits_processor, predict_logits
from training.recipe import Recipe


def load_teachers(paths: Sequence[Path], recipe: Recipe) -> Teachers:
    """Teachers whose mean probabilities the recipe's heads are to learn.

    A teacher that is a run folder teaches each head by its own head for the same target, where it has one; else, and
    when it is a Keras file, by its one network.

    Args:
        paths: run folders or Keras files; logits of the recipe's classes, in their order, on the recipe's input.
        recipe: with ``[distill]``; its temperature softens the teachers.

    Raises:
        ConfigError: for a recipe that does not distil, or teachers whose input or output does not fit it.
        DataError: for a teacher that cannot be loaded.
    """
    if recipe.distill is None:
        raise ConfigError("distill", "the recipe has no [distill] table", file=recipe.name)
    if not paths:
        raise ConfigError("distill", "no teacher given", file=recipe.name)
    files = [target_files(path, recipe) for path in paths]
    predictors = {file: _predictor(_load_fitting(file, recipe), recipe) for heads in files for file in heads}
    temperature = recipe.distill.temperature

    def teach(inputs: Floats) -> Floats:
        scores = {file: softmax(predict(inputs), temperature=temperature) for file, predict in predictors.items()}
        taught: Floats = np.mean([[scores[file] for file in heads] for heads in files], axis=0).swapaxes(0, 1)
        return taught.astype(np.float32)

    asked = [file for heads in files for file in dict.fromkeys(heads)]  # one given twice counts twice
    hashes = {file: hash_file(file) for file in predictors}
    return Teachers(teach=teach, sha256={f"{i}:{file.name}": hashes[file] for i, file in enumerate(asked)})


def _predictor(model: Any, recipe: Recipe) -> Callable[[Floats], Floats]:
    """(n, classes) logits of pictures, as fast as this machine can at the recipe's precision."""
    if fits_processor(model, recipe.train.precision):
        from training.fit.torch_network import make_predictor

        return make_predictor(model, bfloat16=True)
    return lambda inputs: predict_logits(model.predict_on_batch, inputs)[:, 0]


def _load_fitting(file: Path, recipe: Recipe) -> Any:
    model = load_keras_model(file)
    wanted = ((None, *recipe.input.shape), (None, len(recipe.data.classes)))
    if (tuple(model.input_shape), tuple(model.output_shape)) != wanted:
        raise ConfigError(
            "distill",
            f"teacher {file} maps {model.input_shape} to {model.output_shape}, not {wanted}",
            file=recipe.name,
        )
    return model
