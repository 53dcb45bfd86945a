"""Reads anybody's classifier into one form: a float TFLite graph from pixels 0..255 to logits, the original beside it.

A new kind of model file is one function and one line in `LOADERS`.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from convert.frameworks import brief, check_one_of_each, freeze_to_tflite, import_keras, import_tensorflow
from convert.tflite.graph import Graph
from convert.tflite.interpreter import Pixels, run_pictures
from convert.tflite.probe import probe_model
from edge.contract.manifest import TrainedFrom
from edge.errors import ConversionError, ModelFileError, UsageError
from edge.infer.litert import open_interpreter, quiet_native_log
from edge.records import Floats

Head = Literal["auto", "logits", "softmax"]
BATCH: Final = 128
_SUM_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class InputArithmetic:
    """What a model that does not scale its input itself expects: ``(pixel - mean) * scale``.

    Attributes:
        scale: factor, ``1/255`` for 0..1; one value, or one a channel in the model's order.
        mean: in pixel values; one value, or one a channel.
    """

    scale: tuple[float, ...]
    mean: tuple[float, ...] = (0.0,)


@dataclass(frozen=True, slots=True)
class Source:
    """A model as its file has it.

    Attributes:
        tflite: float TFLite file of it, batch 1.
        run: the original: (n, height, width, channels) float32 to (n, classes) float32.
        kind: ``keras``, ``savedmodel``, ``tflite``, ``onnx``.
    """

    tflite: bytes
    run: Callable[[Floats], Floats]
    kind: str


@dataclass(frozen=True, slots=True)
class FloatModel:
    """A classifier ready to be quantized.

    Attributes:
        path: where it came from.
        kind: see `Source.kind`.
        tflite: float TFLite file from pixels 0..255 to logits, batch 1.
        input_shape: height, width, channels.
        classes: number of outputs.
        softmax_removed: whether the file ended in a softmax.
        predict: (n, height, width, channels) uint8 to (n, classes) float32 logits, computed by the original; up to a
            constant a picture where a softmax was removed.
        scales_input: whether arithmetic with a constant stands first in the graph; that alone proves nothing.
        run: see `Source.run`.
        preparation: what was done to the graph beside the original, for the manifest's recipe.
    """

    path: Path
    kind: str
    tflite: bytes
    input_shape: tuple[int, int, int]
    classes: int
    softmax_removed: bool
    predict: Callable[[Pixels], Floats]
    scales_input: bool
    run: Callable[[Floats], Floats]
    preparation: str = ""

    def try_input(self, pixels: Pixels, arithmetic: InputArithmetic) -> Floats:
        """Return what the original puts out, (n, classes), for pixels under another arithmetic than declared."""
        values = apply_arithmetic(pixels, arithmetic)
        return np.concatenate([self.run(values[i : i + BATCH]) for i in range(0, len(values), BATCH)])


def load_model(path: Path, *, arithmetic: InputArithmetic | None, head: Head = "auto") -> FloatModel:
    """Reads a model file.

    Args:
        path: ``.keras``, ``.h5``, ``.hdf5``, ``.tflite``, ``.onnx`` or a SavedModel folder.
        arithmetic: what the model expects of its input; None when it scales pixels 0..255 itself.
        head: what the model puts out; ``auto`` looks for a softmax at the end.

    Raises:
        ModelFileError: missing, damaged, or not one picture in and one row of classes out.
        UsageError: something has to be said on the command line; the message names the flag.
    """
    if not path.exists():
        raise ModelFileError(path, "no such file or folder")
    source = _loader(path)(path)
    try:
        graph = Graph(source.tflite)
    except ValueError as error:
        raise ModelFileError(path, str(error)) from None
    shape, classes = _check_form(graph, path)
    _check_finite(graph, path)
    scales_input = graph.scales_its_input()
    if arithmetic is not None:
        _check_channels(arithmetic, shape[2])
        _insert(graph, arithmetic)
    removed = _strip_head(graph, head, path)
    _check_sums(source, shape, removed=removed, arithmetic=arithmetic, path=path)
    graph.shorten_names()
    predict = _predictor(source.run, arithmetic, from_probabilities=removed)
    return FloatModel(
        path, source.kind, graph.encode(), shape, classes, removed, predict, scales_input=scales_input, run=source.run
    )


def replace_graph(model: FloatModel, tflite: bytes, *, arithmetic: InputArithmetic | None, how: str) -> FloatModel:
    """The same model with a changed float graph, its head and its input brought into form as `load_model` does.

    Args:
        model: what was loaded.
        tflite: the changed graph, as the file has it.
        arithmetic: as given to `load_model`.
        how: what was changed, for the manifest's recipe.
    """
    graph = Graph(tflite)
    graph.drop_final_softmax()
    if arithmetic is not None:
        _insert(graph, arithmetic)
    graph.shorten_names()
    return replace(model, tflite=graph.encode(), preparation=how)


def describe_origin(path: Path, *, git: str = "unknown") -> TrainedFrom:
    """Return what the manifest says of weights of which only the model's file or folder is known.

    Args:
        path: the file, or a folder, whose files are hashed in the order of their names.
        git: commit of the code that trained.
    """
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return TrainedFrom(git=git, recipe=f"brought as {path.name}, sha256 {digest}", datasets=())


def load_keras_file(path: Path) -> Source:
    """Reads ``.keras``, ``.h5`` or ``.hdf5``."""
    return keras_source(load_keras_model(path), path=path)


def load_keras_model(path: Path) -> Any:
    """The `keras.Model` of a file.

    Raises:
        ModelFileError: Keras cannot read it.
    """
    keras = import_keras()
    try:
        with quiet_native_log():
            return keras.models.load_model(path, compile=False)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        raise ModelFileError(path, f"Keras cannot read it: {brief(error)}") from None


def keras_source(model: Any, *, path: Path) -> Source:
    """A Keras model in memory.

    Args:
        model: a `keras.Model` with one input and one output.
        path: named in errors.

    Raises:
        ModelFileError: more inputs or outputs, or an open input size.
    """
    tf = import_tensorflow()
    check_one_of_each(model.inputs, model.outputs, path)
    shape = _fixed_shape(tuple(model.inputs[0].shape), path)
    batched = tf.function(lambda pixels: model(pixels, training=False), autograph=False, input_signature=[
        tf.TensorSpec((None, *shape), tf.float32)])  # fmt: skip
    tflite = _convert(lambda pixels: model(pixels, training=False), (1, *shape), path)
    return Source(tflite, lambda pixels: np.asarray(batched(pixels), np.float32), "keras")


def load_saved_model(path: Path) -> Source:
    """Reads a SavedModel folder through its serving signature."""
    tf = import_tensorflow()
    try:
        with quiet_native_log():
            module = tf.saved_model.load(str(path))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise ModelFileError(path, f"TensorFlow cannot read it: {brief(error)}") from None
    signatures = getattr(module, "signatures", {})
    name = "serving_default" if "serving_default" in signatures else next(iter(signatures), None)
    if name is None:
        raise ModelFileError(path, "a SavedModel without signatures")
    signature = signatures[name]
    arguments, outputs = signature.structured_input_signature[1], signature.structured_outputs
    check_one_of_each(arguments, outputs, path)
    (argument,), (output,) = arguments, outputs
    shape = _fixed_shape(tuple(arguments[argument].shape), path)
    tflite = _convert(lambda pixels: signature(**{argument: pixels})[output], (1, *shape), path)
    single = arguments[argument].shape[0] == 1

    def run(pixels: Floats) -> Floats:
        parts = [pixels[i : i + 1] for i in range(len(pixels))] if single else [pixels]
        return np.concatenate([signature(**{argument: tf.constant(part)})[output].numpy() for part in parts])

    _keep_alive.append(module)
    return Source(tflite, run, "savedmodel")


def load_tflite(path: Path) -> Source:
    """Reads a float ``.tflite``; it was looked at in a child process first."""
    probe_model(path)
    model = path.read_bytes()
    graph = Graph(model)
    kinds = {graph.dtype(index) for op in graph.weighted_ops() for index in op.inputs if index >= 0}
    if kinds != {"float32"}:
        raise ModelFileError(path, f"weights are {', '.join(sorted(kinds - {'float32'}))}; the float model is needed")
    interpreter = open_interpreter(model)
    return Source(model, lambda pixels: run_pictures(interpreter, pixels, graph.outputs)[0][:, 0], "tflite")


def load_onnx(path: Path) -> Source:
    """Reads ``.onnx``; see `convert.classifier.onnx_import`."""
    from convert.classifier.onnx_import import import_onnx

    function, run, shape = import_onnx(path)
    return Source(_convert(function, (1, *shape), path), run, "onnx")


LOADERS: Final[dict[str, Callable[[Path], Source]]] = {
    ".keras": load_keras_file,
    ".h5": load_keras_file,
    ".hdf5": load_keras_file,
    ".tflite": load_tflite,
    ".onnx": load_onnx,
}
_keep_alive: list[Any] = []
"""A SavedModel's functions hold its variables weakly."""


def _loader(path: Path) -> Callable[[Path], Source]:
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise ModelFileError(
                path, f"a folder without saved_model.pb; a model is {', '.join(LOADERS)} or a SavedModel"
            )
        return load_saved_model
    if path.suffix.lower() not in LOADERS:
        raise ModelFileError(path, f"not a model file; wanted {', '.join(LOADERS)} or a SavedModel folder")
    return LOADERS[path.suffix.lower()]


def _convert(function: Any, shape: tuple[int, ...], path: Path) -> bytes:
    tf = import_tensorflow()
    from tensorflow.lite.python.convert_phase import ConverterError

    try:
        return freeze_to_tflite(function, shape)
    except (ValueError, TypeError, RuntimeError, ConverterError, tf.errors.OpError) as error:
        raise ModelFileError(path, f"cannot be converted to TFLite: {brief(error)}") from None


def _fixed_shape(shape: tuple[int | None, ...], path: Path) -> tuple[int, int, int]:
    if len(shape) != 4 or shape[1] is None or shape[2] is None or shape[3] not in (1, 3):
        raise ModelFileError(path, f"input {shape}; wanted (batch, height, width, 1 or 3) with a fixed size")
    return shape[1], shape[2], shape[3]


def _check_form(graph: Graph, path: Path) -> tuple[tuple[int, int, int], int]:
    check_one_of_each(graph.inputs, graph.outputs, path)
    shape, output = graph.shape(graph.inputs[0]), graph.shape(graph.outputs[0])
    if graph.dtype(graph.inputs[0]) != "float32":
        raise ModelFileError(path, f"takes {graph.dtype(graph.inputs[0])}; the float model is needed")
    height, width, channels = _fixed_shape(shape, path)
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


def _insert(graph: Graph, arithmetic: InputArithmetic) -> None:
    graph.insert_input_arithmetic(
        scale=np.array(arithmetic.scale, np.float32), mean=np.array(arithmetic.mean, np.float32)
    )


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


def apply_arithmetic(pixels: Pixels, arithmetic: InputArithmetic | None) -> Floats:
    """What a model expects of pixels; the pixels as floats where it scales them itself."""
    values = pixels.astype(np.float32)
    if arithmetic is None:
        return values
    shifted: Floats = (values - np.array(arithmetic.mean, np.float32)) * np.array(arithmetic.scale, np.float32)
    return shifted


def _predictor(
    run: Callable[[Floats], Floats], arithmetic: InputArithmetic | None, *, from_probabilities: bool
) -> Callable[[Pixels], Floats]:
    known: dict[bytes, Floats] = {}

    def predict(pixels: Pixels) -> Floats:
        # A repair judges many candidates on the same pictures: the original computes them once.
        key = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
        if key not in known:
            parts = [run(apply_arithmetic(pixels[i : i + BATCH], arithmetic)) for i in range(0, len(pixels), BATCH)]
            outputs = np.concatenate(parts)
            known[key] = np.log(np.maximum(outputs, np.float32(1e-30))) if from_probabilities else outputs
        fresh: Floats = known[key].copy()
        return fresh

    return predict
