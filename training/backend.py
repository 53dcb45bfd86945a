"""Keras and the library it computes with, started once for a command."""

from __future__ import annotations

import os
import sys
from typing import Final

from edge.errors import MissingDependencyError, UsageError
from edge.infer.litert import quiet_native_log
from edge.packages import install_line

BACKENDS: Final = ("tensorflow", "jax", "torch")
"""What training computes with; the first is in the extra ``training``."""


def start_keras() -> None:
    """Imports Keras and makes its backend compute something, while the backend's start-up notices go nowhere.

    TensorFlow does not heed its own ``TF_CPP_MIN_LOG_LEVEL`` for them. OpenMP's threads wait asleep, not spinning,
    unless ``OMP_WAIT_POLICY`` says otherwise: on cores that others use too, threads that spin hold up those that work.

    Raises:
        MissingDependencyError: Keras or its backend is not installed.
        UsageError: ``KERAS_BACKEND`` names none of `BACKENDS`.
    """
    chosen = os.environ.get("KERAS_BACKEND")
    if chosen and chosen not in BACKENDS:
        raise UsageError(f"KERAS_BACKEND={chosen}: Keras computes with tensorflow, jax or torch")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when the backend is loaded
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # what comes after the start
    try:
        with quiet_native_log():
            import keras

            keras.ops.zeros(1)
    except ModuleNotFoundError as error:
        package = error.name or "keras"
        install = f"{sys.executable} -m pip install {package}" if package in BACKENDS[1:] else install_line("training")
        raise MissingDependencyError("training", package, install) from error
