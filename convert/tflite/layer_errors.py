"""Where a quantized graph goes wrong: the error of every layer against the float graph on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from convert.classifier.load import Pixels
from convert.tflite.graph import Graph
from edge.contract.scores import dequantize
from edge.infer.litert import import_runtime, quiet_native_log

PICTURES: Final = 16


@dataclass(frozen=True, slots=True)
class LayerError:
    """One operator's output, quantized against float, errors of the layers before it included.

    Attributes:
        op: ``CONV_2D``.
        output: name of the tensor.
        signal_to_noise_db: 10 log10 of the float values' variance over the mean squared error; 120 at most.
        low: lower end of the calibrated range.
        high: upper end.
    """

    op: str
    output: str
    signal_to_noise_db: float
    low: float
    high: float


def measure_layers(tflite: bytes, quantized: bytes, pixels: Pixels) -> tuple[LayerError, ...]:
    """Compares all tensors that both graphs have, by name.

    Args:
        tflite: the float graph.
        quantized: the int8 graph made of it.
        pixels: (n, height, width, channels) uint8; the first `PICTURES` are used.
    """
    large, small = Graph(tflite), Graph(quantized)
    twins = {small.name(op.outputs[0]): op.outputs[0] for op in small.ops()}
    pairs = [
        (op.name, large.name(op.outputs[0]), op.outputs[0], twins[large.name(op.outputs[0])])
        for op in large.ops()
        if large.name(op.outputs[0]) in twins
    ]
    chosen = pixels[:PICTURES]
    float_values = record_tensors(tflite, chosen, [pair[2] for pair in pairs])
    quantized_values = record_tensors(quantized, chosen, [pair[3] for pair in pairs])
    found = []
    for op, name, index, twin in pairs:
        scales, zero_points = small.quantization(twin)
        raw = quantized_values[twin]
        values = dequantize(raw, scale=scales[0], zero_point=zero_points[0]) if scales else raw.astype(np.float32)
        reference = float_values[index].astype(np.float32)
        if values.shape == reference.shape:
            noise = signal_to_noise_db(reference, values)
            found.append(LayerError(op, name, noise, float(reference.min()), float(reference.max())))
    return tuple(found)


def signal_to_noise_db(reference: npt.NDArray[np.float32], measured: npt.NDArray[np.float32]) -> float:
    """10 log10 of the reference's variance over the mean squared error, within -60..120."""
    noise = float(np.mean((reference - measured) ** 2, dtype=np.float64))
    signal = float(np.var(reference, dtype=np.float64))
    return float(np.clip(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30)), -60, 120))


def record_tensors(model: bytes, pixels: Pixels, tensors: Sequence[int]) -> dict[int, npt.NDArray[Any]]:
    """Values of tensors, pictures stacked; without delegate, which would keep the inner ones to itself."""
    runtime = import_runtime()
    with quiet_native_log():
        interpreter = runtime.Interpreter(
            model_content=model,
            experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    values: dict[int, list[npt.NDArray[Any]]] = {tensor: [] for tensor in tensors}
    for picture in pixels:
        interpreter.set_tensor(source["index"], as_input(picture, source["dtype"]))
        interpreter.invoke()
        for tensor in tensors:
            values[tensor].append(interpreter.get_tensor(tensor).copy())
    return {tensor: np.stack(rows) for tensor, rows in values.items()}


def as_input(picture: Pixels, dtype: Any) -> npt.NDArray[Any]:
    """A batch of one picture in a tensor's type: int8 as pixel - 128, else the pixel itself."""
    batch = picture[np.newaxis]
    return (batch.astype(np.int16) - 128).astype(np.int8) if dtype == np.int8 else batch.astype(dtype)
