"""Any source with its pictures turned and mirrored, for a camera that hangs upside down or on its side."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import cv2

from edge.capture.base import Source
from edge.records import Frame, Image

_TURNS: Final = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}


class TurnedSource:
    """A source whose frames are turned. See `edge.capture.base.Source`."""

    def __init__(self, source: Source, *, rotate: int, flip: bool) -> None:
        """Store what it needs.

        Args:
            source: delivers the frames.
            rotate: degrees clockwise: 0, 90, 180 or 270.
            flip: mirror left and right, after the turn.
        """
        self._source, self._rotate, self._flip = source, rotate, flip
        self.reopens = source.reopens
        self.name, self.live, self.identity = source.name, source.live, source.identity

    @property
    def fps(self) -> float | None:
        """Return the source's frames a second; None where it does not say."""
        return getattr(self._source, "fps", None)

    def read(self) -> Frame | None:
        """Return the next frame, turned; see `edge.capture.base.Source.read`."""
        frame = self._source.read()
        if frame is None:
            return None
        lores = None if frame.lores is None else self._turn(frame.lores)
        return replace(frame, image=self._turn(frame.image), lores=lores)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _turn(self, image: Image) -> Image:
        if image is None or not image.size:  # left out by the grabber
            return image
        turned = cv2.rotate(image, _TURNS[self._rotate]) if self._rotate else image
        return cv2.flip(turned, 1) if self._flip else turned  # type: ignore[return-value]
