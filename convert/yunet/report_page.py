"""``report.html`` of a face detector."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from convert.evaluation.detection import (
    Detected,
    LabelledPicture,
    Reals,
    average_precision,
    match_all,
    precision_recall,
)
from convert.evaluation.report.page import (
    FLOAT_COLOUR,
    QUANTIZED_COLOUR,
    curve,
    figure,
    legend,
    make_page,
    origin,
    square_plot,
    table,
    tiles,
    verdict,
)
from convert.yunet.compare import DEFAULT_SCORE, GATE_PX, DetectorRun
from convert.yunet.report import DetectorReport, figures
from edge.records import Faces, Image

SHOWN: Final = 8
"""Pictures on which the two differ most."""
LARGEST_WH: Final = (720, 480)
_TRUE, _FLOAT, _QUANTIZED = (255, 255, 255), (204, 102, 51), (51, 51, 204)
"""BGR of true faces and of what the two found; the latter as in the page's legend."""


def make_detector_html(report: DetectorReport, run: DetectorRun) -> bytes:
    """``report.html``: the verdict first, everything in one file.

    It shows pictures of the evaluation data and is therefore never part of a bundle.

    Args:
        report: what is reported.
        run: what both detectors found.
    """
    found, manifest = report.comparison, report.manifest
    scheme = manifest.quantization.scheme
    truth = [picture.xywh for picture in run.data.pictures]
    large, small = (match_all(truth, boxes, min_px=GATE_PX) for boxes in (run.large, run.small))
    parts = [
        verdict(found.status, found.reason),
        _tiles(report),
        _origin(report),
        "<h2>Both detectors on the same pictures</h2>",
        table(("", "float32", scheme, "drop, points"), figures(found)),
        f"<h2>Precision and recall, faces of {GATE_PX:g} px and more</h2>",
        legend(scheme),
        square_plot(
            curve(*precision_recall(large), FLOAT_COLOUR) + curve(*precision_recall(small), QUANTIZED_COLOUR),
            x="recall",
            y="precision",
        ),
        "<h2>Where they differ most</h2>",
        f"<p>True faces are white, what float32 finds at a score of {DEFAULT_SCORE:g} is blue, what {scheme} finds"
        " there is red.</p>",
        _differences(run, large, small),
    ]
    return make_page(heading=manifest.name, title=f"{manifest.full_name}: {found.status}", parts=parts)


def _tiles(report: DetectorReport) -> str:
    found, manifest = report.comparison, report.manifest
    gate = next(size for size in found.sizes if size.min_px == GATE_PX)
    return tiles(
        [
            ("average precision", f"{gate.quantized:.4f}", f"{gate.float32:.4f} in float32"),
            ("lost, points", f"{gate.drop:+.2f}", f"{gate.drop_low:+.2f}..{gate.drop_high:+.2f}, 95 % interval"),
            ("faces of float32 found again", f"{found.found_again:,}", f"of {found.float_faces:,}"),
            ("bytes", f"{manifest.model.bytes:,}", f"{found.delegated_nodes} of {found.total_nodes} nodes by XNNPACK"),
        ]
    )


def _origin(report: DetectorReport) -> str:
    manifest, found = report.manifest, report.comparison
    calibration = manifest.quantization.calibration
    return origin(
        [
            f"{manifest.full_name}, made of {report.reference}",
            f"quantization: {manifest.quantization.scheme}, {manifest.quantization.recipe}",
            *([f"calibrated on {calibration.count:,} {calibration.source}"] if calibration else []),
            f"compared on {found.pictures:,} pictures of {found.dataset}",
        ]
    )


def _differences(run: DetectorRun, large: Detected, small: Detected) -> str:
    each = np.eye(len(run.data.pictures), dtype=np.int64)
    before, after = (np.array([average_precision(found, weights=one) for one in each]) for found in (large, small))
    order = np.argsort(-np.abs(after - before), kind="stable")[:SHOWN]
    worst = [int(row) for row in order if after[row] != before[row]]
    if not worst:
        return "<p>On no picture.</p>"
    shown = "".join(
        figure(
            _draw(run.data.pictures[row], run.large[row], run.small[row]),
            [run.data.pictures[row].name, f"average precision {before[row]:.3f} → {after[row]:.3f}"],
            form="jpeg",
        )
        for row in worst
    )
    return f'<div class="gallery large-pictures">{shown}</div>'


def _draw(picture: LabelledPicture, large: Faces, small: Faces) -> Image:
    height, width = picture.image.shape[:2]
    scale = min(1.0, LARGEST_WH[0] / width, LARGEST_WH[1] / height)
    canvas = cv2.resize(picture.image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    for boxes, colour, thickness in (
        (picture.xywh, _TRUE, 1),
        (_sure(large), _FLOAT, 5),
        (_sure(small), _QUANTIZED, 2),
    ):
        for x, y, w, h in boxes * scale:
            cv2.rectangle(canvas, (round(x), round(y)), (round(x + w), round(y + h)), colour, thickness, cv2.LINE_AA)
    return np.asarray(canvas, np.uint8)


def _sure(faces: Faces) -> Reals:
    return faces.xywh[faces.scores >= DEFAULT_SCORE].astype(np.float64)
