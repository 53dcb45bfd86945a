"""Looks at a TFLite file in a child process: a damaged file can crash the interpreter, which Python cannot catch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge.errors import ModelFileError

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
    if not path.is_file():
        raise ModelFileError(path, "no such file")
    command = [sys.executable, "-m", "convert.tflite.probe", str(path.resolve())]
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    try:
        child = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False, env=environment)
    except subprocess.TimeoutExpired:
        raise ModelFileError(path, f"the interpreter did not load it within {TIMEOUT_S:g} s") from None
    if child.returncode < 0:
        raise ModelFileError(path, f"damaged: it crashes the interpreter (signal {-child.returncode})")
    if child.returncode:
        lines = child.stderr.decode(errors="replace").strip().splitlines()
        raise ModelFileError(path, lines[-1] if lines else "the interpreter refuses it")
    said = json.loads(child.stdout)
    inputs, outputs = (tuple(_tensor(entry) for entry in said[key]) for key in ("inputs", "outputs"))
    return FileFacts(inputs, outputs, tuple(said["plan"]))


def look_at(model: bytes) -> FileFacts:
    """`probe_model` in this process, for bytes that were made here.

    Raises:
        ValueError: the interpreter or the flatbuffer reader refuses them.
        RuntimeError: the same.
    """
    from convert.tflite.graph import Graph
    from convert.tflite.interpreter import open_interpreter
    from edge.infer.litert import execution_plan

    Graph(model)
    interpreter = open_interpreter(model)
    for details in interpreter.get_input_details():
        interpreter.set_tensor(details["index"], np.zeros(details["shape"], details["dtype"]))
    interpreter.invoke()
    inputs, outputs = (
        tuple(_facts(details) for details in part)
        for part in (interpreter.get_input_details(), interpreter.get_output_details())
    )
    return FileFacts(inputs, outputs, tuple(execution_plan(interpreter)))


def _facts(details: dict[str, Any]) -> TensorFacts:
    scale, zero_point = details["quantization"]
    shape = tuple(int(side) for side in details["shape"])
    return TensorFacts(details["name"], shape, np.dtype(details["dtype"]).name, float(scale), int(zero_point))


def _tensor(entry: dict[str, Any]) -> TensorFacts:
    return TensorFacts(**{**entry, "shape": tuple(entry["shape"])})


def _main(path: Path) -> None:
    try:
        facts = look_at(path.read_bytes())
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(" ".join(str(error).split()) or "the interpreter refuses it")
    print(json.dumps(asdict(facts)))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
