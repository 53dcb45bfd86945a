"""Drawing of boxes, labels and scores onto a copy of a frame; legible from 320 pixels to 4k."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from edge.commands.colors import EMOTION_RGB, OTHER_RGB, rgb_of
from edge.contract.labels import LABELS, UNCERTAIN
from edge.records import FaceState, Image

Bgr = tuple[int, int, int]
Mask = npt.NDArray[np.uint8]

MIN_TEXT_PX = 12
"""Height of a line; smaller cannot be read."""
TEXT_SHARE_OF_FACE, MIN_TEXT_SHARE, MAX_TEXT_SHARE = 0.12, 0.017, 0.04
"""Text height as a share of the face's height, within these shares of the frame's shorter side."""
BARS_FROM_FACE_PX = 72
"""Faces less high than this (at 720 lines) get no score bars: there would be nothing to tell apart."""
INK: Bgr = (24, 20, 16)
PAPER: Bgr = (245, 243, 240)
PILL_OPACITY = 0.78
_FONT = cv2.FONT_HERSHEY_DUPLEX
_MASTER_PX = 64  # text is drawn once at this size and made smaller: Hershey strokes are ragged when drawn small


def render(image: Image, faces: Sequence[FaceState]) -> Image:
    """Return a copy of a frame with boxes, track ids, emotions, confidences and score bars.

    A face whose place is only predicted is dashed; an ``uncertain`` one says why. Nothing is drawn outside the picture.

    Args:
        image: (height, width, 3) uint8 BGR; not written to.
        faces: the frame's faces, as `edge.records.Step.faces`.

    Returns:
        (height, width, 3) uint8 BGR.
    """
    picture = np.array(image, np.uint8)
    for face in sorted(faces, key=lambda face: face.track.xywh[3]):
        _draw_face(picture, face)
    return picture


@dataclass(frozen=True, slots=True)
class _Box:
    """Whole pixels; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        return self.right - self.left

    @property
    def height(self) -> int:
        return self.bottom - self.top

    def clipped(self, picture: Image) -> _Box:
        height, width = picture.shape[:2]
        left, top = min(max(self.left, 0), width), min(max(self.top, 0), height)
        return _Box(left, top, max(left, min(self.right, width)), max(top, min(self.bottom, height)))


def _draw_face(picture: Image, face: FaceState) -> None:
    x, y, w, h = face.track.xywh
    if not all(map(math.isfinite, (x, y, w, h))):
        return
    box = _Box(round(x), round(y), round(x + w), round(y + h)).clipped(picture)
    if box.width < 2 or box.height < 2:
        return
    shorter = min(picture.shape[:2])
    text_px = round(min(max(TEXT_SHARE_OF_FACE * h, MIN_TEXT_SHARE * shorter, MIN_TEXT_PX), MAX_TEXT_SHARE * shorter))
    text_px = max(text_px, MIN_TEXT_PX)
    line_px = max(1, min(round(shorter / 300), round(min(w, h) / 20)))
    colour = _bgr(rgb_of(face.emotion))
    _draw_outline(picture, box, colour, line_px, dashed=not (face.track.observed or face.track.followed))
    label = _draw_label(picture, box, face, colour, text_px)
    if h >= BARS_FROM_FACE_PX * max(1.0, shorter / 720):
        _draw_scores(picture, box, face, text_px, keep_clear=label)


def _draw_outline(picture: Image, box: _Box, colour: Bgr, line_px: int, *, dashed: bool) -> None:
    """Return a rounded rectangle with a dark rim, so that it can be seen on any ground."""
    inset = (line_px + 1) // 2
    left, top, right, bottom = box.left + inset, box.top + inset, box.right - 1 - inset, box.bottom - 1 - inset
    if right <= left or bottom <= top:
        left, top, right, bottom = box.left, box.top, box.right - 1, box.bottom - 1
    outline = _rounded(left, top, right, bottom, radius=min(right - left, bottom - top) * 0.12)
    strokes = _dashes(outline, dash_px=6 + 3 * line_px) if dashed else [np.vstack([outline, outline[:1]])]
    sixteenths = [np.rint(stroke * 16).astype(np.int32) for stroke in strokes]
    cv2.polylines(picture, sixteenths, False, INK, line_px + 2, cv2.LINE_AA, 4)
    cv2.polylines(picture, sixteenths, False, colour, line_px, cv2.LINE_AA, 4)


def _rounded(left: float, top: float, right: float, bottom: float, *, radius: float) -> npt.NDArray[np.float64]:
    """Points (n, 2) of a rounded rectangle, clockwise from the left end of the top edge, about 2 pixels apart."""
    corners = ((right, top, -90), (right, bottom, 0), (left, bottom, 90), (left, top, 180))
    points = []
    for x, y, first in corners:
        angles = np.radians(np.linspace(first, first + 90, 8))
        cx = x - radius if x == right else x + radius
        cy = y - radius if y == bottom else y + radius
        points.append(np.stack([cx + radius * np.cos(angles), cy + radius * np.sin(angles)], axis=1))
    ring = np.vstack([*points, points[0][:1]])
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(ring, axis=0).T))])
    along = np.linspace(0, lengths[-1], max(16, int(lengths[-1] / 2)), endpoint=False)
    return np.stack([np.interp(along, lengths, ring[:, i]) for i in (0, 1)], axis=1)


def _dashes(outline: npt.NDArray[np.float64], *, dash_px: float) -> list[npt.NDArray[np.float64]]:
    step = max(3, round(dash_px / 2))  # points are about 2 pixels apart
    return [outline[start : start + step] for start in range(0, len(outline), 2 * step)]


def _draw_label(picture: Image, box: _Box, face: FaceState, colour: Bgr, text_px: int) -> _Box:
    """Emotion, confidence and id on a pill above the box, or inside at its top where there is no room.

    Returns:
        Where the pill is.
    """
    emotion, detail = _words(face)
    room = picture.shape[1]
    for words in ((emotion, detail, face.track.id), (emotion, detail), (emotion,)):
        masks = [_text(word, text_px) for word in words if word]
        gap = max(3, text_px // 3)
        width = sum(mask.shape[1] for mask in masks) + gap * (len(masks) + 1)
        if width <= room:
            break
    height = text_px + 2 * max(2, text_px // 4)
    left = min(max(box.left, 0), max(0, room - width))
    above = box.top - height - 1
    top = above if above >= 0 else min(box.top + 1, max(0, picture.shape[0] - height))
    pill = _Box(left, top, left + width, top + height).clipped(picture)
    _fill(picture, pill, INK, opacity=PILL_OPACITY, radius=height // 3)
    inks = (colour, PAPER, _bgr(rgb_of(UNCERTAIN)))
    x = left + gap
    for mask, ink in zip(masks, inks, strict=False):
        _stamp(picture, mask, x, top + (height - mask.shape[0]) // 2, ink)
        x += mask.shape[1] + gap
    return pill


def _words(face: FaceState) -> tuple[str, str]:
    if face.emotion == UNCERTAIN:
        return UNCERTAIN, face.reason.value.replace("_", " ") if face.reason else ""
    return face.emotion, f"{face.confidence:.0%}"


def _draw_scores(picture: Image, box: _Box, face: FaceState, text_px: int, *, keep_clear: _Box) -> None:
    """One upright bar a label under the box, or inside at its bottom where there is no room; told apart by colour."""
    scores = np.clip(np.nan_to_num(np.asarray(face.smoothed, np.float64)), 0, 1)
    labels = LABELS if len(scores) == len(LABELS) else ("",) * len(scores)
    inset = max(2, text_px // 3)
    height = min(round(box.height * 0.2), round(text_px * 1.8))
    panel = _Box(box.left, box.bottom + 2, box.right, box.bottom + 2 + height)
    if panel.bottom > picture.shape[0]:
        panel = _Box(box.left + inset, box.bottom - inset - height, box.right - inset, box.bottom - inset)
    if not len(scores) or panel.width < 4 * len(scores) or height < 6 or panel.top < keep_clear.bottom:
        return
    _fill(picture, panel, INK, opacity=0.6, radius=height // 6)
    pitch = (panel.width - 4) / len(scores)
    for i, (label, score) in enumerate(zip(labels, scores.tolist(), strict=True)):
        bar_px = max(1, round(score * (height - 4)))
        left, right = panel.left + 2 + round(i * pitch), panel.left + 2 + round((i + 1) * pitch) - max(1, inset // 3)
        bar = _Box(left, panel.bottom - 2 - bar_px, max(left + 1, right), panel.bottom - 2)
        _fill(picture, bar.clipped(picture), _bgr(EMOTION_RGB.get(label, OTHER_RGB)), opacity=0.95, radius=0)


@lru_cache(maxsize=512)
def _text(text: str, height_px: int) -> Mask:
    """Return a line of text as coverage, (height_px, width) uint8, every text of one height; read-only."""
    scale = _MASTER_PX / 44
    (width, _), baseline = cv2.getTextSize("Ag" + text, _FONT, scale, 3)
    canvas = np.zeros((2 * _MASTER_PX + baseline, width + 8), np.uint8)
    origin_y = _MASTER_PX + _MASTER_PX // 2
    cv2.putText(canvas, text, (4, origin_y), _FONT, scale, 255, 3, cv2.LINE_AA)
    columns = np.flatnonzero(canvas.any(axis=0))
    if not len(columns):
        return np.zeros((height_px, 1), np.uint8)
    top = origin_y - round(_MASTER_PX * 0.82)
    line = canvas[top : top + round(_MASTER_PX * 1.12), columns[0] : columns[-1] + 1]
    ratio = height_px / line.shape[0]
    size_wh = (max(1, round(line.shape[1] * ratio)), height_px)
    mask = cv2.resize(line, size_wh, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
    # Averaging thin strokes greys them; a power below 1 gives the letters their weight back.
    return np.asarray(np.rint(255 * (mask / 255.0) ** 0.8), np.uint8)


def _stamp(picture: Image, mask: Mask, left: int, top: int, colour: Bgr) -> None:
    """Lay a colour over the picture where the mask is set, cut off at the edges."""
    place = _Box(left, top, left + mask.shape[1], top + mask.shape[0]).clipped(picture)
    part = mask[place.top - top : place.bottom - top, place.left - left : place.right - left]
    _blend(picture, place, np.asarray(part[:, :, None] / 255, np.float32), colour)


def _fill(picture: Image, box: _Box, colour: Bgr, *, opacity: float, radius: int) -> None:
    """Fill a rounded rectangle that lies inside the picture."""
    if box.width < 1 or box.height < 1:
        return
    _blend(picture, box, _rounded_mask(box.width, box.height, radius)[:, :, None] * np.float32(opacity), colour)


@lru_cache(maxsize=256)
def _rounded_mask(width: int, height: int, radius: int) -> npt.NDArray[np.float32]:
    """Coverage (height, width) float32 of a rounded rectangle."""
    radius = max(0, min(radius, (min(width, height) - 1) // 2))
    x = np.maximum(0, np.abs(np.arange(width) - (width - 1) / 2) - ((width - 1) / 2 - radius))[None, :]
    y = np.maximum(0, np.abs(np.arange(height) - (height - 1) / 2) - ((height - 1) / 2 - radius))[:, None]
    return (
        np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32) if radius else np.ones_like(x + y, np.float32)
    )


def _blend(picture: Image, box: _Box, alpha: npt.NDArray[np.float32], colour: Bgr) -> None:
    region = picture[box.top : box.bottom, box.left : box.right]
    region[:] = np.rint(region + (np.array(colour, np.float32) - region) * alpha).astype(np.uint8)


def _bgr(rgb: tuple[int, int, int]) -> Bgr:
    return rgb[2], rgb[1], rgb[0]
