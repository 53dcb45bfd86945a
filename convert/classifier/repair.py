"""Brings a network back that plain int8 breaks: cheapest measures first, layers in float last.

1. Narrower ranges: of every activation by mean squared error, of the logits by what they do to the scores.
2. Cross-layer equalization (`convert.classifier.equalize`): changes the float graph without changing its function.
3. Bias correction: what quantization shifts the mean of a layer's channels by is taken off its bias.
4. The layers that do the most damage, measured one by one, stay in float: as few as the calibration pictures ask for.

Candidates are made and ranked on the calibration pictures; the gate judges them on the evaluation pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from convert.classifier.build import Conversion
from convert.classifier.calibrate import calibrate
from convert.classifier.equalize import equalize
from convert.classifier.quantize import RECIPE, Quantized, check_io, quantize_int8
from convert.console import Note, ignore_note
from convert.evaluation.verdict import Comparison, Run
from convert.tflite.graph import Graph
from convert.tflite.inspect import int8_macs_share
from convert.tflite.interpreter import Pixels, record_tensors, run_logits, to_reals
from convert.tflite.latency import measure_latency
from edge.contract.bundle import Bundle
from edge.contract.manifest import EmotionManifest
from edge.contract.scores import softmax
from edge.errors import ConversionError, InferenceError
from edge.records import Floats

RANGE_PICTURES: Final = 64
RANKING_PICTURES: Final = 48
SHRINKS: Final = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
"""Shares of a range that are tried."""
HOPELESS_POINTS: Final = 5.0
"""A candidate that loses so much more than is allowed on the calibration pictures is not sent through the gate."""
_MIN_CHANGE: Final = 0.98
"""A narrower range is taken only when it lowers the error below this share of the old one's."""


@dataclass(frozen=True, slots=True)
class RepairStep:
    """One candidate of a repair, a row of the Pareto table.

    Attributes:
        name: what was done.
        accuracy: of the candidate on the evaluation pictures, 0..1.
        drop: fall of the accuracy in points, with its interval.
        drop_low: lower end.
        drop_high: upper end.
        p50_ms: median time of one run, one thread.
        bytes: size of the file.
        int8_macs_share: share of the multiply-accumulates done in int8.
        status: the gate's verdict.
        chosen: whether this candidate became the bundle.
    """

    name: str
    accuracy: float
    drop: float
    drop_low: float
    drop_high: float
    p50_ms: float
    bytes: int
    int8_macs_share: float
    status: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class _Variant:
    """A way to quantize the model, and what it does on the calibration pictures.

    Attributes:
        name: what was done.
        calibrated: the float graph with its ranges.
        model: the quantized file; None for a graph that the quantizer or the interpreter refuses: XNNPACK does where
            scales lie too far apart.
        damage: mean Kullback-Leibler divergence of the scores from the float model's.
        accuracy: 0..1.
    """

    name: str
    calibrated: bytes
    model: bytes | None = None
    damage: float = math.inf
    accuracy: float = 0.0


def repair(conversion: Conversion) -> tuple[Bundle[EmotionManifest], Run, tuple[RepairStep, ...]]:
    """Look for the cheapest form that passes the gate.

    Measures that keep everything in int8 are tried first, each on top of what helped before on the calibration
    pictures; then operators go to float, worst first.

    Returns:
        The chosen candidate (the best one when none passes), and all that were judged in the order of trial.

    Raises:
        ConversionError: the interpreter refuses every candidate.
    """
    bench = _Bench(conversion)
    plain = bench.make("plain int8", calibrate(conversion.model.tflite, bench.pixels))
    if not (bench.passes(plain) or _try_integer_measures(bench, plain)):
        _keep_layers_in_float(bench, plain)
    return bench.choose()


class _Bench:
    """Makes variants, sends them through the gate and remembers them."""

    def __init__(self, conversion: Conversion) -> None:
        self.note, self.pixels = conversion.note, conversion.calibration.pixels
        self._conversion = replace(conversion, note=ignore_note)
        self._io = check_io("int8", conversion.options.io)
        self._reference = run_logits(conversion.model.tflite, self.pixels)
        self._tried: list[tuple[RepairStep, Bundle[EmotionManifest], Run]] = []

    def make(self, name: str, calibrated: bytes, float_nodes: Sequence[str] = ()) -> _Variant:
        """Quantize a calibrated graph and run it on the calibration pictures."""
        try:
            model = quantize_int8(calibrated, io=self._io, float_nodes=float_nodes)
            logits = run_logits(model, self.pixels)
        except (ConversionError, InferenceError):
            return _Variant(name, calibrated)
        return _Variant(name, calibrated, model, divergence(self._reference, logits), self._accuracy(logits))

    def passes(self, variant: _Variant) -> bool:
        """Send a variant through the gate and remember it; return whether it passed.

        All but the first are spared the gate, which takes its time, when they fall by far too much on the calibration
        pictures.
        """
        points = 100 * (self._accuracy(self._reference) - variant.accuracy)
        is_hopeless = self._tried and points > self._conversion.options.limits.max_drop + HOPELESS_POINTS
        if variant.model is None or is_hopeless:
            return False
        self.note(f"repair: {variant.name}")
        try:
            bundle, run = self._conversion.judge(
                Quantized(variant.model, f"{RECIPE}: int8 per channel, {variant.name}")
            )
        except InferenceError as error:
            self.note(f"repair: {variant.name}: {error}")
            return False
        self._tried.append((_describe(variant.name, bundle.model, run.comparison), bundle, run))
        return run.comparison.status == "passed"

    def choose(self) -> tuple[Bundle[EmotionManifest], Run, tuple[RepairStep, ...]]:
        """Return the fastest that passed, without one the most accurate, and all steps."""
        if not self._tried:
            path = self._conversion.model.path
            raise ConversionError(f"{path}: the interpreter refuses every candidate of the repair")
        passed = [row for row in self._tried if row[0].status == "passed"]
        best = min(passed, key=lambda row: row[0].p50_ms) if passed else max(self._tried, key=lambda r: r[0].accuracy)
        return best[1], best[2], tuple(replace(step, chosen=step is best[0]) for step, _, _ in self._tried)

    def _accuracy(self, logits: Floats) -> float:
        return float((logits.argmax(1) == self._conversion.calibration.labels).mean())


def _try_integer_measures(bench: _Bench, best: _Variant) -> bool:
    """Equalize, narrow ranges, correct biases; each stays when it lowers the damage. Return whether one passed."""
    measures: dict[str, Callable[[bytes], bytes]] = {
        "equalized layers": lambda graph: calibrate(equalize(graph)[0], bench.pixels),
        "narrower ranges": lambda graph: narrow_ranges(graph, bench.pixels),
        "corrected biases": lambda graph: correct_biases(graph, bench.pixels),
    }
    names: list[str] = []
    for name, measure in measures.items():
        variant = bench.make(", ".join([*names, name]), measure(best.calibrated))
        if variant.damage >= best.damage * _MIN_CHANGE:
            bench.note(f"repair: {name} do not help ({variant.damage:.4f} against {best.damage:.4f} nats)")
            continue
        best = variant
        names.append(name)
        if bench.passes(variant):
            return True
    return False


def _keep_layers_in_float(bench: _Bench, plain: _Variant) -> None:
    """Keep operators in float, worst first; their number doubles until the gate passes and then halves back.

    Narrower ranges can be worth nothing alone and much once the worst operator is gone, so both forms are ranked by
    their damage at every number. Bias correction is left out: made for a broken network, it breaks a mended one.
    """
    equalized = calibrate(equalize(plain.calibrated)[0], bench.pixels)
    bases = (("", plain.calibrated), ("equalized layers, narrower ranges, ", narrow_ranges(equalized, bench.pixels)))
    ranked = [name for name, _ in rank_layers(bases[1][1], bench.pixels, note=bench.note)]

    def passes(count: int) -> bool:
        title = f"{count} of {len(ranked)} operators in float"
        forms = [bench.make(f"{base}{title}", graph, ranked[:count]) for base, graph in bases]
        return bench.passes(min(forms, key=lambda form: form.damage))

    count, failed = 1, 0
    while not passes(count):
        if count == len(ranked):
            return
        count, failed = min(2 * count, len(ranked)), count
    low, high = failed + 1, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if passes(middle) else (middle + 1, high)


def rank_layers(calibrated: bytes, pixels: Pixels, *, note: Note) -> list[tuple[str, float]]:
    """The damage that each operator does when it alone is quantized, worst first.

    Args:
        calibrated: a calibrated float graph.
        pixels: the first `RANKING_PICTURES` are used.
        note: told what goes on.

    Returns:
        Name of the operator's output, and the mean Kullback-Leibler divergence of the scores in nats.
    """
    graph = Graph(calibrated)
    names = [graph.name(op.outputs[0]) for op in graph.ops()]
    chosen = pixels[:RANKING_PICTURES]
    reference = run_logits(calibrated, chosen)
    found = []
    for index, name in enumerate(names):
        if index % 8 == 0:
            note(f"repair: ranking operators, {index} of {len(names)}")
        others = [other for other in names if other != name]
        alone = quantize_int8(calibrated, io="float32", float_nodes=others)
        found.append((name, divergence(reference, run_logits(alone, chosen))))
    return sorted(found, key=lambda row: -row[1])


def narrow_ranges(calibrated: bytes, pixels: Pixels) -> bytes:
    """Cuts the tails of activations where that lowers the error.

    Every range is shrunk to the share that gives the smallest mean squared error of its tensor when rounded to 256
    steps; the logits' range to the one that gives the smallest divergence of the scores, because logits far below the
    best one may saturate.
    """
    graph = Graph(calibrated)
    (output,) = graph.outputs
    indices = [op.outputs[0] for op in graph.ops() if graph.calibrated_range(op.outputs[0]) is not None]
    values = record_tensors(calibrated, pixels[:RANGE_PICTURES], indices)
    for index in indices:
        measured: npt.NDArray[np.float32] = values[index].astype(np.float32)
        error = _score_error if index == output else _squared_error
        low, high = float(measured.min()), float(measured.max())
        candidates = [(low * a, high * b) for a in SHRINKS for b in SHRINKS] if index == output else [
            (low * share, high * share) for share in SHRINKS]  # fmt: skip
        errors = [error(measured, *_with_zero(*one)) for one in candidates]
        best = int(np.argmin(errors))
        if errors[best] < _MIN_CHANGE * errors[0]:
            graph.set_range(index, *_with_zero(*candidates[best]))
    return graph.encode()


def correct_biases(calibrated: bytes, pixels: Pixels) -> bytes:
    """Takes off every layer's bias what quantization shifts the mean of its channels by, from the input on.

    Source: Nagel et al. 2019, the empirical form. Means of outputs behind a ReLU are used as they are.
    """
    graph = Graph(calibrated)
    layers = [op for op in graph.weighted_ops() if len(op.inputs) > 2 and graph.constant(op.inputs[2]) is not None]
    chosen = pixels[:RANGE_PICTURES]
    outputs = [op.outputs[0] for op in layers]
    reference = record_tensors(calibrated, chosen, outputs)
    for op in layers:
        quantized = quantize_int8(graph.encode(), io="int8")
        small = Graph(quantized)
        twin = next((t.outputs[0] for t in small.ops() if small.name(t.outputs[0]) == graph.name(op.outputs[0])), None)
        bias = graph.constant(op.inputs[2])
        if twin is None or bias is None:
            continue
        measured = to_reals(small, twin, record_tensors(quantized, chosen, [twin])[twin])
        axes = tuple(range(measured.ndim - 1))
        shift = (measured - reference[op.outputs[0]]).mean(axis=axes)
        graph.set_constant(op.inputs[2], (bias - shift).astype(np.float32))
    return graph.encode()


def divergence(reference: Floats, measured: Floats) -> float:
    """Mean Kullback-Leibler divergence in nats of softmax(measured) from softmax(reference)."""
    p, q = softmax(reference), softmax(measured)
    terms = p * (np.log(np.maximum(p, 1e-12)) - np.log(np.maximum(q, 1e-12)))
    return float(terms.sum(axis=1).mean())


def _with_zero(low: float, high: float) -> tuple[float, float]:
    return min(low, 0.0), max(high, 0.0)


def _round_to(values: npt.NDArray[np.float32], low: float, high: float) -> npt.NDArray[np.float32]:
    step = max(high - low, 1e-12) / 255
    zero = round(low / step)
    integers = np.clip(np.rint(values / np.float32(step)) - zero, 0, 255)
    return ((integers + zero) * np.float32(step)).astype(np.float32)  # type: ignore[no-any-return]


def _squared_error(values: npt.NDArray[np.float32], low: float, high: float) -> float:
    return float(np.mean((values - _round_to(values, low, high)) ** 2))


def _score_error(values: npt.NDArray[np.float32], low: float, high: float) -> float:
    logits = values.reshape(len(values), -1)
    return divergence(logits, _round_to(logits, low, high))


def _describe(name: str, model: bytes, found: Comparison) -> RepairStep:
    (latency,) = measure_latency(model, threads=[1])
    return RepairStep(
        name=name,
        accuracy=found.accuracy_quantized.value,
        drop=found.drop,
        drop_low=found.drop_low,
        drop_high=found.drop_high,
        p50_ms=latency.p50_ms,
        bytes=len(model),
        int8_macs_share=int8_macs_share(Graph(model)),
        status=found.status,
        chosen=False,
    )
