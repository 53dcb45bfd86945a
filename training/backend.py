"""Keras and the library it computes with, started once for a command."""

from __future__ import annotations

import os

from edge.errors import MissingDependencyError, UsageError
from edge.infer.litert import quiet_native_log

_INSTALL = {"torch": "pip install torch", "jax": "pip install jax"}


def start_keras() -> None:
    """Imports Keras and makes its backend compute something, while the backend's start-up notices go nowhere.

    TensorFlow does not heed its own ``TF_CPP_MIN_LOG_LEVEL`` for them.

    Raises:
        MissingDependencyError: Keras or its backend is not installed.
        UsageError: ``KERAS_BACKEND`` names no backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # what comes after the start
    try:
        with quiet_native_log():
            import keras

            keras.ops.zeros(1)
    except ImportError as error:
        package = error.name or "keras"
        install = _INSTALL.get(package, "pip install 'mien[training]'")
        raise MissingDependencyError("training", package, install) from error
    except ValueError as error:
        chosen = os.environ.get("KERAS_BACKEND")
        raise UsageError(f"KERAS_BACKEND={chosen}: Keras computes with tensorflow, jax or torch") from error
