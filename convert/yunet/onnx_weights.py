"""Reads the convolutions of an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.frameworks import read_onnx
from edge.errors import DataError, ModelFileError


@dataclass(frozen=True, slots=True)
class Convolution:
    """One ``Conv`` node.

    Attributes:
        kernel: float32, shape (out, in / groups, height, width), as ONNX stores it.
        bias: float32, shape (out,); zeros where the node has none.
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


def read_convolutions(path: Path) -> list[Convolution]:
    """Read every ``Conv`` node of an ONNX file, in the order of the graph.

    Raises:
        MissingDependencyError: the package ``onnx`` is not installed.
        DataError: the file cannot be read, is not an ONNX model, or a convolution's weights are not float32 constants
            of the graph.
    """
    try:
        graph = read_onnx(path).graph
    except ModelFileError as error:
        raise DataError(path, error.problem) from None
    from onnx import numpy_helper

    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type == "Conv":
            weights = [constants[name] for name in node.input[1:] if name in constants]
            if len(weights) != len(node.input) - 1 or any(array.dtype != np.float32 for array in weights):
                raise DataError(path, f"the weights of {node.name or 'a convolution'} are not float32 constants")
            kernel, *biases = weights
            found.append(Convolution(kernel, biases[0] if biases else np.zeros(len(kernel), np.float32)))
    return found
