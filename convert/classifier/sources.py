"""Readers of model files, one a framework: a float TFLite file, and the original to run.

They run in a process of their own, see `convert.classifier.reading`. A new kind of model file is one function and one
line in `LOADERS`.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from convert.classifier.load import Form
from convert.frameworks import brief, check_one_of_each, freeze_to_tflite, import_keras, import_tensorflow
from convert.sandbox.contents import check_operators, check_signature, find_code, read_keras_config
from convert.tflite.graph import Graph
from convert.tflite.interpreter import run_pictures
from edge.errors import ModelFileError, UsageError
from edge.infer.litert import open_interpreter, quiet_native_log
from edge.records import Floats


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


def load_keras_file(path: Path, form: Form) -> Source:
    """Reads ``.keras``, ``.h5`` or ``.hdf5``."""
    return keras_source(_in_float32(load_keras_model(path, trust_code=form.trust_code)), path=path)


def load_keras_model(path: Path, *, trust_code: bool = False) -> Any:
    """The `keras.Model` of a file.

    Args:
        path: of it.
        trust_code: run the code that lies in it.

    Raises:
        ModelFileError: Keras cannot read it, or code lies in it.
    """
    code = find_code(read_keras_config(path))
    if code and not trust_code:
        raise ModelFileError(
            path,
            f"the code of {', '.join(code)} (Lambda) lies in the file and would be run; rebuild it from Keras layers,"
            " or say --trust-code where you trust whoever made it",
        )
    keras = import_keras()
    try:
        with quiet_native_log():
            return keras.models.load_model(path.resolve(), compile=False, safe_mode=not trust_code)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile, AttributeError) as error:
        raise ModelFileError(path, f"Keras cannot read it: {brief(error)}") from None


def _in_float32(model: Any) -> Any:
    """The same model where it computes in float16 or bfloat16: TFLite has most operators in float32 alone."""
    keras = import_keras()
    config = json.dumps(keras.saving.serialize_keras_object(model))
    plain = re.sub(r'"mixed_b?float16"', '"float32"', config)
    if plain == config:
        return model
    whole = keras.saving.deserialize_keras_object(json.loads(plain))
    whole.set_weights(model.get_weights())
    return whole


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
    shape = fixed_shape(tuple(model.inputs[0].shape), path)
    batched = tf.function(lambda pixels: model(pixels, training=False), autograph=False, input_signature=[
        tf.TensorSpec((None, *shape), tf.float32)])  # fmt: skip
    tflite = _convert(lambda pixels: model(pixels, training=False), (1, *shape), path)
    return Source(tflite, lambda pixels: np.asarray(batched(pixels), np.float32), "keras")


def load_saved_model(path: Path, form: Form) -> Source:
    """Reads a SavedModel folder through a signature."""
    tf = import_tensorflow()
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    try:
        check_operators(SavedModel.FromString((path / SAVED_MODEL_FILE).read_bytes()), path)
    except DecodeError:
        raise ModelFileError(path / SAVED_MODEL_FILE, "not a SavedModel") from None
    try:
        with quiet_native_log():
            module = tf.saved_model.load(str(path))
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise ModelFileError(path, f"TensorFlow cannot read it: {brief(error)}") from None
    signatures = getattr(module, "signatures", {})
    if not signatures:
        raise ModelFileError(path, "a SavedModel without signatures; export it with one (model.export in Keras)")
    name = form.signature or (SERVING if SERVING in signatures or len(signatures) > 1 else next(iter(signatures)))
    if name not in signatures:
        raise UsageError(f"--signature: {path} has no {name!r}; it has {', '.join(sorted(signatures))}")
    signature = signatures[name]
    check_signature(signature.graph.as_graph_def(), path)
    arguments, outputs = signature.structured_input_signature[1], signature.structured_outputs
    check_one_of_each(arguments, outputs, path)
    (argument,), (output,) = arguments, outputs
    if arguments[argument].dtype != tf.float32:
        kind = arguments[argument].dtype.name
        raise ModelFileError(path, f"{name} takes {kind}; export it with a float32 input (of pixels 0..255 as well)")
    shape = fixed_shape(tuple(arguments[argument].shape), path)
    tflite = _convert(lambda pixels: signature(**{argument: pixels})[output], (1, *shape), path)
    single = arguments[argument].shape[0] == 1

    def run(pixels: Floats) -> Floats:
        parts = [pixels[i : i + 1] for i in range(len(pixels))] if single else [pixels]
        return np.concatenate([signature(**{argument: tf.constant(part)})[output].numpy() for part in parts])

    _keep_alive.append(module)
    return Source(tflite, run, "savedmodel")


def load_tflite(path: Path, _: Form) -> Source:
    """Reads a float ``.tflite``."""
    model = path.read_bytes()
    graph = Graph(model)
    kinds = {graph.dtype(index) for op in graph.weighted_ops() for index in op.inputs if index >= 0}
    if not kinds and any(values.dtype == np.float16 for _, values in graph.constants()):
        raise ModelFileError(path, "its weights are float16; bring the same model with float32 weights")
    if kinds != {"float32"}:
        raise ModelFileError(path, f"weights are {', '.join(sorted(kinds - {'float32'}))}; the float model is needed")
    interpreter = open_interpreter(model)
    return Source(model, lambda pixels: run_pictures(interpreter, pixels, graph.outputs)[0][:, 0], "tflite")


def load_onnx(path: Path, _: Form) -> Source:
    """Reads ``.onnx``; see `convert.classifier.onnx_import`."""
    from convert.classifier.onnx_import import import_onnx

    function, run, shape = import_onnx(path)
    return Source(_convert(function, (1, *shape), path), run, "onnx")


LOADERS: Final[dict[str, Callable[[Path, Form], Source]]] = {
    ".keras": load_keras_file,
    ".h5": load_keras_file,
    ".hdf5": load_keras_file,
    ".tflite": load_tflite,
    ".onnx": load_onnx,
}
SERVING: Final = "serving_default"
SAVED_MODEL_FILE: Final = "saved_model.pb"
_keep_alive: list[Any] = []
"""A SavedModel's functions hold its variables weakly."""


def find_loader(path: Path) -> Callable[[Path, Form], Source]:
    """Return the reader of a model's kind, found by the name.

    Raises:
        ModelFileError: there is none.
    """
    if path.is_dir():
        if not (path / SAVED_MODEL_FILE).is_file():
            raise ModelFileError(
                path, f"a folder without {SAVED_MODEL_FILE}; a model is {', '.join(LOADERS)} or a SavedModel"
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


def fixed_shape(shape: tuple[int | None, ...], path: Path) -> tuple[int, int, int]:
    """Return height, width and channels of a picture.

    Raises:
        ModelFileError: another form, or an open size.
    """
    if len(shape) != 4 or shape[1] is None or shape[2] is None or shape[3] not in (1, 3):
        raise ModelFileError(path, f"input {shape}; wanted (batch, height, width, 1 or 3) with a fixed size")
    return shape[1], shape[2], shape[3]
