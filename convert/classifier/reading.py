"""Reads a model file for `convert.classifier.load`, in a process of its own with limits of time, memory and output.

Everything that parses a stranger's bytes happens here, and the original runs here: what aborts ends this process alone.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from convert.classifier.load import (
    Head,
    InputArithmetic,
    ReadModel,
    ReadRequest,
    apply_arithmetic,
    insert_arithmetic,
)
from convert.classifier.sources import Source, find_loader, fixed_shape
from convert.frameworks import check_one_of_each
from convert.sandbox.messages import Array
from convert.sandbox.worker import serve
from convert.tflite.graph import Graph
from edge.errors import ConversionError, ModelFileError, UsageError

_SUM_TOLERANCE: Final = 1e-3


class Reader:
    """Answers the first question with the model, and every other one with what the original makes of pictures."""

    def __init__(self) -> None:
        self._source: Source | None = None

    def __call__(self, question: bytes) -> ReadModel | Array:
        """Answer one question."""
        if self._source is not None:
            return Array.of(self._source.run(msgspec.msgpack.decode(question, type=Array).values()))
        request = msgspec.msgpack.decode(question, type=ReadRequest)
        self._source, model = read_model(request)
        return model


def read_model(request: ReadRequest) -> tuple[Source, ReadModel]:
    """Read a file, bring its graph into form and check it.

    Raises:
        MienError: see `convert.classifier.load.load_model`.
    """
    path = Path(request.path)
    arithmetic = InputArithmetic(request.scale, request.mean) if request.scale and request.mean else None
    source = find_loader(path)(path, request.form)
    try:
        graph = Graph(source.tflite)
    except ValueError as error:
        raise ModelFileError(path, str(error)) from None
    shape, classes = _check_form(graph, path)
    _check_finite(graph, path)
    scales_input = graph.scales_its_input()
    if arithmetic is not None:
        _check_channels(arithmetic, shape[2])
        insert_arithmetic(graph, arithmetic)
    removed = _strip_head(graph, request.head, path)
    _check_sums(source, shape, removed=removed, arithmetic=arithmetic, path=path)
    graph.shorten_names()
    return source, ReadModel(source.kind, graph.encode(), shape, classes, removed, scales_input)


def _check_form(graph: Graph, path: Path) -> tuple[tuple[int, int, int], int]:
    check_one_of_each(graph.inputs, graph.outputs, path)
    shape, output = graph.shape(graph.inputs[0]), graph.shape(graph.outputs[0])
    if graph.dtype(graph.inputs[0]) != "float32":
        raise ModelFileError(path, f"takes {graph.dtype(graph.inputs[0])}; the float model is needed")
    height, width, channels = fixed_shape(shape, path)
    if height != width:
        raise ModelFileError(path, f"input of {width}x{height}; a face crop is square")
    if len(output) != 2 or output[0] != 1 or output[1] < 2:
        raise ModelFileError(path, f"output {output}; wanted (1, classes)")
    return (height, width, channels), output[1]


def _check_finite(graph: Graph, path: Path) -> None:
    for index, values in graph.constants():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise ModelFileError(path, f"{graph.name(index)}: {bad} of {values.size} weights are NaN or infinite")


def _check_channels(arithmetic: InputArithmetic, channels: int) -> None:
    for flag, values in (("--scale", arithmetic.scale), ("--mean", arithmetic.mean)):
        if len(values) not in (1, channels):
            raise UsageError(f"{flag}: {len(values)} values; the model has {channels} channels: give 1 or {channels}")


def _strip_head(graph: Graph, head: Head, path: Path) -> bool:
    removed = graph.drop_final_softmax()
    if head == "softmax" and not removed:
        raise UsageError(f"{path}: --head softmax, but the model does not end in a softmax")
    if head == "logits" and removed:
        raise UsageError(f"{path}: --head logits, but the model ends in a softmax")
    return removed


def _check_sums(
    source: Source,
    shape: tuple[int, int, int],
    *,
    removed: bool,
    arithmetic: InputArithmetic | None,
    path: Path,
) -> None:
    """Outputs that look like probabilities although no softmax was found at the end would be taken for logits."""
    noise = np.random.default_rng(0).integers(0, 256, (8, *shape)).astype(np.uint8)
    outputs = source.run(apply_arithmetic(noise, arithmetic))
    if not np.isfinite(outputs).all():
        raise ModelFileError(path, "puts out NaN or infinite values")
    sums_to_one = bool((np.abs(outputs.sum(axis=1) - 1) < _SUM_TOLERANCE).all() and (outputs >= 0).all())
    if sums_to_one and not removed:
        raise ModelFileError(path, "puts out probabilities, but no softmax stands at its end that could be removed")
    if removed and not sums_to_one:
        raise ConversionError(f"{path}: a softmax stands at the end, but its outputs do not sum to 1")


if __name__ == "__main__":
    serve(Reader(), subject=sys.argv[1], memory_bytes=int(sys.argv[2]))
