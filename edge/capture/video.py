"""Video files, at their own pace or as fast as they are read, once or in a loop."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, ClassVar

import cv2
from msgspec import Meta

from edge.capture.base import SourceRequest
from edge.capture.interlaced import is_interlaced, is_suspicious, reopen_interlaced
from edge.capture.opencv import Capture, OpencvCapture
from edge.capture.pacing import Pace
from edge.capture.paths import check_file, readable_name
from edge.config.schema import Section
from edge.errors import SourceError
from edge.records import Frame

FALLBACK_FPS = 25.0
"""For files that do not say."""
MAX_BAD = 60
"""Frames in a row that cannot be decoded before a file counts as ended."""
MAX_WAIT_NS = 10_000_000_000
"""A file played at its own pace skips a gap in its time stamps that is longer: nobody waits an hour for a frame."""
log = logging.getLogger(__name__)


class Options(Section, frozen=True):
    """``camera.options`` of a video file."""

    loop: Annotated[bool, Meta(description="begin again at the end")] = False


class VideoSource:
    """A video file. See `edge.capture.base.Source`."""

    reopens: ClassVar[bool] = False
    identity: str | None = None

    def __init__(self, request: SourceRequest, *, path: Path, loop: bool, capture: Capture) -> None:
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
        return cls(request, path=path, loop=loop, capture=_open_checked(path, name=request.name))

    def read(self) -> Frame | None:
        """Return the next frame, its picture (height, width, 3) uint8 BGR; None at the end.

        Frames that cannot be decoded are left out and counted.

        Raises:
            SourceError: nothing in it can be decoded, it is interlaced and cannot be read here, or it is cut off.
        """
        while not self._pace.closed:
            if not self._grab():
                if self._pace.closed or not self._next_pass():
                    return None
                continue
            media_ns = self._media_time_ns()
            image = self._capture.retrieve()
            number, self._number = self._number, self._number + 1
            if image is None:
                self._skipped += 1
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

    @property
    def fps(self) -> float:
        """Return the file's frames a second."""
        return 1e9 / self._interval_ns

    def _grab(self) -> bool:
        """Take the next frame that can be, over as many damaged ones as `MAX_BAD`."""
        for bad in range(MAX_BAD):
            if self._capture.grab():
                self._skipped += bad
                return True
            if self._pace.closed:
                break
        return False

    def _begin_pass(self) -> None:
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._interval_ns = round(1e9 / (fps if 0.01 < fps < 1000 else FALLBACK_FPS))
        self._announced = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._first_pts_ns: int | None = None
        self._media_ns = -1
        self._grabbed = self._delivered = self._skipped = 0

    def _media_time_ns(self) -> int:
        """Time of the grabbed frame since the first one of the first pass; always rising."""
        pts_ns = round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        if self._first_pts_ns is None:
            self._first_pts_ns = pts_ns
        self._grabbed += 1
        media_ns = self._offset_ns + pts_ns - self._first_pts_ns
        if self.live and self._media_ns >= 0 and media_ns - self._media_ns > MAX_WAIT_NS:  # a jump of the time stamps
            self._offset_ns -= media_ns - self._media_ns - self._interval_ns
            media_ns = self._media_ns + self._interval_ns
        if media_ns <= self._media_ns:  # containers without times, or with broken ones
            media_ns = self._media_ns + self._interval_ns
        self._media_ns = media_ns
        return media_ns

    def _next_pass(self) -> bool:
        """Check what was read at the end of the file and begin again where that is asked for."""
        if self._delivered == 0:
            raise SourceError(self.name, "no frame in it can be decoded")
        if self._skipped:
            log.warning("%s: %d frames cannot be decoded and were left out", self.name, self._skipped)
        if is_cut_off(self._path):
            raise SourceError(self.name, f"the file is cut off after {self._grabbed} frames: damaged")
        if not self._loop:
            return False
        self._offset_ns = self._media_ns + self._interval_ns
        self._capture.close()
        self._capture = self._reopen()  # seeking to the start is inexact in some containers
        if self._pace.closed:
            self._capture.close()
        self._begin_pass()
        return True

    def _reopen(self) -> Capture:
        if isinstance(self._capture, OpencvCapture):
            return _open_capture(self._path, name=self.name)
        return reopen_interlaced(str(self._path), name=self.name)


def is_cut_off(path: Path) -> bool:
    """Return whether a container says that it is longer than the file: AVI, and MP4 or MOV by their boxes.

    The number of frames that containers announce is no evidence: it is an estimate from length and rate in most.
    """
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF":
            return 8 + int.from_bytes(head[4:8], "little") > size_bytes
        if head[4:8] != b"ftyp":
            return False
        position = 0
        while 0 <= position < size_bytes:
            file.seek(position)
            box = file.read(16)
            length = int.from_bytes(box[:4], "big")
            if length == 1:
                length = int.from_bytes(box[8:16], "big")
            if length < 8:  # 0: to the end of the file
                return False
            position += length
    return position > size_bytes


def _open_checked(path: Path, *, name: str) -> Capture:
    """Open a video through OpenCV, or through another decoder where OpenCV's pictures are none.

    Raises:
        SourceError: no video, or an interlaced one that cannot be read here.
    """
    capture = _open_capture(path, name=name)
    suspicious = is_suspicious(capture)
    capture.close()
    if suspicious and is_interlaced(str(path)):
        return reopen_interlaced(str(path), name=name)
    return _open_capture(path, name=name)


def _open_capture(path: Path, *, name: str) -> OpencvCapture:
    with readable_name(path) as target:
        capture = OpencvCapture.open(target, backend=cv2.CAP_FFMPEG)
    if capture is None:
        raise SourceError(name, "not a video that OpenCV's FFmpeg can read, or cut off")
    return capture
