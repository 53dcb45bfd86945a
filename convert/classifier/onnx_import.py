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

from convert.frameworks import brief, check_one_of_each, import_tensorflow, read_onnx
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
    """Read a file as a TensorFlow function.

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
        raise ModelFileError(path, f"ONNX refuses it: {brief(error)}") from None
    tf = import_tensorflow()
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in constants]
    check_one_of_each(inputs, model.graph.output, path)
    shape, first = _picture_shape(inputs[0], path)
    importer = _make_function(model.graph, constants, input_name=inputs[0].name, first=first, path=path)
    signature = [tf.TensorSpec((None, *shape), tf.float32)]
    batched = tf.function(importer, autograph=False, input_signature=signature)

    def run(pixels: Floats) -> Floats:
        return np.asarray(batched(pixels), np.float32)

    _compare_with_reference(model, inputs[0].name, run, shape, first=first, path=path)
    return importer, run, shape


def _picture_shape(entry: Any, path: Path) -> tuple[tuple[int, int, int], bool]:
    """Return height, width, channels, and whether ONNX has the channels first."""
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


def _make_function(
    graph: Any, constants: dict[str, npt.NDArray[Any]], *, input_name: str, first: bool, path: Path
) -> Callable[[Any], Any]:
    """Return a function that evaluates an ONNX graph with TensorFlow."""
    from onnx import helper

    unknown = sorted({node.op_type for node in graph.node} - set(_OPERATORS))
    if unknown:
        raise ModelFileError(path, f"operators {', '.join(unknown)}; known are {', '.join(sorted(_OPERATORS))}")

    def evaluate(pixels: Any) -> Any:
        values = {name: _Value(array) for name, array in constants.items()}
        values[input_name] = _Value(pixels, last=first)
        for node in graph.node:
            given = [values[name] if name else None for name in node.input]
            attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
            try:
                values[node.output[0]] = _OPERATORS[node.op_type](attributes, given)
            except (ValueError, TypeError, IndexError, KeyError) as error:
                raise ModelFileError(path, f"{node.op_type} {node.name}: {brief(error)}") from None
        return _first(values[graph.output[0].name]).data

    return evaluate


_Attributes = dict[str, Any]
_Operator = Callable[[_Attributes, list[Any]], _Value]
"""An operator's attributes and inputs (None for an absent one) to its output; ValueError says what is not known."""


def _tf() -> Any:
    return import_tensorflow()


def _first(value: _Value) -> _Value:
    """Return the value as ONNX has it."""
    if value.last and value.rank == 4:
        return _Value(_tf().transpose(value.data, _TO_FIRST), positive=value.positive)
    return replace(value, last=False)


def _axis(value: _Value, axis: int) -> int:
    axis %= value.rank
    return (0, 3, 1, 2)[axis] if value.last and value.rank == 4 else axis


def _aligned(value: _Value, partner: _Value) -> Any:
    """Return an operand beside a channel-last partner, its axes moved the same way."""
    if not (partner.last and partner.rank == 4) or value.last or value.data.shape == ():
        return value.data
    if not value.constant:
        raise ValueError(f"a tensor of rank {value.rank} beside a picture")
    padded = value.data.reshape((1,) * (4 - value.rank) + value.data.shape)
    return padded.transpose(_TO_LAST)


def _axes(attributes: _Attributes, given: list[Any]) -> list[int]:
    """Return the axes that an operator names, by attribute (up to opset 12) or by input."""
    named = given[1].data.tolist() if len(given) > 1 and given[1] is not None else attributes.get("axes")
    if named is None:
        raise ValueError("without axes")
    return list(named)


def _binary(function: str) -> _Operator:
    def apply(_: _Attributes, given: list[_Value]) -> _Value:
        left, right = given
        if left.constant and right.constant:
            return _Value(np.asarray(getattr(np, function)(left.data, right.data)))
        last = (left.last and left.rank == 4) or (right.last and right.rank == 4)
        result = getattr(_tf().math, function)(_aligned(left, right), _aligned(right, left))
        return _Value(result, last=last, positive=function != "subtract" and left.positive and right.positive)

    return apply


def _unary(function: Callable[[Any, _Attributes], Any], *, positive: bool = False) -> _Operator:
    return lambda attributes, given: _Value(function(given[0].data, attributes), given[0].last, positive)


def _padded(
    attributes: _Attributes, picture: _Value, kernel: Sequence[int], *, pads_matter: bool = False
) -> tuple[Any, str]:
    """Return a picture with the zeros that an operator puts around it, and the padding that TensorFlow has to add.

    Args:
        attributes: of the operator.
        picture: its input.
        kernel: height and width.
        pads_matter: whether zeros change the result where values lie below 0: of a maximum.
    """
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    pads = _pads(attributes, picture.data.shape[1:3], kernel, strides)
    # TensorFlow's SAME pads alike at stride 1 with as much before as after.
    wanted = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    even = all(total % 2 == 0 for total in wanted)
    if list(strides) == [1, 1] and even and list(pads) == [total // 2 for total in wanted] * 2:
        return picture.data, "SAME"
    if any(pads) and pads_matter and not picture.positive:
        raise ValueError("padded, and its input may be below 0, where zeros would change the maximum")
    return _pad_picture(picture.data, pads), "VALID"


def _pads(
    attributes: _Attributes, size_hw: Sequence[int], kernel_hw: Sequence[int], strides: Sequence[int]
) -> Sequence[int]:
    """Return the zeros at top, left, bottom and right."""
    mode = attributes.get("auto_pad", b"NOTSET")
    if mode in (b"NOTSET", b""):
        return attributes.get("pads", [0, 0, 0, 0])  # type: ignore[no-any-return]
    if mode == b"VALID":
        return (0, 0, 0, 0)
    before, after = [], []
    dilations = attributes.get("dilations", [1, 1])
    for size, kernel, stride, dilation in zip(size_hw, kernel_hw, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
        small = total // 2
        before.append(small if mode == b"SAME_UPPER" else total - small)
        after.append(total - before[-1])
    return (*before, *after)


def _pad_picture(data: Any, pads: Sequence[int]) -> Any:
    top, left, bottom, right = pads
    return _tf().pad(data, [[0, 0], [top, bottom], [left, right], [0, 0]]) if any(pads) else data


def _conv(attributes: _Attributes, given: list[Any]) -> _Value:
    tf = _tf()
    picture, weights = given[0], given[1].data
    if not picture.last or weights.ndim != 4:
        raise ValueError("only two-dimensional convolutions of pictures")
    groups, channels = attributes.get("group", 1), picture.data.shape[3]
    data, padding = _padded(attributes, picture, weights.shape[2:])
    strides, dilations = [1, *attributes.get("strides", [1, 1]), 1], attributes.get("dilations", [1, 1])
    if groups == channels and groups > 1:
        filters = weights.transpose(2, 3, 0, 1).reshape(*weights.shape[2:], channels, -1)
        result = tf.nn.depthwise_conv2d(data, filters, strides, padding, dilations=dilations)
    else:
        result = tf.nn.conv2d(data, weights.transpose(2, 3, 1, 0), strides, padding, dilations=dilations)
    if len(given) > 2 and given[2] is not None:
        result = tf.nn.bias_add(result, given[2].data)
    return _Value(result, last=True)


def _max_pool(attributes: _Attributes, given: list[Any]) -> _Value:
    if attributes.get("ceil_mode") or attributes.get("dilations", [1, 1]) != [1, 1]:
        raise ValueError("ceil_mode and dilations are not known")
    kernel = attributes["kernel_shape"]
    data, padding = _padded(attributes, given[0], kernel, pads_matter=True)
    result = _tf().nn.max_pool2d(data, kernel, attributes.get("strides", [1, 1]), padding)
    return _Value(result, last=True, positive=given[0].positive)


def _average_pool(attributes: _Attributes, given: list[Any]) -> _Value:
    picture, kernel, strides = given[0], attributes["kernel_shape"], attributes.get("strides", [1, 1])
    pads = _pads(attributes, picture.data.shape[1:3], kernel, strides)
    if attributes.get("ceil_mode") or (any(pads) and not attributes.get("count_include_pad")):
        raise ValueError("ceil_mode, and padding that is not counted, are not known")
    result = _tf().nn.avg_pool2d(_pad_picture(picture.data, pads), kernel, strides, "VALID")
    return _Value(result, last=True, positive=picture.positive)


def _global_average(_: _Attributes, given: list[Any]) -> _Value:
    result = _tf().reduce_mean(given[0].data, axis=[1, 2], keepdims=True)
    return _Value(result, last=True, positive=given[0].positive)


def _reduce_mean(attributes: _Attributes, given: list[Any]) -> _Value:
    value, axes, keep = given[0], _axes(attributes, given), bool(attributes.get("keepdims", 1))
    if value.last and not keep and sorted(_axis(value, axis) for axis in axes) != [1, 2]:
        value = _first(value)
    result = _tf().reduce_mean(value.data, axis=sorted(_axis(value, axis) for axis in axes), keepdims=keep)
    return _Value(result, last=value.last and keep, positive=value.positive)


def _batch_norm(attributes: _Attributes, given: list[Any]) -> _Value:
    value = given[0]
    if value.rank not in (2, 4) or (value.rank == 4 and not value.last):
        raise ValueError("of something that is neither a picture nor a row")
    scale, bias, mean, variance = (part.data.astype(np.float32) for part in given[1:5])
    factor = scale / np.sqrt(variance + np.float32(attributes.get("epsilon", 1e-5)))
    return _Value(value.data * factor + (bias - mean * factor), last=value.last)


def _gemm(attributes: _Attributes, given: list[Any]) -> _Value:
    rows, weights = given[0].data, given[1].data
    if attributes.get("transA"):
        raise ValueError("transA is not known")
    weights = weights.T if attributes.get("transB") else weights
    result = _tf().matmul(rows, (weights * np.float32(attributes.get("alpha", 1.0))).astype(np.float32))
    if len(given) > 2 and given[2] is not None:
        result = result + given[2].data * np.float32(attributes.get("beta", 1.0))
    return _Value(result)


def _matmul(attributes: _Attributes, given: list[Any]) -> _Value:
    if given[1].constant and given[1].data.ndim == 2 and given[0].rank == 2:
        return _gemm(attributes, given)
    left, right = _first(given[0]).data, _first(given[1]).data
    return _Value(_tf().matmul(left, right))


def _clip(attributes: _Attributes, given: list[Any]) -> _Value:
    tf, value = _tf(), given[0]
    bounds = [None if part is None else float(part.data) for part in given[1:]]
    low, high = (*bounds, None, None)[:2] if bounds else (attributes.get("min"), attributes.get("max"))
    if (low, high) == (0, 6):
        return _Value(tf.nn.relu6(value.data), last=value.last, positive=True)
    data = value.data if low is None else tf.maximum(value.data, np.float32(low))
    data = data if high is None else tf.minimum(data, np.float32(high))
    return _Value(data, last=value.last, positive=low is not None and low >= 0)


def _flatten(attributes: _Attributes, given: list[Any]) -> _Value:
    if attributes.get("axis", 1) != 1:
        raise ValueError("axis other than 1")
    value = given[0] if tuple(given[0].data.shape[1:3]) == (1, 1) else _first(given[0])
    return _Value(_tf().reshape(value.data, [-1, int(np.prod(value.data.shape[1:]))]), positive=value.positive)


def _reshape(_: _Attributes, given: list[Any]) -> _Value:
    value, target = given[0], [int(side) for side in given[1].data]
    if value.constant:
        return _Value(value.data.reshape(target))
    if len(target) == 2 and target[0] in (0, 1, -1):
        return _flatten({}, [value])
    value = _first(value)
    sides = [-1, *(value.data.shape[i] if side == 0 else side for i, side in enumerate(target[1:], start=1))]
    return _Value(_tf().reshape(value.data, sides))


def _transpose(attributes: _Attributes, given: list[Any]) -> _Value:
    value: _Value = given[0]
    order = tuple(attributes.get("perm", range(value.rank)[::-1]))
    if value.constant:
        return _Value(value.data.transpose(order))
    if value.last and order == _TO_LAST:
        return replace(value, last=False)
    if not value.last and value.rank == 4 and order == _TO_FIRST:
        return replace(value, last=True)
    return _Value(_tf().transpose(_first(value).data, order))


def _concat(attributes: _Attributes, given: list[Any]) -> _Value:
    parts = [value.data for value in given]
    if all(value.constant for value in given):
        return _Value(np.concatenate(parts, axis=attributes.get("axis", 0)))
    result = _tf().concat(parts, axis=_axis(given[0], attributes.get("axis", 1)))
    return _Value(result, last=given[0].last, positive=all(value.positive for value in given))


def _squeeze(attributes: _Attributes, given: list[Any]) -> _Value:
    value, axes = given[0], _axes(attributes, given)
    if value.last and sorted(axis % 4 for axis in axes) != [2, 3]:
        value = _first(value)
    return _Value(_tf().squeeze(value.data, axis=[_axis(value, axis) for axis in axes]), positive=value.positive)


def _unsqueeze(attributes: _Attributes, given: list[Any]) -> _Value:
    value, axes = given[0], sorted(_axes(attributes, given))
    if value.constant:
        return _Value(np.expand_dims(value.data, tuple(axes)))
    if axes == [2, 3] and value.rank == 2:
        return _Value(value.data[:, None, None, :], last=True, positive=value.positive)
    data = _first(value).data
    for axis in axes:
        data = _tf().expand_dims(data, axis)
    return _Value(data)


def _pad(attributes: _Attributes, given: list[Any]) -> _Value:
    pads = attributes["pads"] if len(given) < 2 else given[1].data.tolist()
    filled = given[2].data if len(given) > 2 and given[2] is not None else attributes.get("value", 0.0)
    if attributes.get("mode", b"constant") != b"constant" or float(filled) or any(pads[i] for i in (0, 1, 4, 5)):
        raise ValueError("only zeros around the picture are known")
    data = _pad_picture(given[0].data, (pads[2], pads[3], pads[6], pads[7]))
    return _Value(data, last=given[0].last, positive=given[0].positive)


def _softmax(attributes: _Attributes, given: list[Any]) -> _Value:
    value = _first(given[0])
    if attributes.get("axis", -1) % value.rank != value.rank - 1:
        raise ValueError("not along the last axis")
    return _Value(_tf().nn.softmax(value.data), positive=True)


def _prelu(_: _Attributes, given: list[Any]) -> _Value:
    value, slope = given[0], _aligned(given[1], given[0])
    return _Value(_tf().maximum(value.data, 0) + slope * _tf().minimum(value.data, 0), last=value.last)


def _constant(attributes: _Attributes, given: list[Any]) -> _Value:
    from onnx import numpy_helper

    if "value" not in attributes:
        raise ValueError("only tensors are known")
    return _Value(np.asarray(numpy_helper.to_array(attributes["value"])))


def _hard_sigmoid(data: Any, attributes: _Attributes) -> Any:
    alpha, beta = np.float32(attributes.get("alpha", 0.2)), np.float32(attributes.get("beta", 0.5))
    return _tf().clip_by_value(data * alpha + beta, np.float32(0), np.float32(1))


def _identity(_: _Attributes, given: list[Any]) -> _Value:
    value: _Value = given[0]
    return value


_OPERATORS: Final[dict[str, _Operator]] = {
    "Add": _binary("add"),
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _unary(lambda data, _: data),
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "Div": _binary("divide"),
    "Dropout": _identity,
    "Elu": _unary(lambda data, _: _tf().nn.elu(data)),
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average,
    "HardSigmoid": _unary(_hard_sigmoid, positive=True),
    "HardSwish": _unary(lambda data, _: data * _tf().nn.relu6(data + np.float32(3)) * np.float32(1 / 6)),
    "Identity": _identity,
    "LeakyRelu": _unary(lambda data, attributes: _tf().nn.leaky_relu(data, attributes.get("alpha", 0.01))),
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _binary("multiply"),
    "PRelu": _prelu,
    "Pad": _pad,
    "ReduceMean": _reduce_mean,
    "Relu": _unary(lambda data, _: _tf().nn.relu(data), positive=True),
    "Reshape": _reshape,
    "Sigmoid": _unary(lambda data, _: _tf().sigmoid(data), positive=True),
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": _binary("subtract"),
    "Tanh": _unary(lambda data, _: _tf().tanh(data)),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
