"""TFLite models on litert (or its predecessor tflite-runtime) with XNNPACK or an Edge TPU."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.contract.manifest import AnyManifest
from edge.contract.preprocess import to_int8
from edge.errors import BrokenDependencyError, BundleError, InferenceError, MissingDependencyError
from edge.packages import RUNTIMES, install_line


class LitertInterpreter:
    """One loaded model; see `edge.infer.base.Interpreter`.

    The integer shift writes straight into the interpreter's input memory, so that a picture is touched once.

    Attributes:
        delegate: ``xnnpack``, the name of the delegate that was given, or ``none``.
        delegated_nodes: nodes of the execution plan that are that delegate's.
        total_nodes: nodes of the execution plan, XNNPACK's share not yet taken out where another delegate was given.
    """

    def __init__(
        self, model: bytes, *, manifest: AnyManifest, threads: int = 1, delegate: Any = None, name: str = "xnnpack"
    ) -> None:
        """Loads a model.

        Args:
            model: the TFLite file's bytes.
            manifest: checked against the file's own tensors.
            threads: of the CPU kernels.
            delegate: a loaded delegate, or None for the CPU.
            name: of the delegate.

        Raises:
            InferenceError: the interpreter refuses the model.
            BundleError: the model's tensors are not what the manifest says.
        """
        # XNNPACK takes what a delegate leaves over, and its nodes bear the same name: count before it comes.
        open_model = partial(open_interpreter, model, threads=threads, delegate=delegate)
        plan = execution_plan(open_model(xnnpack=False)) if delegate else None
        self._interpreter = open_model()
        (details,) = _one_input(self._interpreter, manifest)
        outputs = self._interpreter.get_output_details()
        _check_tensors(manifest, details, outputs)
        self._input = self._interpreter.tensor(details["index"])
        self._is_int8 = manifest.input.dtype == "int8"
        self._outputs = [output["index"] for output in outputs]
        plan = plan or execution_plan(self._interpreter)
        self.total_nodes = len(plan)
        self.delegated_nodes = sum(node.startswith(("DELEGATE", "Delegate", "edgetpu")) for node in plan)
        self.delegate = name if self.delegated_nodes else "none"

    def run(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.generic]]:
        """Runs the model once; see `edge.infer.base.Interpreter.run`."""
        view = self._input()
        if self._is_int8:
            to_int8(pixels, view[0] if pixels.ndim == 3 else view)
        else:
            view[...] = pixels
        del view  # the interpreter refuses to run while somebody holds its memory
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._outputs]

    def close(self) -> None:
        """Frees the model."""
        del self._input, self._interpreter


@contextmanager
def quiet_native_log() -> Iterator[None]:
    """Keeps the native library's own chatter (``INFO: Created …``) off standard error while a model loads."""
    if os.environ.get("MIEN_NATIVE_LOG"):
        yield
        return
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


def import_runtime() -> Any:
    """The interpreter module: litert, else tflite-runtime.

    Raises:
        MissingDependencyError: neither is installed; the message holds the install line.
        BrokenDependencyError: one is installed and cannot be loaded, which may be another time.
    """
    for package in RUNTIMES:
        try:
            return importlib.import_module(f"{package}.interpreter")
        except ModuleNotFoundError as error:  # noqa: PERF203
            if (error.name or "").partition(".")[0] != package:
                raise BrokenDependencyError(package, error) from None
        except (ImportError, OSError, MemoryError) as error:
            raise BrokenDependencyError(package, error) from None
    raise MissingDependencyError(
        "inference", "ai-edge-litert", f"{install_line()}; without a wheel of it: tflite-runtime"
    )


def open_interpreter(
    model: bytes,
    *,
    threads: int | None = None,
    delegate: Any = None,
    xnnpack: bool = True,
    keep_tensors: bool = False,
) -> Any:
    """Open a TFLite model, with its tensors allocated and the native library's log kept off standard error.

    Args:
        model: the TFLite file's bytes.
        threads: of the CPU kernels; None for the runtime's default.
        delegate: a loaded delegate, or None for the CPU.
        xnnpack: whether XNNPACK runs what it can; false for TFLite's own kernels.
        keep_tensors: whether every inner tensor can be read after a run.

    Returns:
        The runtime's own ``Interpreter``.

    Raises:
        InferenceError: the interpreter refuses the model.
        MissingDependencyError: no runtime is installed.
    """
    runtime = import_runtime()
    resolver = runtime.OpResolverType
    try:
        with quiet_native_log():
            interpreter = runtime.Interpreter(
                model_content=model,
                num_threads=threads,
                experimental_delegates=[delegate] if delegate else None,
                experimental_op_resolver_type=resolver.AUTO if xnnpack else resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                experimental_preserve_all_tensors=keep_tensors,
            )
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise InferenceError(f"the interpreter refuses the model: {' '.join(str(error).split())}") from None
    return interpreter


def _one_input(interpreter: Any, manifest: AnyManifest) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = interpreter.get_input_details()
    if len(details) != 1:
        raise BundleError(manifest.model.file, f"{len(details)} inputs; a model has exactly 1")
    return details


def _check_tensors(manifest: AnyManifest, details: dict[str, Any], outputs: list[dict[str, Any]]) -> None:
    """Compares the file's tensors with the manifest: shapes, dtypes, scales, zero points."""
    file = manifest.model.file
    found = (tuple(map(int, details["shape"])), np.dtype(details["dtype"]).name)
    wanted = (manifest.input.shape, manifest.input.dtype)
    if found != wanted:
        raise BundleError(file, f"input is {found}, the manifest says {wanted}")
    pinned = {"int8": (1.0, -128), "uint8": (1.0, 0), "float32": (0.0, 0)}[manifest.input.dtype]
    if details["quantization"] != pinned:
        raise BundleError(file, f"input has scale and zero point {details['quantization']}, {pinned} is demanded")
    if len(outputs) != len(manifest.outputs):
        raise BundleError(file, f"{len(outputs)} outputs, the manifest says {len(manifest.outputs)}")
    for index, (output, spec) in enumerate(zip(outputs, manifest.outputs, strict=True)):
        scale, zero_point = output["quantization"]
        is_float = np.dtype(output["dtype"]).name == "float32"
        found_out = (tuple(map(int, output["shape"])), np.dtype(output["dtype"]).name)
        if found_out != (spec.shape, spec.dtype):
            raise BundleError(file, f"output {index} is {found_out}, the manifest says {(spec.shape, spec.dtype)}")
        if not is_float and (abs(scale - spec.scale) > 1e-6 * spec.scale or zero_point != spec.zero_point):
            said = (spec.scale, spec.zero_point)
            raise BundleError(file, f"output {index} has scale and zero point {(scale, zero_point)}, not {said}")


def execution_plan(interpreter: Any) -> list[str]:
    """Names of the nodes that really run.

    DelegateSupervisor appends its nodes and leaves the replaced ones in the list, so the plan is found from the outputs
    backwards, a delegate's node winning over the nodes that it replaced.
    """
    producers: dict[int, dict[str, Any]] = {}
    for node in interpreter._get_ops_details():
        producers |= {int(tensor): node for tensor in node["outputs"]}
    plan: dict[int, str] = {}
    open_tensors = [int(output["index"]) for output in interpreter.get_output_details()]
    while open_tensors:
        node = producers.get(open_tensors.pop(), {})
        if node and node["index"] not in plan:
            plan[node["index"]] = str(node["op_name"])
            open_tensors += [int(tensor) for tensor in node["inputs"]]
    return list(plan.values())
