"""Reads the convolutions of an ONNX file with the standard library and numpy alone.

Only what a chain of convolutions needs is understood: the order of the ``Conv`` nodes and their constant inputs. This
keeps the `onnx` package (and the protobuf version it insists on) out of an environment that already holds
tensorflow's. Field numbers are those of ``onnx/onnx.proto3`` (ModelProto.graph = 7, GraphProto.node = 1 and
initializer = 5, …).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import DataError

_FLOAT = 1  # TensorProto.DataType.FLOAT


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
    """Reads every ``Conv`` node of an ONNX file, in the order of the graph.

    Args:
        path: the ONNX file.

    Raises:
        DataError: the file cannot be read, is not an ONNX model, or a convolution's weights are not float32 constants
            of the graph.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(path, error.strerror or str(error)) from None
    try:
        graph = next(value for number, value in _fields(data) if number == 7 and isinstance(value, bytes))
        return list(_convolutions(graph))
    except (StopIteration, IndexError, KeyError, UnicodeDecodeError, TypeError, ValueError) as error:
        raise DataError(path, f"not an ONNX model with constant float32 convolutions ({error})") from error


def _convolutions(graph: bytes) -> Iterator[Convolution]:
    constants: dict[str, NDArray[np.float32]] = {}
    nodes: list[list[str]] = []
    for number, value in _fields(graph):
        if isinstance(value, int):
            continue
        if number == 5:
            name, tensor = _tensor(value)
            constants[name] = tensor
        elif number == 1:
            inputs, kind = _node(value)
            if kind == "Conv":
                nodes.append(inputs)
    for inputs in nodes:
        kernel = constants[inputs[1]]
        bias = constants[inputs[2]] if len(inputs) > 2 else np.zeros(kernel.shape[0], np.float32)
        yield Convolution(kernel, bias)


def _node(data: bytes) -> tuple[list[str], str]:
    """Names of a NodeProto's inputs, and its operator."""
    inputs: list[str] = []
    kind = ""
    for number, value in _fields(data):
        if isinstance(value, bytes) and number == 1:
            inputs.append(value.decode())
        elif isinstance(value, bytes) and number == 4:
            kind = value.decode()
    return inputs, kind


def _tensor(data: bytes) -> tuple[str, NDArray[np.float32]]:
    """Name and values of a TensorProto; an empty array where the type is not float (shapes, sizes of upsampling)."""
    shape: list[int] = []
    name, kind, raw = "", 0, b""
    for number, value in _fields(data):
        if number == 1:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif isinstance(value, int):
            kind = value if number == 2 else kind
        elif number == 8:
            name = value.decode()
        elif number in (4, 9):  # float_data (packed) and raw_data are both little-endian float32
            raw = value
    if kind != _FLOAT:
        return name, np.empty(0, np.float32)
    return name, np.frombuffer(raw, "<f4").reshape(shape).astype(np.float32)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yields (field number, value) of a protobuf message: an int for a varint, bytes for the rest."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + length > len(data):
            raise ValueError("truncated")
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7


def _varints(data: bytes) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values
