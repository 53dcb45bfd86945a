"""Where a quantized graph goes wrong: the error of every layer against the float graph on the same pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from convert.tflite.graph import Graph
from convert.tflite.interpreter import Pixels, record_tensors, to_reals

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
        values, reference = to_reals(small, twin, quantized_values[twin]), float_values[index].astype(np.float32)
        if values.shape == reference.shape:
            noise = signal_to_noise_db(reference, values)
            found.append(LayerError(op, name, noise, float(reference.min()), float(reference.max())))
    return tuple(found)


def signal_to_noise_db(reference: npt.NDArray[np.float32], measured: npt.NDArray[np.float32]) -> float:
    """10 log10 of the reference's variance over the mean squared error, within -60..120."""
    noise = float(np.mean((reference - measured) ** 2, dtype=np.float64))
    signal = float(np.var(reference, dtype=np.float64))
    return float(np.clip(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30)), -60, 120))
