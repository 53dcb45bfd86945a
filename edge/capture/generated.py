"""Numbered pictures as a source: one picture every ``1 / camera.fps`` seconds, once or in a loop."""

from __future__ import annotations

from typing import ClassVar

from edge.capture.base import SourceRequest
from edge.capture.pacing import Pace
from edge.records import Frame, Image


class NumberedSource:
    """Base of sources that can make or read any picture by its number. See `edge.capture.base.Source`."""

    reopens: ClassVar[bool] = False
    identity: str | None = None

    def __init__(self, request: SourceRequest, *, count: int | None, loop: bool = False) -> None:
        """Store what it needs.

        Args:
            request: to open the source.
            count: of the pictures; None without end.
            loop: begin again after the last one.
        """
        self.name, self.live = request.name, request.paced
        self._count, self._loop, self._fps = count, loop or request.loop, request.config.fps
        self._pace = Pace(request)
        self._number = 0

    @property
    def fps(self) -> float:
        """Return the pictures a second."""
        return self._fps

    def make_picture(self, index: int) -> tuple[Image, str]:
        """Return picture ``index``, (height, width, 3) uint8 BGR, and what it came from."""
        raise NotImplementedError

    def is_cut(self, number: int, index: int) -> bool:
        """Return whether a frame does not continue the one before it."""
        return index == 0 and number > 0

    def read(self) -> Frame | None:
        """Return the next frame, (height, width, 3) uint8 BGR; None after the last one or `close`.

        Raises:
            SourceError: a picture that cannot be read; the message names it.
        """
        number, count = self._number, self._count
        if self._pace.closed or (count and number >= count and not self._loop):
            return None
        index = number % count if count else number
        image, origin = self.make_picture(index)
        self._number += 1
        stamp_ns = self._pace.stamp(round(number * 1e9 / self._fps), interval_ns=round(1e9 / self._fps))
        if stamp_ns is None:
            return None
        return Frame(image, stamp_ns, number=number, source=origin, discontinuity=self.is_cut(number, index))

    def close(self) -> None:
        """End a wait."""
        self._pace.close()
