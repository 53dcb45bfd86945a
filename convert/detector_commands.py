"""``mien-convert detector``, and ``verify`` of a face detector, from arguments to exit code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from convert.bundle_writer import CARD_FILE, REPORT_FILE, check_free, write_bundle
from convert.classifier.report import EXIT_CODES
from convert.console import PAGE_FILE, Progress, page_folder, write_json, write_page
from convert.evaluation.detection import BoxSet, read_boxes
from convert.yunet.compare import DetectorRun, compare_detectors
from convert.yunet.report import (
    DetectorReport,
    encode_detector_report,
    figures,
    make_detector_card,
    make_detector_report,
)
from convert.yunet.report_page import make_detector_html
from edge.contract.bundle import Bundle
from edge.contract.manifest import DetectManifest
from edge.errors import ModelFileError, UsageError


@dataclass(frozen=True, slots=True)
class DetectorArguments:
    """What stands on the command line of ``detector``; see its help."""

    onnx: Path
    calibrate: Path
    evaluate: Path
    out: Path
    sizes: tuple[str, ...]
    max_drop: float
    notes: str
    json: Path | None
    force: bool


@dataclass(frozen=True, slots=True)
class VerifyDetectorArguments:
    """What of the command line of ``verify`` a detector needs; see its help."""

    reference: Path
    data: tuple[str, ...]
    max_drop: float
    notes: str
    record: bool
    report: Path | None
    json: Path | None


def run_detector(arguments: DetectorArguments) -> int:
    """Quantizes, compares and writes one bundle a size.

    Returns:
        0 when all passed, 3 when one failed, else 4.

    Raises:
        MienError: anything that cannot be done.
    """
    from convert.yunet.build import SIZES_WH, calibrate_detector, make_detector_bundle

    sizes_wh = [parse_size(text) for text in arguments.sizes] or list(SIZES_WH)
    folders = [arguments.out / f"yunet-{width}x{height}" for width, height in sizes_wh]
    for folder in folders:
        check_free(folder, force=arguments.force)
    progress, reports = Progress(), []
    with progress.running():
        progress("reading labelled pictures")
        data = read_boxes(arguments.evaluate)
        progress("calibrating")
        detector = calibrate_detector(arguments.onnx, arguments.calibrate)
        for folder, size_wh in zip(folders, sizes_wh, strict=True):
            progress(f"quantizing and comparing {folder.name}")
            bundle = make_detector_bundle(folder.name, detector, size_wh=size_wh)
            report, run = _judge(bundle, arguments.onnx, data, max_drop=arguments.max_drop, notes=arguments.notes)
            write_page(page_folder(folder), make_detector_html(report, run))
            if report.manifest.status != "failed" or arguments.force:
                write_judged(folder, bundle, report, force=arguments.force)
            reports.append(report)
        write_json(arguments.json, reports)
    for folder, report in zip(folders, reports, strict=True):
        written = (folder / REPORT_FILE).is_file()
        where = f"bundle {folder}" if written else "no bundle was written (--force writes it)"
        _print(report, where=f"{where}; report {page_folder(folder) / PAGE_FILE}")
    codes = {EXIT_CODES[report.comparison.status] for report in reports}
    return next(EXIT_CODES[status] for status in ("failed", "undecided", "passed") if EXIT_CODES[status] in codes)


def run_verify_detector(bundle: Bundle[DetectManifest], arguments: VerifyDetectorArguments) -> int:
    """Compares a detector's bundle with its float network.

    Args:
        bundle: what is verified; with ``record`` its manifest, report and card are written anew.
        arguments: from the command line.

    Returns:
        0 passed, 3 failed, 4 undecided.

    Raises:
        MienError: anything that cannot be done.
    """
    if len(arguments.data) != 1:
        raise UsageError(f"--data: {len(arguments.data)} of them; a detector takes one folder of pictures with boxes")
    progress = Progress()
    with progress.running():
        progress("reading labelled pictures")
        data = read_boxes(Path(arguments.data[0]))
        progress(f"comparing on {len(data.pictures):,} pictures of {data.name}")
        report, run = _judge(bundle, arguments.reference, data, max_drop=arguments.max_drop, notes=arguments.notes)
        if arguments.report is not None:
            write_page(arguments.report, make_detector_html(report, run))
        if arguments.record:
            write_judged(bundle.path, bundle, report, force=True)
        write_json(arguments.json, report)
    written = [f"recorded in {bundle.path}"] if arguments.record else []
    written += [f"report {arguments.report / PAGE_FILE}"] if arguments.report else []
    _print(report, where="; ".join(written))
    return EXIT_CODES[report.comparison.status]


def write_judged(folder: Path, bundle: Bundle[DetectManifest], report: DetectorReport, *, force: bool) -> None:
    """Writes a detector's bundle with what was measured; model and golden samples stay as they are."""
    write_bundle(
        folder,
        manifest=report.manifest,
        model=bundle.model,
        golden=bundle.golden,
        edgetpu_model=bundle.edgetpu_model,
        documents={CARD_FILE: make_detector_card(report), REPORT_FILE: encode_detector_report(report)},
        force=force,
    )


def parse_size(text: str) -> tuple[int, int]:
    """``640x480`` as width and height in pixels.

    Raises:
        UsageError: anything else.
    """
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise UsageError(f"--size: {text!r} is not WIDTHxHEIGHT")
    return int(width), int(height)


def _judge(
    bundle: Bundle[DetectManifest], onnx: Path, data: BoxSet, *, max_drop: float, notes: str
) -> tuple[DetectorReport, DetectorRun]:
    if not onnx.is_file():
        raise ModelFileError(onnx, "no such file; YuNet's ONNX file is needed")
    run = compare_detectors(bundle, onnx, data, max_drop=max_drop)
    return make_detector_report(bundle.manifest, run.comparison, reference=onnx.name, notes=notes), run


def _print(report: DetectorReport, *, where: str) -> None:
    table = Table(report.manifest.full_name, "float32", "int8", "drop, points", box=None, pad_edge=False)
    for row in figures(report.comparison):
        table.add_row(*row)
    Console(highlight=False, width=None if Console().is_terminal else 120).print(table)
    if where:
        print(where)
    print(f"{report.comparison.status}: {report.comparison.reason}")
