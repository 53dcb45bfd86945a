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
