"""What a conversion says of itself: ``report.json``, ``MODEL_CARD.md`` and the terminal's table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from convert.classifier.repair import RepairStep
from convert.evaluation.verdict import Comparison
from convert.tflite.edgetpu import EdgeTpuMapping
from convert.tflite.latency import Latency
from convert.tflite.layer_errors import LayerError
from edge.contract.manifest import EmotionManifest, LogitOffsets

SCHEMA: Final = "mien.conversion/1"


@dataclass(frozen=True, slots=True)
class FormFacts:
    """One form of the model in the table of sizes and times.

    Attributes:
        name: ``float32`` or the scheme.
        bytes: size of the file.
        macs: multiply-accumulates of one run.
        int8_macs_share: share of them in int8.
        latency: per number of threads; empty where it was not measured.
    """

    name: str
    bytes: int
    macs: int
    int8_macs_share: float
    latency: tuple[Latency, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """All that is reported of one conversion or verification.

    Attributes:
        schema: `SCHEMA`.
        manifest: of the bundle.
        source: kind and name of the float model's file, and whether a softmax was removed.
        comparison: the verdict and everything measured.
        evaluation_sha256: of the data set that was compared on.
        omitted: pictures left out because the model has no such class.
        forms: the float and the quantized model.
        delegated_nodes: nodes of the quantized model's plan that XNNPACK took.
        total_nodes: nodes of the plan.
        layers: error of each layer on calibration pictures.
        edgetpu: what an Edge TPU would take; None where it was not asked for.
        repair: the steps of a repair, empty where there was none.
        notes: the user's own.
    """

    schema: str
    manifest: EmotionManifest
    source: dict[str, Any]
    comparison: Comparison
    evaluation_sha256: str
    omitted: int
    forms: tuple[FormFacts, ...]
    delegated_nodes: int
    total_nodes: int
    layers: tuple[LayerError, ...]
    edgetpu: EdgeTpuMapping | None
    repair: tuple[RepairStep, ...]
    notes: str


def make_card(report: Report) -> bytes:
    """``MODEL_CARD.md``: what the model is, what it was measured at, and what it is not for."""
    manifest, found = report.manifest, report.comparison
    size, colour = manifest.crop.size_px, manifest.input.colour
    crop = f"square of {manifest.crop.margin:g} x the face box's height, {size} px, {colour}"
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        f"Apparent facial expression of one face crop: {', '.join(manifest.labels)}.",
        "",
        f"- Input: {crop}; {manifest.input.dtype} {'x'.join(map(str, manifest.input.shape))}",
        f"- Quantization: {manifest.quantization.scheme} ({manifest.quantization.recipe})",
        f"- Size: {manifest.model.bytes:,} bytes; {report.forms[-1].macs:,} multiply-accumulates",
        f"- Temperature {manifest.temperature:g}; below a margin of {manifest.thresholds.margin:g} it is uncertain",
        *_operating_points(manifest),
        f"- Trained from: {manifest.trained_from.recipe} (git {manifest.trained_from.git})",
        *(f"  - {use.name}: {use.count:,} pictures" for use in manifest.trained_from.datasets),
        f"- Licence: {manifest.licence}",
        *(f"  - {notice}" for notice in manifest.notices),
        "",
        f"## Verdict: {found.status}",
        "",
        f"{found.reason[:1].upper()}{found.reason[1:]}.",
        "",
        f"| {found.dataset}, n = {found.n:,} | float32 | {manifest.quantization.scheme} |",
        "| --- | --- | --- |",
        *(f"| {name} | {large} | {small} |" for name, large, small in figures(found)),
        "",
        "| class | n | recall float32 | recall " + manifest.quantization.scheme + " |",
        "| --- | --- | --- | --- |",
        *(
            f"| {c.label} | {c.n:,} | {percent(c.recall_float)} | {percent(c.recall_quantized)} |"
            for c in found.classes
        ),
        "",
        "## Intended use",
        "",
        "It names the expression that a face shows in a picture, as people label it; not what a person feels.",
        "Inferring emotions at work and in education is prohibited in the EU (AI Act, Art. 5(1)(f)) but for medical or",
        "safety reasons. People in view are to be told.",
        "",
    ]
    if report.notes:
        lines += ["## Notes", "", report.notes, ""]
    return "\n".join(lines).encode()


def _operating_points(manifest: EmotionManifest) -> list[str]:
    if not isinstance(manifest.logit_offsets, LogitOffsets):
        return []
    pairs = zip(manifest.labels, manifest.logit_offsets.balanced, strict=True)
    return [f"- Balanced operating point, added to the logits: {', '.join(f'{k} {v:+.2f}' for k, v in pairs)}"]


def figures(found: Comparison) -> list[tuple[str, str, str]]:
    """Name, float and quantized of everything measured."""
    large, small = found.accuracy_float, found.accuracy_quantized
    return [
        ("accuracy", _interval(large.value, large.low, large.high), _interval(small.value, small.low, small.high)),
        ("macro F1", f"{found.macro_f1_float:.4f}", f"{found.macro_f1_quantized:.4f}"),
        ("calibration error at T", f"{found.calibration_float.error:.4f}", f"{found.calibration_after.error:.4f}"),
        ("calibration error at 1", "", f"{found.calibration_before.error:.4f}"),
        ("drop of accuracy, points", "", f"{found.drop:+.2f} ({found.drop_low:+.2f}..{found.drop_high:+.2f})"),
        ("McNemar p", "", f"{found.difference.p_value:.3f}"),
        ("same top class", "", percent(found.agreement)),
        (
            "score difference, mean · worst",
            "",
            f"{found.mean_score_difference:.4f} · {found.worst_score_difference:.3f}",
        ),
    ]


def percent(share: float) -> str:
    """A share for people; a dash where there is none."""
    return "–" if math.isnan(share) else f"{100 * share:.2f} %"


def _interval(value: float, low: float, high: float) -> str:
    return f"{100 * value:.2f} % ({100 * low:.2f}..{100 * high:.2f})"
