"""A device that one thread reads and another may close: a close during a read is left to that read."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


class SharedDevice:
    """Guard of a device whose driver crashes when it is freed during a read.

    Attributes:
        closed: whether `close` was called.
    """

    def __init__(self, free: Callable[[], object]) -> None:
        """Store what it needs.

        Args:
            free: frees the device; called once.
        """
        self._free, self._lock = free, threading.Lock()
        self.closed = self._freed = False

    @contextlib.contextmanager
    def using(self) -> Iterator[bool]:
        """Use the device for a ``with`` block, which is given False where it is closed already."""
        try:
            with self._lock:
                yield not self.closed
        finally:
            if self.closed:
                self.close()

    def close(self) -> None:
        """Free the device, or leave that to the use that is under way."""
        self.closed = True
        if self._lock.acquire(blocking=False):
            try:
                if not self._freed:
                    self._freed = True
                    self._free()
            finally:
                self._lock.release()
