"""The newest frame as JPEG, made when somebody asks for it, in memory, and never when it is old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import cv2

from edge.records import Frame

RATE_HZ: Final = 6.0
"""How often a picture is made, at most; whoever asks in between gets the last one."""
FRESH_NS: Final = 1_500_000_000
"""An older frame is not shown."""
WIDTH_MAX_PX: Final = 960
QUALITY: Final = 75


class Picture:
    """Holds the newest frame.

    Args:
        clock_ns: monotonic clock.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._frame: Frame | None = None
        self._made: tuple[int, int, bytes] | None = None

    def put(self, frame: Frame) -> None:
        """Take a frame; by the inference thread, for each."""
        self._frame = frame

    def read(self) -> bytes | None:
        """Return the picture; None while there is no fresh frame. May be called by any thread."""
        now_ns = self._clock_ns()
        with self._lock:
            frame = self._frame
            if self._made is not None:
                made_ns, captured_ns, data = self._made
                if now_ns - made_ns < 1e9 / RATE_HZ and now_ns - captured_ns < FRESH_NS:
                    return data
            self._made = None
            if frame is None or now_ns - frame.timestamp_ns >= FRESH_NS:
                return None
            data = _encode(frame)
            self._made = now_ns, frame.timestamp_ns, data
            return data


def _encode(frame: Frame) -> bytes:
    image = frame.image
    width, height = frame.size_wh
    if width > WIDTH_MAX_PX:
        size_wh = WIDTH_MAX_PX, round(height * WIDTH_MAX_PX / width)
        image = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
