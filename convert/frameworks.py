"""Imports TensorFlow and Keras quietly and only where they are needed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from convert.sandbox.checks import check_model_file
from convert.sandbox.contents import check_external_data
from edge.errors import ConversionError, MissingDependencyError, ModelFileError
from edge.infer.litert import quiet_native_log
from edge.packages import install_line

_PLACES: Final = re.compile(r"(\S+\.py|<unknown>):\d+(:\d+)?: (error: )?|loc\(.*?\](\)|$)(: )?")
"""Where a compiler's error lies: a line of our code, or a chain of its own locations."""
_NO_OPERATOR: Final = re.compile(r"'(tf\.\w+)' op is neither a custom op nor a flex op")
_SENTENCE: Final = re.compile(r".{20,}?[.;](?= |$)")


def import_tensorflow() -> Any:
    """The ``tensorflow`` module, its start-up chatter kept off standard error.

    Raises:
        MissingDependencyError: it is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        with quiet_native_log():
            import tensorflow
    except ImportError:
        raise MissingDependencyError("model conversion", "tensorflow", install_line("convert")) from None
    return tensorflow


def import_keras() -> Any:
    """The ``keras`` module on TensorFlow; see `import_tensorflow`."""
    import_tensorflow()
    try:
        import keras
    except ImportError:
        raise MissingDependencyError("model conversion", "keras", install_line("convert")) from None
    return keras


def brief(error: Exception) -> str:
    """Return a framework's error in one line of whole sentences, without places in code that is not the user's.

    What is longer than 200 characters is told up to the end of its first sentence.
    """
    text = " ".join(_PLACES.sub("", str(error)).split())
    if found := _NO_OPERATOR.search(text):
        return f"TFLite has no {found[1]} for what this model gives it"
    sentence = _SENTENCE.match(text)
    return (sentence[0] if len(text) > 200 and sentence else text) or type(error).__name__


@contextmanager
def converting(what: str) -> Iterator[None]:
    """Keep the native log quiet and tell a converter's errors in one line.

    Args:
        what: runs inside, for the message.

    Raises:
        ConversionError: it broke off.
    """
    import_tensorflow()
    from tensorflow.lite.python.convert_phase import ConverterError

    try:
        with quiet_native_log():
            yield
    except (ValueError, RuntimeError, ConverterError) as error:
        raise ConversionError(f"{what} breaks off: {brief(error)}") from None


def check_one_of_each(inputs: Sized, outputs: Sized, path: Path) -> None:
    """Refuse a model that has not exactly one input and one output.

    Raises:
        ModelFileError: it has others.
    """
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelFileError(path, f"{len(inputs)} inputs and {len(outputs)} outputs; one of each is needed")


def read_onnx(path: Path) -> Any:
    """Return the ``onnx.ModelProto`` of a file, its external data included.

    Raises:
        MissingDependencyError: the package ``onnx`` is not installed.
        ModelFileError: the file cannot be read, is no ONNX model, or its data lie out of its folder.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise MissingDependencyError("reading .onnx", "onnx", install_line("onnx")) from None
    check_model_file(path)
    try:
        model = onnx.load(str(path), load_external_data=False)
        check_external_data(model, path)
        onnx.load_external_data_for_model(model, str(path.parent))
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error)) from None
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(path, f"not an ONNX file: {brief(error)}") from None
    return model


def freeze_to_tflite(function: Any, shape: tuple[int, ...]) -> bytes:
    """A float TFLite file of a TensorFlow function of one tensor.

    The function's variables are frozen first: ``from_concrete_functions`` leaves those of Keras 3 as resources, and the
    file could not read them.

    Args:
        function: takes one float32 tensor and returns one.
        shape: of the input, the batch first.
    """
    tf = import_tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    traced = tf.function(function, autograph=False).get_concrete_function(
        tf.TensorSpec(shape, tf.float32, name="pixels")
    )
    with quiet_native_log():
        frozen = convert_variables_to_constants_v2(traced)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        model: bytes = converter.convert()
    return model
