"""The verdict on a face detector: average precision of the int8 network against the float one on the same pictures.

Both run through `edge.detect`, as on the device: the bundle by `YuNetDetector`, the float network by OpenCV's own
``FaceDetectorYN``, on the same canvas.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from convert.evaluation.detection import BoxSet, Detected, average_precision, match_all, pairwise_iou, resampled_drops
from convert.evaluation.verdict import Status, format_drop
from edge.contract.bundle import Bundle
from edge.contract.manifest import DetectManifest
from edge.detect.base import FaceDetector
from edge.detect.opencv_yunet import OpenCvYuNetDetector
from edge.detect.yunet import YuNetDetector, canvas_size_wh
from edge.infer import load_model
from edge.infer.litert import quiet_native_log
from edge.records import Faces, Frame

MAX_DROP: Final = 1.0
"""Points of average precision that may be lost where nothing else is said."""
GATE_PX: Final = 20.0
"""The gate looks at faces from this size on; those much smaller are not read (``quality.min_face_px``)."""
SIZES_PX: Final = (12.0, 20.0, 32.0)
FEWEST_PICTURES: Final = 30
"""With fewer pictures the bootstrap's interval is too narrow to be believed, and nothing is decided."""
RESAMPLES: Final = 2000
SEED: Final = 0
SCORE_FLOOR: Final = 0.02
FACES_LIMIT: Final = 500
"""The whole precision-recall curve is wanted, so next to nothing is cut off."""
DEFAULT_SCORE: Final = 0.6
SAME_FACE_IOU: Final = 0.7
_MANY: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class SizeVerdict:
    """Average precision at IoU 0.5 of the faces from one size on.

    Attributes:
        min_px: shorter side of the smallest face that counts.
        n: true faces that count.
        float32: average precision of the float network.
        quantized: of the bundle.
        drop: fall in points.
        drop_low: lower end of its 95 % interval, bootstrapped over pictures.
        drop_high: upper end.
    """

    min_px: float
    n: int
    float32: float
    quantized: float
    drop: float
    drop_low: float
    drop_high: float


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a detector does at the default score, faces from `GATE_PX` on: shares, and false faces a picture."""

    precision: float
    recall: float
    false_per_picture: float


@dataclass(frozen=True, slots=True)
class DetectorComparison:
    """Everything measured of a bundle and its float network on the same pictures, and the verdict.

    Attributes:
        status: ``passed``, ``failed`` or ``undecided``.
        reason: why, in one line.
        dataset: name of the pictures' folder.
        dataset_sha256: over boxes and pictures.
        pictures: how many.
        sizes: one for each of `SIZES_PX`.
        float32: of the float network at `DEFAULT_SCORE`.
        quantized: of the bundle there.
        float_faces: what the float network finds at `DEFAULT_SCORE`.
        found_again: those of them that the bundle finds at that score too, at an overlap of `SAME_FACE_IOU`.
        delegated_nodes: nodes of the bundle's plan that XNNPACK takes.
        total_nodes: nodes of the plan.
    """

    status: Status
    reason: str
    dataset: str
    dataset_sha256: str
    pictures: int
    sizes: tuple[SizeVerdict, ...]
    float32: OperatingPoint
    quantized: OperatingPoint
    float_faces: int
    found_again: int
    delegated_nodes: int
    total_nodes: int


@dataclass(frozen=True, slots=True)
class DetectorRun:
    """A comparison and what it was made of.

    Attributes:
        data: the pictures.
        large: per picture what the float network found.
        small: what the bundle found.
        comparison: the verdict.
    """

    data: BoxSet
    large: list[Faces]
    small: list[Faces]
    comparison: DetectorComparison


def compare_detectors(bundle: Bundle[DetectManifest], onnx: Path, data: BoxSet, *, max_drop: float) -> DetectorRun:
    """Runs both on the same pictures and decides.

    Args:
        bundle: the int8 detector.
        onnx: the float network's file.
        data: pictures with the boxes of all their faces.
        max_drop: points of average precision that may be lost.

    Raises:
        MienError: one of the two cannot be loaded.
    """
    loaded = load_model(bundle)
    nodes = loaded.interpreter.delegated_nodes, loaded.interpreter.total_nodes
    size_wh = canvas_size_wh(bundle.manifest)
    small = _find(YuNetDetector(bundle.manifest, loaded.interpreter, score=SCORE_FLOOR, max_faces=FACES_LIMIT), data)
    with quiet_native_log():
        reference = OpenCvYuNetDetector(onnx, size_wh=size_wh, score=SCORE_FLOOR, max_faces=FACES_LIMIT)
    large = _find(reference, data)
    return DetectorRun(data, large, small, compare_detections(large, small, data, max_drop=max_drop, nodes=nodes))


def compare_detections(
    large: list[Faces], small: list[Faces], data: BoxSet, *, max_drop: float, nodes: tuple[int, int]
) -> DetectorComparison:
    """The verdict on what two detectors found.

    Args:
        large: per picture what the float network found.
        small: what the bundle found.
        data: the pictures.
        max_drop: points of average precision that may be lost.
        nodes: delegated and total nodes of the bundle's plan.
    """
    truth = [picture.xywh for picture in data.pictures]
    matched = {px: [match_all(truth, found, min_px=px) for found in (large, small)] for px in SIZES_PX}
    sizes = tuple(_compare_size(px, *pair) for px, pair in matched.items())
    gate = next(size for size in sizes if size.min_px == GATE_PX)
    status, reason = apply_gate(gate, pictures=len(truth), max_drop=max_drop)
    floats, again = _count_found_again(large, small)
    return DetectorComparison(
        status=status,
        reason=reason,
        dataset=data.name,
        dataset_sha256=data.sha256,
        pictures=len(truth),
        sizes=sizes,
        float32=_operate(matched[GATE_PX][0]),
        quantized=_operate(matched[GATE_PX][1]),
        float_faces=floats,
        found_again=again,
        delegated_nodes=nodes[0],
        total_nodes=nodes[1],
    )


def apply_gate(gate: SizeVerdict, *, pictures: int, max_drop: float) -> tuple[Status, str]:
    """Pass, fail or undecided, and why in one line.

    Args:
        gate: the faces that are looked at.
        pictures: how many were compared on.
        max_drop: points that may be lost.
    """
    interval = f"{gate.drop_low:+.2f}..{gate.drop_high:+.2f}"
    counts = f"{gate.n:,} faces of {gate.min_px:g} px and more on {pictures:,} pictures"
    said = format_drop("average precision", drop=gate.drop, low=gate.drop_low, high=gate.drop_high, counts=counts)
    if pictures < FEWEST_PICTURES or not gate.n:
        return "undecided", f"{counts} decide nothing, bring {FEWEST_PICTURES} at least"
    if gate.drop_low > max_drop:
        return "failed", f"{said}, {max_drop:g} allowed"
    if gate.drop_high <= max_drop:
        return "passed", f"{said}, {max_drop:g} allowed"
    half, distance = (gate.drop_high - gate.drop_low) / 2, abs(gate.drop - max_drop)
    wanted = pictures * (half / max(distance, 1e-6)) ** 2
    enough = "the drop lies on the limit itself"
    if wanted < _MANY:
        enough = f"bring about {max(10 * math.ceil(wanted / 10), pictures + 10):,}"
    return "undecided", (
        f"the interval {interval} of the drop of average precision spans the limit {max_drop:g}: {counts} decide"
        f" nothing, {enough}"
    )


def _find(detector: FaceDetector, data: BoxSet) -> list[Faces]:
    try:
        return [detector.detect(Frame(picture.image, 0, 0, picture.name)) for picture in data.pictures]
    finally:
        detector.close()


def _compare_size(px: float, large: Detected, small: Detected) -> SizeVerdict:
    drops = 100 * resampled_drops(large, small, resamples=RESAMPLES, seed=SEED)
    before, after = average_precision(large), average_precision(small)
    low, high = np.percentile(drops, (2.5, 97.5))
    total = int(large.totals.sum())
    return SizeVerdict(px, total, before, after, 100 * (before - after), float(low) + 0.0, float(high) + 0.0)


def _operate(detected: Detected) -> OperatingPoint:
    sure = detected.scores >= DEFAULT_SCORE
    hits, found, total = int(detected.hits[sure].sum()), int(sure.sum()), int(detected.totals.sum())
    return OperatingPoint(hits / max(found, 1), hits / max(total, 1), (found - hits) / len(detected.totals))


def _count_found_again(large: list[Faces], small: list[Faces]) -> tuple[int, int]:
    total = again = 0
    for wanted, mine in zip(large, small, strict=True):
        sure = wanted.xywh[wanted.scores >= DEFAULT_SCORE].astype(np.float64)
        kept = mine.xywh[mine.scores >= DEFAULT_SCORE].astype(np.float64)
        total += len(sure)
        if len(sure) and len(kept):
            again += int((pairwise_iou(sure, kept).max(axis=1) >= SAME_FACE_IOU).sum())
    return total, again
