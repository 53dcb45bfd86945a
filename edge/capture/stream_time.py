"""The age of a stream's frames, out of the stream's own time stamps.

What waited in a socket or decoder arrives now and is old. A frame's arrival less its time stamp is constant while
nothing waits; the smallest difference seen is the reference, and what a later difference has more is the frame's age.
The camera's clock may run slower than ours: the reference rises with time by `DRIFT`, so that this is no age.
"""

from __future__ import annotations

from typing import Final

DRIFT: Final = 300e-6
"""Of two clocks at most: quartz is better than 100 ppm each, and cheap cameras are worse."""
JUMP_NS: Final = 30_000_000_000
"""A time stamp that is so much further on than the clock begins anew."""


class StreamClock:
    """Reckoning of when frames were made on this machine's clock."""

    def __init__(self) -> None:
        self._reference_ns: float | None = None
        self._last_pts_ns = self._last_arrival_ns = 0

    def stamp_ns(self, arrival_ns: int, pts_ns: int) -> int:
        """Return when a frame was made, at the latest.

        Args:
            arrival_ns: monotonic clock when it was handed out.
            pts_ns: the stream's own time of it; one that does not go on is of no use, and the arrival is returned.
        """
        offset_ns = arrival_ns - pts_ns
        elapsed_ns, step_ns = arrival_ns - self._last_arrival_ns, pts_ns - self._last_pts_ns
        self._last_arrival_ns, self._last_pts_ns = arrival_ns, pts_ns
        if self._reference_ns is None or step_ns <= 0 or step_ns - elapsed_ns > JUMP_NS:
            self._reference_ns = offset_ns
            return arrival_ns
        self._reference_ns = min(self._reference_ns + DRIFT * elapsed_ns, offset_ns)
        return arrival_ns - round(offset_ns - self._reference_ns)
