"""Parts of the self-contained HTML pages: style, cards, tables, bars, pictures. No script, no file beside the page."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge.contract.preprocess import resize
from edge.records import Image

STYLE: Final = Path(__file__).with_name("page.css").read_text()
COLOURS: Final = ("#2f6fde", "#e0872f", "#2a9d76", "#b5539c", "#8a6fd1", "#7d8794")
"""Of the splits in bar charts; readable on light and dark, also to the colour-blind in this order."""
PICTURE_PX: Final = 66


def page(title: str, subtitle: str, body: Iterable[str], *, footer: str) -> str:
    """A whole page."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f"<p>{escape(subtitle)}</p>{''.join(body)}<footer>{escape(footer)}</footer></main></body></html>\n"
    )


def section(title: str, note: str, *body: str) -> str:
    """A titled box; ``note`` says in a sentence how to read it."""
    return f"<section><h2>{escape(title)}</h2><p>{escape(note)}</p>{''.join(body)}</section>"


def cards(items: Iterable[tuple[str, str, str]]) -> str:
    """Big figures: text, what it is, and a kind (``good``, ``warn``, ``bad`` or empty)."""
    boxes = (
        f'<div class="card {kind}"><b>{escape(big)}</b><span>{escape(what)}</span></div>' for big, what, kind in items
    )
    return f'<div class="cards">{"".join(boxes)}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column is left-aligned."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def stacked_bars(rows: Mapping[str, Mapping[str, int]], parts: Sequence[str]) -> str:
    """A bar a row, stacked by parts, with a legend.

    Args:
        rows: row name to part name to count.
        parts: in the order of stacking.
    """
    longest = max((sum(row.values()) for row in rows.values()), default=0) or 1
    legend = "".join(f'<span><i style="background:{_colour(k)}"></i>{escape(p)}</span>' for k, p in enumerate(parts))
    lines = []
    for name, row in rows.items():
        pieces = "".join(
            f'<i style="width:{100 * row.get(part, 0) / longest:.2f}%;background:{_colour(k)}" '
            f'title="{escape(part)}: {row.get(part, 0):,}"></i>'
            for k, part in enumerate(parts)
        )
        lines.append(f'<b>{escape(name)}</b><div class="track">{pieces}</div><span>{sum(row.values()):,}</span>')
    return f'<div class="legend">{legend}</div><div class="bars">{"".join(lines)}</div>'


def picture(image: Image, *, title: str = "", side_px: int = PICTURE_PX) -> str:
    """One face crop, shown ``side_px`` high, embedded as PNG at its own resolution, at most twice as fine as shown."""
    height, width = image.shape[:2]
    if height > 2 * side_px:
        image = resize(image, (max(1, round(width * 2 * side_px / height)), 2 * side_px))
    encoded: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = cv2.imencode(".png", image)[1]
    source = data_uri(encoded.tobytes())
    return f'<img src="{source}" height="{side_px}" title="{escape(title)}" alt="{escape(title)}">'


def data_uri(png: bytes) -> str:
    """What an ``img`` shows without a file beside the page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def figure(pictures: Iterable[str], caption: str) -> str:
    """Pictures in a row with what they are below."""
    return f'<figure><div class="strip">{"".join(pictures)}</div><figcaption>{escape(caption)}</figcaption></figure>'


def figures(items: Iterable[str]) -> str:
    """Figures side by side."""
    return f'<div class="groups">{"".join(items)}</div>'


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]
