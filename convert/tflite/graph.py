"""TFLite files as graphs: reading, checking, small surgery and writing, without running anything.

Works on the flatbuffer's object form. A damaged file can crash the flatbuffer reader or the interpreter: what comes
from elsewhere is looked at in a child process first (`convert.tflite.probe`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

FILE_IDENTIFIER: Final = b"TFL3"
DTYPES: Final[dict[int, np.dtype[Any]]] = {
    schema.TensorType.FLOAT32: np.dtype(np.float32),
    schema.TensorType.FLOAT16: np.dtype(np.float16),
    schema.TensorType.INT32: np.dtype(np.int32),
    schema.TensorType.INT64: np.dtype(np.int64),
    schema.TensorType.UINT8: np.dtype(np.uint8),
    schema.TensorType.INT8: np.dtype(np.int8),
    schema.TensorType.INT16: np.dtype(np.int16),
    schema.TensorType.BOOL: np.dtype(np.bool_),
}
_OP_NAMES: Final = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_WEIGHTED: Final = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
_RESHAPING: Final = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
_ARITHMETIC: Final = ("MUL", "ADD", "SUB", "DIV")


@dataclass(frozen=True, slots=True)
class Op:
    """One operator of a graph.

    Attributes:
        index: position in the graph.
        name: the builtin's name, ``CONV_2D``; a custom op's own name.
        inputs: tensor indices, -1 for an optional one that is absent.
        outputs: tensor indices.
    """

    index: int
    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class Graph:
    """The first subgraph of a TFLite file, open to changes; `encode` writes the file.

    Attributes:
        model: the flatbuffer's object form.
    """

    def __init__(self, model_bytes: bytes) -> None:
        """Reads a file.

        Args:
            model_bytes: the file's contents, already probed where it comes from elsewhere.

        Raises:
            ValueError: not a TFLite file, or one without a graph.
        """
        if model_bytes[4:8] != FILE_IDENTIFIER:
            raise ValueError("not a TFLite file: the identifier TFL3 is missing")
        try:
            self.model: Any = schema.ModelT.InitFromPackedBuf(bytearray(model_bytes), 0)
        except (struct.error, IndexError, TypeError) as error:
            raise ValueError(f"a damaged TFLite file: {error}") from None
        if not self.model.subgraphs:
            raise ValueError("a TFLite file without a graph")
        self._subgraph = self.model.subgraphs[0]

    def encode(self) -> bytes:
        """The file's bytes, without buffers that nothing refers to any more."""
        self._drop_unused_buffers()
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), file_identifier=FILE_IDENTIFIER)
        return bytes(builder.Output())

    @property
    def inputs(self) -> list[int]:
        """Indices of the input tensors."""
        return [int(index) for index in self._subgraph.inputs]

    @property
    def outputs(self) -> list[int]:
        """Indices of the output tensors."""
        return [int(index) for index in self._subgraph.outputs]

    @property
    def tensor_count(self) -> int:
        """How many tensors there are."""
        return len(self._subgraph.tensors)

    def ops(self) -> list[Op]:
        """All operators in order of execution."""
        found = []
        for index, operator in enumerate(self._subgraph.operators or []):
            code = self.model.operatorCodes[operator.opcodeIndex]
            builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
            custom = code.customCode.decode() if code.customCode else None
            inputs, outputs = (tuple(map(int, part)) for part in (operator.inputs, operator.outputs))
            found.append(Op(index, custom or _OP_NAMES.get(builtin, f"BUILTIN_{builtin}"), inputs, outputs))
        return found

    def tensor(self, index: int) -> Any:
        """The flatbuffer object of a tensor."""
        return self._subgraph.tensors[index]

    def name(self, index: int) -> str:
        """A tensor's name."""
        raw = self.tensor(index).name
        return raw.decode() if isinstance(raw, bytes) else str(raw)

    def shorten_names(self) -> None:
        """Keeps the first name where a fused operator carries those of all its parts, which cost a file kilobytes."""
        taken: set[str] = set()
        for index in range(self.tensor_count):
            short = name = self.name(index).partition(";")[0]
            number = 1
            while short in taken:
                number += 1
                short = f"{name}/{number}"
            taken.add(short)
            self.tensor(index).name = short.encode()

    def shape(self, index: int) -> tuple[int, ...]:
        """A tensor's shape; empty for a scalar."""
        shape = self.tensor(index).shape
        return () if shape is None else tuple(int(side) for side in shape)

    def dtype(self, index: int) -> str:
        """A tensor's type, ``float32``; the schema's number for one that is not known here."""
        kind = self.tensor(index).type
        return str(DTYPES[kind].name) if kind in DTYPES else f"type {kind}"

    def quantization(self, index: int) -> tuple[list[float], list[int]]:
        """Scales and zero points; empty lists where the tensor is not quantized."""
        parameters = self.tensor(index).quantization
        if parameters is None or parameters.scale is None:
            return [], []
        return [float(s) for s in parameters.scale], [int(z) for z in parameters.zeroPoint]

    def constant(self, index: int) -> npt.NDArray[Any] | None:
        """The values of a constant tensor, a copy; None for one that is computed."""
        if index < 0:
            return None
        tensor = self.tensor(index)
        data = self.model.buffers[tensor.buffer].data
        if data is None or not len(data) or tensor.type not in DTYPES:
            return None
        values: npt.NDArray[Any] = np.frombuffer(bytes(data), DTYPES[tensor.type]).reshape(self.shape(index)).copy()
        return values

    def set_constant(self, index: int, values: npt.NDArray[Any]) -> None:
        """Replaces a constant's values; its buffer is taken for this tensor alone."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.tensor(index).buffer = len(self.model.buffers) - 1

    def set_range(self, index: int, low: float, high: float) -> None:
        """Sets the calibrated range of a tensor."""
        tensor = self.tensor(index)
        if tensor.quantization is None:
            tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.min, tensor.quantization.max = [low], [high]

    def calibrated_range(self, index: int) -> tuple[float, float] | None:
        """The calibrated range of a tensor, None where there is none."""
        parameters = self.tensor(index).quantization
        if parameters is None or parameters.min is None or not len(parameters.min):
            return None
        return float(parameters.min[0]), float(parameters.max[0])

    def producer(self, tensor: int) -> Op | None:
        """The operator that computes a tensor."""
        return next((op for op in self.ops() if tensor in op.outputs), None)

    def consumers(self, tensor: int) -> list[Op]:
        """The operators that read a tensor."""
        return [op for op in self.ops() if tensor in op.inputs]

    def options(self, op: Op) -> Any:
        """The builtin's options."""
        return self._subgraph.operators[op.index].builtinOptions

    def weighted_ops(self) -> list[Op]:
        """Convolutions and fully connected layers with constant weights."""
        return [op for op in self.ops() if op.name in _WEIGHTED and self.constant(op.inputs[1]) is not None]

    def constants(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Index and values of every constant."""
        for index in range(self.tensor_count):
            values = self.constant(index)
            if values is not None:
                yield index, values

    def metadata_names(self) -> tuple[str, ...]:
        """Names of the file's metadata entries."""
        return tuple(entry.name.decode() for entry in self.model.metadata or [] if entry.name)

    def drop_final_softmax(self) -> bool:
        """Makes the logits the output; reshapes behind a softmax stay.

        Returns:
            True when there was a softmax.
        """
        (output,) = self.outputs
        op = self.producer(output)
        behind: Op | None = None
        while op is not None and op.name in _RESHAPING:
            behind, op = op, self.producer(op.inputs[0])
        if op is None or op.name != "SOFTMAX":
            return False
        if behind is None:
            self._subgraph.outputs = [op.inputs[0]]
        else:
            inputs = list(self._subgraph.operators[behind.index].inputs)
            inputs[0] = op.inputs[0]
            self._subgraph.operators[behind.index].inputs = inputs
        self._remove_ops([op.index])
        return True

    def scales_its_input(self) -> bool:
        """Whether the first operator on the input is arithmetic with a constant: scaling lies inside the model."""
        (source,) = self.inputs
        return any(op.name in _ARITHMETIC for op in self.consumers(source))

    def insert_input_arithmetic(self, *, scale: npt.NDArray[np.float32], mean: npt.NDArray[np.float32]) -> None:
        """Puts ``(pixel - mean) * scale`` before the graph; the input is then pixels 0..255.

        Args:
            scale: (1,) or (channels,) float32, factors.
            mean: (1,) or (channels,) float32, in pixel values.
        """
        (source,) = self.inputs
        shape = self.shape(source)
        readers = [op.index for op in self.consumers(source)]
        pixels = self._add_tensor("pixels", shape)
        product = shifted = self._add_tensor("pixels_scaled", shape)
        shift = (-mean * scale).astype(np.float32)
        factor = self._add_tensor("input_scale", scale.shape, scale)
        operators = [
            self._make_op("MUL", [pixels, factor], [product], schema.MulOptionsT(), schema.BuiltinOptions.MulOptions)
        ]
        if shift.any():  # TFLite's int16 quantizer ends the process at a constant of zeros
            shifted = self._add_tensor("pixels_shifted", shape)
            offset = self._add_tensor("input_offset", shift.shape, shift)
            kind = schema.BuiltinOptions.AddOptions
            operators.append(self._make_op("ADD", [product, offset], [shifted], schema.AddOptionsT(), kind))
        for reader in readers:
            operator = self._subgraph.operators[reader]
            operator.inputs = [shifted if index == source else int(index) for index in operator.inputs]
        self._subgraph.operators[:0] = operators
        self._subgraph.inputs = [pixels]
        self._drop_signatures()

    def store_as_float16(self, index: int, values: npt.NDArray[np.float16]) -> None:
        """Stores a float32 constant as float16 behind a DEQUANTIZE.

        Args:
            index: the constant; it becomes that operator's output.
            values: what is stored.
        """
        stored = self._add_tensor(f"{self.name(index)}_float16", values.shape, values)
        self.tensor(stored).type = schema.TensorType.FLOAT16
        self.model.buffers.append(schema.BufferT())
        self.tensor(index).buffer = len(self.model.buffers) - 1
        options, kind = schema.DequantizeOptionsT(), schema.BuiltinOptions.DequantizeOptions
        self._subgraph.operators.insert(0, self._make_op("DEQUANTIZE", [stored], [index], options, kind))

    def take_uint8(self) -> None:
        """Puts a QUANTIZE at both ends of an int8 graph, so that it takes and gives uint8: the int8 values plus 128."""
        (source,), (output,) = self.inputs, self.outputs
        ends = []
        for index in (source, output):
            twin = self._add_tensor(f"{self.name(index)}_uint8", self.shape(index))
            tensor, parameters = self.tensor(twin), schema.QuantizationParametersT()
            scales, zero_points = self.quantization(index)
            parameters.scale, parameters.zeroPoint = scales, [zero_points[0] + 128]
            tensor.type, tensor.quantization = schema.TensorType.UINT8, parameters
            ends.append(twin)
        options, kind = schema.QuantizeOptionsT(), schema.BuiltinOptions.QuantizeOptions
        first = self._make_op("QUANTIZE", [ends[0]], [source], options, kind)
        last = self._make_op("QUANTIZE", [output], [ends[1]], options, kind)
        self._subgraph.operators = [first, *self._subgraph.operators, last]
        self._subgraph.inputs, self._subgraph.outputs = [ends[0]], [ends[1]]
        self._drop_signatures()

    def _drop_signatures(self) -> None:
        """Signatures name tensors by index and go stale with any change of inputs or outputs."""
        self.model.signatureDefs = None

    def _add_tensor(self, name: str, shape: Iterable[int], values: npt.NDArray[Any] | None = None) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name.encode(), list(shape), schema.TensorType.FLOAT32
        if values is None:
            self.model.buffers.append(schema.BufferT())
            tensor.buffer = len(self.model.buffers) - 1
        self._subgraph.tensors.append(tensor)
        index = len(self._subgraph.tensors) - 1
        if values is not None:
            self.set_constant(index, values)
        return index

    def _make_op(self, name: str, inputs: list[int], outputs: list[int], options: Any, kind: int) -> Any:
        builtin = getattr(schema.BuiltinOperator, name)
        codes = self.model.operatorCodes
        found = next((i for i, c in enumerate(codes) if max(c.builtinCode, c.deprecatedBuiltinCode) == builtin), None)
        if found is None:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
            codes.append(code)
            found = len(codes) - 1
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = found, inputs, outputs
        operator.builtinOptions, operator.builtinOptionsType = options, kind
        return operator

    def _drop_unused_buffers(self) -> None:
        """Buffer 0 is the schema's empty one and stays."""
        holders = [tensor for subgraph in self.model.subgraphs for tensor in subgraph.tensors]
        holders += self.model.metadata or []
        used = sorted({0, *(holder.buffer for holder in holders)})
        position = {old: new for new, old in enumerate(used)}
        self.model.buffers = [self.model.buffers[old] for old in used]
        for holder in holders:
            holder.buffer = position[holder.buffer]

    def _drop_unused_codes(self) -> None:
        """The calibrator refuses a file that declares an operator which it does not use."""
        used = sorted({operator.opcodeIndex for operator in self._subgraph.operators})
        self.model.operatorCodes = [self.model.operatorCodes[index] for index in used]
        for operator in self._subgraph.operators:
            operator.opcodeIndex = used.index(operator.opcodeIndex)

    def _remove_ops(self, indices: Iterable[int]) -> None:
        gone = set(indices)
        self._subgraph.operators = [o for i, o in enumerate(self._subgraph.operators) if i not in gone]
        self._drop_unused_codes()
        self._drop_signatures()


def count_macs(graph: Graph, op: Op) -> int:
    """Multiply-accumulates of one operator; 0 for one without weights.

    Convolution: output elements x kernel elements x input channels; depthwise: output elements x kernel elements;
    fully connected: elements of the weights.
    """
    if op.name not in _WEIGHTED:
        return 0
    weights = graph.shape(op.inputs[1])
    output = graph.shape(op.outputs[0])
    if op.name == "FULLY_CONNECTED":
        return int(np.prod(weights)) * max(1, int(np.prod(output[:-1])))
    if op.name == "DEPTHWISE_CONV_2D":
        return int(np.prod(output)) * weights[1] * weights[2]
    return int(np.prod(output)) * int(np.prod(weights[1:]))
