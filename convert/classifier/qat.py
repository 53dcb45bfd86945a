"""Quantization-aware fine-tuning of a Keras classifier, for networks that ranges and biases alone do not bring back.

Batch normalizations are folded first, so that training sees the weights that will be quantized. Kernels are then
rounded to int8 per output channel and activations to int8 per tensor in every forward pass, gradients pass straight
through (Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
2018), and the float model's scores are the target: no labels are needed and nothing else is learned.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from convert.classifier.load import (
    FloatModel,
    InputArithmetic,
    apply_arithmetic,
    replace_graph,
)
from convert.classifier.sources import load_keras_model
from convert.frameworks import freeze_to_tflite, import_keras, import_tensorflow
from convert.tflite.interpreter import Pixels
from edge.contract.scores import softmax
from edge.errors import ConversionError, UsageError
from edge.records import Floats

LEARNING_RATE: Final = 1e-4
BATCH: Final = 64
RANGE_PICTURES: Final = 256
_LAYERS: Final = ("Conv2D", "DepthwiseConv2D", "Dense")
_ROUNDED_OUTPUTS: Final = ("ReLU", "Activation", "Add", "Multiply", "Conv2D", "DepthwiseConv2D", "Dense")


def fine_tune(
    model: FloatModel,
    pixels: Pixels,
    *,
    arithmetic: InputArithmetic | None,
    epochs: int,
    note: Callable[[str], None],
) -> FloatModel:
    """Fine-tunes a Keras model; what it predicts stays the original's, which it is compared with.

    Args:
        model: read from ``.keras`` or ``.h5``, functional or sequential.
        arithmetic: what it expects of its input.
        pixels: (n, height, width, channels) uint8 to tune on.
        epochs: passes over the pixels.
        note: told what goes on.

    Raises:
        UsageError: not a Keras file, or a subclassed model, which cannot be taken apart.
        ConversionError: training diverges.
    """
    if model.kind != "keras":
        raise UsageError(f"--qat: {model.path}: only Keras files (.keras, .h5) can be trained on")
    keras, tf = import_keras(), import_tensorflow()
    original = load_keras_model(model.path)
    if not hasattr(original, "operations") or not original.built:
        raise UsageError(f"--qat: {model.path}: a subclassed model; a functional or sequential one is needed")
    keras.utils.set_random_seed(0)
    folded = fold_batch_norms(original)
    rounded, observers = _with_rounding(folded)
    logits_of = _without_softmax(keras, rounded)
    inputs, targets = apply_arithmetic(pixels, arithmetic), softmax(model.predict(pixels))
    _observe(rounded, observers, inputs[:RANGE_PICTURES])
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE, max(1, epochs * -(-len(pixels) // BATCH))))  # fmt: skip
    variables = rounded.trainable_variables

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def step(batch: Any, wanted: Any) -> Any:
        with tf.GradientTape() as tape:
            logs = tf.nn.log_softmax(logits_of(batch))
            loss = tf.reduce_mean(tf.reduce_sum(wanted * (tf.math.log(wanted + 1e-9) - logs), axis=1))
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    # Keras warns of a tensor where its clone has a list of one; both mean the same input.
    warnings.filterwarnings("ignore", message="The structure of `inputs`", category=UserWarning)
    rng = np.random.default_rng(0)
    for epoch in range(epochs):
        order = rng.permutation(len(pixels))
        losses = [
            float(step(inputs[rows], targets[rows])) for rows in np.array_split(order, max(1, len(order) // BATCH))
        ]
        note(f"quantization-aware epoch {epoch + 1} of {epochs}: divergence {np.mean(losses):.4f} nats")
        if not np.isfinite(losses).all():
            raise ConversionError("--qat: training diverges")
    for layer in folded.layers:
        if type(layer).__name__ in _LAYERS:
            layer.set_weights(rounded.get_layer(layer.name).get_weights())
    tflite = freeze_to_tflite(lambda batch: folded(batch, training=False), (1, *model.input_shape))
    how = f"quantization-aware fine-tuning, epochs: {epochs}"
    return replace_graph(model, tflite, arithmetic=arithmetic, how=how)


def fold_batch_norms(model: Any) -> Any:
    """The same function with every batch normalization that alone follows a linear layer folded into that layer.

    Args:
        model: a functional or sequential Keras model.

    Returns:
        A new model; a batch normalization that cannot be folded stays, with its statistics frozen.
    """
    keras = import_keras()
    pairs = {norm.name: layer for layer, norm in _foldable(model)}
    partners = {layer.name for layer in pairs.values()}

    def clone(layer: Any) -> Any:
        if layer.name in pairs:
            return keras.layers.Identity(name=layer.name)
        config = layer.get_config()
        if layer.name in partners:
            config["use_bias"] = True
        copy = type(layer).from_config(config)
        if type(layer).__name__ == "BatchNormalization":
            copy.trainable = False
        return copy

    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        return layer(*arguments) if layer.name in pairs else layer(*arguments, **options)  # an identity knows no mask

    folded = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in model.layers:
        if layer.name in pairs or not layer.get_weights():
            continue
        norm = next((name for name, partner in pairs.items() if partner.name == layer.name), None)
        weights = layer.get_weights() if norm is None else _folded_weights(layer, model.get_layer(norm))
        folded.get_layer(layer.name).set_weights(weights)
    return folded


def _foldable(model: Any) -> list[tuple[Any, Any]]:
    found = []
    for layer in model.layers:
        if type(layer).__name__ not in _LAYERS or layer.activation.__name__ != "linear":
            continue
        readers = [node.operation for node in layer._outbound_nodes]
        if len(readers) == 1 and type(readers[0]).__name__ == "BatchNormalization" and len(layer._inbound_nodes) == 1:
            found.append((layer, readers[0]))
    return found


def _folded_weights(layer: Any, norm: Any) -> list[Any]:
    kernel, *rest = layer.get_weights()
    bias = rest[0] if rest else 0.0
    variance, mean = np.asarray(norm.moving_variance), np.asarray(norm.moving_mean)
    factor = (np.asarray(norm.gamma) if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    offset = np.asarray(norm.beta) if norm.center else 0.0
    shape = (*kernel.shape[2:4], 1) if type(layer).__name__ == "DepthwiseConv2D" else (-1,)
    scaled = kernel * factor.reshape(kernel.shape[2:4] if len(shape) == 3 else (-1,))
    return [scaled, np.broadcast_to(offset + (bias - mean) * factor, factor.shape).copy()]


def _with_rounding(model: Any) -> tuple[Any, list[Any]]:
    """A copy that shares nothing with the model, rounds its kernels, and has an observer behind every activation."""
    keras, tf = import_keras(), import_tensorflow()
    observers: list[Any] = []

    class Observer(keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Rounds to 256 steps between two bounds; before they are known it only watches."""

        def build(self, shape: Any) -> None:
            self.low = self.add_weight(shape=(), initializer="zeros", trainable=False, name="low")
            self.high = self.add_weight(shape=(), initializer="zeros", trainable=False, name="high")

        def call(self, values: Any) -> Any:
            rounded = tf.quantization.fake_quant_with_min_max_vars(values, self.low, self.high, num_bits=8)
            return tf.where(self.high > self.low, rounded, values)

    def rounding(layer: Any) -> Any:
        copy = type(layer).from_config(layer.get_config())
        return _round_kernel(copy, tf) if type(layer).__name__ in _LAYERS else copy

    def call(layer: Any, *arguments: Any, **options: Any) -> Any:
        outputs = layer(*arguments, **options)
        if type(layer).__name__ not in _ROUNDED_OUTPUTS or _is_fused(model.get_layer(layer.name)):
            return outputs
        observers.append(Observer(name=f"{layer.name}_observer"))
        return observers[-1](outputs)

    rounded = keras.models.clone_model(model, clone_function=rounding, call_function=call)
    for layer in model.layers:
        if layer.get_weights():
            rounded.get_layer(layer.name).set_weights(layer.get_weights())
    return rounded, observers


def _is_fused(layer: Any) -> bool:
    """Whether the converter joins the layer with the activation behind it, so that nothing is rounded between."""
    if type(layer).__name__ in ("ReLU", "Activation", "Multiply"):
        return False
    readers = [node.operation for node in layer._outbound_nodes]
    while len(readers) == 1 and type(readers[0]).__name__ == "Identity":
        readers = [node.operation for node in readers[0]._outbound_nodes]
    if type(layer).__name__ in _LAYERS and layer.activation.__name__ not in ("linear",):
        return False
    return len(readers) == 1 and type(readers[0]).__name__ in ("ReLU", "Add")


def _round_kernel(layer: Any, tf: Any) -> Any:
    """Makes a layer use its kernel rounded to 255 steps an output channel; gradients pass straight through."""
    depthwise = type(layer).__name__ == "DepthwiseConv2D"
    plain_call = layer.call

    def call(inputs: Any, *arguments: Any, **options: Any) -> Any:
        kernel = layer.kernel
        values = tf.convert_to_tensor(kernel)
        axes = [0, 1] if depthwise else list(range(len(values.shape) - 1))
        scale = tf.maximum(tf.reduce_max(tf.abs(values), axis=axes, keepdims=True), 1e-12) / 127
        rounded = values + tf.stop_gradient(tf.round(values / scale) * scale - values)
        return _call_with_kernel(layer, plain_call, rounded, inputs)

    layer.call = call
    return layer


def _call_with_kernel(layer: Any, plain_call: Any, kernel: Any, inputs: Any) -> Any:
    keras = import_keras()
    kind = type(layer).__name__
    if kind == "Dense":
        outputs = keras.ops.matmul(inputs, kernel)
    else:
        convolve = keras.ops.depthwise_conv if kind == "DepthwiseConv2D" else keras.ops.conv
        outputs = convolve(
            inputs, kernel, strides=layer.strides, padding=layer.padding, dilation_rate=layer.dilation_rate,
            data_format=layer.data_format,
        )  # fmt: skip
    if layer.use_bias:
        outputs = outputs + layer.bias
    return layer.activation(outputs) if layer.activation is not None else outputs


def _without_softmax(keras: Any, model: Any) -> Callable[[Any], Any]:
    """Logits of a model; of one that ends in a softmax, the logarithm of its scores."""
    last = model.layers[-1]
    while type(last).__name__ in ("Identity", "Observer"):
        last = last._inbound_nodes[0].parent_nodes[0].operation
    ends = getattr(getattr(last, "activation", None), "__name__", "") == "softmax" or type(last).__name__ == "Softmax"

    def logits(batch: Any) -> Any:
        outputs = model(batch, training=False)
        return keras.ops.log(outputs + 1e-9) if ends else outputs

    return logits


def _observe(model: Any, observers: list[Any], inputs: Floats) -> None:
    """Sets every observer's bounds to the smallest and largest value that it sees, 0 included."""
    keras = import_keras()
    watched = keras.Model(model.inputs, [observer.input for observer in observers])
    lows, highs = np.zeros(len(observers)), np.zeros(len(observers))
    for start in range(0, len(inputs), BATCH):
        outputs = watched(inputs[start : start + BATCH], training=False)
        for index, values in enumerate(outputs):
            lows[index] = min(lows[index], float(keras.ops.min(values)))
            highs[index] = max(highs[index], float(keras.ops.max(values)))
    for observer, low, high in zip(observers, lows, highs, strict=True):
        observer.low.assign(low)
        observer.high.assign(high)
