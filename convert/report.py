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
        _tiles(report),
        _origin(report),
        "<h2>Both models on the same pictures</h2>",
        _table(("", "float32", scheme), _figures(found)),
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


def _tiles(report: Report) -> str:
    """The four numbers that one looks for, large."""
    found, (large, small) = report.comparison, report.forms
    tiles = [
        ("accuracy", _percent(found.accuracy_quantized.value), f"{_percent(found.accuracy_float.value)} in float32"),
        ("lost, points", f"{found.drop:+.2f}", f"{found.drop_low:+.2f}..{found.drop_high:+.2f}, 95 % interval"),
        ("bytes", f"{small.bytes:,}", f"{small.bytes / large.bytes:.2f} of float32"),
    ]
    if large.latency and small.latency:
        times = large.latency[0].p50_ms, small.latency[0].p50_ms
        tiles.append(("ms a face, one thread", f"{times[1]:.3f}", f"{times[0] / times[1]:.1f} x as fast as float32"))
    boxes = "".join(
        f'<div class="tile"><span>{html.escape(name)}</span><b>{html.escape(value)}</b>'
        f"<i>{html.escape(beside)}</i></div>"
        for name, value, beside in tiles
    )
    return f'<div class="tiles">{boxes}</div>'


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
    return f'<p class="origin">{"<br>".join(map(html.escape, lines))}</p>'


def _legend(scheme: str) -> str:
    return (
        f'<p class="legend"><i class="swatch large"></i>float32 <i class="swatch small"></i>{html.escape(scheme)}</p>'
    )


def _forms_table(report: Report) -> str:
    threads = [latency.threads for latency in report.forms[0].latency]
    times = [f"ms with {n} thread{'s' if n > 1 else ''}, p50 · p95" for n in threads]
    rows = [
        (form.name, f"{form.bytes:,}", f"{form.macs:,}", _percent(form.int8_macs_share),
         *(f"{latency.p50_ms:.3f} · {latency.p95_ms:.3f}" for latency in form.latency))
        for form in report.forms
    ]  # fmt: skip
    large, small = report.forms
    ratios = [
        f"{before.p50_ms / after.p50_ms:.2f} x as fast"
        for before, after in zip(large.latency, small.latency, strict=True)
    ]
    rows.append(("ratio", f"{small.bytes / large.bytes:.3f}", "", "", *ratios))
    return _table(("", "bytes", "multiply-accumulates", "of them int8", *times), rows)


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
            f"<td>{_percent(one.recall_float)} → {_percent(one.recall_quantized)}</td><td>{drop}</td></tr>"
        )
    head = "<tr><th>class</th><th>n</th><th>0 to 100 %</th><th>recall</th><th>drop, points</th></tr>"
    return f"{_legend(scheme)}<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


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
    size = 260
    curves = (
        ("#999", f"{scheme}, T = 1", found.calibration_before),
        ("#c33", f"{scheme}, fitted T", found.calibration_after),
        ("#36c", "float32, fitted T", found.calibration_float),
    )
    lines = "".join(
        f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="'
        + " ".join(f"{size * c:.1f},{size * (1 - a):.1f}" for c, a in zip(x.confidences, x.accuracies, strict=True))
        + '"/>'
        for colour, _, x in curves
    )
    legend = "".join(
        f'<li style="color:{colour}">{html.escape(name)}: expected calibration error {x.error:.4f}</li>'
        for colour, name, x in curves
    )
    ticks = "".join(
        f'<text x="{size * at}" y="{size + 16}" text-anchor="middle">{at:g}</text>'
        f'<text x="-6" y="{size * (1 - at) + 4}" text-anchor="end">{at:g}</text>'
        for at in (0, 0.5, 1)
    )
    return (
        f'<div class="row"><svg viewBox="-30 -8 {size + 44} {size + 48}" width="{size + 44}" height="{size + 48}">'
        f'<rect width="{size}" height="{size}" fill="none" stroke="#ccc"/>'
        f'<line x1="0" y1="{size}" x2="{size}" y2="0" stroke="#ccc" stroke-dasharray="4"/>{lines}{ticks}'
        f'<text x="{size / 2}" y="{size + 34}" text-anchor="middle">confidence</text>'
        f'<text x="8" y="16">share right</text></svg><ul>{legend}</ul></div>'
    )


def _slices_table(found: Comparison, scheme: str) -> str:
    rows = [
        (s.name, f"{s.n}", _percent(s.accuracy_float), _percent(s.accuracy_quantized),
         f"{s.drop:+.2f} ({s.drop_low:+.2f}..{s.drop_high:+.2f})")
        for s in found.slices
    ]  # fmt: skip
    return _table(("made worse", "n", "float32", scheme, "drop, points"), rows)


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
    return f'<div class="gallery">{figures}</div>'


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
    "h1{margin-bottom:.3em}h2{margin:1.8em 0 .5em;font-size:1.2em;border-bottom:2px solid #eee}"
    "table{border-collapse:collapse;margin:.6em 0;font-variant-numeric:tabular-nums}"
    "td,th{padding:.25em .8em;border-bottom:1px solid #ddd;text-align:left;white-space:nowrap}"
    "th{color:#555;font-weight:600}tbody tr:hover{background:#f6f8fc}"
    ".confusion td,.confusion th{padding:.25em .45em}.confusion td{text-align:right;min-width:2.4em}"
    ".confusion caption{font-weight:600;padding:.3em}"
    ".row{display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start}"
    ".verdict{padding:.8em 1em;border-radius:8px;font-size:1.15em;border-left:8px solid}.verdict b{margin-right:.5em}"
    ".passed{background:#e4f5e5;border-color:#2e8b3a}.failed{background:#fbe3e3;border-color:#c33}"
    ".undecided{background:#f9f2da;border-color:#c99a1b}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(13em,1fr));gap:1em}"
    ".tile{background:#f5f6f8;border-radius:8px;padding:.7em 1em;display:flex;flex-direction:column}"
    ".tile span,.tile i,.origin,.legend{color:#666;font-style:normal;font-size:.9em}.tile b{font-size:1.6em}"
    ".bars{min-width:300px}.bar{height:8px;margin:2px 0;border-radius:2px}"
    ".large{background:#36c}.small{background:#c33}"
    ".swatch{display:inline-block;width:1em;height:.7em;margin:0 .4em 0 .8em;border-radius:2px}"
    "svg text{font-size:12px;fill:#666}figure{margin:0;font-size:12px;line-height:1.35}"
    ".gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5em,1fr));gap:1.2em}"
    "figure img{width:96px;height:96px;image-rendering:pixelated;border-radius:4px}"
    "@media print{body{margin:0}.tile{border:1px solid #ddd}}"
)
