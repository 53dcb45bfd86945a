"""Reads anybody's classifier into one form: a float TFLite graph from pixels 0..255 to logits, the original beside it.

The file is parsed, and the original is run, in a process of their own (`convert.classifier.reading`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np

from convert.sandbox.checks import check_model_file
from convert.sandbox.messages import Array
from convert.sandbox.process import READ_S, RUN_S, Child
from convert.tflite.graph import Graph
from convert.tflite.interpreter import Pixels
from edge.contract.manifest import TrainedFrom
from edge.records import Floats

Head = Literal["auto", "logits", "softmax"]
BATCH: Final = 128


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
        run: the original: (n, height, width, channels) float32, at most `BATCH`, to (n, classes) float32.
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


class Form(msgspec.Struct, frozen=True):
    """What a file leaves open of how it is read.

    Attributes:
        trust_code: run code that lies in the file (a Lambda layer).
        signature: of a SavedModel; None for its serving signature, or the only one.
    """

    trust_code: bool = False
    signature: str | None = None


PLAIN: Final = Form()


class ReadRequest(msgspec.Struct):
    """What the process that reads is asked first.

    Attributes:
        path: of the model.
        scale, mean: see `InputArithmetic`; None where the model scales its input itself.
        head: see `load_model`.
        form: see `load_model`.
    """

    path: str
    scale: tuple[float, ...] | None
    mean: tuple[float, ...] | None
    head: Head
    form: Form


class ReadModel(msgspec.Struct):
    """What it answers; see `FloatModel`."""

    kind: str
    tflite: bytes
    input_shape: tuple[int, int, int]
    classes: int
    softmax_removed: bool
    scales_input: bool


def load_model(
    path: Path, *, arithmetic: InputArithmetic | None, head: Head = "auto", form: Form = PLAIN
) -> FloatModel:
    """Reads a model file in a process of its own, which goes on to run the original.

    Args:
        path: ``.keras``, ``.h5``, ``.hdf5``, ``.tflite``, ``.onnx`` or a SavedModel folder.
        arithmetic: what the model expects of its input; None when it scales pixels 0..255 itself.
        head: what the model puts out; ``auto`` looks for a softmax at the end.
        form: what else the file leaves open.

    Raises:
        ModelFileError: missing, damaged, or not one picture in and one row of classes out.
        UsageError: something has to be said on the command line; the message names the flag.
    """
    check_model_file(path)
    child = Child("convert.classifier.reading", path)
    scale, mean = (arithmetic.scale, arithmetic.mean) if arithmetic else (None, None)
    request = ReadRequest(str(path), scale, mean, head, form)
    found = child.ask(request, ReadModel, timeout_s=READ_S)

    def run(pixels: Floats) -> Floats:
        return child.ask(Array.of(pixels), Array, timeout_s=RUN_S).values()

    return FloatModel(
        path, found.kind, found.tflite, found.input_shape, found.classes, found.softmax_removed,
        _predictor(run, arithmetic, from_probabilities=found.softmax_removed),
        scales_input=found.scales_input, run=run,
    )  # fmt: skip


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
        insert_arithmetic(graph, arithmetic)
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


def insert_arithmetic(graph: Graph, arithmetic: InputArithmetic) -> None:
    """Put what a model expects of its input in front of its graph."""
    graph.insert_input_arithmetic(
        scale=np.array(arithmetic.scale, np.float32), mean=np.array(arithmetic.mean, np.float32)
    )


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
