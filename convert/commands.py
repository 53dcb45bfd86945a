"""The commands of ``mien-convert``: call the API, write what it returns, print it, return the exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from convert.bundle_writer import check_free
from convert.classifier.api import Result, quantize_classifier
from convert.classifier.options import QuantizeData, QuantizeOptions, VerifyOptions
from convert.classifier.repair import RepairStep
from convert.classifier.report import Report, figures
from convert.console import PAGE_FILE, Progress, page_folder, write_json, write_page
from convert.evaluation.detection import read_boxes
from convert.evaluation.verdict import Comparison
from convert.sandbox.checks import check_model_file
from convert.tflite.edgetpu import INSTALL
from convert.tflite.inspect import count_ops, inspect_model
from convert.verify import verify_bundle
from convert.yunet.api import DetectorOptions, bundle_name, quantize_detector
from convert.yunet.compare import DetectorComparison
from convert.yunet.report import DetectorReport
from convert.yunet.report import figures as detector_figures
from edge.bundles.locate import find_bundle
from edge.contract.bundle import load_bundle
from edge.contract.manifest import DetectManifest
from edge.errors import EXIT_CLEAN, EXIT_GATE_FAILED, EXIT_UNDECIDED, UsageError

EXIT_CODES: Final = {
    "failed": EXIT_GATE_FAILED,
    "suspect": EXIT_UNDECIDED,
    "undecided": EXIT_UNDECIDED,
    "passed": EXIT_CLEAN,
}
"""Of a verdict; of several the first that occurs."""


def run_quantize(
    model: Path,
    read_data: Callable[[], QuantizeData],
    options: QuantizeOptions,
    *,
    out: Path,
    json: Path | None = None,
    force: bool = False,
) -> int:
    """Quantize a classifier and write its bundle and reports.

    Args:
        model: see `quantize_classifier`.
        read_data: reads the labelled faces; called once the bundle's place is known to be free.
        options: see `quantize_classifier`.
        out: the bundle's folder; the page lies beside it.
        json: the report is written here as well.
        force: replace a bundle; write a failed one, marked as such.

    Returns:
        0 passed, 3 failed, 4 undecided or suspect.

    Raises:
        MienError: anything that cannot be done.
    """
    check_free(out, force=force)
    check_model_file(model)
    with Progress() as progress:
        progress("reading data")
        result = quantize_classifier(model, read_data(), options, note=progress)
        written = result.write(out, force=force)
        write_page(page_folder(out), result.page())
        write_json(json, result.report)
    hint = "" if options.repair else "--repair looks for what brings it back, "
    where = f"bundle {out}" if written else f"no bundle was written ({hint}--force writes it marked as failed)"
    return _print_report(result.report, where=f"{where}; report {page_folder(out) / PAGE_FILE}")


def run_verify(
    bundle: str,
    reference: Path,
    data: tuple[str, ...],
    options: VerifyOptions,
    *,
    report: Path | None = None,
    record: bool = False,
    json: Path | None = None,
) -> int:
    """Compare a bundle with its float model.

    Args:
        bundle: a folder, or the name of an installed or shipped one.
        reference: the float model's file.
        data: see `verify_bundle`.
        options: see `verify_bundle`.
        report: folder for the page.
        record: write a detector's verdict, report and card into its bundle; model and golden samples stay.
        json: the report is written here as well.

    Returns:
        0 passed, 3 failed, 4 undecided or suspect.

    Raises:
        MienError: anything that cannot be done.
    """
    folder = find_bundle(bundle)
    if record and not isinstance(load_bundle(folder).manifest, DetectManifest):
        raise UsageError("--record: an emotion model's verdict is written by quantize; --record is for detectors")
    with Progress() as progress:
        result = verify_bundle(folder, reference, data, options, note=progress)
        if report is not None:
            write_page(report, result.page())
        if record:
            result.write(folder, force=True)
        write_json(json, result.report)
    if isinstance(result, Result):
        return _print_report(result.report)
    written = [f"recorded in {folder}"] if record else []
    written += [f"report {report / PAGE_FILE}"] if report else []
    return _print_detector_report(result.report, where="; ".join(written))


def run_detector(
    onnx: Path,
    pictures: Path,
    boxes: Path,
    options: DetectorOptions,
    *,
    out: Path,
    json: Path | None = None,
    force: bool = False,
) -> int:
    """Quantize the face detector, compare it and write one bundle a size.

    Args:
        onnx: YuNet's ONNX file.
        pictures: folder of pictures and clips that show faces, for the ranges.
        boxes: folder with boxes.json and images/, for the verdict.
        options: see `quantize_detector`.
        out: folder that the bundles are written into.
        json: the reports are written here as well.
        force: replace bundles; write failed ones, marked as such.

    Returns:
        0 when all passed, 3 when one failed, else 4.

    Raises:
        MienError: anything that cannot be done.
    """
    folders = [out / bundle_name(size_wh) for size_wh in options.sizes_wh]
    for folder in folders:
        check_free(folder, force=force)
    reports, places = [], []
    with Progress() as progress:
        progress("reading labelled pictures")
        results = quantize_detector(onnx, pictures, read_boxes(boxes), options, note=progress)
        for folder, result in zip(folders, results, strict=True):
            write_page(page_folder(folder), result.page())
            written = result.write(folder, force=force)
            where = f"bundle {folder}" if written else "no bundle was written (--force writes it)"
            places.append(f"{where}; report {page_folder(folder) / PAGE_FILE}")
            reports.append(result.report)
        write_json(json, reports)
    codes = [_print_detector_report(report, where=where) for report, where in zip(reports, places, strict=True)]
    return next(code for code in EXIT_CODES.values() if code in codes)


def run_inspect(path: Path, *, json: Path | None = None) -> None:
    """Print what is inside a TFLite file or a bundle's folder.

    Raises:
        ModelFileError: missing, damaged or refused by the interpreter.
    """
    found = inspect_model(path)
    write_json(json, found)
    print(f"{found.file}: {found.bytes:,} bytes, {found.parameters:,} parameters, {found.macs:,} MACs,"
          f" {100 * found.int8_macs_share:.1f} % of them int8")  # fmt: skip
    for kind, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            step = f" scale {tensor.scale:g} zero point {tensor.zero_point}" if tensor.scale else ""
            print(f"{kind} {tensor.name}: {tensor.dtype} {'x'.join(map(str, tensor.shape))}{step}")
    rows = [(name, str(count), f"{macs:,}") for name, count, macs in count_ops(found)]
    _print_table(("operator", "count", "MACs"), rows, width=140)
    print(f"XNNPACK: {found.delegated_nodes} of {len(found.plan)} nodes of the plan ({', '.join(found.plan[:12])})")
    left = found.edgetpu.left
    print(f"Edge TPU: {f'would leave {len(left)} operators' if left else 'would take the whole graph'}")
    for line in left[:8]:
        print(f"  {line}")
    print(f"metadata: {', '.join(found.metadata) or 'none'}")


def _print_report(report: Report, *, where: str = "") -> int:
    """Print a classifier's figures, where they were written and the verdict; return the verdict's exit code."""
    large, small = report.forms
    rows: list[tuple[str, ...]] = [*figures(report.comparison)]
    rows.append(("bytes", f"{large.bytes:,}", f"{small.bytes:,} ({small.bytes / large.bytes:.2f} x)"))
    for before, after in zip(large.latency, small.latency, strict=True):
        name = f"ms with {before.threads} thread{'s' if before.threads > 1 else ''}, p50 · p95"
        rows.append((name, *(f"{one.p50_ms:.3f} · {one.p95_ms:.3f}" for one in (before, after))))
    rows.append(("nodes that XNNPACK takes", "", f"{report.delegated_nodes} of {report.total_nodes}"))
    _print_table(("", "float32", report.manifest.quantization.scheme), rows, width=110)
    if report.repair:
        head = ("repair", "accuracy", "drop, points", "p50 ms", "bytes", "MACs in int8", "verdict")
        _print_table(head, [_repair_row(step) for step in report.repair], width=110, pad_edge=True)
    if report.edgetpu is not None:
        left, doubtful = report.edgetpu.left, report.edgetpu.doubtful
        print(f"Edge TPU: {len(report.edgetpu.mapped)} operators map, {len(left)} do not")
        for line in (*left[:20], *(f"{line}?" for line in doubtful[:5])):
            print(f"  {line}")
        if report.manifest.edgetpu_model is None:
            print(f"not compiled for it: {INSTALL}")
    before, after = large.latency[0], small.latency[0]
    if after.p50_ms > before.p50_ms:
        print(
            f"{report.manifest.quantization.scheme} is slower than float32 on this machine: "
            f"{after.p50_ms:.3f} against {before.p50_ms:.3f} ms with one thread"
        )
    return _print_verdict(report.comparison, where=where)


def _print_detector_report(report: DetectorReport, *, where: str = "") -> int:
    """Print a detector's figures, where they were written and the verdict; return the verdict's exit code."""
    head = (report.manifest.full_name, "float32", "int8", "drop, points")
    _print_table(head, detector_figures(report.comparison), width=120)
    return _print_verdict(report.comparison, where=where)


def _print_verdict(found: Comparison | DetectorComparison, *, where: str) -> int:
    if where:
        print(where)
    print(f"{found.status}: {found.reason}")
    return EXIT_CODES[found.status]


def _print_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, width: int, pad_edge: bool = False) -> None:
    """Print a table; ``width`` in characters where the output is no terminal."""
    table = Table(*head, box=None, pad_edge=pad_edge)
    for row in rows:
        table.add_row(*map(escape, row))
    Console(highlight=False, width=None if Console().is_terminal else width).print(table)


def _repair_row(step: RepairStep) -> tuple[str, ...]:
    return (
        step.name,
        f"{100 * step.accuracy:.2f} %",
        f"{step.drop:+.2f} ({step.drop_low:+.2f}..{step.drop_high:+.2f})",
        f"{step.p50_ms:.3f}",
        f"{step.bytes:,}",
        f"{100 * step.int8_macs_share:.1f} %",
        f"{step.status}{' ←' if step.chosen else ''}",
    )
