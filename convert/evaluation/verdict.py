"""The verdict: is the small model still the model? Both see the same pictures; the small one runs as on the device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from convert.datasets import Dataset
from convert.datasets.dataset import Colour
from convert.evaluation.classification import (
    Calibration,
    Ints,
    PairedDifference,
    Rate,
    accuracy,
    calibration,
    confusion_matrix,
    macro_f1,
    paired_difference,
)
from convert.tflite.interpreter import Pixels
from edge.contract.bundle import Bundle
from edge.contract.manifest import EmotionManifest
from edge.contract.preprocess import resize
from edge.contract.scores import softmax
from edge.errors import DataError
from edge.infer import load_model
from edge.infer.classifier import EmotionClassifier
from edge.records import Floats

Status = Literal["passed", "failed", "undecided", "suspect"]
Predict = Callable[[Pixels], Floats]
"""(n, height, width, channels) uint8 pixels to (n, classes) float32 logits."""
CLASS_GATE_COUNT: Final = 200
"""A class decides only with at least so many pictures."""
SLICE_COUNT: Final = 500
SLICE_SEED: Final = 0
WORST_COUNT: Final = 24


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be lost, in percentage points.

    Attributes:
        max_drop: of accuracy.
        max_class_drop: of the recall of any class with `CLASS_GATE_COUNT` pictures.
    """

    max_drop: float = 1.0
    max_class_drop: float = 5.0


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Labelled pictures as the model takes them.

    Attributes:
        name: of the data set.
        sha256: of the data set.
        pixels: (n, height, width, channels) uint8.
        labels: (n,) positions in the model's labels.
        omitted: pictures of classes that the model does not have.
    """

    name: str
    sha256: str
    pixels: Pixels
    labels: Ints
    omitted: int


@dataclass(frozen=True, slots=True)
class ClassVerdict:
    """One class.

    Attributes:
        label: its name.
        n: its pictures.
        recall_float: of the float model; NaN without pictures.
        recall_quantized: of the quantized model.
        drop: fall of the recall in points, with its interval.
        drop_low: lower end.
        drop_high: upper end.
        gates: whether there are enough pictures to decide.
        passed: False only when it gates and the whole interval lies beyond the limit.
    """

    label: str
    n: int
    recall_float: float
    recall_quantized: float
    drop: float
    drop_low: float
    drop_high: float
    gates: bool
    passed: bool


@dataclass(frozen=True, slots=True)
class SliceVerdict:
    """Accuracy of both models on pictures that were made worse."""

    name: str
    n: int
    accuracy_float: float
    accuracy_quantized: float
    drop: float
    drop_low: float
    drop_high: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything measured of two models on the same pictures, and the verdict.

    Attributes:
        status: ``passed``, ``failed`` or ``undecided``; ``suspect`` where the float model itself is not believed.
        reason: why, in one line.
        dataset: name of the pictures' data set.
        n: pictures.
        accuracy_float: with its interval.
        accuracy_quantized: with its interval.
        difference: quantized minus float, paired, as a share.
        drop: fall of the accuracy in points, with its interval.
        drop_low: lower end.
        drop_high: upper end.
        macro_f1_float: mean F1 of the classes.
        macro_f1_quantized: the same of the quantized model.
        agreement: share of pictures with the same top class.
        mean_score_difference: mean of |difference| over pictures and classes of the calibrated scores.
        worst_score_difference: its largest value.
        calibration_before: expected calibration error of the quantized model at temperature 1.
        calibration_after: at the fitted temperature.
        calibration_float: of the float model at the fitted temperature.
        classes: per class.
        slices: per kind of worse picture.
        confusion_float: row = label, column = prediction.
        confusion_quantized: the same of the quantized model.
        worst: rows of the pictures whose scores differ most, worst first.
    """

    status: Status
    reason: str
    dataset: str
    n: int
    accuracy_float: Rate
    accuracy_quantized: Rate
    difference: PairedDifference
    drop: float
    drop_low: float
    drop_high: float
    macro_f1_float: float
    macro_f1_quantized: float
    agreement: float
    mean_score_difference: float
    worst_score_difference: float
    calibration_before: Calibration
    calibration_after: Calibration
    calibration_float: Calibration
    classes: tuple[ClassVerdict, ...]
    slices: tuple[SliceVerdict, ...]
    confusion_float: Ints
    confusion_quantized: Ints
    worst: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """A comparison with what it was made of.

    Attributes:
        comparison: the verdict and everything measured.
        data: the pictures.
        float_scores: (n, labels) calibrated probabilities of the float model.
        quantized_scores: (n, labels) of the quantized one.
        delegated_nodes: nodes of the quantized model's plan that XNNPACK took.
        total_nodes: nodes of the plan; 1 when XNNPACK took the whole graph.
    """

    comparison: Comparison
    data: EvaluationSet
    float_scores: Floats
    quantized_scores: Floats
    delegated_nodes: int
    total_nodes: int


def make_evaluation_set(dataset: Dataset, *, labels: Sequence[str], size_px: int, colour: Colour) -> EvaluationSet:
    """Return the pictures of a data set as a model takes them.

    Args:
        dataset: labelled faces.
        labels: the model's, in its order, by our names.
        size_px: side of its input.
        colour: of its input.

    Raises:
        DataError: no picture of any of the model's labels.
    """
    classes = dataset.class_indices(labels)
    known = classes >= 0
    if not known.any():
        raise DataError(dataset.name, f"no picture of any label of the model: {', '.join(labels)}")
    pixels = dataset.select(known).model_inputs(size_px=size_px, colour=colour)
    return EvaluationSet(dataset.name, dataset.sha256, pixels, classes[known], int((~known).sum()))


class QuantizedModel:
    """A bundle's model on the device's own code; a context manager.

    Attributes:
        delegated_nodes: nodes of the plan that XNNPACK took.
        total_nodes: nodes of the plan.
    """

    def __init__(self, bundle: Bundle[EmotionManifest], *, threads: int = 2) -> None:
        """Loads the model; its golden samples are replayed as on the device.

        Raises:
            MienError: the interpreter refuses the model, or its golden samples differ.
        """
        interpreter = load_model(bundle, threads=threads).interpreter
        self.delegated_nodes, self.total_nodes = interpreter.delegated_nodes, interpreter.total_nodes
        self._classifier = EmotionClassifier(bundle.manifest, interpreter)

    def __enter__(self) -> QuantizedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self._classifier.close()

    def scores(self, pixels: Pixels) -> Floats:
        """(n, labels) float32 calibrated probabilities."""
        return self._classifier.classify(pixels)


def compare(bundle: Bundle[EmotionManifest], reference: Predict, data: EvaluationSet, *, limits: Limits) -> Run:
    """Runs both models on the same pictures and decides.

    Args:
        bundle: the small model.
        reference: the float model's logits, computed by its own framework.
        data: labelled pictures.
        limits: what may be lost.
    """
    temperature = bundle.manifest.temperature
    with QuantizedModel(bundle) as model:
        small = model.scores(data.pixels)
        large = softmax(reference(data.pixels), temperature=temperature)
        comparison = compare_scores(
            large, small, data.labels, labels_of_model=bundle.manifest.labels, temperature=temperature, limits=limits,
            dataset=data.name, slices=_compare_slices(model, reference, data),
        )  # fmt: skip
        return Run(comparison, data, large, small, model.delegated_nodes, model.total_nodes)


def compare_scores(
    float_scores: Floats,
    quantized_scores: Floats,
    labels: Ints,
    *,
    labels_of_model: Sequence[str],
    temperature: float,
    limits: Limits,
    dataset: str,
    slices: tuple[SliceVerdict, ...] = (),
) -> Comparison:
    """The verdict on two models' calibrated scores.

    Args:
        float_scores: (n, classes) probabilities of the float model.
        quantized_scores: (n, classes) of the quantized one.
        labels: (n,) true classes.
        labels_of_model: names of the classes.
        temperature: that both scores were calibrated with.
        limits: what may be lost.
        dataset: its name.
        slices: measured before.
    """
    large, small = float_scores.argmax(1), quantized_scores.argmax(1)
    right_large, right_small = large == labels, small == labels
    difference = paired_difference(right_large, right_small)
    drop, drop_low, drop_high = difference.drop_points()
    confusions = [confusion_matrix(labels, top, classes=len(labels_of_model)) for top in (large, small)]
    classes = tuple(
        _class_verdict(name, right_large[labels == k], right_small[labels == k], limits)
        for k, name in enumerate(labels_of_model)
    )
    status, reason = apply_gate(difference, classes, limits)
    distance = np.abs(float_scores - quantized_scores)
    before = _sharpen(quantized_scores, temperature)
    return Comparison(
        status=status,
        reason=reason,
        dataset=dataset,
        n=len(labels),
        accuracy_float=accuracy(labels, large),
        accuracy_quantized=accuracy(labels, small),
        difference=difference,
        drop=drop,
        drop_low=drop_low,
        drop_high=drop_high,
        macro_f1_float=macro_f1(confusions[0]),
        macro_f1_quantized=macro_f1(confusions[1]),
        agreement=float((large == small).mean()),
        mean_score_difference=float(distance.mean()),
        worst_score_difference=float(distance.max()),
        calibration_before=calibration(before.max(1), right_small),
        calibration_after=calibration(quantized_scores.max(1), right_small),
        calibration_float=calibration(float_scores.max(1), right_large),
        classes=classes,
        slices=slices,
        confusion_float=confusions[0],
        confusion_quantized=confusions[1],
        worst=tuple(int(row) for row in np.argsort(-distance.max(1), kind="stable")[:WORST_COUNT]),
    )


def apply_gate(difference: PairedDifference, classes: Sequence[ClassVerdict], limits: Limits) -> tuple[Status, str]:
    """Pass, fail or undecided, and why in one line.

    Args:
        difference: accuracy of the quantized model minus that of the float one.
        classes: the classes' verdicts.
        limits: what may be lost.
    """
    drop, low, high = difference.drop_points()
    said = format_drop("accuracy", drop=drop, low=low, high=high, counts=f"n = {difference.n:,}")
    limit = f"{limits.max_drop:g} allowed"
    if low > limits.max_drop:
        return "failed", f"{said}, {limit}"
    fallen = [one for one in classes if not one.passed]
    if fallen:
        worst = max(fallen, key=lambda one: one.drop)
        said = format_drop(
            f"recall of {worst.label}", drop=worst.drop, low=worst.drop_low, high=worst.drop_high,
            counts=f"n = {worst.n:,}",
        )  # fmt: skip
        return "failed", f"{said}, {limits.max_class_drop:g} allowed"
    if high <= limits.max_drop:
        return "passed", f"{said}, {limit}"
    wanted = difference.pictures_to_decide(-limits.max_drop / 100)
    enough = f"bring about {_round_up(wanted):,}" if wanted < 10_000_000 else "the drop lies on the limit itself"
    return "undecided", (
        f"the interval {low:+.2f}..{high:+.2f} of the drop spans the limit {limits.max_drop:g}:"
        f" {difference.n:,} pictures decide nothing, {enough}"
    )


def format_drop(what: str, *, drop: float, low: float, high: float, counts: str) -> str:
    """Return ``accuracy fell by 0.25 points (-0.08..+0.58, n = 3,589)``; a negative drop is called a rise.

    Args:
        what: the figure's name.
        drop: in points.
        low: lower end of its interval.
        high: upper end.
        counts: what it was measured on.
    """
    if round(drop, 2) < 0:
        return f"{what} rose by {-drop:.2f} points (drop {low:+.2f}..{high:+.2f}, {counts})"
    return f"{what} fell by {drop:.2f} points ({low:+.2f}..{high:+.2f}, {counts})"


def degrade(pixels: Pixels, how: str) -> Pixels:
    """Pictures made worse in one way.

    Args:
        pixels: (n, height, width, channels) uint8.
        how: a key of `SLICES`.
    """
    return np.stack([_DEGRADATIONS[how](picture).reshape(picture.shape) for picture in pixels])


def _compare_slices(model: QuantizedModel, reference: Predict, data: EvaluationSet) -> tuple[SliceVerdict, ...]:
    rows = np.random.default_rng(SLICE_SEED).permutation(len(data.labels))[:SLICE_COUNT]
    labels, found = data.labels[rows], []
    for name in SLICES:
        pixels = degrade(data.pixels[rows], name)
        large = reference(pixels).argmax(1) == labels
        small = model.scores(pixels).argmax(1) == labels
        drop, low, high = paired_difference(large, small).drop_points()
        found.append(
            SliceVerdict(
                name=name,
                n=len(rows),
                accuracy_float=float(large.mean()),
                accuracy_quantized=float(small.mean()),
                drop=drop,
                drop_low=low,
                drop_high=high,
            )
        )
    return tuple(found)


def _class_verdict(
    label: str, right_float: npt.NDArray[np.bool_], right_quantized: npt.NDArray[np.bool_], limits: Limits
) -> ClassVerdict:
    n = len(right_float)
    if not n:
        return ClassVerdict(
            label=label, n=0, recall_float=math.nan, recall_quantized=math.nan, drop=math.nan, drop_low=math.nan,
            drop_high=math.nan, gates=False, passed=True,
        )  # fmt: skip
    drop, low, high = paired_difference(right_float, right_quantized).drop_points()
    gates = n >= CLASS_GATE_COUNT
    return ClassVerdict(
        label=label,
        n=n,
        recall_float=float(right_float.mean()),
        recall_quantized=float(right_quantized.mean()),
        drop=drop,
        drop_low=low,
        drop_high=high,
        gates=gates,
        passed=not (gates and low > limits.max_class_drop),
    )


def _sharpen(scores: Floats, temperature: float) -> Floats:
    """Scores at temperature 1 from those at another: log scores are logits / T up to a constant a row."""
    logits = np.log(np.maximum(scores, np.float32(1e-30))) * np.float32(temperature)
    return softmax(logits)


def _round_up(count: int) -> int:
    step = int(10 ** max(1, len(str(count)) - 2))
    return -(-count // step) * step


def _scale_brightness(picture: Pixels, factor: float) -> Pixels:
    scaled: Pixels = np.clip(picture.astype(np.float32) * factor, 0, 255).astype(np.uint8)
    return scaled


def _shrink(picture: Pixels) -> Pixels:
    height, width = picture.shape[:2]
    return resize(resize(picture, (max(1, width // 2), max(1, height // 2))), (width, height))


def _compress(picture: Pixels) -> Pixels:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 30])
    flag = cv2.IMREAD_GRAYSCALE if picture.shape[2] == 1 else cv2.IMREAD_COLOR
    return cv2.imdecode(encoded, flag)  # type: ignore[return-value]


def _blur(picture: Pixels) -> Pixels:
    return cv2.GaussianBlur(picture, (0, 0), picture.shape[0] / 40)  # type: ignore[return-value]


_DEGRADATIONS: Final = {
    "darker": lambda picture: _scale_brightness(picture, 0.4),
    "brighter": lambda picture: _scale_brightness(picture, 1.6),
    "blurred": _blur,
    "smaller": _shrink,
    "jpeg": _compress,
}
SLICES: Final = tuple(_DEGRADATIONS)
"""``darker``: times 0.4; ``brighter``: times 1.6, cut at 255; ``blurred``: Gaussian, sigma 1/40 of the side;
``smaller``: half the side and back; ``jpeg``: quality 30."""
