"""Video files, at their own pace or as fast as they are read, once or in a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

import cv2
from msgspec import Meta

from edge.capture.base import SourceRequest
from edge.capture.opencv import OpencvCapture
from edge.capture.pacing import Pace
from edge.capture.paths import check_file
from edge.config.schema import Section
from edge.errors import SourceError
from edge.records import Frame

FALLBACK_FPS = 25.0
"""For files that do not say."""
TRUNCATED_BELOW = 0.9
"""A file that ends before this share of both the frames and the time that it announces is damaged. Announced counts
are estimates in some containers and off by a few frames in sound files."""


class Options(Section, frozen=True):
    """``camera.options`` of a video file."""

    loop: Annotated[bool, Meta(description="begin again at the end")] = False


class VideoSource:
    """A video file. See `edge.capture.base.Source`."""

    reopens: ClassVar[bool] = False
    identity: str | None = None

    def __init__(self, request: SourceRequest, *, path: Path, loop: bool, capture: OpencvCapture) -> None:
        self.name, self.live = request.name, request.paced
        self._path, self._loop, self._capture = path, loop, capture
        self._pace = Pace(request)
        self._number = 0
        self._offset_ns = 0
        self._begin_pass()

    @classmethod
    def open(cls, request: SourceRequest) -> VideoSource:
        """Open a video file.

        Raises:
            SourceNotFoundError: no such file.
            SourcePermissionError: it may not be read.
            SourceError: empty or not a video.
            ConfigError: an unknown or wrong option.
        """
        loop = request.options(Options).loop or request.loop
        path = Path(request.target).absolute()  # FFmpeg takes what is before a colon for a protocol
        check_file(path, name=request.name)
        return cls(request, path=path, loop=loop, capture=_open_capture(path, name=request.name))

    def read(self) -> Frame | None:
        """Return the next frame, its picture (height, width, 3) uint8 BGR; None at the end.

        Raises:
            SourceError: nothing in it can be decoded, or it ends long before it says.
        """
        while not self._pace.closed:
            if not self._capture.grab():
                if self._pace.closed or not self._next_pass():
                    return None
                continue
            media_ns = self._media_time_ns()
            image = self._capture.retrieve()
            number, self._number = self._number, self._number + 1
            if image is None:
                continue
            restarts = self._delivered == 0 and self._offset_ns > 0
            self._delivered += 1
            stamp_ns = self._pace.stamp(media_ns, interval_ns=self._interval_ns)
            if stamp_ns is None:
                return None
            return Frame(image=image, timestamp_ns=stamp_ns, number=number, source=self.name, discontinuity=restarts)
        return None

    def close(self) -> None:
        """Close the file and end a wait."""
        self._pace.close()
        self._capture.close()

    def _begin_pass(self) -> None:
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._interval_ns = round(1e9 / (fps if 0.01 < fps < 1000 else FALLBACK_FPS))
        self._announced = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._first_pts_ns: int | None = None
        self._media_ns = -1
        self._grabbed = self._delivered = 0

    def _media_time_ns(self) -> int:
        """Time of the grabbed frame since the first one of the first pass; always rising."""
        pts_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if self._first_pts_ns is None:
            self._first_pts_ns = pts_ns
        self._grabbed += 1
        media_ns = self._offset_ns + pts_ns - self._first_pts_ns
        if media_ns <= self._media_ns:  # containers without times, or with broken ones
            media_ns = self._media_ns + self._interval_ns
        self._media_ns = media_ns
        return media_ns

    def _next_pass(self) -> bool:
        """Check what was read at the end of the file and begin again where that is asked for."""
        if self._delivered == 0:
            raise SourceError(self.name, "no frame in it can be decoded")
        played_ns = self._media_ns - self._offset_ns + self._interval_ns
        shares = (self._grabbed / max(self._announced, 1), played_ns / max(self._announced * self._interval_ns, 1))
        if max(shares) < TRUNCATED_BELOW:
            raise SourceError(self.name, f"ends after {self._grabbed} of {self._announced:.0f} frames: damaged")
        if not self._loop:
            return False
        self._offset_ns = self._media_ns + self._interval_ns
        self._capture.close()
        self._capture = _open_capture(self._path, name=self.name)  # seeking to the start is inexact in some containers
        if self._pace.closed:
            self._capture.close()
        self._begin_pass()
        return True


def _open_capture(path: Path, *, name: str) -> OpencvCapture:
    capture = OpencvCapture.open(str(path), backend=cv2.CAP_FFMPEG)
    if capture is None:
        raise SourceError(name, "not a video that OpenCV's FFmpeg can read, or cut off")
    return capture
