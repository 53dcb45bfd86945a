"""Crop geometry: which part of a frame an emotion model sees.

Geometry 1, ``square``: a square of ``margin`` times the box's height around the box's centre. In FER2013 crops a YuNet
box sits at x 0.093, y 0.009, w 0.805, h 1.01 of the crop's side (medians of 529 faces), so that ``margin = 0.99`` gives
the device what training takes whole. What reaches over the frame's edge repeats the edge's pixels.
"""

from __future__ import annotations

from typing import Final

import cv2

from edge.contract.preprocess import resize, to_grey
from edge.records import Image

GEOMETRY_SQUARE: Final = 1
GEOMETRIES: Final = {GEOMETRY_SQUARE: "square"}
MEASURED_MARGIN: Final = 0.99
"""Margin of FER2013's crops as measured, and of every bundle that ships."""


def square_box(xywh: tuple[float, float, float, float], *, margin: float) -> tuple[int, int, int]:
    """Left, top and side, in whole pixels, of the square around a face's box.

    Args:
        xywh: left, top, width, height of the face in pixels.
        margin: the square's side as a multiple of the box's height, > 0.
    """
    x, y, w, h = xywh
    side = max(1, round(margin * h))
    return round(x + w / 2 - side / 2), round(y + h / 2 - side / 2), side


def cut_square(image: Image, box: tuple[int, int, int]) -> Image:
    """The square (side, side[, 3]) of ``image``: a view where it lies inside, edge pixels repeated where it does not.

    Args:
        image: (height, width[, 3]) uint8.
        box: left, top, side in pixels, as from `square_box`.
    """
    left, top, side = box
    height, width = image.shape[:2]
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        return image[top : top + side, left : left + side]
    x0, y0 = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    x1, y1 = max(min(left + side, width), x0 + 1), max(min(top + side, height), y0 + 1)
    before_y, before_x = min(y0 - top, side - 1) if top < 0 else 0, min(x0 - left, side - 1) if left < 0 else 0
    inside = image[y0:y1, x0:x1][: side - before_y, : side - before_x]
    after_y, after_x = side - before_y - inside.shape[0], side - before_x - inside.shape[1]
    return cv2.copyMakeBorder(  # type: ignore[return-value]
        inside, before_y, after_y, before_x, after_x, cv2.BORDER_REPLICATE
    )


def crop_face(
    image: Image, xywh: tuple[float, float, float, float], *, margin: float, size_px: int, out: Image, grey: bool
) -> Image:
    """Cuts, converts and resizes one face into a model's input.

    Args:
        image: (height, width, 3) uint8 BGR frame.
        xywh: the face's box in pixels.
        margin: the square's side as a multiple of the box's height.
        size_px: side of the model's input.
        out: (size_px, size_px) uint8 when ``grey``, else (size_px, size_px, 3); written to.
        grey: whether the model takes grey pixels.

    Returns:
        The crop at the frame's own resolution (a view or a copy, grey when ``grey``), for quality measures.
    """
    cut = cut_square(image, square_box(xywh, margin=margin))
    if grey:
        cut = to_grey(cut)
    resize(cut, (size_px, size_px), out=out)
    return cut
