"""Mien's device runtime: camera frames in, emotion events out.

The public names are imported when they are first used: ``import edge`` loads neither OpenCV nor the interpreter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.registry import lazy_names

if TYPE_CHECKING:
    from edge.api import Event as Event
    from edge.api import Face as Face
    from edge.api import FaceReader as FaceReader
    from edge.api import StreamStep as StreamStep
    from edge.api import read_faces as read_faces
    from edge.api import read_stream as read_stream
    from edge.errors import MienError as MienError

__version__ = "0.1.0"

_MODULES = {
    "Event": "edge.api",
    "Face": "edge.api",
    "FaceReader": "edge.api",
    "MienError": "edge.errors",
    "StreamStep": "edge.api",
    "read_faces": "edge.api",
    "read_stream": "edge.api",
}
__all__ = [*_MODULES]
__getattr__ = lazy_names(__name__, _MODULES)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*_MODULES, "__version__"])
