"""One colour an emotion, the same on the terminal and in rendered pictures."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from edge.contract.labels import UNCERTAIN

Rgb = tuple[int, int, int]
"""Red, green, blue, 0..255."""

EMOTION_RGB: Final[Mapping[str, Rgb]] = MappingProxyType(
    {
        "angry": (255, 92, 87),
        "disgust": (139, 203, 79),
        "fear": (186, 133, 255),
        "happy": (255, 204, 70),
        "sad": (86, 156, 255),
        "surprise": (38, 214, 196),
        "neutral": (205, 211, 219),
        UNCERTAIN: (142, 150, 160),
    }
)
"""All light enough to be read on black, and to carry black text."""
OTHER_RGB: Final[Rgb] = (244, 143, 208)
"""For labels of a user's own model."""


def rgb_of(emotion: str) -> Rgb:
    """Return the colour of an emotion, ``uncertain`` or a label that Mien does not know."""
    return EMOTION_RGB.get(emotion, OTHER_RGB)


def hex_of(emotion: str) -> str:
    """Return the colour of an emotion as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*rgb_of(emotion))


READABLE_LUMINANCE: Final = 0.179
"""Of a colour as far from black as from white: a contrast of 4.58 to both (WCAG 2.1, relative luminance)."""


def luminance(rgb: Rgb) -> float:
    """Return the relative luminance of an sRGB colour, 0..1 (WCAG 2.1)."""
    red, green, blue = (_to_linear(value) for value in rgb)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def readable_hex(emotion: str) -> str:
    """Return the emotion's colour as text that is read on black and on white, ``#rrggbb``."""
    rgb = rgb_of(emotion)
    share = min(1.0, READABLE_LUMINANCE / luminance(rgb))
    return "#{:02x}{:02x}{:02x}".format(*(_to_srgb(_to_linear(value) * share) for value in rgb))


def _to_linear(value: int) -> float:
    share = value / 255
    return share / 12.92 if share <= 0.04045 else float(((share + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: float) -> int:
    return round(255 * (linear * 12.92 if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055))
