"""Makes a calibrated float graph small; what each scheme and kind of input and output means stands in `SCHEMES`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from convert.classifier.calibrate import calibrate, feed
from convert.frameworks import converting, import_tensorflow
from convert.tflite.graph import Graph
from convert.tflite.interpreter import Pixels
from edge.errors import ConversionError, UsageError

Scheme = Literal["int8", "int16x8", "float16", "dynamic"]
Io = Literal["int8", "uint8", "float32"]
SCHEMES: Final[dict[str, tuple[str, ...]]] = {
    "int8": ("int8", "uint8", "float32"),
    "int16x8": ("float32",),
    "float16": ("float32",),
    "dynamic": ("float32",),
}
"""Scheme -> kinds of input and output that it can have, the default first.

``int8``: weights int8 per output channel, activations int8, XNNPACK takes the whole graph. Input ``int8`` has scale 1
and zero point -128, ``uint8`` scale 1 and zero point 0 (a QUANTIZE more at both ends), ``float32`` takes pixels 0..255
(QUANTIZE and DEQUANTIZE lie inside the graph). ``int16x8``: int16 activations; XNNPACK takes none of it, TFLite's own
slow kernels run. ``float16``: weights stored as float16 and widened when the model is loaded; half the bytes, float
speed. ``dynamic``: weights int8, activations float32 quantized at run time; tflite-runtime 2.14 does not load it. The
last three take float32 pixels 0..255 and put out float32 logits.
"""
PINNED: Final = ([1.0], [-128])
"""Scale and zero point of an int8 input: a pixel less 128."""
RECIPE: Final = "ptq/1"


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantized file.

    Attributes:
        model: the file.
        recipe: what was done, for the manifest.
    """

    model: bytes
    recipe: str


def check_io(scheme: str, io: str | None) -> Io:
    """The kind of input and output of a scheme; its default where none is given.

    Raises:
        UsageError: an unknown scheme, or a kind that it cannot have.
    """
    if scheme not in SCHEMES:
        raise UsageError(f"--scheme: {scheme!r} is not one of {', '.join(SCHEMES)}")
    allowed = SCHEMES[scheme]
    if io is not None and io not in allowed:
        raise UsageError(f"--io: {io!r} is not one of {', '.join(allowed)}, which --scheme {scheme} can have")
    return io or allowed[0]  # type: ignore[return-value]


def quantize(tflite: bytes, *, scheme: Scheme, io: Io | None = None, pixels: Pixels) -> Quantized:
    """Quantizes a float graph.

    Args:
        tflite: from pixels 0..255 to logits, batch 1.
        scheme: see `SCHEMES`.
        io: see `SCHEMES`; the scheme's default where None.
        pixels: (n, height, width, channels) uint8 for calibration.

    Raises:
        ConversionError: the converter breaks off, or does not deliver what was asked for.
    """
    if scheme == "int8":
        model = quantize_int8(calibrate(tflite, pixels), io=check_io(scheme, io))
        return Quantized(model, f"{RECIPE}: int8 per channel, min/max ranges")
    if scheme == "int16x8":
        return Quantized(_quantize_int16x8(tflite, pixels), f"{RECIPE}: int16 activations, int8 weights per channel")
    if scheme == "float16":
        return Quantized(_store_float16(tflite), f"{RECIPE}: float16 weights")
    return Quantized(_quantize_weights(tflite), f"{RECIPE}: int8 weights per channel, float activations")


def quantize_int8(calibrated: bytes, *, io: Io = "int8", float_nodes: Sequence[str] = ()) -> bytes:
    """Quantizes a calibrated graph to int8, weights per channel.

    Args:
        calibrated: from `convert.classifier.calibrate.calibrate`.
        io: kind of the input and the output.
        float_nodes: names of output tensors of operators that stay in float.

    Raises:
        ConversionError: the quantizer breaks off, or the input's scale is not 1.
    """
    tf = import_tensorflow()
    from tensorflow.lite.python.convert import mlir_quantize

    kind = tf.float32 if io == "float32" else tf.int8
    with converting("TFLite's quantizer"):
        model = mlir_quantize(
            calibrated,
            fully_quantize=not float_nodes and io != "float32",
            input_data_type=kind,
            output_data_type=kind,
            denylisted_nodes=set(float_nodes) or None,
        )
    graph = Graph(bytes(model))
    (source,) = graph.inputs
    found = graph.dtype(source), graph.quantization(source)
    if io != "float32" and found != ("int8", PINNED):
        raise ConversionError(f"the input became {found[0]} {found[1]}; int8 {PINNED} is demanded")
    if io == "uint8":
        graph.take_uint8()
        return graph.encode()
    return bytes(model)


def _quantize_int16x8(tflite: bytes, pixels: Pixels) -> bytes:
    tf = import_tensorflow()
    from tensorflow.lite.python.optimize.calibrator import Calibrator

    with converting("TFLite's int16 quantizer"):
        model = Calibrator(tflite).calibrate_and_quantize(
            feed(pixels), tf.float32, tf.float32, False, activations_type=tf.int16, bias_type=tf.int64
        )
    return bytes(model)


def _store_float16(tflite: bytes) -> bytes:
    """Weights and biases become float16 behind a DEQUANTIZE, which XNNPACK folds away where a layer has both so."""
    graph = Graph(tflite)
    limit = np.finfo(np.float16).max
    for index in sorted({index for op in graph.weighted_ops() for index in op.inputs[1:]}):
        values = graph.constant(index)
        if values is not None and values.dtype == np.float32:
            graph.store_as_float16(index, np.clip(values, -limit, limit).astype(np.float16))
    return graph.encode()


def _quantize_weights(tflite: bytes) -> bytes:
    """Weights of convolutions and fully connected layers become int8, symmetric per output channel."""
    graph = Graph(tflite)
    for op in graph.weighted_ops():
        index = op.inputs[1]
        values = graph.constant(index)
        if values is None or values.dtype != np.float32:
            continue
        axis = 3 if op.name == "DEPTHWISE_CONV_2D" else 0
        integers, scales = quantize_per_channel(values, axis=axis)
        tensor: Any = graph.tensor(index)
        tensor.type = schema.TensorType.INT8
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.quantizedDimension = scales.tolist(), axis
        tensor.quantization.zeroPoint = [0] * len(scales)
        graph.set_constant(index, integers)
    return graph.encode()


def quantize_per_channel(
    weights: npt.NDArray[np.float32], *, axis: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Symmetric int8 weights with one scale an output channel.

    Args:
        weights: any shape.
        axis: of the output channels.

    Returns:
        The integers, -127..127, and (channels,) scales.
    """
    others = tuple(i for i in range(weights.ndim) if i != axis)
    scales = np.maximum(np.abs(weights).max(axis=others), 1e-12).astype(np.float32) / np.float32(127)
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    integers = np.clip(np.rint(weights / scales.reshape(shape)), -127, 127).astype(np.int8)
    return integers, scales
