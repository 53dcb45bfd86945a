"""Resize, grey, letterbox and the integer shift: all that happens to pixels outside the graph.

One interpolation per direction: area when shrinking, linear when enlarging.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.records import Image


def resize(image: Image, size_wh: tuple[int, int], out: Image | None = None) -> Image:
    """Resizes to exactly ``size_wh``.

    Args:
        image: (height, width) or (height, width, 3) uint8.
        size_wh: wanted width and height in pixels.
        out: array to write into, of the wanted shape; may be a view of a larger one.

    Returns:
        ``out``, or a new array; ``image`` itself when it already has the size and no ``out`` is given.
    """
    if (image.shape[1], image.shape[0]) == size_wh:
        if out is None:
            return image
        np.copyto(out, image)
        return out
    shrinks = size_wh[0] * size_wh[1] < image.shape[0] * image.shape[1]
    resized = cv2.resize(image, size_wh, dst=out, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    if out is not None and resized is not out:
        np.copyto(out, resized)
        return out
    return resized  # type: ignore[return-value]


def to_grey(image: Image) -> Image:
    """(height, width) uint8 luma (ITU-R BT.601) of a BGR picture; a grey picture passes."""
    if image.ndim == 2:
        return image
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)  # type: ignore[return-value]


def to_int8(pixels: npt.NDArray[np.uint8], out: npt.NDArray[np.int8]) -> None:
    """Writes uint8 pixels as the int8 values of a tensor with scale 1 and zero point -128: ``pixel - 128``.

    Args:
        pixels: any shape, uint8.
        out: the same shape, int8; may be the interpreter's own input memory.
    """
    np.bitwise_xor(pixels, 0x80, out=out.view(np.uint8))


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where a picture lies inside a detector's canvas.

    Attributes:
        scale_x: canvas pixels per picture pixel, horizontally.
        scale_y: vertically; differs from ``scale_x`` by rounding only.
        size_wh: the resized picture's size on the canvas. The picture lies at the canvas' top left corner.
    """

    scale_x: float
    scale_y: float
    size_wh: tuple[int, int]


def fit_letterbox(image_wh: tuple[int, int], canvas_wh: tuple[int, int]) -> Letterbox:
    """The largest placement of a picture on a canvas that keeps its aspect ratio.

    Args:
        image_wh: width and height of the picture in pixels.
        canvas_wh: width and height of the canvas in pixels.
    """
    scale = min(canvas_wh[0] / image_wh[0], canvas_wh[1] / image_wh[1])
    width = max(1, min(canvas_wh[0], round(image_wh[0] * scale)))
    height = max(1, min(canvas_wh[1], round(image_wh[1] * scale)))
    return Letterbox(scale_x=width / image_wh[0], scale_y=height / image_wh[1], size_wh=(width, height))
