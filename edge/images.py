"""Picture files: the suffixes that count as pictures, and decoding; the same for cameras' folders and data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge.records import Image

PICTURE_SUFFIXES: Final = (
    ".avif", ".bmp", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp",
)  # fmt: skip


def is_picture(path: Path) -> bool:
    """Return whether a file is named like a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def decode_picture(encoded: bytes, *, keep_grey: bool = False) -> Image | None:
    """Decode a picture of any kind that OpenCV knows.

    Args:
        encoded: the file's bytes.
        keep_grey: leave a grey picture at one channel instead of spreading it over three.

    Returns:
        (height, width, 3) uint8 BGR, or (height, width) uint8; turned as its EXIF says, alpha dropped, 16 bits cut
        to 8. None where the bytes are no picture.
    """
    try:
        flags = cv2.IMREAD_ANYCOLOR if keep_grey else cv2.IMREAD_COLOR
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags) if encoded else None
    except cv2.error:  # more pixels than OpenCV's bound
        return None
    return None if image is None else np.asarray(image, np.uint8)
