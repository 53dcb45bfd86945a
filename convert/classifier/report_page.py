"""``report.html`` of an emotion model."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from convert.classifier.repair import RepairStep
from convert.classifier.report import Report, figures, percent
from convert.evaluation.report.page import (
    FLOAT_COLOUR,
    PLOT_PX,
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
from convert.evaluation.verdict import Comparison, EvaluationSet
from convert.tflite.edgetpu import EdgeTpuMapping
from convert.tflite.layer_errors import LayerError
from edge.contract.manifest import EmotionManifest
from edge.records import Floats


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
        verdict(found.status, found.reason),
        _tiles(report),
        _origin(report),
        "<h2>Both models on the same pictures</h2>",
        table(("", "float32", scheme), figures(found)),
        "<h2>Size and time</h2>",
        _forms_table(report),
        f"<p>XNNPACK takes {report.delegated_nodes} of {report.total_nodes} nodes of the plan.</p>",
        "<h2>Recall per class</h2>",
        _class_bars(found, scheme),
        "<h2>Confusion</h2>",
        '<div class="row">',
        _confusion("float32", found.confusion_float, manifest.labels),
        _confusion(scheme, found.confusion_quantized, manifest.labels),
        "</div>",
        "<h2>Reliability</h2>",
        _reliability(found, scheme),
        "<h2>Worse pictures</h2>",
        _slices_table(found, scheme),
        "<h2>Worst disagreements</h2>",
        _disagreements(found, data, manifest, float_scores, quantized_scores),
        _repair_section(report.repair),
        _layers_section(report.layers),
        _edgetpu_section(report.edgetpu),
    ]
    return make_page(heading=manifest.name, title=f"{manifest.full_name}: {found.status}", parts=parts)


def _tiles(report: Report) -> str:
    """The four numbers that one looks for, large."""
    found, (large, small) = report.comparison, report.forms
    numbers = [
        ("accuracy", percent(found.accuracy_quantized.value), f"{percent(found.accuracy_float.value)} in float32"),
        ("lost, points", f"{found.drop:+.2f}", f"{found.drop_low:+.2f}..{found.drop_high:+.2f}, 95 % interval"),
        ("bytes", f"{small.bytes:,}", f"{small.bytes / large.bytes:.2f} of float32"),
    ]
    if large.latency and small.latency:
        times = large.latency[0].p50_ms, small.latency[0].p50_ms
        numbers.append(("ms a face, one thread", f"{times[1]:.3f}", f"{times[0] / times[1]:.1f} x as fast as float32"))
    return tiles(numbers)


def _origin(report: Report) -> str:
    manifest, found = report.manifest, report.comparison
    calibration = manifest.quantization.calibration
    pictures = f"{calibration.count:,} pictures of {calibration.source}" if calibration else "no pictures"
    omitted = f"; {report.omitted:,} of classes that the model does not have left out" if report.omitted else ""
    lines = (
        f"{manifest.full_name}, made of {report.source['file']} ({report.source['kind']})",
        f"quantization: {manifest.quantization.scheme}, {manifest.quantization.recipe}",
        f"calibrated on {pictures}, temperature {manifest.temperature:g}",
        f"compared on {found.n:,} pictures of {found.dataset}{omitted}",
    )
    return origin(lines)


def _forms_table(report: Report) -> str:
    threads = [latency.threads for latency in report.forms[0].latency]
    times = [f"ms with {n} thread{'s' if n > 1 else ''}, p50 · p95" for n in threads]
    rows = [
        (form.name, f"{form.bytes:,}", f"{form.macs:,}", percent(form.int8_macs_share),
         *(f"{latency.p50_ms:.3f} · {latency.p95_ms:.3f}" for latency in form.latency))
        for form in report.forms
    ]  # fmt: skip
    large, small = report.forms
    ratios = [
        f"{before.p50_ms / after.p50_ms:.2f} x as fast"
        for before, after in zip(large.latency, small.latency, strict=True)
    ]
    rows.append(("ratio", f"{small.bytes / large.bytes:.3f}", "", "", *ratios))
    return table(("", "bytes", "multiply-accumulates", "of them int8", *times), rows)


def _class_bars(found: Comparison, scheme: str) -> str:
    rows = []
    for one in found.classes:
        bars = "".join(
            f'<div class="bar {kind}" style="width:{0 if math.isnan(share) else 300 * share:.0f}px"></div>'
            for kind, share in (("large", one.recall_float), ("small", one.recall_quantized))
        )
        gate = "" if one.gates else " · too few to gate"
        drop = f"{one.drop:+.2f} ({one.drop_low:+.2f}..{one.drop_high:+.2f}){gate}" if one.n else "no pictures"
        rows.append(
            f"<tr><td>{html.escape(one.label)}</td><td>{one.n:,}</td><td class='bars'>{bars}</td>"
            f"<td>{percent(one.recall_float)} → {percent(one.recall_quantized)}</td><td>{drop}</td></tr>"
        )
    head = "<tr><th>class</th><th>n</th><th>0 to 100 %</th><th>recall</th><th>drop, points</th></tr>"
    return f"{legend(scheme)}<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


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


def _reliability(found: Comparison, scheme: str) -> str:
    curves = (
        ("#999", f"{scheme}, T = 1", found.calibration_before),
        (QUANTIZED_COLOUR, f"{scheme}, fitted T", found.calibration_after),
        (FLOAT_COLOUR, "float32, fitted T", found.calibration_float),
    )
    lines = "".join(curve(x.confidences, x.accuracies, colour) for colour, _, x in curves)
    names = "".join(
        f'<li style="color:{colour}">{html.escape(name)}: expected calibration error {x.error:.4f}</li>'
        for colour, name, x in curves
    )
    diagonal = f'<line x1="0" y1="{PLOT_PX}" x2="{PLOT_PX}" y2="0" stroke="#ccc" stroke-dasharray="4"/>'
    plot = square_plot(diagonal + lines, x="confidence", y="share right")
    return f'<div class="row">{plot}<ul>{names}</ul></div>'


def _slices_table(found: Comparison, scheme: str) -> str:
    rows = [
        (s.name, f"{s.n}", percent(s.accuracy_float), percent(s.accuracy_quantized),
         f"{s.drop:+.2f} ({s.drop_low:+.2f}..{s.drop_high:+.2f})")
        for s in found.slices
    ]  # fmt: skip
    return table(("made worse", "n", "float32", scheme, "drop, points"), rows)


def _disagreements(
    found: Comparison, data: EvaluationSet, manifest: EmotionManifest, float_scores: Floats, quantized_scores: Floats
) -> str:
    labels, colour = manifest.labels, manifest.input.colour
    shown = ""
    for row in found.worst:
        large, small = float_scores[row], quantized_scores[row]
        pixels = data.pixels[row][:, :, ::-1] if colour == "rgb" else data.pixels[row]
        lines = (
            f"label {labels[data.labels[row]]}",
            f"float {labels[int(large.argmax())]} {large.max():.2f}",
            f"quantized {labels[int(small.argmax())]} {small.max():.2f}",
        )
        shown += figure(np.ascontiguousarray(pixels), lines)
    return f'<div class="gallery">{shown}</div>'


def _layers_section(layers: Sequence[LayerError]) -> str:
    if not layers:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(layer.op)}</td><td title='{html.escape(layer.output, quote=True)}'>"
        f"{html.escape(layer.output[:40])}</td><td>"
        f"<div class='bar small' style='width:{3 * min(max(layer.signal_to_noise_db, 0), 60):.0f}px'></div></td>"
        f"<td>{layer.signal_to_noise_db:.1f}</td><td>{layer.low:.3g} .. {layer.high:.3g}</td></tr>"
        for layer in layers
    )
    head = "<tr><th>operator</th><th>output</th><th>0 to 60 dB</th><th>signal to noise, dB</th><th>range seen</th></tr>"
    return f"<h2>Error per layer</h2><table><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _repair_section(steps: Sequence[RepairStep]) -> str:
    if not steps:
        return ""
    rows = [
        (step.name, percent(step.accuracy), f"{step.drop:+.2f} ({step.drop_low:+.2f}..{step.drop_high:+.2f})",
         f"{step.p50_ms:.3f}", f"{step.bytes:,}", percent(step.int8_macs_share),
         step.status + (" ←" if step.chosen else ""))
        for step in steps
    ]  # fmt: skip
    head = ("repair", "accuracy", "drop, points", "p50 ms", "bytes", "MACs in int8", "verdict")
    return "<h2>Repair</h2>" + table(head, rows)


def _edgetpu_section(mapping: EdgeTpuMapping | None) -> str:
    if mapping is None:
        return ""
    answer = "would take the whole graph" if mapping.fits else "would leave operators on the CPU"
    left = "".join(f"<li>{html.escape(line)}</li>" for line in mapping.left)
    return f"<h2>Edge TPU</h2><p>It {answer}: {len(mapping.mapped)} operators mapped.</p><ul>{left}</ul>"
