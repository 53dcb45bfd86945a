"""What every face detector offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge.records import Faces, Frame


class Network(Protocol):
    """A detector's loaded model, as `edge.infer` opens it."""

    def run(self, pixels: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.generic]]:
        """Raw outputs for one (height, width, 3) uint8 picture."""
        ...

    def close(self) -> None:
        """Frees the model."""
        ...


class FaceDetector(Protocol):
    """Finds all faces of a frame. Used by one thread."""

    def detect(self, frame: Frame) -> Faces:
        """All faces, best first, in full-frame pixels; no state is kept between frames."""
        ...

    def search(self) -> object:
        """The bare work of `detect`, done again on the picture that lies on the canvas; for benchmarks."""
        ...

    def close(self) -> None:
        """Frees the interpreter."""
        ...
