"""Function-preserving changes of a float graph that make it quantize better: cross-layer equalization.

Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, 2019.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from convert.tflite.graph import Graph, Op

_POSITIVE_HOMOGENEOUS: Final = ("MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "PAD", "RELU", "RESHAPE")
"""Operators between two layers that a positive factor per channel passes through (PAD with zeros)."""
_ROUNDS: Final = 20
_Array = npt.NDArray[np.float32]


def equalize(tflite: bytes) -> tuple[bytes, int]:
    """Rescales channels between layers so that their weights' ranges meet, until nothing moves.

    A pair is two layers with weights where the second alone reads the first, with ReLU or no activation between, and
    at most operators that a factor per channel passes through. For channel i with weight ranges r1 and r2, the first
    layer's channel and bias are divided by s = sqrt(r1 / r2), the second's input channel multiplied by it.

    Args:
        tflite: a float graph.

    Returns:
        The graph, the same function to rounding, and the number of pairs.
    """
    graph = Graph(tflite)
    pairs = _find_pairs(graph)
    for _ in range(_ROUNDS):
        moved = max((_equalize_pair(graph, first, second) for first, second in pairs), default=0.0)
        if moved < 1e-3:
            break
    return graph.encode(), len(pairs)


def _find_pairs(graph: Graph) -> list[tuple[Op, Op]]:
    pairs = []
    for first in graph.weighted_ops():
        if first.name == "TRANSPOSE_CONV" or not _is_homogeneous(graph, first):
            continue
        second = _only_reader(graph, first)
        while second is not None and second.name in _POSITIVE_HOMOGENEOUS:
            if second.name == "RESHAPE" and not _keeps_channels(graph, second):
                second = None
                break
            second = _only_reader(graph, second)
        if second is not None and second in graph.weighted_ops() and _fits(graph, first, second):
            pairs.append((first, second))
    return pairs


def _only_reader(graph: Graph, op: Op) -> Op | None:
    if op.outputs[0] in graph.outputs:
        return None
    readers = graph.consumers(op.outputs[0])
    return readers[0] if len(readers) == 1 and readers[0].inputs[0] == op.outputs[0] else None


def _keeps_channels(graph: Graph, op: Op) -> bool:
    return graph.shape(op.inputs[0])[-1] == graph.shape(op.outputs[0])[-1]


def _is_homogeneous(graph: Graph, op: Op) -> bool:
    allowed = (schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU)
    return graph.options(op).fusedActivationFunction in allowed


def _fits(graph: Graph, first: Op, second: Op) -> bool:
    if second.name == "TRANSPOSE_CONV":
        return False
    outputs = _out_ranges(graph, first)
    return outputs is not None and len(outputs) == len(_in_ranges(graph, second))


def _equalize_pair(graph: Graph, first: Op, second: Op) -> float:
    """Moves factors between two layers; returns the largest |log factor|."""
    out_ranges, in_ranges = _out_ranges(graph, first), _in_ranges(graph, second)
    live = (out_ranges > 1e-9) & (in_ranges > 1e-9)
    factors = np.where(live, np.sqrt(out_ranges / np.where(live, in_ranges, 1)), 1).astype(np.float32)
    factors = np.clip(factors, np.float32(1e-4), np.float32(1e4))
    _scale_outputs(graph, first, np.float32(1) / factors)
    _scale_inputs(graph, second, factors)
    return float(np.abs(np.log(factors)).max())


def _weights(graph: Graph, op: Op) -> _Array:
    values: Any = graph.constant(op.inputs[1])
    return values  # type: ignore[no-any-return]


def _out_ranges(graph: Graph, op: Op) -> _Array:
    weights = np.abs(_weights(graph, op))
    ranges: _Array = weights.max(axis=(0, 1, 2) if op.name == "DEPTHWISE_CONV_2D" else tuple(range(1, weights.ndim)))
    return ranges


def _in_ranges(graph: Graph, op: Op) -> _Array:
    weights = np.abs(_weights(graph, op))
    ranges: _Array = weights.max(axis=tuple(range(weights.ndim - 1)))
    return ranges


def _scale_outputs(graph: Graph, op: Op, factors: _Array) -> None:
    weights = _weights(graph, op)
    shape = (1, 1, 1, -1) if op.name == "DEPTHWISE_CONV_2D" else (-1,) + (1,) * (weights.ndim - 1)
    graph.set_constant(op.inputs[1], weights * factors.reshape(shape))
    bias = graph.constant(op.inputs[2]) if len(op.inputs) > 2 else None
    if bias is not None:
        graph.set_constant(op.inputs[2], bias * factors)


def _scale_inputs(graph: Graph, op: Op, factors: _Array) -> None:
    """The input channel is the last axis of every kind of weights (a depthwise channel is its own input)."""
    graph.set_constant(op.inputs[1], _weights(graph, op) * factors)
