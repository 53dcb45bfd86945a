"""What an Edge TPU would take of a graph, and compiling for it where its compiler is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convert.graph import Graph
from edge.errors import ConversionError

COMPILER: Final = "edgetpu_compiler"
INSTALL: Final = "edgetpu_compiler runs on x86-64 Linux; how to install it stands at coral.ai/docs/edgetpu/compiler"
SUPPORTED: Final = frozenset(
    (
        "ADD",
        "AVERAGE_POOL_2D",
        "CONCATENATION",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "EXPAND_DIMS",
        "FULLY_CONNECTED",
        "L2_NORMALIZATION",
        "LOGISTIC",
        "LSTM",
        "MAXIMUM",
        "MAX_POOL_2D",
        "MEAN",
        "MINIMUM",
        "MUL",
        "PACK",
        "PAD",
        "PRELU",
        "QUANTIZE",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "RSQRT",
        "SLICE",
        "SOFTMAX",
        "SPACE_TO_DEPTH",
        "SPLIT",
        "SQUEEZE",
        "STRIDED_SLICE",
        "SUB",
        "SUM",
        "SQUARED_DIFFERENCE",
        "TANH",
        "TRANSPOSE",
        "TRANSPOSE_CONV",
    )
)
"""Operators of the Edge TPU compiler's published table (coral.ai, "TensorFlow models on the Edge TPU"), runtime 14."""


@dataclass(frozen=True, slots=True)
class EdgeTpuMapping:
    """What the compiler is expected to do: it maps one unbroken piece from the input on.

    Attributes:
        fits: whether the whole graph would be mapped.
        mapped: ``index name`` of operators that would run on the Edge TPU.
        left: ``index name: why`` of those that stay on the CPU.
    """

    fits: bool
    mapped: tuple[str, ...]
    left: tuple[str, ...]


def map_to_edgetpu(graph: Graph) -> EdgeTpuMapping:
    """Goes through the operators in order; behind the first that does not map, all stay on the CPU."""
    mapped: list[str] = []
    left: list[str] = []
    broken = ""
    for op in graph.ops():
        title = f"{op.index} {op.name}"
        why = broken or _objection(graph, op.name, (*op.inputs, *op.outputs))
        if why:
            left.append(f"{title}: {why}")
            broken = broken or f"behind {title}"
        else:
            mapped.append(title)
    return EdgeTpuMapping(not left, tuple(mapped), tuple(left))


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
        run = subprocess.run(
            [compiler, "-s", "-o", folder, str(source)], capture_output=True, text=True, check=False, timeout=600
        )
        compiled = Path(folder) / "model_edgetpu.tflite"
        if run.returncode or not compiled.is_file():
            lines = [
                line for line in (run.stdout + run.stderr).splitlines() if re.search("error|fail|invalid", line, re.I)
            ]
            raise ConversionError(f"{COMPILER}: {lines[0] if lines else f'exit {run.returncode}'}")
        return compiled.read_bytes()


def _objection(graph: Graph, name: str, tensors: tuple[int, ...]) -> str:
    if name not in SUPPORTED:
        return "not among the Edge TPU's operators"
    for index in tensors:
        if index < 0:
            continue
        dtype = graph.dtype(index)
        if dtype not in ("int8", "uint8", "int32"):
            return f"{graph.name(index)[:60]} is {dtype}; all must be int8 or uint8"
        if None in graph.shape(index) or 0 in graph.shape(index):
            return "a tensor's size is not fixed"
    return ""
