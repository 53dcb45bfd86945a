"""One place between two threads: the newest value wins, what it replaces is counted."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestSlot(Generic[T]):
    """A handover of the newest value from one thread to another; a backlog cannot form.

    Attributes:
        dropped: values that were replaced before anybody took them.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._value: T | None = None
        self._closed = False
        self.dropped = 0

    def put(self, value: T) -> None:
        """Place a value, replacing one that was not taken yet."""
        with self._condition:
            if self._value is not None:
                self.dropped += 1
            self._value = value
            self._condition.notify_all()

    def get(self, timeout_s: float | None = None) -> T | None:
        """Take the newest value, waiting for it; None on time-out or when the slot is closed and empty."""
        with self._condition:
            self._condition.wait_for(lambda: self._value is not None or self._closed, timeout_s)
            value, self._value = self._value, None
            self._condition.notify_all()
            return value

    def put_wait(self, value: T, timeout_s: float | None = None) -> bool:
        """Place a value once the place is free, for sources that must not drop (files).

        Returns:
            False when the slot was closed or the time ran out; the value was not placed.
        """
        with self._condition:
            free = self._condition.wait_for(lambda: self._value is None or self._closed, timeout_s)
            if not free or self._closed:
                return False
            self._value = value
            self._condition.notify_all()
            return True

    def close(self) -> None:
        """Wake everybody; what lies in the slot can still be taken."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    @property
    def closed(self) -> bool:
        """Return whether `close` was called."""
        return self._closed
