"""From a float classifier to a judged bundle in memory: golden samples, temperature, thresholds, comparison."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from convert.bundle_writer import describe_golden, describe_model
from convert.classifier.calibrate import CalibrationSet
from convert.classifier.load import FloatModel, describe_origin
from convert.classifier.options import QuantizeOptions
from convert.classifier.quantize import Quantized
from convert.console import Note
from convert.evaluation.classification import Ints, fit_temperature
from convert.evaluation.prior import fit_offsets
from convert.evaluation.verdict import EvaluationSet, QuantizedModel, Run, compare
from convert.golden import make_golden_inputs
from convert.tflite.graph import Graph
from convert.tflite.interpreter import run_outputs
from edge.contract.bundle import Bundle
from edge.contract.golden import Golden
from edge.contract.manifest import (
    SCHEMA_2,
    Crop,
    EmotionManifest,
    InputSpec,
    LogitOffsets,
    Metric,
    OutputSpec,
    Quantization,
    Thresholds,
)
from edge.contract.scores import softmax
from edge.errors import ConversionError
from edge.records import Floats

MAX_STEPS_XNNPACK: Final = 1
MAX_STEPS_OTHER: Final = 4
"""Between kernels that round differently; see DESIGN: the same top class is demanded wherever the margin exceeds it."""
MARGIN_BIN: Final = 40


@dataclass(frozen=True, slots=True)
class Conversion:
    """One classifier on its way to a bundle: everything that its quantized candidates have in common.

    Attributes:
        model: the float model.
        options: how it is converted.
        calibration: pictures for the ranges, as many of each class.
        labelled: all of the calibration data, as often as they occur, for temperature, thresholds and operating points.
        evaluation: pictures for the verdict.
        note: called with a line at each step.
    """

    model: FloatModel
    options: QuantizeOptions
    calibration: CalibrationSet
    labelled: EvaluationSet
    evaluation: EvaluationSet
    note: Note

    def judge(self, quantized: Quantized) -> tuple[Bundle[EmotionManifest], Run]:
        """Make a bundle of a quantized model and compare it; the manifest's status is the verdict.

        Raises:
            InferenceError: the interpreter refuses the model.
            MienError: anything else that does not fit.
        """
        bundle = self.build(quantized)
        self.note(f"comparing on {len(self.evaluation.labels):,} pictures of {self.evaluation.name}")
        run = compare(bundle, self.model.predict, self.evaluation, limits=self.options.limits)
        return _with_verdict(bundle, run), run

    def build(self, quantized: Quantized) -> Bundle[EmotionManifest]:
        """Make a bundle that is not compared yet; temperature, thresholds and offsets are fitted on `labelled`."""
        inputs, origins = make_golden_inputs(self.model.input_shape, colour=self.options.colour)
        golden = Golden(inputs, (run_outputs(quantized.model, inputs),), origins)
        manifest = self._draft_manifest(quantized, golden)
        bundle = Bundle(Path(self.options.name), manifest, quantized.model, None, golden)
        with QuantizedModel(bundle) as loaded:
            scores = loaded.scores(self.labelled.pixels)
        if not np.isfinite(scores).all():
            raise ConversionError(f"{self.options.name}: the quantized model puts out NaN")
        labels, logits = self.labelled.labels, np.log(np.maximum(scores, np.float32(1e-30)))
        temperature = round(fit_temperature(logits, labels), 4)
        thresholds = Thresholds(margin=fit_margin(softmax(logits, temperature=temperature), labels))
        fitted = {"temperature": temperature, "thresholds": thresholds, "logit_offsets": fit_offsets(logits, labels)}
        return replace(bundle, manifest=_replace(bundle.manifest, **fitted))

    def _draft_manifest(self, quantized: Quantized, golden: Golden) -> EmotionManifest:
        """Return the manifest before anything is fitted or measured."""
        graph, options, model = Graph(quantized.model), self.options, self.model
        (source,), (output,) = graph.inputs, graph.outputs
        scales, zero_points = graph.quantization(output)
        recipe = ", ".join(filter(None, (quantized.recipe, model.preparation)))
        return EmotionManifest(
            schema=SCHEMA_2,
            name=options.name,
            version=options.version,
            status="unverified",
            model=describe_model(quantized.model),
            edgetpu_model=None,
            input=InputSpec(shape=graph.shape(source), dtype=graph.dtype(source), colour=options.colour),  # type: ignore[arg-type]
            outputs=(
                OutputSpec(
                    name="logits",
                    shape=graph.shape(output),
                    dtype=graph.dtype(output),  # type: ignore[arg-type]
                    scale=scales[0] if scales else 1.0,
                    zero_point=zero_points[0] if zero_points else 0,
                ),
            ),
            quantization=Quantization(scheme=options.scheme, recipe=recipe, calibration=self.calibration.record),
            trained_from=options.trained_from or describe_origin(model.path),
            metrics=(),
            golden=describe_golden(golden, max_steps_xnnpack=MAX_STEPS_XNNPACK, max_steps_other=MAX_STEPS_OTHER),
            licence=options.licence,
            notices=options.notices,
            labels=options.labels,
            crop=Crop(geometry="square", version=1, size_px=model.input_shape[0], margin=options.margin),
            temperature=1.0,
            thresholds=Thresholds(margin=0.0),
            copies_sha256=options.copies_sha256,
            logit_offsets=LogitOffsets(natural=(0.0,) * model.classes, balanced=(0.0,) * model.classes),
        )


def fit_margin(scores: Floats, labels: Ints) -> float:
    """Return the margin between the two best scores below which the best one is more often wrong than right.

    Pictures are sorted by margin and taken `MARGIN_BIN` at a time; the threshold is where the last of the leading bins
    with less than half right ends.

    Args:
        scores: (n, classes) calibrated probabilities.
        labels: (n,) true classes.

    Returns:
        0..1, rounded to 3 digits; 0 when even the narrowest decisions are right more often than not.
    """
    best = np.sort(scores, axis=1)
    margins = best[:, -1] - best[:, -2]
    order = np.argsort(margins, kind="stable")
    right = scores.argmax(1)[order] == labels[order]
    threshold = 0.0
    for start in range(0, len(order) - MARGIN_BIN + 1, MARGIN_BIN):
        if right[start : start + MARGIN_BIN].mean() >= 0.5:
            break
        threshold = float(margins[order[start + MARGIN_BIN - 1]])
    return round(threshold, 3)


def _with_verdict(bundle: Bundle[EmotionManifest], run: Run) -> Bundle[EmotionManifest]:
    found = run.comparison
    figures = (
        ("accuracy", found.accuracy_float.value, found.accuracy_quantized.value),
        ("macro_f1", found.macro_f1_float, found.macro_f1_quantized),
        ("expected_calibration_error", found.calibration_float.error, found.calibration_after.error),
    )
    metrics = tuple(
        Metric(name=name, dataset=found.dataset, n=found.n, float32=round(large, 6), quantized=round(small, 6))
        for name, large, small in figures
    )
    return replace(bundle, manifest=_replace(bundle.manifest, status=found.status, metrics=metrics))


def _replace(manifest: EmotionManifest, **changes: object) -> EmotionManifest:
    return msgspec.structs.replace(manifest, **changes)
