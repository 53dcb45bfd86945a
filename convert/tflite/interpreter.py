"""Runs TFLite files that have no manifest yet, picture by picture: outputs, logits, inner tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.tflite.graph import Graph
from edge.contract.scores import dequantize
from edge.infer.litert import open_interpreter
from edge.records import Floats

Pixels = npt.NDArray[np.uint8]
"""(n, height, width, channels) uint8."""


def run_pictures(interpreter: Any, pictures: npt.NDArray[Any], tensors: Sequence[int]) -> list[npt.NDArray[Any]]:
    """Run pictures one by one and return the raw values of tensors, stacked along a new first axis.

    Args:
        interpreter: the runtime's own, from `edge.infer.litert.open_interpreter`.
        pictures: (n, height, width, channels) uint8 pixels, or float32 as the model expects them.
        tensors: indices of the tensors.
    """
    (source,) = interpreter.get_input_details()
    rows = []
    for picture in pictures:
        interpreter.set_tensor(source["index"], _as_input(picture, source["dtype"]))
        interpreter.invoke()
        rows.append([interpreter.get_tensor(tensor) for tensor in tensors])
    return [np.stack(values) for values in zip(*rows, strict=True)]


def run_outputs(model: bytes, pictures: npt.NDArray[Any], *, threads: int = 1) -> npt.NDArray[Any]:
    """Return the raw values (n, ...) of a model's only output.

    Raises:
        InferenceError: the interpreter refuses the model.
    """
    interpreter = open_interpreter(model, threads=threads)
    (output,) = interpreter.get_output_details()
    return run_pictures(interpreter, pictures, [output["index"]])[0][:, 0]


def run_logits(model: bytes, pixels: Pixels) -> Floats:
    """Return the (n, classes) float32 logits of a float or quantized graph.

    Raises:
        InferenceError: the interpreter refuses the graph.
    """
    graph = Graph(model)
    return to_reals(graph, graph.outputs[0], run_outputs(model, pixels, threads=2))


def to_reals(graph: Graph, tensor: int, raw: npt.NDArray[Any]) -> Floats:
    """Return the float32 values of a tensor's raw ones by its scale and zero point; of a float tensor the same."""
    scales, zero_points = graph.quantization(tensor)
    return dequantize(raw, scale=(scales or [1.0])[0], zero_point=(zero_points or [0])[0])


def record_tensors(model: bytes, pixels: Pixels, tensors: Sequence[int]) -> dict[int, npt.NDArray[Any]]:
    """Return the raw values of inner tensors by index, pictures stacked; without XNNPACK, which hides them."""
    interpreter = open_interpreter(model, xnnpack=False, keep_tensors=True)
    return dict(zip(tensors, run_pictures(interpreter, pixels, tensors), strict=True))


def _as_input(picture: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
    """Return a batch of one picture in the input's type: int8 as pixel - 128, else the pixel itself."""
    batch = picture[np.newaxis]
    return (batch.astype(np.int16) - 128).astype(np.int8) if dtype == np.int8 else batch.astype(dtype)
