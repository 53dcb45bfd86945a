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
from typing import Any, Final

import numpy as np
import numpy.typing as npt
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
    """Go through the operators in order; behind the first that does not map, all stay on the CPU."""
    mapped: list[str] = []
    left: list[str] = []
    doubtful: list[str] = []
    for op in graph.ops():
        title = f"{op.index} {op.name}"
        why = f"behind {left[0].partition(':')[0]}" if left else _find_objection(_Use(graph, op))
        if why:
            left.append(f"{title}: {why}")
            continue
        mapped.append(title)
        if op.name in DOUBTS:
            doubtful.append(f"{title}: {DOUBTS[op.name]}")
    return EdgeTpuMapping(not left, tuple(mapped), tuple(left), tuple(doubtful))


def compile_for_edgetpu(model: bytes) -> bytes | None:
    """Run the compiler.

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


@dataclass(frozen=True, slots=True)
class _Use:
    """One operator of a graph as the limits look at it."""

    graph: Graph
    op: Op

    def option(self, name: str) -> Any:
        return getattr(self.graph.options(self.op), name)

    def values(self, operand: int) -> npt.NDArray[Any] | None:
        """Return an operand's values; None where it is computed."""
        return self.graph.constant(self.op.inputs[operand])

    def shape(self, operand: int) -> tuple[int, ...]:
        return self.graph.shape(self.op.inputs[operand])

    @property
    def channels(self) -> int:
        return self.shape(0)[-1]

    def output_shape(self) -> tuple[int, ...]:
        return self.graph.shape(self.op.outputs[0])

    def axes(self, operand: int, *, of: int) -> set[int]:
        """Return the axes that an operand names of another, counted from the front; empty where they are computed."""
        values = self.values(operand)
        return set() if values is None else {int(axis) % len(self.shape(of)) for axis in values.ravel()}

    def is_vector(self, shape: tuple[int, ...]) -> bool:
        return all(side == 1 for side in shape[:-1])

    def pads_with_zeros_only(self) -> bool:
        """Return whether the constants of a concatenation are the zeros of one padding."""
        constants = [(index, self.graph.constant(index)) for index in self.op.inputs]
        zeros = [
            np.all(values == (self.graph.quantization(index)[1] or [0])[0])
            for index, values in constants
            if values is not None
        ]
        return all(zeros) and (not zeros or len(constants) == 2)


def _find_objection(use: _Use) -> str:
    """Return why an operator does not map; empty when it does."""
    graph, op = use.graph, use.op
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
    return next((why.format(use=use) for why, breaks in LIMITS[op.name] if breaks(use)), "")


Limit = tuple[str, Callable[[_Use], bool]]
"""What is not taken, and whether an operator is that."""
_FUSED: Limit = (
    "a fused activation",
    lambda use: use.option("fusedActivationFunction") != schema.ActivationFunctionType.NONE,
)
_DILATION: Limit = (
    "another dilation across than down",
    lambda use: use.option("dilationWFactor") != use.option("dilationHFactor"),
)
_REDUCTION: tuple[Limit, ...] = (
    ("axes that are not constant", lambda use: use.values(1) is None),
    ("a reduction over the batch", lambda use: 0 in use.axes(1, of=0)),
)
LIMITS: Final[dict[str, tuple[Limit, ...]]] = {
    "ADD": (),
    "AVERAGE_POOL_2D": (_FUSED,),
    "CONCATENATION": (
        ("a constant input that is not the zeros of one padding", lambda use: not use.pads_with_zeros_only()),
        _FUSED,
    ),
    "CONV_2D": (_DILATION,),
    "DEPTHWISE_CONV_2D": (_DILATION,),
    "EXPAND_DIMS": (),
    "FULLY_CONNECTED": (
        (
            "weights that are not in the default format",
            lambda use: use.option("weightsFormat") != schema.FullyConnectedOptionsWeightsFormat.DEFAULT,
        ),
        ("an output of more than one dimension", lambda use: not use.is_vector(use.output_shape())),
    ),
    "L2_NORMALIZATION": (),
    "LOGISTIC": (),
    "LSTM": (),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (),
    "MAXIMUM": (),
    "MAX_POOL_2D": (_FUSED,),
    "MEAN": (
        (
            "a mean over {use.channels} channels, which are no multiple of 4",
            lambda use: len(use.shape(0)) - 1 in use.axes(1, of=0) and use.channels % 4 != 0,
        ),
        *_REDUCTION,
    ),
    "MINIMUM": (),
    "MUL": (),
    "PACK": (("packs along the batch", lambda use: use.option("axis") % len(use.output_shape()) == 0),),
    "PAD": (
        ("paddings that are not constant", lambda use: use.values(1) is None),
        ("pads the batch", lambda use: bool(np.any(use.values(1)[0]))),  # type: ignore[index]
    ),
    "PRELU": (("a slope per pixel", lambda use: not use.is_vector(use.shape(1))),),
    "QUANTIZE": (),
    "REDUCE_MAX": _REDUCTION,
    "REDUCE_MIN": _REDUCTION,
    "RELU": (),
    "RELU6": (),
    "RELU_N1_TO_1": (),
    "RESHAPE": (),
    "RESIZE_BILINEAR": (),
    "RESIZE_NEAREST_NEIGHBOR": (),
    "RSQRT": (),
    "SLICE": (),
    "SOFTMAX": (
        (
            f"a softmax over more than one vector of {SOFTMAX_ELEMENTS:,}",
            lambda use: not use.is_vector(use.shape(0)) or use.channels > SOFTMAX_ELEMENTS,
        ),
    ),
    "SPACE_TO_DEPTH": (),
    "SPLIT": (
        ("an axis that is not constant", lambda use: use.values(0) is None),
        ("splits the batch", lambda use: 0 in use.axes(0, of=1)),
    ),
    "SQUARED_DIFFERENCE": (),
    "SQUEEZE": (),
    "STRIDED_SLICE": (
        ("a stride other than 1", lambda use: use.values(3) is None or bool(np.any(use.values(3) != 1))),
        ("an ellipsis or a new axis", lambda use: bool(use.option("ellipsisMask") or use.option("newAxisMask"))),
    ),
    "SUB": (),
    "SUM": _REDUCTION,
    "TANH": (),
    "TRANSPOSE": (),
    "TRANSPOSE_CONV": (),
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
