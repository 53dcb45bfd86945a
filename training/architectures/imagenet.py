"""Networks that begin with a base of ``keras.applications``, with ImageNet weights, a file's or random ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
from keras import layers

from edge.errors import ConfigError, config_context
from training.architectures.base import InputShape, add_dense_layers, make_logits

_CAFFE_MEANS_BGR: Final = (-103.939, -116.779, -123.68)


@dataclass(frozen=True, slots=True)
class Base:
    """A base network.

    Attributes:
        function: its name in ``keras.applications``.
        min_px: smallest input side.
        last_block: prefix of the layers that ``trainable = "last_block"`` leaves trainable.
        colour: channel order that its ImageNet weights were trained with.
        scale: factor of the scaling that they expect.
        offset: and its offset, for all channels or each.
    """

    function: str
    min_px: int
    last_block: str
    colour: str
    scale: float
    offset: float | tuple[float, float, float]


BASES: Final[Mapping[str, Base]] = {
    "xception": Base("Xception", 71, "block14", "rgb", 1 / 127.5, -1.0),
    "resnet50": Base("ResNet50", 32, "conv5_block3", "bgr", 1.0, _CAFFE_MEANS_BGR),
    "inception_v3": Base("InceptionV3", 75, "mixed10", "rgb", 1 / 127.5, -1.0),
    "vgg16": Base("VGG16", 32, "block5", "bgr", 1.0, _CAFFE_MEANS_BGR),
    "mobilenet_v2": Base("MobileNetV2", 32, "Conv_1", "rgb", 1 / 127.5, -1.0),
}
"""Scaling as in ``keras.applications``' ``preprocess_input`` of each."""


def make_imagenet(
    *,
    input_shape: InputShape,
    outputs: int,
    base: str,
    weights: str = "imagenet",
    trainable: str = "none",
    pooling: str = "flatten",
    dense: Sequence[int] = (),
    dropout: Sequence[float] = (),
) -> Any:
    """A base, flattened or averaged, dense layers with dropout, logits.

    Args:
        input_shape: see `make_model`; three channels in the base's colour order (`BASES`).
        outputs: see `make_model`.
        base: one of `BASES`.
        weights: ``imagenet`` (fetched by Keras), ``random``, or a weights file of the base without its top.
        trainable: ``none`` (frozen base), ``last_block`` or ``all``.
        pooling: ``flatten`` or ``average``.
        dense: widths of the dense layers.
        dropout: rate after each of them.

    Raises:
        ConfigError: for a value that is not allowed, or weights that cannot be had.
    """
    network = make_base(base, input_shape=input_shape, weights=weights)
    _set_trainable(network, base=base, trainable=trainable)
    if pooling not in ("flatten", "average"):
        raise ConfigError("model.options.pooling", f"{pooling!r} is not one of flatten, average")
    pixels = keras.Input(input_shape, name="pixels")
    x = network(_scaled(pixels, BASES[base]))
    x = layers.Flatten()(x) if pooling == "flatten" else layers.GlobalAveragePooling2D()(x)
    x = add_dense_layers(x, units=dense, dropout=dropout)
    return keras.Model(pixels, make_logits(x, outputs), name=f"imagenet_{base}")


@config_context("recipe")
def make_feature_extractor(base: str, *, input_shape: InputShape, weights: str) -> Any:
    """Pixels 0..255 to the base's last feature map; nothing in it is trained."""
    network = make_base(base, input_shape=input_shape, weights=weights)
    network.trainable = False
    pixels = keras.Input(input_shape, name="pixels")
    return keras.Model(pixels, network(_scaled(pixels, BASES[base]), training=False), name=f"{base}_features")


def make_base(base: str, *, input_shape: InputShape, weights: str) -> Any:
    """The base without its classifier; see `make_imagenet` for the arguments and errors."""
    if base not in BASES:
        raise ConfigError("model.options.base", f"{base!r} is not one of {', '.join(BASES)}")
    known = BASES[base]
    if input_shape[2] != 3:
        raise ConfigError("input.colour", f"{base} takes three channels: {known.colour!r}")
    if min(input_shape[:2]) < known.min_px:
        raise ConfigError("input.size_px", f"{input_shape[0]}: {base} takes at least {known.min_px}")
    if weights not in ("imagenet", "random") and not Path(weights).is_file():
        raise ConfigError("model.options.weights", f"{weights!r} is no file, nor 'imagenet' or 'random'")
    function = getattr(keras.applications, known.function)
    try:
        return function(include_top=False, weights=None if weights == "random" else weights, input_shape=input_shape)
    except Exception as error:  # Keras raises a bare Exception for a download that fails.
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(
            "model.options.weights",
            f"{weights!r} weights of {base} cannot be had ({reason}); use 'random' or the path of a weights file",
        ) from error


def _scaled(pixels: Any, base: Base) -> Any:
    offset = list(base.offset) if isinstance(base.offset, tuple) else base.offset
    return layers.Rescaling(base.scale, offset=offset, name="scale")(pixels)


def _set_trainable(network: Any, *, base: str, trainable: str) -> None:
    if trainable not in ("none", "last_block", "all"):
        raise ConfigError("model.options.trainable", f"{trainable!r} is not one of none, last_block, all")
    network.trainable = trainable != "none"
    if trainable == "last_block":
        names = [layer.name for layer in network.layers]
        first = next(i for i, name in enumerate(names) if name.startswith(BASES[base].last_block))
        for layer in network.layers[:first]:
            layer.trainable = False
