"""What a conversion says of itself: ``report.json``, ``MODEL_CARD.md`` and one self-contained ``report.html``."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np

from convert.edgetpu import EdgeTpuMapping
from convert.latency import Latency
from convert.layers import LayerError
from convert.output import encode_json
from convert.repair import RepairStep
from convert.verify import Comparison, EvaluationSet
from edge.contract.manifest import EmotionManifest
from edge.errors import EXIT_CLEAN, EXIT_GATE_FAILED, EXIT_UNDECIDED
from edge.records import Floats

SCHEMA: Final = "mien.conversion/1"
EXIT_CODES: Final = {"passed": EXIT_CLEAN, "failed": EXIT_GATE_FAILED, "undecided": EXIT_UNDECIDED}


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


def encode_report(report: Report) -> bytes:
    """``report.json``: indented, arrays as lists, NaN as null."""
    return encode_json(report)


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
        *(f"| {name} | {large} | {small} |" for name, large, small in _figures(found)),
        "",
        "| class | n | recall float32 | recall " + manifest.quantization.scheme + " |",
        "| --- | --- | --- | --- |",
        *(
            f"| {c.label} | {c.n:,} | {_percent(c.recall_float)} | {_percent(c.recall_quantized)} |"
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


def make_html(report: Report, data: EvaluationSet, *, float_scores: Floats, quantized_scores: Floats) -> bytes:
    """``report.html``: the verdict first, everything in one file.

    It shows pictures of the evaluation data and is therefore never part of a bundle.

    Args:
        report: what is reported.
        data: the pictures that were compared on.
        float_scores: (n, labels) calibrated probabilities of the float model.
        quantized_scores: (n, labels) of the quantized one.
    """
    found, manifest = report.comparison, report.manifest
    scheme = manifest.quantization.scheme
    parts = [
        f'<p class="verdict {found.status}"><b>{found.status.upper()}</b> {html.escape(found.reason)}</p>',
        f"<p>{html.escape(manifest.full_name)} · {scheme} · {found.n:,} pictures of {html.escape(found.dataset)}</p>",
        _table(("", "float32", scheme), _figures(found)),
        "<h2>Size and time</h2>",
        _forms_table(report),
        f"<p>XNNPACK takes {report.delegated_nodes} of {report.total_nodes} nodes of the plan.</p>",
        "<h2>Recall per class</h2>",
        _class_bars(found),
        "<h2>Confusion</h2>",
        '<div class="row">',
        _confusion("float32", found.confusion_float, manifest.labels),
        _confusion(scheme, found.confusion_quantized, manifest.labels),
        "</div>",
        "<h2>Reliability</h2>",
        _reliability(found),
        "<h2>Worse pictures</h2>",
        _slices_table(found),
        "<h2>Worst disagreements</h2>",
        _disagreements(found, data, manifest, float_scores, quantized_scores),
        _repair_section(report.repair),
        "<h2>Error per layer</h2>",
        _layers_table(report.layers),
        _edgetpu_section(report.edgetpu),
    ]
    title = html.escape(f"{manifest.full_name}: {found.status}")
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>"
        f"<body><h1>{html.escape(manifest.name)}</h1>{''.join(parts)}</body></html>\n"
    )
    return page.encode()


def summary_rows(found: Comparison) -> list[tuple[str, str, str]]:
    """The short table for the terminal: name, float, quantized."""
    return _figures(found)


def _figures(found: Comparison) -> list[tuple[str, str, str]]:
    large, small = found.accuracy_float, found.accuracy_quantized
    return [
        ("accuracy", _interval(large.value, large.low, large.high), _interval(small.value, small.low, small.high)),
        ("macro F1", f"{found.macro_f1_float:.4f}", f"{found.macro_f1_quantized:.4f}"),
        ("calibration error at T", f"{found.calibration_float.error:.4f}", f"{found.calibration_after.error:.4f}"),
        ("calibration error at 1", "", f"{found.calibration_before.error:.4f}"),
        ("drop of accuracy, points", "", f"{found.drop:+.2f} ({found.drop_low:+.2f}..{found.drop_high:+.2f})"),
        ("McNemar p", "", f"{found.difference.p_value:.3f}"),
        ("same top class", "", _percent(found.agreement)),
        (
            "score difference, mean · worst",
            "",
            f"{found.mean_score_difference:.4f} · {found.worst_score_difference:.3f}",
        ),
    ]


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.2f} %"


def _interval(value: float, low: float, high: float) -> str:
    return f"{100 * value:.2f} % ({100 * low:.2f}..{100 * high:.2f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def _forms_table(report: Report) -> str:
    threads = [latency.threads for latency in report.forms[0].latency]
    times = [f"{n} thread{'s' if n > 1 else ''}, p50 · p95 ms" for n in threads]
    rows = [
        (form.name, f"{form.bytes:,}", f"{form.macs:,}", _percent(form.int8_macs_share),
         *(f"{latency.p50_ms:.3f} · {latency.p95_ms:.3f}" for latency in form.latency))
        for form in report.forms
    ]  # fmt: skip
    return _table(("", "bytes", "MACs", "of them int8", *times), rows)


def _class_bars(found: Comparison) -> str:
    rows = []
    for one in found.classes:
        bars = "".join(
            f'<div class="bar {kind}" style="width:{0 if math.isnan(share) else 300 * share:.0f}px"></div>'
            for kind, share in (("large", one.recall_float), ("small", one.recall_quantized))
        )
        gate = "" if one.gates else " · too few to gate"
        drop = f"{one.drop:+.2f} ({one.drop_low:+.2f}..{one.drop_high:+.2f}) points{gate}" if one.n else "no pictures"
        rows.append(
            f"<tr><td>{html.escape(one.label)}</td><td>{one.n:,}</td><td>{bars}</td>"
            f"<td>{_percent(one.recall_float)} → {_percent(one.recall_quantized)}</td><td>{drop}</td></tr>"
        )
    head = "<tr><th>class</th><th>n</th><th>float · quantized</th><th>recall</th><th>drop</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _confusion(title: str, counts: Any, labels: Sequence[str]) -> str:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    head = "".join(f"<th>{html.escape(label[:4])}</th>" for label in labels)
    body = ""
    for label, row, share in zip(labels, counts, shares, strict=True):
        cells = "".join(
            f'<td style="background:rgba(40,90,200,{s:.2f});color:{"#fff" if s > 0.5 else "#000"}">{count}</td>'
            for count, s in zip(row, share, strict=True)
        )
        body += f"<tr><th>{html.escape(label)}</th>{cells}</tr>"
    return (
        f'<table class="confusion"><caption>{html.escape(title)}: rows are labels</caption>'
        f"<thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _reliability(found: Comparison) -> str:
    size = 260
    curves = (
        ("#999", "quantized, T = 1", found.calibration_before),
        ("#c33", "quantized, fitted T", found.calibration_after),
        ("#36c", "float, fitted T", found.calibration_float),
    )
    lines = "".join(
        f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
        + " ".join(f"{size * c:.1f},{size * (1 - a):.1f}" for c, a in zip(x.confidences, x.accuracies, strict=True))
        + '"/>'
        for colour, _, x in curves
    )
    legend = "".join(
        f'<li style="color:{colour}">{name}: expected calibration error {x.error:.4f}</li>'
        for colour, name, x in curves
    )
    return (
        f'<div class="row"><svg viewBox="-2 -2 {size + 4} {size + 4}" width="{size}" height="{size}">'
        f'<rect width="{size}" height="{size}" fill="none" stroke="#ccc"/>'
        f'<line x1="0" y1="{size}" x2="{size}" y2="0" stroke="#ccc"/>{lines}</svg>'
        f"<ul>{legend}<li>across: confidence 0..1; up: share right</li></ul></div>"
    )


def _slices_table(found: Comparison) -> str:
    rows = [
        (s.name, f"{s.n}", _percent(s.accuracy_float), _percent(s.accuracy_quantized),
         f"{s.drop:+.2f} ({s.drop_low:+.2f}..{s.drop_high:+.2f})")
        for s in found.slices
    ]  # fmt: skip
    return _table(("", "n", "float32", "quantized", "drop, points"), rows)


def _disagreements(
    found: Comparison, data: EvaluationSet, manifest: EmotionManifest, float_scores: Floats, quantized_scores: Floats
) -> str:
    labels, colour = manifest.labels, manifest.input.colour
    figures = ""
    for row in found.worst:
        large, small = float_scores[row], quantized_scores[row]
        pixels = data.pixels[row][:, :, ::-1] if colour == "rgb" else data.pixels[row]
        _, png = cv2.imencode(".png", np.ascontiguousarray(pixels))
        picture = base64.b64encode(png.tobytes()).decode()
        lines = (
            f"label {labels[data.labels[row]]}",
            f"float {labels[int(large.argmax())]} {large.max():.2f}",
            f"quantized {labels[int(small.argmax())]} {small.max():.2f}",
        )
        caption = "<br>".join(map(html.escape, lines))
        figures += f'<figure><img src="data:image/png;base64,{picture}"><figcaption>{caption}</figcaption></figure>'
    return f'<div class="row">{figures}</div>'


def _layers_table(layers: Sequence[LayerError]) -> str:
    rows = [
        (layer.op, layer.output[:70], f"{layer.signal_to_noise_db:.1f}", f"{layer.low:.3g} .. {layer.high:.3g}")
        for layer in layers
    ]
    return _table(("operator", "output", "signal to noise, dB", "calibrated range"), rows)


def _repair_section(steps: Sequence[RepairStep]) -> str:
    if not steps:
        return ""
    rows = [
        (step.name, _percent(step.accuracy), f"{step.drop:+.2f} ({step.drop_low:+.2f}..{step.drop_high:+.2f})",
         f"{step.p50_ms:.3f}", f"{step.bytes:,}", _percent(step.int8_macs_share),
         step.status + (" ←" if step.chosen else ""))
        for step in steps
    ]  # fmt: skip
    head = ("repair", "accuracy", "drop, points", "p50 ms", "bytes", "MACs in int8", "verdict")
    return "<h2>Repair</h2>" + _table(head, rows)


def _edgetpu_section(mapping: EdgeTpuMapping | None) -> str:
    if mapping is None:
        return ""
    verdict = "would take the whole graph" if mapping.fits else "would leave operators on the CPU"
    left = "".join(f"<li>{html.escape(line)}</li>" for line in mapping.left)
    return f"<h2>Edge TPU</h2><p>It {verdict}: {len(mapping.mapped)} operators mapped.</p><ul>{left}</ul>"


_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.6em 0}td,th{padding:.2em .7em;border-bottom:1px solid #ddd;text-align:left}"
    ".confusion td{text-align:right;min-width:2.6em}.row{display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start}"
    ".verdict{padding:.7em 1em;border-radius:6px;font-size:1.15em}"
    ".passed{background:#dff3e0}.failed{background:#f8dcdc}"
    ".undecided{background:#f7efd2}.bar{height:8px;margin:2px 0}.large{background:#36c}.small{background:#c33}"
    "figure{margin:0;font-size:12px}figure img{width:96px;height:96px;image-rendering:pixelated}"
)
