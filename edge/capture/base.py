"""The interface of frame sources, and the request that opens one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar

from edge.config.loader import decode_options
from edge.config.schema import CameraConfig, Section
from edge.records import Frame

Clock = Callable[[], int]
"""Monotonic nanoseconds; injected so that nothing below the daemon reads a clock."""

Sleep = Callable[[float], object]
"""Function that waits for so many seconds; may return early."""

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
        """Free the device; may be called twice, and from another thread to break out of a `read` that hangs.

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


def capture_time_ns(driver_ns: float, *, now_ns: int) -> int:
    """Return the time of capture: the driver's if it is of the monotonic clock, otherwise the time of arrival.

    Args:
        driver_ns: timestamp of the driver, of a clock that is not known for sure; 0 where there is none.
        now_ns: monotonic clock when the frame arrived.
    """
    stamp_ns = int(driver_ns)
    return stamp_ns if 0 < stamp_ns <= now_ns and now_ns - stamp_ns <= PLAUSIBLE_AGE_NS else now_ns
