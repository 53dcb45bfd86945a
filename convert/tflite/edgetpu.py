"""What an Edge TPU would take of a graph, and compiling for it where its compiler is installed.

Written against the documentation: neither the compiler nor an Edge TPU was at hand (untried on hardware).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from convert.tflite.graph import Graph, Op
from edge.errors import ConversionError

COMPILER: Final = "edgetpu_compiler"
INSTALL: Final = "edgetpu_compiler runs on x86-64 Linux; how to install it stands at coral.ai/docs/edgetpu/compiler"
TIMEOUT_S: Final = 600.0
INNERMOST: Final = 3
"""Of a tensor with more dimensions only the innermost three may be larger than 1."""
SOFTMAX_ELEMENTS: Final = 16_000


@dataclass(frozen=True, slots=True)
class EdgeTpuMapping:
    """What the compiler is expected to do: it maps one unbroken piece from the input on.

    Attributes:
        fits: whether the whole graph would be mapped.
        mapped: ``index name`` of operators that would run on the Edge TPU.
        left: ``index name: why`` of those that stay on the CPU.
        doubtful: ``index name: why`` of mapped ones that the compiler may leave all the same.
    """

    fits: bool
    mapped: tuple[str, ...]
    left: tuple[str, ...]
    doubtful: tuple[str, ...]


def map_to_edgetpu(graph: Graph) -> EdgeTpuMapping:
    """Goes through the operators in order; behind the first that does not map, all stay on the CPU."""
    mapped: list[str] = []
    left: list[str] = []
    doubtful: list[str] = []
    broken = ""
    for op in graph.ops():
        title = f"{op.index} {op.name}"
        why = broken or _objection(graph, op)
        if why:
            left.append(f"{title}: {why}")
            broken = broken or f"behind {title}"
            continue
        mapped.append(title)
        if op.name in DOUBTS:
            doubtful.append(f"{title}: {DOUBTS[op.name]}")
    return EdgeTpuMapping(not left, tuple(mapped), tuple(left), tuple(doubtful))


def compile_for_edgetpu(model: bytes) -> bytes | None:
    """Runs the compiler.

    Args:
        model: a full-integer TFLite file.

    Returns:
        The compiled file; None where the compiler is not installed.

    Raises:
        ConversionError: the compiler refuses the model.
    """
    compiler = shutil.which(COMPILER)
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model.tflite"
        source.write_bytes(model)
        try:
            run = subprocess.run(
                [compiler, "-s", "-o", folder, str(source)], capture_output=True, text=True, check=False,
                timeout=TIMEOUT_S,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ConversionError(f"{COMPILER}: not done within {TIMEOUT_S:g} s") from None
        except OSError as error:
            raise ConversionError(f"{compiler}: {error.strerror}") from None
        compiled = Path(folder) / "model_edgetpu.tflite"
        if run.returncode or not compiled.is_file():
            lines = [
                line for line in (run.stdout + run.stderr).splitlines() if re.search("error|fail|invalid", line, re.I)
            ]
            raise ConversionError(f"{COMPILER}: {lines[0] if lines else f'exit {run.returncode}, no model written'}")
        return compiled.read_bytes()


def _objection(graph: Graph, op: Op) -> str:
    """Why an operator does not map; empty when it does."""
    if op.name not in LIMITS:
        return "not among the Edge TPU's operators"
    for index in (*op.inputs, *op.outputs):
        if index < 0:
            continue
        dtype, shape = graph.dtype(index), graph.shape(index)
        is_parameter = graph.constant(index) is not None
        if dtype not in ("int8", "uint8") and not (is_parameter and dtype == "int32"):
            return f"{graph.name(index)[:60]} is {dtype}; all must be int8 or uint8"
        if 0 in shape or -1 in shape:
            return "a tensor's size is not fixed"
        if not is_parameter and any(side > 1 for side in shape[:-INNERMOST]):
            return f"more than {INNERMOST} dimensions, or a batch"
    limit = LIMITS[op.name]
    return limit(graph, op) if limit else ""


def _activation(graph: Graph, op: Op) -> str:
    fused = graph.options(op).fusedActivationFunction
    return "" if fused == schema.ActivationFunctionType.NONE else "a fused activation"


def _concatenation(graph: Graph, op: Op) -> str:
    constants = [(index, graph.constant(index)) for index in op.inputs]
    for index, values in constants:
        zero = (graph.quantization(index)[1] or [0])[0]
        if values is not None and (len(op.inputs) != 2 or np.any(values != zero)):
            return "a constant input that is not the zeros of one padding"
    return _activation(graph, op)


def _dilation(graph: Graph, op: Op) -> str:
    options = graph.options(op)
    return "" if options.dilationWFactor == options.dilationHFactor else "another dilation across than down"


def _fully_connected(graph: Graph, op: Op) -> str:
    if graph.options(op).weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        return "weights that are not in the default format"
    output = graph.shape(op.outputs[0])
    return "an output of more than one dimension" if any(side > 1 for side in output[:-1]) else ""


def _axes(graph: Graph, op: Op) -> set[int] | None:
    """The axes that a reduction goes over, counted from the front; None where they are not constant."""
    axes, rank = graph.constant(op.inputs[1]), len(graph.shape(op.inputs[0]))
    return None if axes is None else {int(axis) % rank for axis in axes.ravel()}


def _reduction(graph: Graph, op: Op) -> str:
    axes = _axes(graph, op)
    if axes is None:
        return "axes that are not constant"
    return "a reduction over the batch" if 0 in axes else ""


def _mean(graph: Graph, op: Op) -> str:
    axes, shape = _axes(graph, op), graph.shape(op.inputs[0])
    if axes and len(shape) - 1 in axes and shape[-1] % 4:
        return f"a mean over {shape[-1]} channels, which are no multiple of 4"
    return _reduction(graph, op)


def _pack(graph: Graph, op: Op) -> str:
    rank = len(graph.shape(op.outputs[0]))
    return "packs along the batch" if graph.options(op).axis % rank == 0 else ""


def _pad(graph: Graph, op: Op) -> str:
    paddings = graph.constant(op.inputs[1])
    if paddings is None:
        return "paddings that are not constant"
    return "pads the batch" if np.any(paddings[0]) else ""


def _prelu(graph: Graph, op: Op) -> str:
    return "a slope per pixel" if any(side > 1 for side in graph.shape(op.inputs[1])[:-1]) else ""


def _softmax(graph: Graph, op: Op) -> str:
    shape = graph.shape(op.inputs[0])
    is_vector = all(side == 1 for side in shape[:-1]) and shape[-1] <= SOFTMAX_ELEMENTS
    return "" if is_vector else f"a softmax over more than one vector of {SOFTMAX_ELEMENTS:,}"


def _split(graph: Graph, op: Op) -> str:
    axis = graph.constant(op.inputs[0])
    if axis is None:
        return "an axis that is not constant"
    return "splits the batch" if int(axis.ravel()[0]) % len(graph.shape(op.inputs[1])) == 0 else ""


def _strided_slice(graph: Graph, op: Op) -> str:
    strides, options = graph.constant(op.inputs[3]), graph.options(op)
    if strides is None or np.any(strides != 1):
        return "a stride other than 1"
    return "an ellipsis or a new axis" if options.ellipsisMask or options.newAxisMask else ""


Limit = Callable[[Graph, Op], str]
LIMITS: Final[dict[str, Limit | None]] = {
    "ADD": None,
    "AVERAGE_POOL_2D": _activation,
    "CONCATENATION": _concatenation,
    "CONV_2D": _dilation,
    "DEPTHWISE_CONV_2D": _dilation,
    "EXPAND_DIMS": None,
    "FULLY_CONNECTED": _fully_connected,
    "L2_NORMALIZATION": None,
    "LOGISTIC": None,
    "LSTM": None,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": None,
    "MAXIMUM": None,
    "MAX_POOL_2D": _activation,
    "MEAN": _mean,
    "MINIMUM": None,
    "MUL": None,
    "PACK": _pack,
    "PAD": _pad,
    "PRELU": _prelu,
    "QUANTIZE": None,
    "REDUCE_MAX": _reduction,
    "REDUCE_MIN": _reduction,
    "RELU": None,
    "RELU6": None,
    "RELU_N1_TO_1": None,
    "RESHAPE": None,
    "RESIZE_BILINEAR": None,
    "RESIZE_NEAREST_NEIGHBOR": None,
    "RSQRT": None,
    "SLICE": None,
    "SOFTMAX": _softmax,
    "SPACE_TO_DEPTH": None,
    "SPLIT": _split,
    "SQUARED_DIFFERENCE": None,
    "SQUEEZE": None,
    "STRIDED_SLICE": _strided_slice,
    "SUB": None,
    "SUM": _reduction,
    "TANH": None,
    "TRANSPOSE": None,
    "TRANSPOSE_CONV": None,
}
"""Operators that an Edge TPU takes from runtime 14 on, with what the documentation says that it does not take of them.

Source: Coral, "TensorFlow models on the Edge TPU", model requirements and supported operations
(https://coral.ai/docs/edgetpu/models-intro). It was read in copies: ADD to RESIZE_BILINEAR in Axis' list for the Edge
TPU of ARTPEC-7 (https://developer.axis.com/computer-vision/on-device/system-on-chip/artpec-7/supported-ops), the rows
up to STRIDED_SLICE in one of the page's earlier edition. RSQRT, SUM, SQUARED_DIFFERENCE, TRANSPOSE and TRANSPOSE_CONV
stand in neither and are unconfirmed; logs of compiler 16 show TRANSPOSE, SPLIT and SUB mapped. Nothing here was
compared with the compiler itself.
"""
DOUBTS: Final = {
    "RESHAPE": "large tensors may not be mapped",
    "RESIZE_BILINEAR": "some sizes are not mapped, to avoid a loss of precision",
    "RESIZE_NEAREST_NEIGHBOR": "some sizes are not mapped, to avoid a loss of precision",
    "TRANSPOSE": "some orders are not mapped",
}
