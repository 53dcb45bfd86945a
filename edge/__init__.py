"""Mien's device runtime: camera frames in, emotion events out.

The public names are imported when they are first used: ``import edge`` loads neither OpenCV nor the interpreter.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    """Import a public name.

    Raises:
        AttributeError: there is no such name.
    """
    if name not in _MODULES:
        raise AttributeError(f"module 'edge' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted([*_MODULES, "__version__"])
