"""Schedule of the detector: on every frame, or only when something may have changed."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edge.config.schema import DetectConfig
from edge.records import Frame, Tracks

THUMBNAIL_WH: Final = (32, 24)
"""Size of the grey picture on which change is measured."""
CHANGED_LEVELS: Final = 12
"""Grey levels by which a cell of the thumbnail must differ to count as changed; sensor noise stays below."""
CHANGED_CELLS: Final = 60
"""Cells of 768 that must have changed away from all people: light, another view. Less waits for the next look."""
EDGE_CELLS: Final = 4
"""Cells along the left, right and upper edge, where people come in, of which the same is true."""
BESIDE_FACE: Final = 1.0
"""Face widths to both sides within which change is a person's own, from hair to feet."""
ABOVE_FACE: Final = 0.5
"""Face heights above, the same."""


class DetectionSchedule:
    """Decides on each frame whether the detector runs. Has no clock: the frame carries the time.

    With ``detect.schedule = "adaptive"`` the detector rests while all faces are confirmed and are found again by their
    looks (`edge.pipeline.registration`). It runs when the tracks are unsettled (a face is new, was missed, or is not
    found again), when away from people the picture's edge or much of the picture differs from that of the last
    detection, and at the latest after ``detect.max_rest_ms``, so that a new face is found in time. The next frame is
    expected after as long as the last one.
    """

    def __init__(self, config: DetectConfig) -> None:
        self._runs_always = config.schedule == "every_frame"
        self._configured_ns = self._max_rest_ns = config.max_rest_ms * 1e6
        self._configured_always = self._runs_always
        self.reset()

    def rest_at_least(self, rest_ms: float) -> None:
        """Let the detector rest up to so long, or as configured where that is longer; 0: as configured."""
        self._runs_always = self._configured_always and not rest_ms
        self._max_rest_ns = max(self._configured_ns, rest_ms * 1e6)

    def reset(self) -> None:
        """Forget the last detection: the detector runs on the next frame."""
        self._reference: npt.NDArray[np.uint8] | None = None
        self._previous_ns: int | None = None
        self._detected_ns = 0
        self._tracks = Tracks()

    def is_due(self, frame: Frame) -> bool:
        """Return whether the detector runs on this frame. Called once a frame."""
        if self._runs_always:
            return True
        now_ns, thumbnail = frame.timestamp_ns, make_thumbnail(frame)
        interval_ns = 0 if self._previous_ns is None else now_ns - self._previous_ns
        self._previous_ns = now_ns
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
        """Take in where the faces of the same frame are and whether the tracker is unsettled."""
        self._tracks = tracks

    def _is_changed(self, difference: npt.NDArray[np.generic], frame_wh: tuple[int, int]) -> bool:
        """Return whether cells away from the people differ from the last detection's; writes to ``difference``."""
        across, down = THUMBNAIL_WH[0] / frame_wh[0], THUMBNAIL_WH[1] / frame_wh[1]
        for track in self._tracks.active:
            x, y, w, h = track.xywh
            left, top = max(0, int((x - BESIDE_FACE * w) * across)), max(0, int((y - ABOVE_FACE * h) * down))
            right = max(0, int((x + (1 + BESIDE_FACE) * w) * across) + 1)
            difference[top:, left:right] = 0
        changed = np.greater(difference, CHANGED_LEVELS)
        edges = (changed[0], changed[1:-1, 0], changed[1:-1, -1])
        at_edge = sum(int(np.count_nonzero(edge)) for edge in edges)
        return at_edge >= EDGE_CELLS or int(np.count_nonzero(changed)) >= CHANGED_CELLS


def make_thumbnail(frame: Frame) -> npt.NDArray[np.uint8]:
    """Return a (24, 32) uint8 grey picture: a few source pixels a cell, which is cheap, averaged against noise."""
    image = frame.image if frame.lores is None else frame.lores
    small = cv2.resize(image, (THUMBNAIL_WH[0] * 4, THUMBNAIL_WH[1] * 4), interpolation=cv2.INTER_NEAREST)
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
    return cv2.resize(grey, THUMBNAIL_WH, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]
