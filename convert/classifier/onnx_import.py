"""Reads ONNX classifiers: a graph of channel-first operators becomes a TensorFlow function that works channel-last.

Pictures stay (batch, height, width, channels) all the way, so that no transposition is left in the TFLite file. The
result is compared with ONNX's own reference evaluator before it is used. Operators of convolutional classifiers are
known; another one is an error that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from convert.frameworks import import_tensorflow, read_onnx
from edge.errors import ModelFileError
from edge.records import Floats

_TOLERANCE: Final = 1e-3
_TO_LAST: Final = (0, 2, 3, 1)
_TO_FIRST: Final = (0, 3, 1, 2)


@dataclass(frozen=True, slots=True)
class _Value:
    """A tensor on its way.

    Attributes:
        data: a TensorFlow tensor, or a numpy array for a constant.
        last: whether a tensor of rank 4 that ONNX has channel-first lies here channel-last.
        positive: whether no value can be below 0.
    """

    data: Any
    last: bool = False
    positive: bool = False

    @property
    def rank(self) -> int:
        return len(self.data.shape)

    @property
    def constant(self) -> bool:
        return isinstance(self.data, np.ndarray)


def import_onnx(path: Path) -> tuple[Callable[[Any], Any], Callable[[Floats], Floats], tuple[int, int, int]]:
    """Reads a file.

    Args:
        path: ``.onnx`` with one picture in and one tensor out.

    Returns:
        A TensorFlow function of (batch, height, width, channels) float32, the same as (n, …) arrays in and out, and the
        input's height, width and channels.

    Raises:
        MissingDependencyError: the package ``onnx`` is not installed.
        ModelFileError: damaged, another form, an unknown operator, or a result that differs from the reference's.
    """
    model = read_onnx(path)
    import onnx

    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelFileError(path, f"ONNX refuses it: {' '.join(str(error).split())[:200]}") from None
    tf = import_tensorflow()
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in constants]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise ModelFileError(path, f"{len(inputs)} inputs and {len(model.graph.output)} outputs; one of each is needed")
    shape, first = _picture_shape(inputs[0], path)
    importer = _Importer(model.graph, constants, input_name=inputs[0].name, first=first, path=path)
    signature = [tf.TensorSpec((None, *shape), tf.float32)]
    batched = tf.function(importer, autograph=False, input_signature=signature)

    def run(pixels: Floats) -> Floats:
        return np.asarray(batched(pixels), np.float32)

    _compare_with_reference(model, inputs[0].name, run, shape, first=first, path=path)
    return importer, run, shape


def _picture_shape(entry: Any, path: Path) -> tuple[tuple[int, int, int], bool]:
    """Height, width, channels, and whether ONNX has the channels first."""
    sides = [side.dim_value for side in entry.type.tensor_type.shape.dim]
    if len(sides) == 4 and sides[1] in (1, 3) and sides[2] and sides[3]:
        return (sides[2], sides[3], sides[1]), True
    if len(sides) == 4 and sides[3] in (1, 3) and sides[1] and sides[2]:
        return (sides[1], sides[2], sides[3]), False
    raise ModelFileError(path, f"input {sides}; wanted (batch, 1 or 3, height, width) with a fixed size")


def _compare_with_reference(
    model: Any, name: str, run: Callable[[Floats], Floats], shape: tuple[int, int, int], *, first: bool, path: Path
) -> None:
    from onnx.reference import ReferenceEvaluator

    picture = np.random.default_rng(0).uniform(0, 1, (1, *shape)).astype(np.float32)
    fed = np.ascontiguousarray(picture.transpose(_TO_FIRST)) if first else picture
    (wanted,) = ReferenceEvaluator(model).run(None, {name: fed})
    found = run(picture)
    worst = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")
    if not worst <= _TOLERANCE * max(1.0, float(np.abs(wanted).max())):
        raise ModelFileError(path, f"the imported graph differs from ONNX's reference by {worst:.3g}")


class _Importer:
    """Callable that evaluates an ONNX graph with TensorFlow."""

    def __init__(
        self, graph: Any, constants: dict[str, npt.NDArray[Any]], *, input_name: str, first: bool, path: Path
    ) -> None:
        self._graph, self._constants = graph, constants
        self._input, self._first, self._path = input_name, first, path
        unknown = sorted({node.op_type for node in graph.node} - set(_OPERATORS))
        if unknown:
            raise ModelFileError(path, f"operators {', '.join(unknown)}; known are {', '.join(sorted(_OPERATORS))}")

    def __call__(self, pixels: Any) -> Any:
        values = {name: _Value(array) for name, array in self._constants.items()}
        values[self._input] = _Value(pixels, last=self._first)
        for node in self._graph.node:
            given = [values[name] if name else None for name in node.input]
            try:
                values[node.output[0]] = _OPERATORS[node.op_type](_Node(node, self._path), given)
            except (ValueError, TypeError, IndexError, KeyError) as error:
                reason = " ".join(str(error).split())[:160]
                raise ModelFileError(self._path, f"{node.op_type} {node.name}: {reason}") from None
        return _first(values[self._graph.output[0].name]).data


class _Node:
    """An ONNX node's attributes by name."""

    def __init__(self, node: Any, path: Path) -> None:
        from onnx import helper

        self.name, self.op, self.path = node.name, node.op_type, path
        self._attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}

    def get(self, name: str, default: Any) -> Any:
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def refuse(self, why: str) -> ModelFileError:
        return ModelFileError(self.path, f"{self.op} {self.name}: {why}")


_Operator = Callable[[_Node, list[Any]], _Value]


def _tf() -> Any:
    return import_tensorflow()


def _first(value: _Value) -> _Value:
    """The value as ONNX has it."""
    if value.last and value.rank == 4:
        return _Value(_tf().transpose(value.data, _TO_FIRST), positive=value.positive)
    return replace(value, last=False)


def _axis(value: _Value, axis: int) -> int:
    axis %= value.rank
    return (0, 3, 1, 2)[axis] if value.last and value.rank == 4 else axis


def _aligned(value: _Value, partner: _Value) -> Any:
    """An operand beside a channel-last partner: its axes moved the same way."""
    if not (partner.last and partner.rank == 4) or value.last or value.data.shape == ():
        return value.data
    if not value.constant:
        raise ValueError(f"a tensor of rank {value.rank} beside a picture")
    padded = value.data.reshape((1,) * (4 - value.rank) + value.data.shape)
    return padded.transpose(_TO_LAST)


def _binary(function: str) -> _Operator:
    def apply(node: _Node, given: list[_Value]) -> _Value:
        left, right = given
        if left.constant and right.constant:
            return _Value(np.asarray(getattr(np, function)(left.data, right.data)))
        last = (left.last and left.rank == 4) or (right.last and right.rank == 4)
        result = getattr(_tf().math, function)(_aligned(left, right), _aligned(right, left))
        return _Value(result, last=last, positive=function != "subtract" and left.positive and right.positive)

    return apply


def _unary(function: Callable[[Any, _Node], Any], *, positive: bool = False) -> _Operator:
    def apply(node: _Node, given: list[_Value]) -> _Value:
        return _Value(function(given[0].data, node), last=given[0].last, positive=positive)

    return apply


def _pads(node: _Node, size_hw: Sequence[int], kernel_hw: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Top, left, bottom, right."""
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return tuple(node.get("pads", [0, 0, 0, 0]))
    if mode == "VALID":
        return (0, 0, 0, 0)
    dilations = node.get("dilations", [1, 1])
    before, after = [], []
    for size, kernel, stride, dilation in zip(size_hw, kernel_hw, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
        small = total // 2
        before.append(small if mode == "SAME_UPPER" else total - small)
        after.append(total - before[-1])
    return (*before, *after)


def _pad_picture(data: Any, pads: Sequence[int]) -> Any:
    if not any(pads):
        return data
    top, left, bottom, right = pads
    return _tf().pad(data, [[0, 0], [top, bottom], [left, right], [0, 0]])


def _conv(node: _Node, given: list[Any]) -> _Value:
    tf = _tf()
    picture, weights = given[0], given[1].data
    if not picture.last or weights.ndim != 4:
        raise node.refuse("only two-dimensional convolutions of pictures")
    strides, dilations, groups = node.get("strides", [1, 1]), node.get("dilations", [1, 1]), node.get("group", 1)
    kernel, channels = weights.shape[2:], picture.data.shape[3]
    pads = _pads(node, picture.data.shape[1:3], kernel, strides)
    same = _is_same(pads, kernel, strides, dilations)
    data = picture.data if same else _pad_picture(picture.data, pads)
    padding = "SAME" if same else "VALID"
    if groups == channels and groups > 1:
        filters = weights.transpose(2, 3, 0, 1).reshape(*kernel, channels, -1)
        result = tf.nn.depthwise_conv2d(data, filters, [1, *strides, 1], padding, dilations=dilations)
    else:
        result = tf.nn.conv2d(data, weights.transpose(2, 3, 1, 0), [1, *strides, 1], padding, dilations=dilations)
    if len(given) > 2 and given[2] is not None:
        result = tf.nn.bias_add(result, given[2].data)
    return _Value(result, last=True)


def _is_same(pads: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> bool:
    """Whether TensorFlow's SAME pads alike: stride 1, and as much before as after."""
    if list(strides) != [1, 1]:
        return False
    wanted = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    return all(total % 2 == 0 for total in wanted) and list(pads) == [total // 2 for total in wanted] * 2


def _max_pool(node: _Node, given: list[Any]) -> _Value:
    picture = given[0]
    kernel = node.get("kernel_shape", None)
    strides = node.get("strides", [1, 1])
    if node.get("ceil_mode", 0) or node.get("dilations", [1, 1]) != [1, 1]:
        raise node.refuse("ceil_mode and dilations are not known")
    pads = _pads(node, picture.data.shape[1:3], kernel, strides)
    same = _is_same(pads, kernel, strides, [1, 1])
    if any(pads) and not same and not picture.positive:
        raise node.refuse("padded, and its input may be below 0, where zeros would change the maximum")
    data = picture.data if same else _pad_picture(picture.data, pads)
    result = _tf().nn.max_pool2d(data, kernel, strides, "SAME" if same else "VALID")
    return _Value(result, last=True, positive=picture.positive)


def _average_pool(node: _Node, given: list[Any]) -> _Value:
    picture = given[0]
    kernel, strides = node.get("kernel_shape", None), node.get("strides", [1, 1])
    pads = _pads(node, picture.data.shape[1:3], kernel, strides)
    if node.get("ceil_mode", 0) or (any(pads) and not node.get("count_include_pad", 0)):
        raise node.refuse("ceil_mode, and padding that is not counted, are not known")
    result = _tf().nn.avg_pool2d(_pad_picture(picture.data, pads), kernel, strides, "VALID")
    return _Value(result, last=True, positive=picture.positive)


def _global_average(node: _Node, given: list[Any]) -> _Value:
    result = _tf().reduce_mean(given[0].data, axis=[1, 2], keepdims=True)
    return _Value(result, last=True, positive=given[0].positive)


def _reduce_mean(node: _Node, given: list[Any]) -> _Value:
    value = given[0]
    axes = node.get("axes", None) if len(given) < 2 or given[1] is None else given[1].data.tolist()
    if axes is None:
        raise node.refuse("without axes")
    keep = bool(node.get("keepdims", 1))
    chosen = sorted(_axis(value, axis) for axis in axes)
    if value.last and not keep and chosen != [1, 2]:
        value = _first(value)
        chosen = sorted(axis % value.rank for axis in axes)
    result = _tf().reduce_mean(value.data, axis=chosen, keepdims=keep)
    return _Value(result, last=value.last and keep, positive=value.positive)


def _batch_norm(node: _Node, given: list[Any]) -> _Value:
    value = given[0]
    scale, bias, mean, variance = (part.data.astype(np.float32) for part in given[1:5])
    factor = scale / np.sqrt(variance + np.float32(node.get("epsilon", 1e-5)))
    offset = bias - mean * factor
    if value.rank not in (2, 4) or (value.rank == 4 and not value.last):
        raise node.refuse("of something that is neither a picture nor a row")
    return _Value(value.data * factor + offset, last=value.last)


def _gemm(node: _Node, given: list[Any]) -> _Value:
    rows, weights = given[0].data, given[1].data
    if node.get("transA", 0):
        raise node.refuse("transA is not known")
    weights = weights.T if node.get("transB", 0) else weights
    result = _tf().matmul(rows, (weights * np.float32(node.get("alpha", 1.0))).astype(np.float32))
    if len(given) > 2 and given[2] is not None:
        result = result + given[2].data * np.float32(node.get("beta", 1.0))
    return _Value(result)


def _clip(node: _Node, given: list[Any]) -> _Value:
    tf = _tf()
    bounds = [float(part.data) if part is not None else None for part in given[1:3]]
    low = bounds[0] if bounds else node.get("min", None)
    high = bounds[1] if len(bounds) > 1 else node.get("max", None)
    data = given[0].data
    if low == 0 and high == 6:
        return _Value(tf.nn.relu6(data), last=given[0].last, positive=True)
    data = data if low is None else tf.maximum(data, np.float32(low))
    data = data if high is None else tf.minimum(data, np.float32(high))
    return _Value(data, last=given[0].last, positive=low is not None and low >= 0)


def _flatten(node: _Node, given: list[Any]) -> _Value:
    if node.get("axis", 1) != 1:
        raise node.refuse("axis other than 1")
    value = given[0]
    if value.last and tuple(value.data.shape[1:3]) != (1, 1):
        value = _first(value)
    return _Value(_tf().reshape(value.data, [-1, int(np.prod(value.data.shape[1:]))]), positive=value.positive)


def _reshape(node: _Node, given: list[Any]) -> _Value:
    value, target = given[0], [int(side) for side in given[1].data]
    if value.constant:
        return _Value(value.data.reshape(target))
    if len(target) == 2 and target[0] in (0, 1, -1):
        return _flatten(node, [value])
    value = _first(value)
    sides = [-1, *(value.data.shape[i] if side == 0 else side for i, side in enumerate(target[1:], start=1))]
    return _Value(_tf().reshape(value.data, sides))


def _transpose(node: _Node, given: list[Any]) -> _Value:
    value: _Value = given[0]
    order = tuple(node.get("perm", range(value.rank)[::-1]))
    if value.constant:
        return _Value(value.data.transpose(order))
    if value.last and order == _TO_LAST:
        return replace(value, last=False)
    if not value.last and value.rank == 4 and order == _TO_FIRST:
        return replace(value, last=True)
    return _Value(_tf().transpose(_first(value).data, order))


def _concat(node: _Node, given: list[Any]) -> _Value:
    if all(value.constant for value in given):
        return _Value(np.concatenate([value.data for value in given], axis=node.get("axis", 0)))
    result = _tf().concat([value.data for value in given], axis=_axis(given[0], node.get("axis", 1)))
    return _Value(result, last=given[0].last, positive=all(value.positive for value in given))


def _squeeze(node: _Node, given: list[Any]) -> _Value:
    value = given[0]
    axes = node.get("axes", None) if len(given) < 2 or given[1] is None else given[1].data.tolist()
    if axes is None:
        raise node.refuse("without axes")
    if value.last and sorted(axis % 4 for axis in axes) != [2, 3]:
        value = _first(value)
    return _Value(_tf().squeeze(value.data, axis=[_axis(value, axis) for axis in axes]), positive=value.positive)


def _unsqueeze(node: _Node, given: list[Any]) -> _Value:
    value = given[0]
    axes = node.get("axes", None) if len(given) < 2 or given[1] is None else given[1].data.tolist()
    if value.constant:
        return _Value(np.expand_dims(value.data, tuple(axes)))
    if sorted(axes) == [2, 3] and value.rank == 2:
        return _Value(value.data[:, None, None, :], last=True, positive=value.positive)
    data = _first(value).data
    for axis in sorted(axes):
        data = _tf().expand_dims(data, axis)
    return _Value(data)


def _pad(node: _Node, given: list[Any]) -> _Value:
    pads = node.get("pads", None) if len(given) < 2 else given[1].data.tolist()
    filled = float(given[2].data) if len(given) > 2 and given[2] is not None else float(node.get("value", 0.0))
    if node.get("mode", "constant") != "constant" or filled or any(pads[i] for i in (0, 1, 4, 5)):
        raise node.refuse("only zeros around the picture are known")
    picture: _Value = given[0]
    return replace(picture, data=_pad_picture(picture.data, (pads[2], pads[3], pads[6], pads[7])))


def _softmax(node: _Node, given: list[Any]) -> _Value:
    value = _first(given[0])
    if node.get("axis", -1) % value.rank != value.rank - 1:
        raise node.refuse("not along the last axis")
    return _Value(_tf().nn.softmax(value.data), positive=True)


def _prelu(node: _Node, given: list[Any]) -> _Value:
    value = given[0]
    slope = _aligned(given[1], value)
    return _Value(_tf().maximum(value.data, 0) + slope * _tf().minimum(value.data, 0), last=value.last)


def _identity(node: _Node, given: list[_Value]) -> _Value:
    return given[0]


def _constant(node: _Node, given: list[Any]) -> _Value:
    from onnx import numpy_helper

    tensor = node.get("value", None)
    if tensor is None:
        raise node.refuse("only tensors are known")
    return _Value(np.asarray(numpy_helper.to_array(tensor)))


def _hard_sigmoid(data: Any, node: _Node) -> Any:
    alpha, beta = np.float32(node.get("alpha", 0.2)), np.float32(node.get("beta", 0.5))
    return _tf().minimum(_tf().maximum(data * alpha + beta, np.float32(0)), np.float32(1))


_OPERATORS: Final[dict[str, _Operator]] = {
    "Add": _binary("add"),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _unary(lambda data, node: data),
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "Div": _binary("divide"),
    "Dropout": _identity,
    "Elu": _unary(lambda data, node: _tf().nn.elu(data)),
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "HardSigmoid": _unary(_hard_sigmoid, positive=True),
    "HardSwish": _unary(lambda data, node: data * _tf().nn.relu6(data + np.float32(3)) * np.float32(1 / 6)),
    "Identity": _identity,
    "LeakyRelu": _unary(lambda data, node: _tf().nn.leaky_relu(data, node.get("alpha", 0.01))),
    "MatMul": _gemm,
    "MaxPool": _max_pool,
    "Mul": _binary("multiply"),
    "PRelu": _prelu,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": _unary(lambda data, node: _tf().nn.relu(data), positive=True),
    "Reshape": _reshape,
    "Sigmoid": _unary(lambda data, node: _tf().sigmoid(data), positive=True),
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": _binary("subtract"),
    "Tanh": _unary(lambda data, node: _tf().tanh(data)),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
