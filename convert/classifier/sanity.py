"""Is the float model itself read as it was meant? A verdict that only compares int8 with a wrong float calls it passed.

Other scalings, colour orders and label orders are tried on a few labelled pictures: the best one on one half is tested
against the declared one on the other half, once. So a right setting is called suspect less often than `CHANCE`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np

from convert.classifier.load import FloatModel, InputArithmetic
from convert.datasets import Dataset
from convert.evaluation.classification import Ints, accuracy, confusion_matrix, paired_difference
from convert.evaluation.verdict import EvaluationSet
from convert.tflite.interpreter import Pixels
from edge.contract.labels import LABELS
from edge.errors import UsageError
from edge.track.assignment import assign

COUNT: Final = 256
"""Pictures that are looked at, half of them to choose, half to test."""
MOST_FOR_ORDER: Final = 2000
"""Pictures that a suggested order of labels is read from."""
LEAST_TEST: Final = 16
"""Pictures of the half that tests, below which nothing is said."""
CHANCE: Final = 0.001
"""Of another setting being better by chance alone, on the half that tests."""
LEAST_GAIN: Final = 0.05
"""A setting that is better by less than this share of the pictures is not spoken of."""
_IMAGENET: Final = InputArithmetic(
    scale=(1 / 58.395, 1 / 57.12, 1 / 57.375), mean=(123.675, 116.28, 103.53)
)  # of 0..255 in red, green, blue
_CAFFE: Final = InputArithmetic(scale=(1.0,), mean=(123.68, 116.779, 103.939))
_SCALINGS: Final = (
    InputArithmetic((1.0,)),
    InputArithmetic((1 / 255,)),
    InputArithmetic((1 / 127.5,), (127.5,)),
    InputArithmetic((1 / 128,), (128.0,)),
    InputArithmetic((-1 / 255,), (255.0,)),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """How a model's input and output may be meant.

    Attributes:
        arithmetic: of its input.
        swapped: colours in the other order than declared.
        order: position in the declared labels that each output means; None for the declared order.
    """

    arithmetic: InputArithmetic
    swapped: bool = False
    order: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a float model is not taken for what it was meant to be; ``better`` is the setting that scores more."""

    text: str
    better: Setting | None = None


def find_doubt(
    model: FloatModel,
    data: EvaluationSet,
    *,
    labels: Sequence[str],
    arithmetic: InputArithmetic | None,
    colour: str,
    expected: float | None = None,
) -> Doubt | None:
    """Return why the float model's accuracy is not to be believed; None where nothing speaks against it.

    Args:
        model: as it was loaded.
        data: labelled pictures.
        labels: declared, in the order of the outputs.
        arithmetic: declared; None where the model scales its input itself.
        colour: declared: ``grey``, ``rgb`` or ``bgr``.
        expected: accuracy that the owner knows, 0..1.
    """
    doubt = _better_setting(model, data, labels=labels, arithmetic=arithmetic, colour=colour)
    found = accuracy(data.labels, model.predict(data.pixels).argmax(1))
    share = f"{100 * found.value:.2f} % ({100 * found.low:.1f}..{100 * found.high:.1f}, n = {found.n:,})"
    if doubt is not None:
        return doubt
    counts = np.bincount(data.labels, minlength=len(labels))
    commonest = int(counts.argmax())
    if found.high < counts[commonest] / counts.sum():
        return Doubt(
            f"the float model is right on {share}; always saying {labels[commonest]} would be right on "
            f"{100 * counts[commonest] / counts.sum():.2f} %: are scale, colours and labels what it was trained with?"
        )
    if expected is not None and not found.low <= expected <= found.high:
        return Doubt(f"the float model is right on {share}; --expect-accuracy says {100 * expected:g} %")
    return None


def check_scaling(
    model: FloatModel, data: EvaluationSet, *, labels: Sequence[str], arithmetic: InputArithmetic | None, colour: str
) -> None:
    """Refuse a model of which it is not said, not seen and not found by trying that it takes pixels 0..255.

    Raises:
        UsageError: it is better with a scaling before it, or cannot be told.
    """
    if arithmetic is not None or model.scales_input:
        return
    doubt = _better_setting(model, data, labels=labels, arithmetic=None, colour=colour)
    if doubt is not None:
        raise UsageError(f"{model.path}: nothing in the model scales its input, and {doubt.text}")
    if len(data.labels) < 2 * LEAST_TEST:
        raise UsageError(
            f"{model.path}: nothing in the model scales its input, and {len(data.labels)} pictures are too few to find"
            " out; say what it expects: --scale 1 for pixels 0..255, --scale 1/255 for 0..1, --scale 1/127.5 --mean"
            " 127.5 for -1..1"
        )


def check_labels(labels: Sequence[str], data: Dataset) -> None:
    """Refuse a label that no picture has and that is none of ours: a typo, or another language.

    Raises:
        UsageError: with the label that may be meant.
    """
    present = {LABELS[k] for k in np.unique(data.labels)}
    for label in labels:
        if label in LABELS or label == "contempt" or label in present:
            continue
        near = difflib.get_close_matches(label, LABELS, n=1, cutoff=0.6)
        meant = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(LABELS)} and contempt"
        raise UsageError(f"--labels: {label}: no picture of {data.name} has this label{meant}")


def left_out(labels: Sequence[str], data: Dataset) -> str:
    """Return each label of the pictures that the model does not have, with its number of pictures; empty for none."""
    counts = data.label_counts()
    missing = [f"{label} {int(count):,}" for label, count in zip(LABELS, counts, strict=True) if count]
    return ", ".join(entry for entry in missing if entry.rpartition(" ")[0] not in labels)


def _better_setting(
    model: FloatModel, data: EvaluationSet, *, labels: Sequence[str], arithmetic: InputArithmetic | None, colour: str
) -> Doubt | None:
    rows = np.random.default_rng(0).permutation(len(data.labels))[:COUNT]
    choose, test = rows[::2], rows[1::2]
    if len(test) < LEAST_TEST:
        return None
    declared = Setting(arithmetic or InputArithmetic((1.0,)))
    tried = [declared, *_alternatives(declared, channels=model.input_shape[2], colour=colour)]
    pixels, truth = data.pixels[choose], data.labels[choose]
    leaders = sorted(tried, key=lambda setting: -float(_right(model, setting, pixels, truth).mean()))[:2]
    candidates = [declared, *leaders] + [
        replace(setting, order=_best_order(model, setting, pixels, truth, len(labels)))
        for setting in dict.fromkeys([*leaders, declared])
    ]
    best = max(candidates, key=lambda setting: _right(model, setting, pixels, truth).mean())
    if best == declared:
        return None
    before, after = (_right(model, setting, data.pixels[test], data.labels[test]) for setting in (declared, best))
    difference = paired_difference(before, after)
    if difference.value < LEAST_GAIN or difference.p_value > CHANCE:
        return None
    if best.order is not None:  # said by all pictures but those that test: some labels are rare
        others = np.setdiff1d(np.arange(len(data.labels)), test)[:MOST_FOR_ORDER]
        best = replace(best, order=_best_order(model, best, data.pixels[others], data.labels[others], len(labels)))
    return Doubt(
        f"{describe_setting(best, declared, labels=labels, colour=colour)} the same model is right on "
        f"{100 * after.mean():.1f} % of {len(test)} pictures, as declared on {100 * before.mean():.1f} %: "
        "did you mean that?",
        best,
    )


def describe_setting(setting: Setting, declared: Setting, *, labels: Sequence[str], colour: str) -> str:
    """Return a setting as it is said on the command line: ``with --scale 1/255``."""
    said = []
    if setting.arithmetic != declared.arithmetic:
        said.append(f"--scale {_numbers(setting.arithmetic.scale)}")
        if any(setting.arithmetic.mean):
            said.append(f"--mean {_numbers(setting.arithmetic.mean)}")
    if setting.swapped:
        said.append(f"--color {'bgr' if colour == 'rgb' else 'rgb'}")
    if setting.order is not None:
        said.append(f"--labels {','.join(labels[k] for k in setting.order)}")
    return f"with {' '.join(said)}"


def _alternatives(declared: Setting, *, channels: int, colour: str) -> Iterator[Setting]:
    """Yield the usual scalings and colour orders, without the declared setting."""
    for swapped in (False, True) if channels == 3 else (False,):
        is_bgr = (colour == "bgr") is not swapped
        scalings = list(_SCALINGS)
        if channels == 3:
            scalings += [_reversed(one) if is_bgr else one for one in (_IMAGENET, _CAFFE)]
        for arithmetic in (declared.arithmetic, *scalings):
            setting = Setting(arithmetic, swapped)
            if setting != declared:
                yield setting


def _right(model: FloatModel, setting: Setting, pixels: Pixels, labels: Ints) -> np.ndarray:
    """Return for each picture whether a setting names its label, (n,) bool."""
    outputs = _predict(model, setting, pixels)
    named = outputs if setting.order is None else np.array(setting.order)[outputs]
    right: np.ndarray = named == labels
    return right


def _predict(model: FloatModel, setting: Setting, pixels: Pixels) -> Ints:
    given = pixels[..., ::-1] if setting.swapped else pixels
    predicted: Ints = model.try_input(np.ascontiguousarray(given), setting.arithmetic).argmax(1)
    return predicted


def _best_order(
    model: FloatModel, setting: Setting, pixels: Pixels, labels: Ints, classes: int
) -> tuple[int, ...] | None:
    """Return which declared label each output means by the pictures; None where that is the declared order."""
    confusion = confusion_matrix(labels, _predict(model, setting, pixels), classes=classes)
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)  # a rare label counts as much
    edges = [(k, j, float(shares[j, k]) + 1e-3) for k in range(classes) for j in range(classes)]
    order = tuple(j for _, j in assign(edges))
    return None if order == tuple(range(classes)) or len(order) != classes else order


def _reversed(arithmetic: InputArithmetic) -> InputArithmetic:
    return InputArithmetic(arithmetic.scale[::-1], arithmetic.mean[::-1])


def _numbers(values: Sequence[float]) -> str:
    return ",".join(map(_number, values))


def _number(value: float) -> str:
    """Return a number as people write it: ``1/255``."""
    if value and abs(value) < 1:
        inverse = Fraction(1 / abs(value)).limit_denominator(1000)
        return f"{'-' if value < 0 else ''}1/{float(inverse):g}"
    return f"{value:g}"
