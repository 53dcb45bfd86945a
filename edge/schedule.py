"""When the detector runs: on every frame, or only when something may have changed."""

from __future__ import annotations

from typing import Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from edge.config import DetectConfig
from edge.records import Frame, Tracks

THUMBNAIL_WH: Final = (32, 24)
"""Size of the grey picture on which change is measured."""
CHANGED_LEVELS: Final = 12
"""Grey levels by which a cell of the thumbnail must differ to count as changed; sensor noise stays below."""
CHANGED_CELLS: Final = 2
"""Cells that must have changed outside all faces."""


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
    """The detector rests while all faces are steady and the picture does not change.

    It runs when the tracker is unsettled (a face is new or was missed), when the picture differs from that of the last
    detection, and at the latest after ``max_rest_ms``, so that a newcomer is found in time whatever else happens.

    Args:
        max_rest_ms: longest time between two detections; the next frame is expected after as long as the last one.
    """

    def __init__(self, max_rest_ms: float) -> None:
        self._max_rest_ns = max_rest_ms * 1e6
        self._reference: npt.NDArray[np.uint8] | None = None
        self._previous_ns: int | None = None
        self._detected_ns = 0
        self._unsettled = False

    def is_due(self, frame: Frame) -> bool:
        """Whether the detector is to run on this frame; see the class."""
        now_ns = frame.timestamp_ns
        interval_ns = 0 if self._previous_ns is None else now_ns - self._previous_ns
        self._previous_ns = now_ns
        thumbnail = make_thumbnail(frame)
        is_due = (
            self._reference is None
            or self._unsettled
            or frame.cut
            or now_ns - self._detected_ns + interval_ns > self._max_rest_ns
            or _is_changed(thumbnail, self._reference)
        )
        if is_due:
            self._detected_ns, self._reference = now_ns, thumbnail
        return is_due

    def observe(self, tracks: Tracks) -> None:
        """Notes whether the tracker wants the detector on the next frame."""
        self._unsettled = tracks.unsettled

    def reset(self) -> None:
        """Forgets the last detection."""
        self._reference = None
        self._previous_ns = None
        self._unsettled = False


def make_thumbnail(frame: Frame) -> npt.NDArray[np.uint8]:
    """(24, 32) uint8 grey: a few source pixels each, which is cheap, blurred against noise."""
    image = frame.image if frame.lores is None else frame.lores
    small = cv2.resize(image, (THUMBNAIL_WH[0] * 4, THUMBNAIL_WH[1] * 4), interpolation=cv2.INTER_NEAREST)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, THUMBNAIL_WH, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _is_changed(thumbnail: npt.NDArray[np.uint8], reference: npt.NDArray[np.uint8]) -> bool:
    difference = cv2.absdiff(thumbnail, reference)
    return int((difference > CHANGED_LEVELS).sum()) >= CHANGED_CELLS
