"""The networks that recipes name.

Every builder takes pixels as they are (0..255, NHWC, scaling is a layer inside the graph) and ends in logits: the
softmax that a paper draws stands in the loss. A network is one function in one file and one line in `ARCHITECTURES`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any, Final

from edge.errors import ConfigError, config_context
from training.architectures.base import InputShape

__all__ = ["ARCHITECTURES", "InputShape", "make_model"]

ARCHITECTURES: Final[Mapping[str, str]] = {
    "resnet": "training.architectures.resnet:make_resnet",
    "sequential": "training.architectures.sequential:make_sequential",
    "tuned_cnn": "training.architectures.tuned_cnn:make_tuned_cnn",
    "cnn_512": "training.architectures.cnn_512:make_cnn_512",
    "cnn_150px": "training.architectures.cnn_150px:make_cnn_150px",
    "vgg_5m9": "training.architectures.vgg_5m9:make_vgg_5m9",
    "osnet": "training.architectures.osnet:make_osnet",
    "imagenet": "training.architectures.imagenet:make_imagenet",
    "dense": "training.architectures.dense:make_dense",
}


@config_context("recipe")
def make_model(key: str, *, input_shape: InputShape, outputs: int, options: Mapping[str, Any]) -> Any:
    """Builds a network.

    Args:
        key: one of `ARCHITECTURES`.
        input_shape: (height, width, channels) of the pixels.
        outputs: number of logits.
        options: the network's own keyword arguments, as the recipe's ``[model.options]`` has them.

    Returns:
        A ``keras.Model`` from (n, height, width, channels) pixels 0..255 to (n, outputs) float32 logits.

    Raises:
        ConfigError: for an unknown network or option, or an option's value that the network does not allow.
    """
    if key not in ARCHITECTURES:
        raise ConfigError("model.architecture", f"{key!r} is not one of {', '.join(ARCHITECTURES)}")
    module, _, function = ARCHITECTURES[key].partition(":")
    builder = getattr(importlib.import_module(module), function)
    known = [name for name in inspect.signature(builder).parameters if name not in ("input_shape", "outputs")]
    for name in options:
        if name not in known:
            raise ConfigError(f"model.options.{name}", f"{key} has no such option; it has {', '.join(known)}")
    try:
        return builder(input_shape=input_shape, outputs=outputs, **options)
    except (ValueError, TypeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError("model.options", f"{key} cannot be built: {' '.join(str(error).split())}") from error
