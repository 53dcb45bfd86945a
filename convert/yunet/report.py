"""What a comparison of face detectors says of itself: ``report.json``, ``MODEL_CARD.md`` and the terminal's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from convert.evaluation.detection import IOU_LIMIT
from convert.yunet.compare import (
    DEFAULT_SCORE,
    GATE_PX,
    RESAMPLES,
    SAME_FACE_IOU,
    DetectorComparison,
    OperatingPoint,
    SizeVerdict,
)
from edge.contract.manifest import DetectManifest, Metric

SCHEMA: Final = "mien.detector_conversion/1"


@dataclass(frozen=True, slots=True)
class DetectorReport:
    """All that is reported of one detector.

    Attributes:
        schema: `SCHEMA`.
        manifest: of the bundle.
        reference: name of the float network's file.
        comparison: the verdict and everything measured.
        notes: the user's own.
    """

    schema: str
    manifest: DetectManifest
    reference: str
    comparison: DetectorComparison
    notes: str


def figures(found: DetectorComparison) -> list[tuple[str, str, str, str]]:
    """Name, float, int8 and the difference of everything measured."""
    rows = [
        (f"AP@{IOU_LIMIT:g}, faces >= {size.min_px:g} px (n = {size.n:,})", f"{size.float32:.4f}",
         f"{size.quantized:.4f}", _drop(size))
        for size in found.sizes
    ]  # fmt: skip
    at = f"at score {DEFAULT_SCORE:g}, faces >= {GATE_PX:g} px"
    large, small = found.float32, found.quantized
    return [
        *rows,
        (f"precision {at}", f"{large.precision:.4f}", f"{small.precision:.4f}", ""),
        (f"recall {at}", f"{large.recall:.4f}", f"{small.recall:.4f}", ""),
        ("false faces a picture there", _false(large), _false(small), ""),
        (
            f"faces of float found again (IoU >= {SAME_FACE_IOU:g})",
            f"{found.float_faces:,}",
            f"{found.found_again:,}",
            "",
        ),
        ("nodes that XNNPACK takes", "", f"{found.delegated_nodes} of {found.total_nodes}", ""),
    ]


def make_detector_card(report: DetectorReport) -> bytes:
    """``MODEL_CARD.md``: what the detector is, what it was measured at, and what is to be known of the measurement."""
    manifest, found = report.manifest, report.comparison
    calibration = manifest.quantization.calibration
    height, width = (side - 1 for side in manifest.input.shape[1:3])
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        f"Finds faces in pictures that are fitted into {width}x{height} pixels; box, score and five landmarks each.",
        "",
        f"- Quantization: {manifest.quantization.scheme} ({manifest.quantization.recipe})",
        *([f"- Calibrated on {calibration.count} {calibration.source}"] if calibration else []),
        f"- Size: {manifest.model.bytes:,} bytes",
        f"- Weights: {manifest.trained_from.recipe}",
        *(f"  - trained on {use.name}: {use.count:,} pictures" for use in manifest.trained_from.datasets),
        f"- Golden samples: {manifest.golden.count}; each holds an output of {manifest.outputs[0].shape[1]:,} cells",
        "  and is a run of the detector at every start, so that there are fewer than an emotion model has",
        f"- Licence: {manifest.licence}; the notice stands in the manifest",
        "",
        f"## Verdict: {found.status}",
        "",
        f"{found.reason[:1].upper()}{found.reason[1:]}.",
        "",
        f"| {found.dataset}, {found.pictures:,} pictures | float32 | {manifest.quantization.scheme} | drop, points |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {large} | {small} | {drop} |" for name, large, small, drop in figures(found)),
        "",
        f"Float32 is {report.reference} in OpenCV's FaceDetectorYN on the same canvas. The intervals are of 95 %, from",
        f"{RESAMPLES:,} bootstrap draws of whole pictures, both detectors on the same draw.",
        "",
    ]
    if report.notes:
        lines += ["## Notes", "", report.notes, ""]
    return "\n".join(lines).encode()


def list_metrics(found: DetectorComparison) -> tuple[Metric, ...]:
    """Return what the manifest says of a comparison."""
    gate = next(size for size in found.sizes if size.min_px == GATE_PX)
    values = [(f"average_precision_{size.min_px:g}px", size.n, size.float32, size.quantized) for size in found.sizes]
    suffix = f"{GATE_PX:g}px_at_{DEFAULT_SCORE:g}"
    large, small = found.float32, found.quantized
    values += [
        (f"precision_{suffix}", gate.n, large.precision, small.precision),
        (f"recall_{suffix}", gate.n, large.recall, small.recall),
    ]
    return tuple(
        Metric(name=name, dataset=found.dataset, n=n, float32=round(before, 6), quantized=round(after, 6))
        for name, n, before, after in values
    )


def _drop(size: SizeVerdict) -> str:
    return f"{size.drop:+.2f} ({size.drop_low:+.2f}..{size.drop_high:+.2f})"


def _false(point: OperatingPoint) -> str:
    return f"{point.false_per_picture:.3f}"
