"""What every face detector offers."""

from __future__ import annotations

from typing import Protocol

from edge.records import Faces, Frame


class FaceDetector(Protocol):
    """Finds all faces of a frame. Used by one thread."""

    def detect(self, frame: Frame) -> Faces:
        """All faces, best first, in full-frame pixels; no state is kept between frames."""
        ...

    def close(self) -> None:
        """Frees the interpreter."""
        ...
