"""Conversion and verification of a classifier: what the commands and `training.export` call."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from convert.bundle_writer import CARD_FILE, EDGETPU_FILE, REPORT_FILE, describe_model, write_bundle
from convert.classifier.build import Conversion
from convert.classifier.calibrate import draw_calibration_set
from convert.classifier.load import FloatModel, load_model
from convert.classifier.options import QuantizeData, QuantizeOptions, VerifyOptions
from convert.classifier.qat import fine_tune
from convert.classifier.quantize import quantize
from convert.classifier.repair import RepairStep, repair
from convert.classifier.report import SCHEMA, FormFacts, Report, make_card
from convert.classifier.report_page import make_html
from convert.classifier.sanity import Doubt, check_labels, check_scaling, find_doubt, left_out
from convert.console import Note, encode_report, ignore_note
from convert.datasets import Dataset
from convert.evaluation.verdict import Run, compare, make_evaluation_set
from convert.tflite.edgetpu import EdgeTpuMapping, compile_for_edgetpu, map_to_edgetpu
from convert.tflite.graph import Graph, count_macs
from convert.tflite.inspect import int8_macs_share
from convert.tflite.latency import measure_latency
from convert.tflite.layer_errors import LayerError, measure_layers
from edge.contract.bundle import Bundle
from edge.contract.manifest import EmotionManifest
from edge.errors import ConversionError, InferenceError


@dataclass(frozen=True, slots=True)
class Result:
    """A compared bundle in memory.

    Attributes:
        bundle: complete; after a conversion its manifest's status is the verdict.
        report: everything measured.
        run: the pictures and both models' scores.
    """

    bundle: Bundle[EmotionManifest]
    report: Report
    run: Run

    def write(self, folder: Path, *, force: bool = False) -> bool:
        """Write the bundle with its report and card.

        Args:
            folder: the bundle's place.
            force: replace an existing bundle, and write a failed one, marked as such.

        Returns:
            Whether it was written.
        """
        if self.report.comparison.status == "failed" and not force:
            return False
        documents = {CARD_FILE: make_card(self.report), REPORT_FILE: encode_report(self.report)}
        write_bundle(folder, self.bundle, documents=documents, force=force)
        return True

    def page(self) -> bytes:
        """Return ``report.html``; it shows pictures and must not travel with the bundle."""
        scores = {"float_scores": self.run.float_scores, "quantized_scores": self.run.quantized_scores}
        return make_html(self.report, self.run.data, **scores)


def quantize_classifier(
    model: Path, data: QuantizeData, options: QuantizeOptions, *, note: Note = ignore_note
) -> Result:
    """Quantize a classifier and compare it with the float model on the same pictures.

    Args:
        model: ``.keras``, ``.h5``, ``.hdf5``, ``.tflite``, ``.onnx`` or a SavedModel folder.
        data: labelled faces.
        options: how, and what the manifest says.
        note: called with a line at each step.

    Raises:
        MienError: anything that does not fit or cannot be done.
    """
    note(f"reading {model}")
    loaded = load_model(model, arithmetic=options.arithmetic, head=options.head, form=options.form)
    conversion = _prepare(loaded, data, options, note=note)
    doubt = find_doubt(
        loaded,
        conversion.evaluation,
        labels=options.labels,
        arithmetic=options.arithmetic,
        colour=options.colour,
        expected=options.expected_accuracy,
    )
    if doubt is not None:
        note(f"suspect: {doubt.text}")
    bundle, run, steps = _quantize(conversion)
    if doubt is not None:
        bundle, run = _suspect(bundle, run, doubt)
    mapping = None
    if options.edgetpu:
        mapping, compiled = map_to_edgetpu(Graph(bundle.model)), compile_for_edgetpu(bundle.model)
        if compiled is not None:
            entry = describe_model(compiled, file=EDGETPU_FILE)
            manifest = msgspec.structs.replace(bundle.manifest, edgetpu_model=entry)
            bundle = replace(bundle, manifest=manifest, edgetpu_model=compiled)
    layers: tuple[LayerError, ...] = ()
    if options.scheme == "int8":
        note("measuring the error of each layer")
        layers = measure_layers(conversion.model.tflite, bundle.model, conversion.calibration.pixels)
    note("measuring latency")
    report = _make_report(
        bundle, conversion.model, run, layers=layers, repair=steps, edgetpu=mapping, notes=options.notes
    )
    return Result(bundle, report, run)


def verify_classifier(
    bundle: Bundle[EmotionManifest], reference: Path, data: Dataset, options: VerifyOptions, *, note: Note = ignore_note
) -> Result:
    """Compare a bundle with the float model that it was made of, through the code that runs on the device.

    Args:
        bundle: what is verified.
        reference: the float model, see `quantize_classifier`.
        data: labelled faces.
        options: how the float model is read, and what may be lost.
        note: called with a line at each step.

    Raises:
        MienError: anything that does not fit or cannot be done.
    """
    model = load_model(reference, arithmetic=options.arithmetic, head=options.head, form=options.form)
    manifest = bundle.manifest
    if model.classes != len(manifest.labels) or model.input_shape != manifest.input.shape[1:]:
        raise ConversionError(
            f"{model.path}: {model.classes} outputs of an input {model.input_shape}; the bundle has"
            f" {len(manifest.labels)} of {manifest.input.shape[1:]}: not the same model"
        )
    evaluation = make_evaluation_set(
        data, labels=manifest.labels, size_px=manifest.crop.size_px, colour=manifest.input.colour
    )
    check_scaling(
        model, evaluation, labels=manifest.labels, arithmetic=options.arithmetic, colour=manifest.input.colour
    )
    note(f"comparing on {len(evaluation.labels):,} pictures of {evaluation.name}")
    run = compare(bundle, model.predict, evaluation, limits=options.limits)
    note("measuring latency")
    return Result(bundle, _make_report(bundle, model, run), run)


def _suspect(bundle: Bundle[EmotionManifest], run: Run, doubt: Doubt) -> tuple[Bundle[EmotionManifest], Run]:
    """Return a comparison that says first that the float model is not to be believed; its bundle never has passed.

    What failed stays failed: a doubt about the float model excuses nothing.
    """
    found = run.comparison
    reason = f"{doubt.text} (int8 against float: {found.status}, {found.reason})"
    if found.status == "failed":
        return bundle, replace(run, comparison=replace(found, reason=reason))
    manifest = msgspec.structs.replace(bundle.manifest, status="undecided")
    return replace(bundle, manifest=manifest), replace(run, comparison=replace(found, status="suspect", reason=reason))


def _prepare(model: FloatModel, data: QuantizeData, options: QuantizeOptions, *, note: Note) -> Conversion:
    options.check_model(model)
    for part, use in ((data.calibration, "calibrate"), (data.evaluation, "compare")):
        check_labels(options.labels, part)
        if missing := left_out(options.labels, part):
            note(f"{part.name}: left out of the pictures to {use}, the model has no such label: {missing}")
    size_px, colour = model.input_shape[0], options.colour
    calibration = draw_calibration_set(
        data.calibration, labels=options.labels, size_px=size_px, colour=colour, count=options.calibration_count,
        seed=options.seed,
    )  # fmt: skip
    if options.qat_epochs:
        pixels = data.calibration.model_inputs(size_px=size_px, colour=colour)
        model = fine_tune(model, pixels, arithmetic=options.arithmetic, epochs=options.qat_epochs, note=note)
    evaluation = make_evaluation_set(data.evaluation, labels=options.labels, size_px=size_px, colour=colour)
    check_scaling(model, evaluation, labels=options.labels, arithmetic=options.arithmetic, colour=colour)
    labelled = make_evaluation_set(data.calibration, labels=options.labels, size_px=size_px, colour=colour)
    return Conversion(model, options, calibration, labelled, evaluation, note)


def _quantize(conversion: Conversion) -> tuple[Bundle[EmotionManifest], Run, tuple[RepairStep, ...]]:
    """Return the plain quantized model, or what a repair makes of it."""
    options, pixels = conversion.options, conversion.calibration.pixels
    repairs = options.repair and options.scheme == "int8"
    conversion.note(f"quantizing to {options.scheme} with {len(pixels)} pictures")
    quantized = quantize(conversion.model.tflite, scheme=options.scheme, io=options.io, pixels=pixels)
    try:
        bundle, run = conversion.judge(quantized)
        if not repairs or run.comparison.status == "passed":
            return bundle, run, ()
    except InferenceError:
        if not repairs:
            raise
    return repair(conversion)


def _make_report(
    bundle: Bundle[EmotionManifest],
    model: FloatModel,
    run: Run,
    *,
    layers: tuple[LayerError, ...] = (),
    repair: tuple[RepairStep, ...] = (),
    edgetpu: EdgeTpuMapping | None = None,
    notes: str = "",
) -> Report:
    forms = {"float32": model.tflite, bundle.manifest.quantization.scheme: bundle.model}
    return Report(
        schema=SCHEMA,
        manifest=bundle.manifest,
        source={"kind": model.kind, "file": model.path.name, "softmax_removed": model.softmax_removed},
        comparison=run.comparison,
        evaluation_sha256=run.data.sha256,
        omitted=run.data.omitted,
        forms=tuple(_measure_form(name, form) for name, form in forms.items()),
        delegated_nodes=run.delegated_nodes,
        total_nodes=run.total_nodes,
        layers=layers,
        edgetpu=edgetpu,
        repair=repair,
        notes=notes,
    )


def _measure_form(name: str, model: bytes) -> FormFacts:
    graph = Graph(model)
    return FormFacts(
        name=name,
        bytes=len(model),
        macs=sum(count_macs(graph, op) for op in graph.ops()),
        int8_macs_share=int8_macs_share(graph),
        latency=measure_latency(model, threads=sorted({1, os.cpu_count() or 1})),
    )
