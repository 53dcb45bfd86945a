"""OpenCV's capture made safe to close from another thread, and quiet: its own messages may hold passwords."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Protocol

import cv2

from edge.capture.base import SourceRequest
from edge.capture.shared_device import SharedDevice
from edge.errors import SourceLostError
from edge.records import Frame, Image


class Capture(Protocol):
    """What a camera or file reads its pictures through; see `OpencvCapture`."""

    @property
    def closed(self) -> bool:
        """Return whether `close` was called."""
        ...

    def grab(self) -> bool:
        """Take the next frame."""
        ...

    def retrieve(self) -> Image | None:
        """Return the grabbed frame."""
        ...

    def get(self, key: int) -> float:
        """Return a ``cv2.CAP_PROP_…``."""
        ...

    def close(self) -> None:
        """Free the device."""
        ...


class OpencvCapture:
    """One `cv2.VideoCapture`.

    `cv2.VideoCapture.release` during a read of another thread is a crash, so `close` leaves the release to a read
    that is under way.
    """

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture, self._device = capture, SharedDevice(capture.release)

    @property
    def closed(self) -> bool:
        """Return whether `close` was called."""
        return self._device.closed

    @classmethod
    def open(cls, target: str, *, backend: int, parameters: Sequence[int] = ()) -> OpencvCapture | None:
        """Open a file, device or address; None when OpenCV cannot, for a reason that it does not tell.

        Args:
            target: file, device or address.
            backend: ``cv2.CAP_…``.
            parameters: pairs of ``cv2.CAP_PROP_…`` and value.
        """
        try:
            with silence():
                capture = cv2.VideoCapture(target, backend, list(parameters))
        except cv2.error:
            return None
        if capture.isOpened():
            return cls(capture)
        capture.release()
        return None

    def grab(self) -> bool:
        """Take the next frame without decoding it for Python; False at the end, on an error or once closed."""
        with self._device.using() as usable:
            try:
                return usable and self._capture.grab()
            except cv2.error:
                return False

    def retrieve(self) -> Image | None:
        """Return the grabbed frame, (height, width, 3) uint8 BGR; None when it cannot be decoded."""
        with self._device.using() as usable:
            try:
                done, image = self._capture.retrieve() if usable else (False, None)
            except cv2.error:
                return None
        return bgr(image) if done else None

    def get(self, key: int) -> float:
        """Return a ``cv2.CAP_PROP_…``; 0 where it is not known or the capture is closed."""
        with self._device.using() as usable:
            return self._capture.get(key) if usable else 0.0

    def set(self, key: int, value: float) -> None:
        """Ask for a ``cv2.CAP_PROP_…``; the driver may give something else."""
        with self._device.using() as usable:
            if usable:
                self._capture.set(key, value)

    def close(self) -> None:
        """Free the device, or leave that to the read that is under way."""
        self._device.close()


class OpencvCamera:
    """Base of cameras that are read through OpenCV. See `edge.capture.base.Source`."""

    reopens: ClassVar[bool] = True
    corrupt_bound: ClassVar[int]
    """Frames in a row that cannot be decoded before the camera counts as lost."""

    def __init__(self, request: SourceRequest, *, capture: Capture, lost: str, identity: str | None) -> None:
        """Store what it needs.

        Args:
            request: to open the source.
            capture: the opened camera.
            lost: what to say when it delivers no more.
            identity: see `edge.capture.base.Source`.
        """
        self.name, self.live, self.identity = request.name, True, identity
        self._capture, self._clock, self._lost = capture, request.clock, lost
        self._number = 0

    def stamp_ns(self) -> int:
        """Return the timestamp of the grabbed frame: its arrival."""
        return self._clock()

    def read(self) -> Frame | None:
        """Return the next frame, (height, width, 3) uint8 BGR; None once closed.

        Raises:
            SourceLostError: the camera is gone or delivers nothing that can be decoded.
        """
        for _ in range(self.corrupt_bound):
            if not self._capture.grab():
                if self._capture.closed:
                    return None
                raise SourceLostError(self.name, self._lost)
            stamp_ns, image = self.stamp_ns(), self._capture.retrieve()
            number, self._number = self._number, self._number + 1
            if image is not None:
                return Frame(image, stamp_ns, number=number, source=self.name)
        raise SourceLostError(self.name, f"{self.corrupt_bound} frames in a row cannot be decoded")

    def close(self) -> None:
        """Free the camera; a read that is under way frees it when it returns."""
        self._capture.close()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep OpenCV from printing: what it says of a failed opening holds the whole address."""
    logs: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 5; OpenCV 4
    level = logs.getLogLevel()
    logs.setLogLevel(0)  # LOG_LEVEL_SILENT
    try:
        yield
    finally:
        logs.setLogLevel(level)


def bgr(image: object) -> Image | None:
    """Return a decoded picture as (height, width, 3) uint8 BGR; None where there is no picture in it."""
    if not hasattr(image, "ndim") or not getattr(image, "size", 0):
        return None
    array: Image = image  # type: ignore[assignment]
    if array.ndim == 2 or array.shape[2] == 1:
        return cv2.cvtColor(array, cv2.COLOR_GRAY2BGR)  # type: ignore[return-value]
    if array.shape[2] == 4:
        return cv2.cvtColor(array, cv2.COLOR_BGRA2BGR)  # type: ignore[return-value]
    return array
