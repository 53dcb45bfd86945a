"""What every frame source offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge.records import Frame

Clock = Callable[[], int]
"""Monotonic nanoseconds; injected so that nothing below the daemon reads a clock."""


class Source(Protocol):
    """A stream of frames. Opened by ``open_source``; used by one thread.

    Attributes:
        name: the source as the user wrote it, credentials removed.
        live: True for cameras (frames that are not read are gone), False for files, which never drop.
    """

    name: str
    live: bool

    def read(self) -> Frame | None:
        """Waits for the next frame; None at the end of a file.

        Raises:
            SourceLostError: a camera stopped delivering.
            SourceError: a file that cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Frees the device; may be called twice, and from another thread to break out of a `read` that hangs."""
        ...
