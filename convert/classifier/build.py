"""From a float classifier to a judged bundle: calibrate, quantize, fit the temperature, compare, write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from convert.bundle_writer import describe_golden, describe_model, write_bundle
from convert.classifier.calibrate import CalibrationSet, draw_calibration_set
from convert.classifier.load import FloatModel
from convert.classifier.quantize import Io, Quantized, Scheme, quantize
from convert.datasets import Dataset
from convert.datasets.dataset import Colour
from convert.evaluation.classification import Ints, fit_temperature
from convert.evaluation.verdict import (
    Comparison,
    EvaluationSet,
    Limits,
    QuantizedModel,
    Run,
    compare,
    make_evaluation_set,
)
from convert.golden import make_golden_inputs
from convert.tflite.graph import Graph
from edge.contract.bundle import Bundle
from edge.contract.golden import Golden
from edge.contract.manifest import (
    Crop,
    EmotionManifest,
    GoldenSpec,
    InputSpec,
    Metric,
    OutputSpec,
    Quantization,
    Thresholds,
    TrainedFrom,
)
from edge.contract.scores import softmax
from edge.errors import ConversionError, ModelFileError
from edge.infer.litert import LitertInterpreter
from edge.records import Floats

MAX_STEPS_XNNPACK: Final = 1
MAX_STEPS_OTHER: Final = 4
"""Between kernels that round differently; see DESIGN: the same top class is demanded wherever the margin exceeds it."""
MARGIN_BIN: Final = 40
Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What the user says of a model; the manifest holds all of it.

    Attributes:
        name: of the bundle.
        version: ``1.0.0``.
        labels: of the outputs in their order, by our names where they are ours.
        colour: of the input.
        margin: side of the device's crop as a multiple of the face box's height.
        licence: of the weights.
        notices: lines that must go with the weights.
        trained_from: where the weights come from.
        scheme: see `convert.classifier.quantize.SCHEMES`.
        io: see `convert.classifier.quantize.SCHEMES`.
        calibration_count: pictures for the ranges.
        seed: of the draw.
        limits: what may be lost.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    colour: Colour
    margin: float
    licence: str
    notices: tuple[str, ...]
    trained_from: TrainedFrom
    scheme: Scheme = "int8"
    io: Io = "int8"
    calibration_count: int = 512
    seed: int = 0
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A quantized model as a bundle in memory, and how it compares.

    Attributes:
        bundle: complete; its manifest's status is the verdict.
        comparison: with the float model.
        delegated_nodes: nodes of the plan that XNNPACK took.
        total_nodes: nodes of the plan; 1 when it took the whole graph.
    """

    bundle: Bundle[EmotionManifest]
    comparison: Comparison
    delegated_nodes: int
    total_nodes: int

    def with_manifest(self, manifest: EmotionManifest) -> Candidate:
        """The same with another manifest."""
        return replace(self, bundle=replace(self.bundle, manifest=manifest))


def draw(model: FloatModel, request: Request, dataset: Dataset) -> CalibrationSet:
    """The calibration pictures of a request."""
    return draw_calibration_set(
        dataset,
        labels=request.labels,
        size_px=model.input_shape[0],
        colour=request.colour,
        count=request.calibration_count,
        seed=request.seed,
    )


def check_request(model: FloatModel, request: Request) -> None:
    """Whether what is said of a model fits it.

    Raises:
        ModelFileError: another number of labels or channels.
    """
    if len(request.labels) != model.classes:
        raise ModelFileError(
            model.path,
            f"--labels: {len(request.labels)} labels ({', '.join(request.labels)}), but {model.classes} outputs",
        )
    if (request.colour == "grey") != (model.input_shape[2] == 1):
        raise ModelFileError(
            model.path, f"--color: {request.colour}, but the input has {model.input_shape[2]} channels"
        )


def judge_model(
    model: FloatModel, request: Request, *, calibration: CalibrationSet, evaluation: Dataset, note: Note
) -> tuple[Candidate, Run]:
    """Quantizes a model and compares it.

    Args:
        model: the float model.
        request: what is said of it.
        calibration: see `draw`.
        evaluation: labelled faces.
        note: told what goes on.

    Raises:
        MienError: anything that does not fit.
    """
    check_request(model, request)
    note(f"quantizing to {request.scheme} with {len(calibration.pixels)} pictures")
    quantized = quantize(model.tflite, scheme=request.scheme, io=request.io, pixels=calibration.pixels)
    return judge_quantized(model, request, quantized, calibration=calibration, evaluation=evaluation, note=note)


def judge_quantized(
    model: FloatModel,
    request: Request,
    quantized: Quantized,
    *,
    calibration: CalibrationSet,
    evaluation: Dataset,
    note: Note,
) -> tuple[Candidate, Run]:
    """`judge_model` for a model that is quantized already."""
    bundle = make_bundle(model, request, quantized, calibration=calibration)
    data = make_evaluation_set(evaluation, manifest=bundle.manifest)
    note(f"comparing on {len(data.labels):,} pictures of {data.name}")
    run = compare(bundle, model.predict, data, limits=request.limits)
    with QuantizedModel(bundle) as loaded:
        nodes = loaded.delegated_nodes, loaded.total_nodes
    judged = _with_verdict(bundle, run.comparison, data)
    return Candidate(judged, run.comparison, *nodes), run


def make_bundle(
    model: FloatModel, request: Request, quantized: Quantized, *, calibration: CalibrationSet
) -> Bundle[EmotionManifest]:
    """A bundle in memory whose temperature and thresholds are fitted on the calibration pictures; not compared yet."""
    manifest = _draft_manifest(model, request, quantized, calibration)
    inputs, origins = make_golden_inputs(manifest.input)
    interpreter = LitertInterpreter(quantized.model, manifest=manifest)
    outputs = np.concatenate([interpreter.run(picture)[0] for picture in inputs])
    interpreter.close()
    golden = Golden(inputs, (outputs,), origins)
    spec = describe_golden(golden, max_steps_xnnpack=MAX_STEPS_XNNPACK, max_steps_other=MAX_STEPS_OTHER)
    bundle = Bundle(Path(request.name), _replace(manifest, golden=spec), quantized.model, None, golden)
    with QuantizedModel(bundle) as loaded:
        scores = loaded.scores(calibration.pixels)
    if not np.isfinite(scores).all():
        raise ConversionError(f"{request.name}: the quantized model puts out NaN")
    logits = np.log(np.maximum(scores, np.float32(1e-30)))
    temperature = round(fit_temperature(logits, calibration.labels), 4)
    margin = fit_margin(softmax(logits, temperature=temperature), calibration.labels)
    fitted = _replace(bundle.manifest, temperature=temperature, thresholds=Thresholds(margin=margin))
    return replace(bundle, manifest=fitted)


def fit_margin(scores: Floats, labels: Ints) -> float:
    """The margin between the two best scores below which the best one is more often wrong than right.

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


def write_candidate(
    candidate: Candidate, folder: Path, *, documents: dict[str, bytes], edgetpu_model: bytes | None, force: bool
) -> bool:
    """Writes a judged bundle; one that failed only by force.

    Args:
        candidate: what was judged.
        folder: the bundle's place.
        documents: see `convert.bundle_writer.write_bundle`.
        edgetpu_model: compiled form, or None.
        force: replace an existing bundle, and write a failed one, marked as such.

    Returns:
        Whether it was written.
    """
    if candidate.comparison.status == "failed" and not force:
        return False
    bundle = candidate.bundle
    write_bundle(
        folder, manifest=bundle.manifest, model=bundle.model, golden=bundle.golden, edgetpu_model=edgetpu_model,
        documents=documents, force=force,
    )  # fmt: skip
    return True


def _draft_manifest(
    model: FloatModel, request: Request, quantized: Quantized, calibration: CalibrationSet
) -> EmotionManifest:
    graph = Graph(quantized.model)
    (source,), (output,) = graph.inputs, graph.outputs
    scales, zero_points = graph.quantization(output)
    size = model.input_shape[0]
    recipe = ", ".join(filter(None, (quantized.recipe, model.preparation)))
    return EmotionManifest(
        schema="mien.manifest/1",
        name=request.name,
        version=request.version,
        status="unverified",
        model=describe_model(quantized.model),
        edgetpu_model=None,
        input=InputSpec(shape=graph.shape(source), dtype=graph.dtype(source), colour=request.colour),  # type: ignore[arg-type]
        outputs=(
            OutputSpec(
                name="logits",
                shape=graph.shape(output),
                dtype=graph.dtype(output),  # type: ignore[arg-type]
                scale=scales[0] if scales else 1.0,
                zero_point=zero_points[0] if zero_points else 0,
            ),
        ),
        quantization=Quantization(scheme=request.scheme, recipe=recipe, calibration=calibration.record),
        trained_from=request.trained_from,
        metrics=(),
        golden=GoldenSpec(file="golden.npz", sha256="0" * 64, count=1, max_steps_xnnpack=0, max_steps_other=0),
        licence=request.licence,
        notices=request.notices,
        labels=request.labels,
        crop=Crop(geometry="square", version=1, size_px=size, margin=request.margin),
        temperature=1.0,
        thresholds=Thresholds(margin=0.0),
    )


def _with_verdict(
    bundle: Bundle[EmotionManifest], comparison: Comparison, data: EvaluationSet
) -> Bundle[EmotionManifest]:
    figures = (
        ("accuracy", comparison.accuracy_float.value, comparison.accuracy_quantized.value),
        ("macro_f1", comparison.macro_f1_float, comparison.macro_f1_quantized),
        ("expected_calibration_error", comparison.calibration_float.error, comparison.calibration_after.error),
    )
    metrics = tuple(
        Metric(name=name, dataset=data.name, n=comparison.n, float32=round(large, 6), quantized=round(small, 6))
        for name, large, small in figures
    )
    return replace(bundle, manifest=_replace(bundle.manifest, status=comparison.status, metrics=metrics))


def _replace(manifest: EmotionManifest, **changes: object) -> EmotionManifest:
    return msgspec.structs.replace(manifest, **changes)
