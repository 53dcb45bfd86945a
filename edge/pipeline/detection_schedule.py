"""When the detector runs: on every frame, or only when something may have changed."""

from __future__ import annotations

from typing import Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from edge.config.schema import DetectConfig
from edge.records import Frame, Tracks

THUMBNAIL_WH: Final = (32, 24)
"""Size of the grey picture on which change is measured."""
CHANGED_LEVELS: Final = 12
"""Grey levels by which a cell of the thumbnail must differ to count as changed; sensor noise stays below."""
CHANGED_CELLS: Final = 2
"""Cells that must have changed outside all faces."""
AROUND_FACE: Final = 0.5
"""Border around a face, in its own width and height, in which change is its own: hair, neck and motion."""


class DetectSchedule(Protocol):
    """Decides on each frame whether the detector runs. Has no clock: the frame carries the time."""

    def is_due(self, frame: Frame) -> bool:
        """Whether the detector is to run on this frame. Called once a frame."""
        ...

    def observe(self, tracks: Tracks) -> None:
        """Takes the tracker's outcome of the same frame in."""
        ...

    def reset(self) -> None:
        """The next frame does not continue this one: the detector runs on it."""
        ...


def make_schedule(config: DetectConfig) -> DetectSchedule:
    """The configured schedule (``detect.schedule``)."""
    return AdaptiveSchedule(config.max_rest_ms) if config.schedule == "adaptive" else EveryFrame()


class EveryFrame:
    """The detector runs on every frame."""

    def is_due(self, frame: Frame) -> bool:
        """Always."""
        return True

    def observe(self, tracks: Tracks) -> None:
        """Nothing to learn."""

    def reset(self) -> None:
        """Nothing to forget."""


class AdaptiveSchedule:
    """The detector rests while all faces are steady and nothing else changes.

    It runs when the tracker is unsettled (a face is new or was missed), when the picture away from the faces differs
    from that of the last detection, and at the latest after ``max_rest_ms``, so that a newcomer is found in time
    whatever else happens. Faces themselves may move: their places are predicted.

    Args:
        max_rest_ms: longest time between two detections; the next frame is expected after as long as the last one.
    """

    def __init__(self, max_rest_ms: float) -> None:
        self._max_rest_ns = max_rest_ms * 1e6
        self._reference: npt.NDArray[np.uint8] | None = None
        self._tracks = Tracks()
        self._previous_ns: int | None = None
        self._detected_ns = 0

    def is_due(self, frame: Frame) -> bool:
        """Whether the detector is to run on this frame; see the class."""
        now_ns = frame.timestamp_ns
        interval_ns = 0 if self._previous_ns is None else now_ns - self._previous_ns
        self._previous_ns = now_ns
        thumbnail = make_thumbnail(frame)
        is_due = (
            self._reference is None
            or self._tracks.unsettled
            or frame.discontinuity
            or now_ns - self._detected_ns + interval_ns > self._max_rest_ns
            or self._is_changed(cv2.absdiff(thumbnail, self._reference), frame.size_wh)
        )
        if is_due:
            self._detected_ns, self._reference = now_ns, thumbnail
        return is_due

    def observe(self, tracks: Tracks) -> None:
        """Notes where the faces are and whether the tracker wants the detector on the next frame."""
        self._tracks = tracks

    def reset(self) -> None:
        """Forgets the last detection."""
        self._reference = None
        self._previous_ns = None
        self._tracks = Tracks()

    def _is_changed(self, difference: npt.NDArray[np.generic], frame_wh: tuple[int, int]) -> bool:
        """Whether cells away from the faces differ from those of the last detection; writes to ``difference``."""
        across, down = THUMBNAIL_WH[0] / frame_wh[0], THUMBNAIL_WH[1] / frame_wh[1]
        for track in self._tracks.active:
            x, y, w, h = track.xywh
            left, top = max(0, int((x - AROUND_FACE * w) * across)), max(0, int((y - AROUND_FACE * h) * down))
            right = max(0, int((x + (1 + AROUND_FACE) * w) * across) + 1)
            bottom = max(0, int((y + (1 + AROUND_FACE) * h) * down) + 1)
            difference[top:bottom, left:right] = 0
        return int(np.count_nonzero(np.greater(difference, CHANGED_LEVELS))) >= CHANGED_CELLS


def make_thumbnail(frame: Frame) -> npt.NDArray[np.uint8]:
    """(24, 32) uint8 grey: a few source pixels each, which is cheap, blurred against noise."""
    image = frame.image if frame.lores is None else frame.lores
    small = cv2.resize(image, (THUMBNAIL_WH[0] * 4, THUMBNAIL_WH[1] * 4), interpolation=cv2.INTER_NEAREST)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, THUMBNAIL_WH, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
