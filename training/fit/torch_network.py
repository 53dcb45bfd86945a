"""A Keras network's own variables through PyTorch's channels-last bfloat16 kernels on a processor: training, teaching.

Keras' layers on PyTorch convert between memory layouts and compute batch statistics in separate operations, which a
processor spends most of its time on. Here the same graph, on the same variables, is computed by PyTorch's fused
operations: loss, optimizer, schedule, checkpoints and everything else stay Keras'.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import keras
import torch
from keras import layers
from torch.nn import functional

from training.fit.losses import Loss
from training.fit.targets import Floats

Operation = Callable[..., Any]
"""Tensors (n, channels, height, width) or (n, features) in, one out."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""


class TorchStep:
    """Trains a Keras network; called like ``Model.train_on_batch``.

    Args:
        model: compiled for its optimizer, on Keras' PyTorch backend, of layers that `is_supported` knows.
        loss: of targets and logits.
    """

    def __init__(self, model: Any, loss: Loss) -> None:
        self._model, self._loss = model, loss
        self._forward = Forward(model, training=True)
        self._sum, self._count = 0.0, 0

    def reset_metrics(self) -> None:
        """Begins a new mean."""
        self._sum, self._count = 0.0, 0

    def train_on_batch(self, inputs: Floats, targets: Floats) -> float:
        """One step; returns the mean loss since `reset_metrics`.

        Args:
            inputs: (n, height, width, channels) float32.
            targets: as the loss takes them.
        """
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self._forward(torch.from_numpy(inputs))
        loss = self._loss(torch.from_numpy(targets), logits.float())
        self._model.zero_grad()
        loss.backward()
        variables = self._model.trainable_variables
        with torch.no_grad():
            self._model.optimizer.apply([variable.value.grad for variable in variables], variables)
        self._sum, self._count = self._sum + float(loss.detach()), self._count + 1
        return self._sum / self._count


class Forward:
    """A network's output, computed by PyTorch's operations on the Keras variables.

    Args:
        model: of layers that `is_supported` knows.
        training: with batch statistics and dropout; else as the network is used.
    """

    def __init__(self, model: Any, *, training: bool) -> None:
        self._input, self._output = id(model.inputs[0]), id(model.outputs[0])
        self._graph = [(_inputs(layer), id(layer.output), _covered(layer, training)) for layer in model.layers[1:]]

    def __call__(self, inputs: torch.Tensor) -> torch.Tensor:
        """(n, outputs) for (n, height, width, channels) float32."""
        # Channels last in memory, channels first by name: what PyTorch's convolutions are fastest on.
        found = {self._input: inputs.permute(0, 3, 1, 2)}
        for sources, result, operation in self._graph:
            found[result] = operation(*(found[source] for source in sources))
        return found[self._output]


def make_predictor(model: Any, *, bfloat16: bool) -> Callable[[Floats], Floats]:
    """(n, outputs) float32 logits for (n, height, width, channels) float32.

    Args:
        model: of layers that `is_supported` knows.
        bfloat16: compute in it, which is enough for a teacher's opinion; else in float32, as the network is used.
    """
    forward = Forward(model, training=False)

    def predict(inputs: Floats) -> Floats:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            logits: Floats = forward(torch.from_numpy(inputs)).float().numpy()
        return logits

    return predict


def keep_freed_memory() -> None:
    """Has the C library keep large freed blocks for the next step.

    glibc maps every block above 32 MB anew and returns it when it is freed; the kernel then fills its pages again at
    every step, which costs a network with wide layers half its time on a virtual machine. Does nothing where the C
    library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def is_supported(model: Any) -> bool:
    """Whether a network has one input and every layer its counterpart here."""
    return len(model.inputs) == 1 and all(_operation(layer, True) is not None for layer in model.layers[1:])


def _inputs(layer: Any) -> list[int]:
    source = layer.input
    return [id(tensor) for tensor in source] if isinstance(source, list) else [id(source)]


def _operation(layer: Any, training: bool) -> Operation | None:
    if make := _OPERATIONS.get(type(layer)):
        return make(layer)
    if make_for := _UNLIKE_IN_TRAINING.get(type(layer)):
        return make_for(layer, training)
    return None


def _covered(layer: Any, training: bool) -> Operation:
    operation = _operation(layer, training)
    if operation is None:
        raise ValueError(f"layer {layer.name} ({type(layer).__name__}) is not covered; ask is_supported first")
    return operation


def _conv(layer: Any) -> Operation | None:
    plain = layer.strides == (1, 1) and layer.dilation_rate == (1, 1) and layer.groups == 1
    odd = all(side % 2 for side in layer.kernel_size)
    act = _activation(layer.activation)
    if not plain or act is None or not (layer.padding == "valid" or odd):
        return None
    padding = tuple(side // 2 for side in layer.kernel_size) if layer.padding == "same" else 0

    def convolve(x: Any) -> Any:
        bias = layer.bias.value if layer.use_bias else None
        return act(functional.conv2d(x, layer.kernel.value.permute(3, 2, 0, 1), bias, padding=padding))

    return convolve


def _batch_norm(layer: Any, training: bool) -> Operation | None:
    if not (layer.center and layer.scale) or layer.axis not in (-1, 3):
        return None

    def normalise(x: Any) -> Any:
        # The running variance is PyTorch's unbiased one: by 1/(n height width) above Keras', nothing at these sizes.
        return functional.batch_norm(
            x, layer.moving_mean.value, layer.moving_variance.value, layer.gamma.value, layer.beta.value,
            training=training, momentum=1 - layer.momentum, eps=layer.epsilon,
        )  # fmt: skip

    return normalise


def _dense(layer: Any) -> Operation | None:
    act = _activation(layer.activation)
    if act is None:
        return None
    return lambda x: act(x @ layer.kernel.value + layer.bias.value if layer.use_bias else x @ layer.kernel.value)


def _activation(activation: Any) -> Operation | None:
    if activation is keras.activations.relu:
        return _rectify
    return (lambda x: x) if activation is keras.activations.linear else None


def _relu(layer: Any) -> Operation | None:
    if layer.negative_slope or layer.threshold:
        return None
    return _rectify if layer.max_value is None else lambda x: x.clamp(0, layer.max_value)


def _rectify(x: Any) -> Any:
    return functional.relu(x)


def _max_pool(layer: Any) -> Operation | None:
    if layer.padding != "valid":
        return None
    return lambda x: functional.max_pool2d(x, layer.pool_size, layer.strides)


_OPERATIONS: dict[type, Callable[[Any], Operation | None]] = {
    layers.Rescaling: lambda layer: lambda x: x * layer.scale + layer.offset,
    layers.Conv2D: _conv,
    layers.ReLU: _relu,
    layers.Activation: lambda layer: _activation(layer.activation),
    layers.MaxPooling2D: _max_pool,
    layers.Add: lambda layer: lambda *tensors: sum(tensors[1:], tensors[0]),
    layers.GlobalAveragePooling2D: lambda layer: lambda x: x.float().mean(dim=(2, 3)),
    # Keras flattens height, width, channels in this order.
    layers.Flatten: lambda layer: lambda x: x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x.flatten(1),
    layers.Dense: _dense,
}
"""What each kind of layer does; None where this layer's settings are not covered."""

_UNLIKE_IN_TRAINING: dict[type, Callable[[Any, bool], Operation | None]] = {
    layers.BatchNormalization: _batch_norm,
    # Keras' own, for its random state is part of a checkpoint.
    layers.Dropout: lambda layer, training: lambda x: layer(x, training=training),
}
"""The same for layers that do something else in training than in use."""
