"""Measures a model on labelled pictures: how often it is right, where it is wrong, and how far it can be believed."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from convert.datasets import Dataset
from convert.evaluation import classification
from convert.evaluation.classification import Bools, Calibration, Coverage, Ints
from edge.contract.scores import softmax
from edge.errors import DataError
from edge.records import Floats
from training.data.copies import read_copies
from training.data.crop_jitter import DRAWS, FIXED, draw_moves, move_crops
from training.evaluate.models import EvaluatedModel, Pixels
from training.evaluate.protocols import flip_views, mean_scores, ten_views

SCHEMA: Final = "mien.evaluation/1"
COVERAGES: Final = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)


class Share(Struct, frozen=True, kw_only=True):
    """A share with its two-sided 95 % interval; ``value`` is null when nothing was counted."""

    value: float | None
    low: float
    high: float
    n: int


class ClassFigures(Struct, frozen=True, kw_only=True):
    """One class; a figure without pictures is null."""

    label: str
    n: int
    recall: Share
    precision: Share
    f1: float | None


class CalibrationFigures(Struct, frozen=True, kw_only=True):
    """Attributes:
    temperature: used for ``after``, for coverage and for the scores shown.
    source: where it comes from.
    n: pictures it was fitted on, 0 where it was not fitted here.
    error_before: expected calibration error at temperature 1, 15 bins of equal mass.
    error_after: at ``temperature``.
    nll_before: mean negative log-likelihood at temperature 1.
    nll_after: at ``temperature``.
    """

    temperature: float
    source: str
    n: int
    error_before: float
    error_after: float
    nll_before: float
    nll_after: float


class CoveragePoint(Struct, frozen=True, kw_only=True):
    """Accuracy among the most confident ``coverage`` of the pictures: those with at least ``threshold``."""

    coverage: float
    accuracy: float
    threshold: float


class ScatterFigures(Struct, frozen=True, kw_only=True):
    """Attributes:
    accuracy: mean over draws of the device's scatter.
    drop: points below the exact crop, mean over the draws.
    drop_low: lower end of the paired 95 % interval.
    drop_high: upper end.
    draws: of the scatter, a picture.
    moves: accuracy under single moves by half an interquartile range.
    """

    accuracy: float
    drop: float
    drop_low: float
    drop_high: float
    draws: int
    moves: dict[str, float]


class ComparisonFigures(Struct, frozen=True, kw_only=True):
    """This model against another one on the same pictures; ``difference`` is this one's accuracy minus the other's."""

    other: str
    accuracy_other: Share
    difference: float
    low: float
    high: float
    only_this: int
    only_other: int
    mcnemar_p: float


class CleanFigures(Struct, frozen=True, kw_only=True):
    """Accuracy without the test pictures that are training pictures too.

    Attributes:
        accuracy: of the rest.
        copies: pictures left out.
        copies_sha256: of their list.
        of_bundle: whether the bundle names this list; null where it names none.
    """

    accuracy: Share
    copies: int
    copies_sha256: str
    of_bundle: bool | None


class ProtocolFigures(Struct, frozen=True, kw_only=True):
    """Accuracy by other protocols, on the same pictures.

    Attributes:
        flip: mean over the picture and its mirror image.
        ten: mean over the corners and the centre, and their mirror images.
        eight_classes: FER+'s own: pictures with a majority for contempt count as wrong; null without such pictures.
    """

    flip: Share
    ten: Share
    eight_classes: Share | None


class Report(Struct, frozen=True, kw_only=True):
    """What ``mien-train evaluate --json`` writes.

    Attributes:
        schema: of this file.
        model: name of the model.
        kind: ``bundle`` (measured through `edge.infer`) or ``run`` (through Keras).
        data: the data set's name.
        data_sha256: of the files read and of what was asked for.
        n: pictures.
        left_out: pictures of classes that the model does not have.
        labels: the model's classes, in the order of ``confusion``.
        flip: whether scores are the mean over the picture and its mirror image.
        prior: the operating point.
        accuracy: with Wilson's interval.
        clean: null where no list of copies was given.
        protocols: null where they were not asked for.
        accuracy_by_subject: with an interval that draws whole people (bootstrap); null where people are unknown.
        balanced_accuracy: mean recall over the classes with pictures.
        macro_f1: mean F1 over the classes with pictures.
        classes: per class.
        confusion: counts; row = label, column = prediction.
        calibration: how far confidence is from accuracy.
        coverage: accuracy when the least confident are abstained from.
        scatter: null where it was not asked for.
        comparison: null where it was not asked for.
    """

    schema: str = SCHEMA
    model: str
    kind: str
    data: str
    data_sha256: str
    n: int
    left_out: int
    labels: tuple[str, ...]
    flip: bool
    prior: str
    accuracy: Share
    clean: CleanFigures | None
    protocols: ProtocolFigures | None
    accuracy_by_subject: Share | None
    balanced_accuracy: float
    macro_f1: float
    classes: list[ClassFigures]
    confusion: list[list[int]]
    calibration: CalibrationFigures
    coverage: list[CoveragePoint]
    scatter: ScatterFigures | None
    comparison: ComparisonFigures | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A report with the arrays behind it, for charts and the contact sheet.

    Attributes:
        report: the figures.
        dataset: the pictures, those of classes that the model has.
        labels: (n,) positions in the model's classes.
        scores: (n, classes) float32 calibrated probabilities.
        before: calibration at temperature 1.
        after: calibration at the temperature used.
        coverage: accuracy against coverage.
    """

    report: Report
    dataset: Dataset
    labels: Ints
    scores: Floats
    before: Calibration
    after: Calibration
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class Temperature:
    """A temperature, where it comes from, and on how many pictures it was fitted."""

    value: float
    source: str
    n: int


def evaluate(
    model: EvaluatedModel,
    dataset: Dataset,
    *,
    temperature: Temperature | None = None,
    flip: bool = False,
    scatter: bool = False,
    other: EvaluatedModel | None = None,
    copies: Path | None = None,
    contempt: int | None = None,
) -> Evaluation:
    """Measures a model.

    Args:
        model: what is measured.
        dataset: labelled crops; classes that the model lacks are left out and counted.
        temperature: as from `fit_on`; None for the one that the model ships with.
        flip: scores are averaged over the picture and its mirror image (test-time augmentation).
        scatter: measure again under the scatter of the device's crops.
        other: a second model to compare with on the same pictures.
        copies: list of test pictures that are training pictures too (`training.data.copies`).
        contempt: measure by other protocols, too; so many more pictures are of FER+'s eighth class.

    Raises:
        DataError: no picture of any of the model's classes.
    """
    chosen, labels = _of_known_classes(model, dataset)
    temperature = temperature or Temperature(
        model.temperature, "the bundle's own" if model.kind == "bundle" else "none", 0
    )
    logits = _logits(model, chosen, flip=flip)
    scores = softmax(logits, temperature=temperature.value)
    correct = scores.argmax(axis=1) == labels
    before, after = _calibration(softmax(logits), labels), _calibration(scores, labels)
    coverage = classification.coverage_curve(scores.max(axis=1), correct)
    confusion = classification.confusion_matrix(labels, scores.argmax(axis=1), classes=len(model.labels))
    report = Report(
        model=model.name,
        kind=model.kind,
        data=dataset.name,
        data_sha256=dataset.sha256,
        n=len(chosen),
        left_out=len(dataset) - len(chosen),
        labels=model.labels,
        flip=flip,
        prior=model.prior,
        clean=_clean(model, chosen, correct, copies) if copies else None,
        protocols=None if contempt is None else _protocols(model, chosen, labels, correct, contempt),
        accuracy=_share(classification.wilson_rate(int(correct.sum()), len(correct))),
        accuracy_by_subject=_by_subject(chosen, correct),
        balanced_accuracy=classification.balanced_accuracy(confusion),
        macro_f1=classification.macro_f1(confusion),
        classes=_class_figures(confusion, model.labels),
        confusion=confusion.tolist(),
        calibration=CalibrationFigures(
            temperature=temperature.value,
            source=temperature.source,
            n=temperature.n,
            error_before=before.error,
            error_after=after.error,
            nll_before=classification.negative_log_likelihood(softmax(logits), labels),
            nll_after=classification.negative_log_likelihood(scores, labels),
        ),
        coverage=_coverage_points(coverage),
        scatter=_scatter(model, chosen, labels, correct, flip=flip) if scatter else None,
        comparison=_compare(other, dataset, labels, correct, flip=flip) if other else None,
    )
    return Evaluation(report, chosen, labels, scores, before, after, coverage)


def fit_on(model: EvaluatedModel, dataset: Dataset, *, flip: bool = False) -> Temperature:
    """The temperature that fits a model's scores to labelled pictures that it was not trained on."""
    chosen, labels = _of_known_classes(model, dataset)
    value = classification.fit_temperature(_logits(model, chosen, flip=flip), labels)
    return Temperature(value, f"fitted on {dataset.name}", len(chosen))


def encode_report(report: Report) -> bytes:
    """The report as indented JSON; NaN becomes null."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


def encode_predictions(found: Evaluation) -> bytes:
    """Return a row a picture as CSV: where it comes from, its label, what is predicted, and every score."""
    names, data = found.report.labels, found.dataset
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["source", "id", "split", "subject", "label", "predicted", "confidence", *names])
    for row, scores in enumerate(found.scores):
        best = int(scores.argmax())
        where = (data.sources[row], data.ids[row], data.splits[row], data.subjects[row])
        said = (names[found.labels[row]], names[best], f"{scores[best]:.6f}")
        rows.writerow([*where, *said, *(f"{score:.6f}" for score in scores)])
    return text.getvalue().encode()


def _of_known_classes(model: EvaluatedModel, dataset: Dataset) -> tuple[Dataset, Ints]:
    positions = dataset.class_indices(model.labels)
    known = positions >= 0
    if not known.any():
        raise DataError(dataset.name, f"no picture of any class of {model.name}: {', '.join(model.labels)}")
    return dataset.select(known), positions[known]


def _clean(model: EvaluatedModel, dataset: Dataset, correct: Bools, file: Path) -> CleanFigures:
    copied, digest = read_copies(file, dataset)
    kept = correct[~copied]
    return CleanFigures(
        accuracy=_share(classification.wilson_rate(int(kept.sum()), len(kept))),
        copies=int(copied.sum()),
        copies_sha256=digest,
        of_bundle=None if model.copies_sha256 is None else model.copies_sha256 == digest,
    )


def _protocols(model: EvaluatedModel, dataset: Dataset, labels: Ints, correct: Bools, contempt: int) -> ProtocolFigures:
    pixels = dataset.model_inputs(size_px=model.size_px, colour=model.colour)

    def share(views: Iterator[Pixels]) -> Share:
        right = int((mean_scores(model.logits, views).argmax(axis=1) == labels).sum())
        return _share(classification.wilson_rate(right, len(labels)))

    eight = classification.wilson_rate(int(correct.sum()), len(correct) + contempt)
    return ProtocolFigures(
        flip=share(flip_views(pixels)),
        ten=share(ten_views(pixels)),
        eight_classes=_share(eight) if contempt else None,
    )


def _logits(model: EvaluatedModel, dataset: Dataset, *, flip: bool) -> Floats:
    pixels = dataset.model_inputs(size_px=model.size_px, colour=model.colour)
    logits = model.logits(pixels)
    if not flip:
        return logits
    both = (softmax(logits) + softmax(model.logits(np.ascontiguousarray(pixels[:, :, ::-1])))) / 2
    averaged: Floats = np.log(np.maximum(both, np.finfo(np.float32).tiny))
    return averaged


def _calibration(scores: Floats, labels: Ints) -> Calibration:
    return classification.calibration(scores.max(axis=1), scores.argmax(axis=1) == labels)


def _by_subject(dataset: Dataset, correct: Bools) -> Share | None:
    if not bool((dataset.subjects != "").all()):
        return None
    return _share(classification.grouped_rate(correct, dataset.subjects))


def _class_figures(confusion: Ints, labels: Sequence[str]) -> list[ClassFigures]:
    f1 = classification.f1_scores(confusion)
    return [
        ClassFigures(
            label=label,
            n=int(confusion[k].sum()),
            recall=_share(classification.wilson_rate(int(confusion[k, k]), int(confusion[k].sum()))),
            precision=_share(classification.wilson_rate(int(confusion[k, k]), int(confusion[:, k].sum()))),
            f1=_plain(float(f1[k])),
        )
        for k, label in enumerate(labels)
    ]


def _coverage_points(curve: Coverage) -> list[CoveragePoint]:
    count = len(curve.accuracies)
    rows = [max(0, math.ceil(coverage * count) - 1) for coverage in COVERAGES]
    return [
        CoveragePoint(coverage=coverage, accuracy=float(curve.accuracies[row]), threshold=float(curve.thresholds[row]))
        for coverage, row in zip(COVERAGES, rows, strict=True)
    ]


def _scatter(model: EvaluatedModel, dataset: Dataset, labels: Ints, exact: Bools, *, flip: bool) -> ScatterFigures:
    def right(moves: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Bools:
        found: Bools = _logits(model, move_crops(dataset, moves), flip=flip).argmax(axis=1) == labels
        return found

    draws = np.stack([right(draw_moves(len(dataset), seed=seed)) for seed in range(DRAWS)])
    lost = exact.astype(np.float64) - draws.mean(axis=0)
    half = classification.Z_95 * float(lost.std(ddof=1)) / math.sqrt(len(lost)) if len(lost) > 1 else math.inf
    drop = float(lost.mean())
    return ScatterFigures(
        accuracy=float(draws.mean()),
        drop=100 * drop,
        drop_low=100 * (drop - half),
        drop_high=100 * (drop + half),
        draws=DRAWS,
        moves={name: float(right(np.tile(move, (len(dataset), 1))).mean()) for name, move in FIXED.items()},
    )


def _compare(other: EvaluatedModel, dataset: Dataset, labels: Ints, correct: Bools, *, flip: bool) -> ComparisonFigures:
    chosen, labels_other = _of_known_classes(other, dataset)
    if len(labels_other) != len(labels):
        raise DataError(
            dataset.name,
            f"{other.name} knows the classes of {len(labels_other)} pictures, the other model of {len(labels)}; "
            "leave the classes out that one of them lacks (omit=…)",
        )
    correct_other = _logits(other, chosen, flip=flip).argmax(axis=1) == labels_other
    paired = classification.paired_difference(correct_other, correct)
    return ComparisonFigures(
        other=other.name,
        accuracy_other=_share(classification.wilson_rate(int(correct_other.sum()), len(correct_other))),
        difference=paired.value,
        low=paired.low,
        high=paired.high,
        only_this=paired.only_second,
        only_other=paired.only_first,
        mcnemar_p=paired.p_value,
    )


def _share(rate: classification.Rate) -> Share:
    return Share(value=_plain(rate.value), low=rate.low, high=rate.high, n=rate.n)


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
