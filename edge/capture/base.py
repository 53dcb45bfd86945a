"""The interface of frame sources, and the request that opens one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from edge.config.loader import decode_options
from edge.config.schema import CameraConfig, Section
from edge.records import Frame

Clock = Callable[[], int]
"""Monotonic nanoseconds; injected so that nothing below the daemon reads a clock."""

Sleep = Callable[[float], object]
"""Waits for so many seconds; may return early."""

O = TypeVar("O", bound=Section)  # noqa: E741 - options

PLAUSIBLE_AGE_NS = 2_000_000_000
"""A driver's timestamp older than this is of another clock."""


class Source(Protocol):
    """A stream of frames. Opened by ``open_source``; used by one thread.

    Attributes:
        reopens: True for cameras, which may come back after they were lost; False for files.
        name: the source as the user wrote it, credentials removed.
        live: True where frames that are not read are gone (cameras, files played at their own pace), False for files
            read as fast as possible, which never drop.
        identity: a stable way to write the same camera, whatever number it gets next time; None where the source as
            written is all there is.
    """

    reopens: ClassVar[bool]
    name: str
    live: bool
    identity: str | None

    def read(self) -> Frame | None:
        """Wait for the next frame; None at the end of a file, or after `close`.

        Raises:
            SourceLostError: a camera stopped delivering.
            SourceError: a file that cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Frees the device; may be called twice, and from another thread to break out of a `read` that hangs.

        A `read` inside a driver that cannot be interrupted is abandoned: it frees the device itself when it returns.
        """
        ...


@dataclass(frozen=True, slots=True)
class SourceRequest:
    """A request to open a source.

    Attributes:
        target: device, address, pipeline or path; may hold credentials, so it goes into no message.
        name: the same for messages, credentials removed.
        config: size and rate asked for, and the kind's options.
        clock: monotonic nanoseconds.
        paced: files: True plays at their own pace, stamped with the clock; False as fast as they are read, stamped
            with media time, which makes every run the same.
        loop: files: begin again at the end, whatever the options say.
        sleep: paces files; None waits so that `close` ends the wait.
    """

    target: str
    name: str
    config: CameraConfig
    clock: Clock
    paced: bool = True
    loop: bool = False
    sleep: Sleep | None = None

    def options(self, kind: type[O]) -> O:
        """Return the options of ``camera.options``, decoded.

        Raises:
            ConfigError: a key unknown or out of range.
        """
        return decode_options(self.config.options, kind, key="camera.options")


class Pace:
    """Gives frames of files their time: their own pace on the clock, or media time without waiting."""

    def __init__(self, request: SourceRequest) -> None:
        self._paced = request.paced
        self._clock = request.clock
        self._closed = threading.Event()
        self._sleep = request.sleep or self._closed.wait
        self._anchor_ns: int | None = None

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
        if self._closed.is_set():
            return None
        if not self._paced:
            return media_ns
        now_ns = self._clock()
        if self._anchor_ns is None or now_ns > self._anchor_ns + media_ns + interval_ns:
            self._anchor_ns = now_ns - media_ns
        due_ns = self._anchor_ns + media_ns
        while now_ns < due_ns:
            self._sleep((due_ns - now_ns) / 1e9)
            if self._closed.is_set():
                return None
            now_ns = self._clock()
        return due_ns

    @property
    def closed(self) -> bool:
        """Return whether `close` was called."""
        return self._closed.is_set()

    def close(self) -> None:
        """End a wait that is under way and make all later ones return at once."""
        self._closed.set()


def capture_time_ns(driver_ns: float, *, now_ns: int) -> int:
    """Return the time of capture: the driver's if it is of the monotonic clock, otherwise the time of arrival.

    Args:
        driver_ns: timestamp of the driver, of a clock that is not known for sure; 0 where there is none.
        now_ns: monotonic clock when the frame arrived.
    """
    stamp_ns = int(driver_ns)
    return stamp_ns if 0 < stamp_ns <= now_ns and now_ns - stamp_ns <= PLAUSIBLE_AGE_NS else now_ns
