"""Picture files: what is one, by name and by content, and decoding; the same for cameras' folders and data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np

from edge.avif import avif_turn
from edge.records import Image

_JPEG_SUFFIXES: Final = (".jpg", ".jpeg", ".jpe", ".jfif")
PICTURE_SUFFIXES: Final = (
    *_JPEG_SUFFIXES,
    *(".avif", ".bmp", ".jp2", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"),
)
UNREADABLE: Final = {
    "heic": "HEIC, which OpenCV does not read: save it as JPEG (heif-convert IN.heic OUT.jpg; on an iPhone: Settings, "
    "Camera, Formats, Most Compatible)",
    "ico": "an icon (ICO), which OpenCV does not read: save it as PNG",
    "jxl": "JPEG XL, which OpenCV does not read: save it as JPEG",
    "psd": "a Photoshop file, which OpenCV does not read: save it as PNG",
    "tga": "a Targa file that OpenCV does not read: save it as PNG",
}
"""Kinds of pictures that are recognized and refused, with what to do."""
HEAD_BYTES: Final = 64
_TGA_FOOTER: Final = b"TRUEVISION-XFILE.\0"
_MAGIC: Final = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"\0\0\0\x0cjP  ", "jp2"),
    (b"\0\0\x01\0", "ico"),
    (b"\xff\x0a", "jxl"),
    (b"\0\0\0\x0cJXL ", "jxl"),
    (b"8BPS", "psd"),
)
_BRANDS: Final = {
    **dict.fromkeys((b"avif", b"avis"), "avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"), "heic"),
}


def is_picture(path: Path) -> bool:
    """Return whether a file is named like a picture."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def picture_kind(path: Path) -> str | None:
    """Return the kind of picture that a file's content is; None for anything else, or what cannot be read.

    An animated GIF is a video here, a still one a picture.
    """
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            if head[:4] == b"GIF8":
                return "gif" if _is_still_gif(head + file.read()) else None
            kind = kind_of(head)
            if kind is None and path.suffix.lower() in (".tga", ".icb", ".vda", ".vst"):
                return "tga"
            return kind
    except OSError:
        return None


def kind_of(head: bytes) -> str | None:
    """Return the kind of picture that begins with these bytes; None where they are no picture's."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        brands = [head[at : at + 4] for at in range(8, min(len(head), int.from_bytes(head[:4], "big")), 4)]
        kinds = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
        return "avif" if "avif" in kinds else kinds[0] if kinds else None
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "pnm"
    return next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)


def decode_picture(encoded: bytes, *, keep_grey: bool = False) -> Image | None:
    """Decode a picture of any kind that OpenCV knows.

    Args:
        encoded: the file's bytes.
        keep_grey: leave a grey picture at one channel instead of spreading it over three.

    Returns:
        (height, width, 3) uint8 BGR, or (height, width) uint8; turned as its EXIF or AVIF box says, alpha dropped, more
        than 8 bits cut to 8: of 10, 12 or 14 bits in 16 the highest 8 that are used. None where it is no picture.
    """
    try:
        flags = cv2.IMREAD_ANYCOLOR if keep_grey else cv2.IMREAD_COLOR
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags | cv2.IMREAD_ANYDEPTH) if encoded else None
    except cv2.error:  # more pixels than OpenCV's bound
        return None
    if decoded is None:
        return None
    image = _eight_bits(np.asarray(decoded))
    turns, mirrored = avif_turn(encoded) if encoded[4:8] == b"ftyp" else (0, None)
    if turns:
        image = np.ascontiguousarray(np.rot90(image, turns))
    return image if mirrored is None else cv2.flip(image, mirrored)  # type: ignore[return-value]


def _eight_bits(image: np.ndarray) -> Image:
    """Return pixels as uint8; those of cameras with 10 to 14 bits stand low in 16."""
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        bits = next(bits for bits in (10, 12, 14, 16) if int(image.max(initial=0)) < 1 << bits)
        return (image >> (bits - 8)).astype(np.uint8)
    peak = float(image.max(initial=0))
    scaled: Image = np.clip(image * (255.0 / peak if peak > 0 else 0.0), 0, 255).astype(np.uint8)
    return scaled


def _is_still_gif(data: bytes) -> bool:
    """Return whether a GIF holds one picture: walk its blocks."""
    if len(data) < 13:
        return False
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    pictures = 0
    while at < len(data) and pictures < 2:
        block = data[at]
        if block == 0x2C and at + 10 <= len(data):  # a picture: descriptor, its colours, the size of its codes
            pictures += 1
            at += 11 + (3 << (data[at + 9] & 7) + 1 if data[at + 9] & 0x80 else 0)
        elif block == 0x21:  # an extension
            at += 2
        else:
            break
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    return pictures == 1
