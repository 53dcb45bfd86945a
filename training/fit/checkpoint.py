"""The state of a training run: averaged weights, and checkpoints from which it goes on exactly."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import DataError
from training.files import write_file
from training.fit.run_folder import CHECKPOINT

Array = npt.NDArray[Any]


def read_variables(variables: list[Any]) -> list[Array]:
    """Copies of Keras variables as numpy arrays, in their order."""
    import keras

    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def write_variables(variables: list[Any], arrays: list[Array]) -> None:
    """Assigns arrays to Keras variables, in their order."""
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


class AveragedWeights:
    """An exponential moving average of a model's weights, batch-norm statistics included.

    The average starts as the mean of what it has seen: its decay rises from 0 to the one asked for (as
    ``tf.train.ExponentialMovingAverage`` does with ``num_updates``).

    Args:
        decay: a step.
        every: steps between updates, which then decay by ``decay ** every``: the copy out of the backend costs time.
    """

    def __init__(self, model: Any, *, decay: float, every: int = 4) -> None:
        self._model, self._decay, self._every = model, decay, every
        self.arrays: list[Array] = read_variables(model.weights)

    def update(self, step: int) -> None:
        """Takes the weights of after step number ``step`` (from 1) into the average."""
        if step % self._every:
            return
        updates = step // self._every
        decay = min(self._decay**self._every, updates / (10 + updates))
        for average, array in zip(self.arrays, read_variables(self._model.weights), strict=True):
            average += (1 - decay) * (array - average)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        own = read_variables(self._model.weights)
        write_variables(self._model.weights, self.arrays)
        try:
            yield
        finally:
            write_variables(self._model.weights, own)


def save_checkpoint(run: Path, model: Any, average: AveragedWeights | None, progress: dict[str, Any]) -> None:
    """Writes weights, optimizer, seed states and averages; the previous checkpoint stays until this one is whole."""
    groups = {"model": read_variables(model.variables), "optimizer": read_variables(model.optimizer.variables)}
    groups["average"] = average.arrays if average else []
    arrays = {f"{group}_{i:04d}": array for group, members in groups.items() for i, array in enumerate(members)}
    if (generator := _torch_generator()) is not None:
        arrays["generator"] = generator.get_state().numpy()
    arrays["meta"] = np.array(json.dumps(progress))
    stored = io.BytesIO()
    np.savez(stored, allow_pickle=False, **arrays)
    write_file(run / CHECKPOINT, stored.getvalue())


def load_checkpoint(run: Path, model: Any, average: AveragedWeights | None) -> dict[str, Any]:
    """Restores what `save_checkpoint` wrote and returns its ``progress``.

    Raises:
        DataError: for a checkpoint that is missing, damaged or of another network.
    """
    file = run / CHECKPOINT
    try:
        with np.load(file, allow_pickle=False) as stored:
            groups = {
                group: [stored[name] for name in sorted(stored.files) if name.startswith(f"{group}_")]
                for group in ("model", "optimizer", "average")
            }
            progress: dict[str, Any] = json.loads(str(stored["meta"]))
            state = stored["generator"] if "generator" in stored.files else None
        write_variables(model.variables, groups["model"])
        write_variables(model.optimizer.variables, groups["optimizer"])
    except FileNotFoundError as error:
        raise DataError(file, "no checkpoint to resume from") from error
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(file, f"does not fit this recipe's network and optimizer, or is damaged: {error}") from error
    if average is not None:
        average.arrays = groups["average"]
    if state is not None and (generator := _torch_generator()) is not None:
        import torch

        generator.set_state(torch.from_numpy(state))
    return progress


def _torch_generator() -> Any:
    """Return PyTorch's generator of random numbers, which its dropout draws from; None on another backend."""
    import keras

    if keras.backend.backend() != "torch":
        return None
    import torch

    return torch.default_generator
