"""The commands of ``mien-convert``, from arguments to exit code."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from convert.arguments import (
    demand,
    model_file,
    parse_arithmetic,
    parse_colour,
    parse_crop,
    parse_head,
    parse_labels,
    parse_name,
    parse_version,
    read_origin,
)
from convert.bundle_writer import CARD_FILE, EDGETPU_FILE, REPORT_FILE, check_free, describe_model
from convert.classifier.build import (
    Candidate,
    Request,
    check_request,
    draw,
    judge_model,
    judge_quantized,
    write_candidate,
)
from convert.classifier.calibrate import CalibrationSet
from convert.classifier.load import FloatModel, load_model
from convert.classifier.qat import fine_tune
from convert.classifier.quantize import check_io
from convert.classifier.repair import RepairStep, repair
from convert.classifier.report import EXIT_CODES, SCHEMA, FormFacts, Report, encode_report, figures, make_card
from convert.classifier.report_page import make_html
from convert.console import PAGE_FILE, Progress, page_folder, write_json, write_page
from convert.datasets import Dataset, read_datasets
from convert.datasets.reading import Held
from convert.detector_commands import VerifyDetectorArguments, run_verify_detector
from convert.evaluation.verdict import Comparison, Limits, QuantizedModel, Run, compare, make_evaluation_set
from convert.tflite.edgetpu import INSTALL, EdgeTpuMapping, compile_for_edgetpu, map_to_edgetpu
from convert.tflite.graph import Graph, count_macs
from convert.tflite.inspect import Inspection, count_ops, inspect_model, int8_macs_share
from convert.tflite.latency import measure_latency
from convert.tflite.layer_errors import LayerError, measure_layers
from edge.bundles.locate import find_bundle
from edge.contract.bundle import Bundle, load_bundle, load_detect_bundle, load_emotion_bundle
from edge.contract.manifest import DetectManifest, EmotionManifest
from edge.errors import ConversionError, InferenceError, UsageError


@dataclass(frozen=True, slots=True)
class QuantizeArguments:
    """What stands on the command line of ``quantize``; see its help."""

    model: Path
    calibrate: tuple[str, ...]
    evaluate: tuple[str, ...]
    out: Path
    labels: str | None
    crop: str | None
    version: str | None
    licence: str | None
    name: str | None
    notices: tuple[str, ...]
    notes: str
    trained_from: Path | None
    git: str | None
    scheme: str
    io: str | None
    scale: str | None
    mean: str | None
    color: str | None
    head: str
    max_drop: float
    max_class_drop: float
    repair: bool
    qat: int
    edgetpu: bool
    calibration_count: int
    seed: int
    json: Path | None
    force: bool


@dataclass(frozen=True, slots=True)
class VerifyArguments:
    """What stands on the command line of ``verify``; see its help."""

    bundle: str
    reference: Path
    data: tuple[str, ...]
    scale: str | None
    mean: str | None
    head: str
    max_drop: float
    max_class_drop: float
    report: Path | None
    record: bool
    notes: str
    json: Path | None


def run_quantize(arguments: QuantizeArguments) -> int:
    """Quantizes, compares, writes; see ``mien-convert quantize --help``.

    Returns:
        0 passed, 3 failed, 4 undecided.

    Raises:
        MienError: anything that cannot be done.
    """
    progress = Progress()
    check_free(arguments.out, force=arguments.force)
    with progress.running():
        report, candidate, run, compiled = _quantize(arguments, progress)
        written = write_candidate(
            candidate,
            arguments.out,
            documents={CARD_FILE: make_card(report), REPORT_FILE: encode_report(report)},
            edgetpu_model=compiled,
            force=arguments.force,
        )
        folder = page_folder(arguments.out)
        write_page(folder, _page(report, run))
        write_json(arguments.json, report)
    _print_summary(report)
    hint = "" if arguments.repair else "--repair looks for what brings it back, "
    where = f"no bundle was written ({hint}--force writes it marked as failed)"
    if written:
        where = f"bundle {arguments.out}"
    print(f"{where}; report {folder / PAGE_FILE}")
    _print_verdict(report.comparison)
    return EXIT_CODES[report.comparison.status]


def run_verify(arguments: VerifyArguments) -> int:
    """Compares a bundle with its float model; see ``mien-convert verify --help``.

    Returns:
        0 passed, 3 failed, 4 undecided.

    Raises:
        MienError: anything that cannot be done.
    """
    found = load_bundle(find_bundle(arguments.bundle))
    if isinstance(found.manifest, DetectManifest):
        return _verify_detector(load_detect_bundle(found.path), arguments)
    if arguments.record:
        raise UsageError("--record: an emotion model's verdict is written by quantize; --record is for detectors")
    progress = Progress()
    with progress.running():
        progress("reading bundle, model and data")
        bundle = load_emotion_bundle(found.path)
        arithmetic = parse_arithmetic(arguments.scale, arguments.mean)
        model = load_model(arguments.reference, arithmetic=arithmetic, head=parse_head(arguments.head))
        _check_reference(bundle, model)
        data = make_evaluation_set(read_datasets(arguments.data), manifest=bundle.manifest)
        progress(f"comparing on {len(data.labels):,} pictures of {data.name}")
        limits = Limits(arguments.max_drop, arguments.max_class_drop)
        run = compare(bundle, model.predict, data, limits=limits)
        report = _make_report(bundle, model, run, progress=progress)
        if arguments.report is not None:
            write_page(arguments.report, _page(report, run))
        write_json(arguments.json, report)
    _print_summary(report)
    _print_verdict(report.comparison)
    return EXIT_CODES[report.comparison.status]


def _verify_detector(bundle: Bundle[DetectManifest], arguments: VerifyArguments) -> int:
    given = {"--scale": arguments.scale, "--mean": arguments.mean}
    for flag, value in given.items():
        if value is not None:
            raise UsageError(f"{flag}: {bundle.manifest.name} is a face detector; {flag} is for emotion models")
    return run_verify_detector(
        bundle,
        VerifyDetectorArguments(
            reference=arguments.reference, data=arguments.data, max_drop=arguments.max_drop, notes=arguments.notes,
            record=arguments.record, report=arguments.report, json=arguments.json,
        ),
    )  # fmt: skip


def run_inspect(path: Path, *, json: Path | None) -> None:
    """Prints what is inside a TFLite file.

    Args:
        path: the file, or a bundle's folder.
        json: written to as well.

    Raises:
        ModelFileError: missing, damaged or refused by the interpreter.
    """
    found = inspect_model(model_file(path))
    write_json(json, found)
    _print_inspection(found)


def _quantize(arguments: QuantizeArguments, progress: Progress) -> tuple[Report, Candidate, Run, bytes | None]:
    io = check_io(arguments.scheme, arguments.io)
    if arguments.edgetpu and (arguments.scheme != "int8" or io == "float32"):
        raise UsageError(
            f"--edgetpu: --scheme {arguments.scheme} --io {io}; an Edge TPU takes --scheme int8 with --io int8 or uint8"
        )
    arithmetic = parse_arithmetic(arguments.scale, arguments.mean)
    labels, margin = parse_labels(arguments.labels), parse_crop(arguments.crop)
    name, version = parse_name(arguments.name, arguments.out), parse_version(arguments.version)
    licence = demand(arguments.licence, "--licence", "the licence of the weights")
    progress("reading data")
    held: Held = {}
    calibration_data, evaluation_data = (
        read_datasets(specs, held=held) for specs in (arguments.calibrate, arguments.evaluate)
    )
    held.clear()
    progress(f"reading {arguments.model}")
    model = load_model(arguments.model, arithmetic=arithmetic, head=parse_head(arguments.head))
    request = Request(
        name=name,
        version=version,
        labels=labels,
        colour=parse_colour(arguments.color, channels=model.input_shape[2]),
        margin=margin,
        licence=licence,
        notices=arguments.notices,
        trained_from=read_origin(
            arguments.trained_from, git=arguments.git, model=arguments.model, sha256=hash_model(arguments.model)
        ),
        scheme=arguments.scheme,  # type: ignore[arg-type]
        io=io,
        calibration_count=arguments.calibration_count,
        seed=arguments.seed,
        limits=Limits(arguments.max_drop, arguments.max_class_drop),
    )
    check_request(model, request)
    calibration = draw(model, request, calibration_data)
    if arguments.qat:
        pixels = calibration_data.model_inputs(size_px=model.input_shape[0], colour=request.colour)
        model = fine_tune(model, pixels, arithmetic=arithmetic, epochs=arguments.qat, note=progress)
    candidate, run, steps = _judge(arguments, model, request, calibration, evaluation_data, progress)
    compiled = compile_for_edgetpu(candidate.bundle.model) if arguments.edgetpu else None
    if compiled is not None:
        manifest = msgspec.structs.replace(
            candidate.bundle.manifest, edgetpu_model=describe_model(compiled, file=EDGETPU_FILE)
        )
        candidate = candidate.with_manifest(manifest)
    layers: tuple[LayerError, ...] = ()
    if arguments.scheme == "int8":
        progress("measuring the error of each layer")
        layers = measure_layers(model.tflite, candidate.bundle.model, calibration.pixels)
    report = _make_report(
        candidate.bundle, model, run, progress=progress, layers=layers, steps=steps, notes=arguments.notes,
        edgetpu=map_to_edgetpu(Graph(candidate.bundle.model)) if arguments.edgetpu else None,
    )  # fmt: skip
    return report, candidate, run, compiled


def _judge(
    arguments: QuantizeArguments,
    model: FloatModel,
    request: Request,
    calibration: CalibrationSet,
    evaluation: Dataset,
    progress: Progress,
) -> tuple[Candidate, Run, tuple[RepairStep, ...]]:
    """The plain quantized model, or what a repair makes of it."""
    repairs = arguments.repair and arguments.scheme == "int8"
    try:
        candidate, run = judge_model(model, request, calibration=calibration, evaluation=evaluation, note=progress)
        if not repairs or candidate.comparison.status == "passed":
            return candidate, run, ()
    except InferenceError:
        if not repairs:
            raise
    quantized, steps = repair(model, request, calibration=calibration, evaluation=evaluation, note=progress)
    candidate, run = judge_quantized(
        model, request, quantized, calibration=calibration, evaluation=evaluation, note=progress
    )
    return candidate, run, steps


def hash_model(path: Path) -> str:
    """SHA-256 of a model's file, or of all files in a folder in the order of their names."""
    digest = hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _check_reference(bundle: Bundle[EmotionManifest], model: FloatModel) -> None:
    if model.classes != len(bundle.manifest.labels) or model.input_shape != bundle.manifest.input.shape[1:]:
        raise ConversionError(
            f"{model.path}: {model.classes} outputs of an input {model.input_shape}; the bundle has"
            f" {len(bundle.manifest.labels)} of {bundle.manifest.input.shape[1:]}: not the same model"
        )


def _make_report(
    bundle: Bundle[EmotionManifest],
    model: FloatModel,
    run: Run,
    *,
    progress: Progress,
    layers: tuple[LayerError, ...] = (),
    steps: tuple[RepairStep, ...] = (),
    edgetpu: EdgeTpuMapping | None = None,
    notes: str = "",
) -> Report:
    progress("measuring latency")
    forms = tuple(
        _measure_form(name, form)
        for name, form in (("float32", model.tflite), (bundle.manifest.quantization.scheme, bundle.model))
    )
    with QuantizedModel(bundle) as loaded:
        nodes = loaded.delegated_nodes, loaded.total_nodes
    return Report(
        schema=SCHEMA,
        manifest=bundle.manifest,
        source={"kind": model.kind, "file": model.path.name, "softmax_removed": model.softmax_removed},
        comparison=run.comparison,
        evaluation_sha256=run.data.sha256,
        omitted=run.data.omitted,
        forms=forms,
        delegated_nodes=nodes[0],
        total_nodes=nodes[1],
        layers=layers,
        edgetpu=edgetpu,
        repair=steps,
        notes=notes,
    )


def _measure_form(name: str, model: bytes) -> FormFacts:
    graph = Graph(model)
    macs = sum(count_macs(graph, op) for op in graph.ops())
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        file.write_bytes(model)
        latency = measure_latency(file, threads=sorted({1, os.cpu_count() or 1}))
    return FormFacts(name, len(model), macs, int8_macs_share(graph), latency)


def _page(report: Report, run: Run) -> bytes:
    return make_html(report, run.data, float_scores=run.float_scores, quantized_scores=run.quantized_scores)


def _print_summary(report: Report) -> None:
    table = Table("", "float32", report.manifest.quantization.scheme, box=None, pad_edge=False)
    for row in figures(report.comparison):
        table.add_row(*row)
    large, small = report.forms
    table.add_row("bytes", f"{large.bytes:,}", f"{small.bytes:,} ({small.bytes / large.bytes:.2f} x)")
    for index, latency in enumerate(report.forms[0].latency):
        times = [form.latency[index] for form in report.forms]
        name = f"ms with {latency.threads} thread{'s' if latency.threads > 1 else ''}, p50 · p95"
        table.add_row(name, *(f"{one.p50_ms:.3f} · {one.p95_ms:.3f}" for one in times))
    table.add_row("nodes that XNNPACK takes", "", f"{report.delegated_nodes} of {report.total_nodes}")
    console = Console(highlight=False, width=None if Console().is_terminal else 110)
    console.print(table)
    if report.repair:
        console.print(_repair_table(report.repair))
    if report.edgetpu is not None:
        console.print(f"Edge TPU: {len(report.edgetpu.mapped)} operators map, {len(report.edgetpu.left)} do not")
        for line in (*report.edgetpu.left[:20], *(f"{line}?" for line in report.edgetpu.doubtful[:5])):
            console.print(f"  {line}", markup=False)
        if report.manifest.edgetpu_model is None:
            console.print(f"not compiled for it: {INSTALL}", markup=False)


def _repair_table(steps: tuple[RepairStep, ...]) -> Table:
    table = Table("repair", "accuracy", "drop, points", "p50 ms", "bytes", "MACs in int8", "verdict", box=None)
    for step in steps:
        table.add_row(
            step.name, f"{100 * step.accuracy:.2f} %",
            f"{step.drop:+.2f} ({step.drop_low:+.2f}..{step.drop_high:+.2f})",
            f"{step.p50_ms:.3f}", f"{step.bytes:,}", f"{100 * step.int8_macs_share:.1f} %",
            f"{step.status}{' ←' if step.chosen else ''}",
        )  # fmt: skip
    return table


def _print_verdict(found: Comparison) -> None:
    print(f"{found.status}: {found.reason}")


def _print_inspection(found: Inspection) -> None:
    console = Console(highlight=False, markup=False, width=None if Console().is_terminal else 140)
    print(f"{found.file}: {found.bytes:,} bytes, {found.parameters:,} parameters, {found.macs:,} MACs,"
          f" {100 * found.int8_macs_share:.1f} % of them int8")  # fmt: skip
    for kind, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            step = f" scale {tensor.scale:g} zero point {tensor.zero_point}" if tensor.scale else ""
            print(f"{kind} {tensor.name}: {tensor.dtype} {'x'.join(map(str, tensor.shape))}{step}")
    table = Table("operator", "count", "MACs", box=None, pad_edge=False)
    for name, count, macs in count_ops(found):
        table.add_row(name, str(count), f"{macs:,}")
    console.print(table)
    print(f"XNNPACK: {found.delegated_nodes} of {len(found.plan)} nodes of the plan ({', '.join(found.plan[:12])})")
    fits = "would take the whole graph" if found.edgetpu.fits else f"would leave {len(found.edgetpu.left)} operators"
    print(f"Edge TPU: {fits}")
    for line in found.edgetpu.left[:8]:
        print(f"  {line}")
    print(f"metadata: {', '.join(found.metadata) or 'none'}")
