"""What every ``report.html`` is made of: one self-contained file, the verdict first."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from typing import Final

import cv2

from convert.evaluation.detection import Reals
from convert.evaluation.verdict import Status
from edge.records import Image

PLOT_PX: Final = 260
FLOAT_COLOUR: Final = "#36c"
QUANTIZED_COLOUR: Final = "#c33"


def make_page(*, heading: str, title: str, parts: Sequence[str]) -> bytes:
    """The file.

    Args:
        heading: at its top.
        title: of the window.
        parts: HTML, in order.
    """
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>"
        f"<body><h1>{html.escape(heading)}</h1>{''.join(parts)}</body></html>\n"
    )
    return page.encode()


def verdict(status: Status, reason: str) -> str:
    """The line that matters."""
    return f'<p class="verdict {status}"><b>{status.upper()}</b> {html.escape(reason)}</p>'


def tiles(figures: Sequence[tuple[str, str, str]]) -> str:
    """The numbers that one looks for, large: name, value, and what stands beside it."""
    boxes = "".join(
        f'<div class="tile"><span>{html.escape(name)}</span><b>{html.escape(value)}</b>'
        f"<i>{html.escape(beside)}</i></div>"
        for name, value, beside in figures
    )
    return f'<div class="tiles">{boxes}</div>'


def origin(lines: Sequence[str]) -> str:
    """Where everything comes from, small."""
    return f'<p class="origin">{"<br>".join(map(html.escape, lines))}</p>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text below their titles."""
    titles = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"


def legend(scheme: str) -> str:
    """Which colour is which model."""
    return (
        f'<p class="legend"><i class="swatch large"></i>float32 <i class="swatch small"></i>{html.escape(scheme)}</p>'
    )


def figure(picture: Image, lines: Sequence[str], *, form: str = "png") -> str:
    """A picture with lines below it.

    Args:
        picture: uint8 (height, width) or (height, width, 3) in BGR.
        lines: text.
        form: ``png`` or ``jpeg``.
    """
    _, encoded = cv2.imencode(f".{form}", picture)
    data = base64.b64encode(encoded.tobytes()).decode()
    caption = "<br>".join(map(html.escape, lines))
    return f'<figure><img src="data:image/{form};base64,{data}"><figcaption>{caption}</figcaption></figure>'


def curve(x: Reals, y: Reals, colour: str) -> str:
    """A line for `square_plot` through points of 0 to 1 both ways."""
    points = " ".join(f"{PLOT_PX * a:.1f},{PLOT_PX * (1 - b):.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{points}"/>'


def square_plot(marks: str, *, x: str, y: str) -> str:
    """An SVG frame of 0 to 1 both ways, `PLOT_PX` wide.

    Args:
        marks: SVG, in pixels from the upper left corner.
        x: what is to the right.
        y: what is upwards.
    """
    size = PLOT_PX
    ticks = "".join(
        f'<text x="{size * at}" y="{size + 16}" text-anchor="middle">{at:g}</text>'
        f'<text x="-6" y="{size * (1 - at) + 4}" text-anchor="end">{at:g}</text>'
        for at in (0, 0.5, 1)
    )
    return (
        f'<svg viewBox="-30 -24 {size + 44} {size + 64}" width="{size + 44}" height="{size + 64}">'
        f'<rect width="{size}" height="{size}" fill="none" stroke="#ccc"/>{marks}{ticks}'
        f'<text x="{size / 2}" y="{size + 34}" text-anchor="middle">{html.escape(x)}</text>'
        f'<text x="0" y="-8">{html.escape(y)}</text></svg>'
    )


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
    ".undecided,.suspect{background:#f9f2da;border-color:#c99a1b}"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(13em,1fr));gap:1em}"
    ".tile{background:#f5f6f8;border-radius:8px;padding:.7em 1em;display:flex;flex-direction:column}"
    ".tile span,.tile i,.origin,.legend{color:#666;font-style:normal;font-size:.9em}.tile b{font-size:1.6em}"
    ".bars{min-width:300px}.bar{height:8px;margin:2px 0;border-radius:2px}"
    f".large{{background:{FLOAT_COLOUR}}}.small{{background:{QUANTIZED_COLOUR}}}"
    ".swatch{display:inline-block;width:1em;height:.7em;margin:0 .4em 0 .8em;border-radius:2px}"
    "svg text{font-size:12px;fill:#666}figure{margin:0;font-size:12px;line-height:1.35}"
    ".gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(9.5em,1fr));gap:1.2em}"
    ".gallery.large-pictures{grid-template-columns:repeat(auto-fill,minmax(26em,1fr))}"
    "figure img{width:96px;height:96px;image-rendering:pixelated;border-radius:4px}"
    ".large-pictures img{width:auto;height:auto;max-width:100%;image-rendering:auto}"
    "@media print{body{margin:0}.tile{border:1px solid #ddd}}"
)
