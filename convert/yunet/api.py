"""Conversion and verification of the YuNet face detector: what the commands call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from convert.bundle_writer import CARD_FILE, REPORT_FILE, write_bundle
from convert.console import Note, encode_report, ignore_note
from convert.evaluation.detection import BoxSet
from convert.yunet.compare import MAX_DROP, DetectorRun, compare_detectors
from convert.yunet.report import SCHEMA, DetectorReport, list_metrics, make_detector_card
from convert.yunet.report_page import make_detector_html
from edge.contract.bundle import Bundle
from edge.contract.manifest import DetectManifest
from edge.errors import ModelFileError

SIZES_WH: Final = ((320, 256), (640, 480), (1280, 960), (320, 192), (640, 384), (1280, 736))
"""4:3 and 16:9 at about 320, 640 and 1280 pixels, in multiples of the largest stride."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorOptions:
    """How the detector is converted.

    Attributes:
        sizes_wh: width and height in pixels of each bundle's input, multiples of 32.
        max_drop: points of average precision that may be lost.
        notes: for the model card.
    """

    sizes_wh: tuple[tuple[int, int], ...] = SIZES_WH
    max_drop: float = MAX_DROP
    notes: str = ""


@dataclass(frozen=True, slots=True)
class DetectorResult:
    """A compared bundle in memory.

    Attributes:
        bundle: complete; its manifest's status is the verdict.
        report: everything measured.
        run: the pictures and what both detectors found.
    """

    bundle: Bundle[DetectManifest]
    report: DetectorReport
    run: DetectorRun

    def write(self, folder: Path, *, force: bool = False) -> bool:
        """Write the bundle with its report and card; see `convert.classifier.api.Result.write`."""
        if self.report.comparison.status == "failed" and not force:
            return False
        documents = {CARD_FILE: make_detector_card(self.report), REPORT_FILE: encode_report(self.report)}
        write_bundle(folder, self.bundle, documents=documents, force=force)
        return True

    def page(self) -> bytes:
        """Return ``report.html``; it shows pictures and must not travel with the bundle."""
        return make_detector_html(self.report, self.run)


def bundle_name(size_wh: tuple[int, int]) -> str:
    """Return the name of the bundle for one input size."""
    return f"yunet-{size_wh[0]}x{size_wh[1]}"


def quantize_detector(
    onnx: Path, pictures: Path, data: BoxSet, options: DetectorOptions, *, note: Note = ignore_note
) -> Iterator[DetectorResult]:
    """Quantize YuNet for each input size and compare it with the float network on the same pictures.

    Args:
        onnx: YuNet's ONNX file.
        pictures: folder of pictures and clips with faces, for the ranges.
        data: pictures with the boxes of all their faces, for the verdict.
        options: sizes and what may be lost.
        note: called with a line at each step.

    Yields:
        One result a size.

    Raises:
        MienError: anything that does not fit or cannot be done.
    """
    from convert.yunet.build import calibrate_detector, make_detector_bundle

    note("calibrating")
    detector = calibrate_detector(onnx, pictures)
    for size_wh in options.sizes_wh:
        name = bundle_name(size_wh)
        note(f"quantizing and comparing {name}")
        bundle = make_detector_bundle(name, detector, size_wh=size_wh)
        yield verify_detector(bundle, onnx, data, max_drop=options.max_drop, notes=options.notes)


def verify_detector(
    bundle: Bundle[DetectManifest],
    onnx: Path,
    data: BoxSet,
    *,
    max_drop: float = MAX_DROP,
    notes: str = "",
    note: Note = ignore_note,
) -> DetectorResult:
    """Compare a detector's bundle with its float network; the verdict goes into the manifest.

    Args:
        bundle: what is verified.
        onnx: YuNet's ONNX file.
        data: pictures with the boxes of all their faces.
        max_drop: points of average precision that may be lost.
        notes: for the model card.
        note: called with a line at each step.

    Raises:
        ModelFileError: there is no such ONNX file.
        MienError: one of the two cannot be loaded.
    """
    if not onnx.is_file():
        raise ModelFileError(onnx, "no such file; YuNet's ONNX file is needed")
    note(f"comparing on {len(data.pictures):,} pictures of {data.name}")
    run = compare_detectors(bundle, onnx, data, max_drop=max_drop)
    found = run.comparison
    manifest = msgspec.structs.replace(bundle.manifest, status=found.status, metrics=list_metrics(found))
    report = DetectorReport(schema=SCHEMA, manifest=manifest, reference=onnx.name, comparison=found, notes=notes)
    return DetectorResult(replace(bundle, manifest=manifest), report, run)
