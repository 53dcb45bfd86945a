"""What is inside a TFLite file: tensors, operators, multiplications, and who could run them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from convert.bundle_writer import MODEL_FILE
from convert.tflite.edgetpu import EdgeTpuMapping, map_to_edgetpu
from convert.tflite.graph import Graph, count_macs
from convert.tflite.probe import TensorFacts, probe_model
from edge.contract.bundle import MANIFEST_FILE


@dataclass(frozen=True, slots=True)
class OpFacts:
    """One operator.

    Attributes:
        index: position in the graph.
        name: ``CONV_2D``.
        output: name of its first output.
        shape: of it.
        dtype: of it.
        macs: multiply-accumulates.
    """

    index: int
    name: str
    output: str
    shape: tuple[int, ...]
    dtype: str
    macs: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that can be said of a file without knowing what it is for.

    Attributes:
        file: the file.
        bytes: its size.
        inputs: input tensors.
        outputs: output tensors.
        ops: operators in order.
        macs: multiply-accumulates of one run.
        int8_macs_share: share of them whose weights and activations are int8; 0 where there are none.
        parameters: values in constant tensors that operators with weights read.
        delegated_nodes: nodes of the plan that XNNPACK takes.
        plan: names of the nodes that run.
        edgetpu: what an Edge TPU could take.
        metadata: names of the metadata entries.
    """

    file: str
    bytes: int
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    ops: tuple[OpFacts, ...]
    macs: int
    int8_macs_share: float
    parameters: int
    delegated_nodes: int
    plan: tuple[str, ...]
    edgetpu: EdgeTpuMapping
    metadata: tuple[str, ...]


_COUNTED: Final = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


def inspect_model(path: Path) -> Inspection:
    """Inspect a TFLite file; it is loaded and run in a child process first.

    Args:
        path: any TFLite file, or a bundle's folder.

    Raises:
        ModelFileError: missing, damaged or refused by the interpreter.
    """
    if (path / MANIFEST_FILE).is_file():
        path = path / MODEL_FILE
    facts = probe_model(path)
    model = path.read_bytes()
    graph = Graph(model)
    ops = tuple(
        OpFacts(op.index, op.name, graph.name(op.outputs[0]), graph.shape(op.outputs[0]), graph.dtype(op.outputs[0]),
                count_macs(graph, op))
        for op in graph.ops()
    )  # fmt: skip
    read = {tensor for op in graph.ops() if op.name in _COUNTED for tensor in op.inputs[1:] if tensor >= 0}
    parameters = sum(values.size for index, values in graph.constants() if index in read)
    return Inspection(
        file=str(path),
        bytes=len(model),
        inputs=facts.inputs,
        outputs=facts.outputs,
        ops=ops,
        macs=sum(op.macs for op in ops),
        int8_macs_share=int8_macs_share(graph),
        parameters=parameters,
        delegated_nodes=facts.delegated_nodes,
        plan=facts.plan,
        edgetpu=map_to_edgetpu(graph),
        metadata=graph.metadata_names(),
    )


def int8_macs_share(graph: Graph) -> float:
    """Share of a graph's multiply-accumulates that are done on int8 weights and int8 activations."""
    total = whole = 0
    for op in graph.ops():
        macs = count_macs(graph, op)
        total += macs
        if macs and {graph.dtype(op.inputs[0]), graph.dtype(op.inputs[1]), graph.dtype(op.outputs[0])} == {"int8"}:
            whole += macs
    return whole / total if total else 0.0


def count_ops(inspection: Inspection) -> list[tuple[str, int, int]]:
    """Name, count and multiply-accumulates of every kind of operator, the most work first."""
    counts = Counter(op.name for op in inspection.ops)
    macs: Counter[str] = Counter()
    for op in inspection.ops:
        macs[op.name] += op.macs
    return sorted(((name, counts[name], macs[name]) for name in counts), key=lambda row: (-row[2], row[0]))
