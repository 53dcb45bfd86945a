"""Runs TFLite files that have no manifest yet, picture by picture: outputs, logits, inner tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.contract.scores import dequantize
from edge.errors import ConversionError
from edge.infer.litert import import_runtime, quiet_native_log
from edge.records import Floats

Pixels = npt.NDArray[np.uint8]
"""(n, height, width, channels) uint8."""


def open_interpreter(model: bytes, *, threads: int = 1, keep_tensors: bool = False) -> Any:
    """Return the runtime's interpreter of a model, ready to be fed.

    Args:
        model: the TFLite file.
        threads: of the CPU kernels.
        keep_tensors: keep the values of inner tensors; without a delegate, which would keep them to itself.

    Raises:
        ValueError: the interpreter refuses the model.
        RuntimeError: the same.
    """
    runtime = import_runtime()
    resolver = runtime.OpResolverType
    with quiet_native_log():
        interpreter = runtime.Interpreter(
            model_content=model,
            num_threads=threads,
            experimental_op_resolver_type=resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES if keep_tensors else resolver.AUTO,
            experimental_preserve_all_tensors=keep_tensors,
        )
        interpreter.allocate_tensors()
    return interpreter


def run_pictures(interpreter: Any, pictures: npt.NDArray[Any], tensors: Sequence[int]) -> list[npt.NDArray[Any]]:
    """Run pictures one by one and return the raw values of tensors, stacked along a new first axis.

    Args:
        interpreter: from `open_interpreter`.
        pictures: (n, height, width, channels) uint8 pixels, or float32 as the model expects them.
        tensors: indices of the tensors.
    """
    (source,) = interpreter.get_input_details()
    rows = []
    for picture in pictures:
        interpreter.set_tensor(source["index"], _as_input(picture, source["dtype"]))
        interpreter.invoke()
        rows.append([interpreter.get_tensor(tensor) for tensor in tensors])
    return [np.stack(values) for values in zip(*rows, strict=True)]


def run_logits(model: bytes, pixels: Pixels) -> Floats:
    """Return the (n, classes) float32 logits of a float or quantized graph.

    Raises:
        ConversionError: the interpreter refuses the graph.
    """
    try:
        interpreter = open_interpreter(model, threads=2)
    except (ValueError, RuntimeError) as error:
        raise ConversionError(f"the interpreter refuses the graph: {' '.join(str(error).split())}") from None
    (output,) = interpreter.get_output_details()
    (raw,) = run_pictures(interpreter, pixels, [output["index"]])
    scale, zero_point = output["quantization"]
    return dequantize(raw[:, 0], scale=scale or 1.0, zero_point=zero_point)


def record_tensors(model: bytes, pixels: Pixels, tensors: Sequence[int]) -> dict[int, npt.NDArray[Any]]:
    """Return the raw values of inner tensors by index, pictures stacked."""
    interpreter = open_interpreter(model, keep_tensors=True)
    return dict(zip(tensors, run_pictures(interpreter, pixels, tensors), strict=True))


def _as_input(picture: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
    """Return a batch of one picture in the input's type: int8 as pixel - 128, else the pixel itself."""
    batch = picture[np.newaxis]
    return (batch.astype(np.int16) - 128).astype(np.int8) if dtype == np.int8 else batch.astype(dtype)
