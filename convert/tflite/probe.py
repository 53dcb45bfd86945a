"""Looks at a TFLite file in a child process: a damaged file can crash the interpreter, which Python cannot catch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from convert.sandbox.checks import check_regular
from convert.sandbox.module import last_line, run_module
from convert.sandbox.worker import MEMORY_BYTES, limit_process
from convert.tflite.graph import Graph
from edge.errors import ModelFileError
from edge.infer.litert import execution_plan, open_interpreter

TIMEOUT_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One input or output.

    Attributes:
        name: in the file.
        shape: with the batch first.
        dtype: ``int8``.
        scale: per-tensor scale; 0 where not quantized.
        zero_point: per-tensor zero point.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the interpreter says of a file that it loaded and ran once on zeros.

    Attributes:
        inputs: input tensors.
        outputs: output tensors.
        plan: names of the nodes that run, ``DELEGATE`` for one that XNNPACK took.
    """

    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    plan: tuple[str, ...]

    @property
    def delegated_nodes(self) -> int:
        """Nodes of the plan that are XNNPACK's."""
        return sum("DELEGATE" in name.upper() for name in self.plan)


def probe_model(path: Path) -> FileFacts:
    """Loads a file and runs it once, in a child process.

    Args:
        path: a ``.tflite`` file.

    Raises:
        ModelFileError: missing, not a model, damaged, or one that crashes the interpreter.
    """
    check_regular(path)
    try:
        child = run_module("convert.tflite.probe", str(path.resolve()), timeout_s=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ModelFileError(path, f"the interpreter did not load it within {TIMEOUT_S:g} s") from None
    if child.returncode < 0:
        raise ModelFileError(path, f"damaged: it crashes the interpreter (signal {-child.returncode})")
    if child.returncode:
        raise ModelFileError(path, last_line(child))
    return msgspec.json.decode(child.stdout, type=FileFacts)


def _load(model: bytes) -> FileFacts:
    """Load and run a model in this process.

    Raises:
        ValueError: the flatbuffer reader refuses it.
        InferenceError: the interpreter refuses it.
    """
    Graph(model)
    interpreter = open_interpreter(model)
    sources, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    for details in sources:
        interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    interpreter.invoke()
    return FileFacts(tuple(map(_facts, sources)), tuple(map(_facts, outputs)), tuple(execution_plan(interpreter)))


def _facts(details: dict[str, Any]) -> TensorFacts:
    scale, zero_point = details["quantization"]
    return TensorFacts(
        name=details["name"],
        shape=tuple(map(int, details["shape"])),
        dtype=np.dtype(details["dtype"]).name,
        scale=float(scale),
        zero_point=int(zero_point),
    )


if __name__ == "__main__":
    limit_process(MEMORY_BYTES)
    try:
        print(msgspec.json.encode(_load(Path(sys.argv[1]).read_bytes())).decode())
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(" ".join(str(error).split()) or "the interpreter refuses it")
