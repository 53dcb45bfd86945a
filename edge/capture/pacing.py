"""The time of frames that come from files or are generated: their own pace on the clock, or media time at once."""

from __future__ import annotations

import threading

from edge.capture.base import SourceRequest


class Pace:
    """Give frames their time: at their own pace on the clock, or media time without waiting.

    Attributes:
        closed: whether `close` was called.
    """

    def __init__(self, request: SourceRequest) -> None:
        self._paced, self._clock = request.paced, request.clock
        self._closed = threading.Event()
        self._sleep = request.sleep or self._closed.wait
        self._anchor_ns: int | None = None

    @property
    def closed(self) -> bool:
        """Return whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """End a wait that is under way and make all later ones return at once."""
        self._closed.set()

    def stamp(self, media_ns: int, *, interval_ns: int) -> int | None:
        """Wait until a frame is due.

        A reader that is more than a frame behind moves the whole schedule: the file then plays slower and no
        timestamp is older than the frame really is.

        Args:
            media_ns: time of the frame since the first one.
            interval_ns: until the next frame.

        Returns:
            The frame's timestamp: on the clock when paced, otherwise ``media_ns``; None once closed.
        """
        if self.closed or not self._paced:
            return None if self.closed else media_ns
        now_ns = self._clock()
        if self._anchor_ns is None or now_ns > self._anchor_ns + media_ns + interval_ns:
            self._anchor_ns = now_ns - media_ns
        due_ns = self._anchor_ns + media_ns
        while now_ns < due_ns and not self.closed:
            self._sleep((due_ns - now_ns) / 1e9)
            now_ns = self._clock()
        return None if self.closed else due_ns
