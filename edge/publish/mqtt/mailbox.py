"""What waits for the network beside events: retained topics, telemetry, answers to requests."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

from edge.publish.base import Reply
from edge.publish.topics import TOPICS

AVAILABILITY: Final = "availability"
RETAINED: Final = tuple(name for name, topic in TOPICS.items() if topic.is_retained and name != AVAILABILITY)
"""In the order in which they are sent after a connect. Others follow as they were filed: full topics, with a slash."""
RESPONSES_WAITING: Final = 64
"""Answers to requests that were not sent yet; of more than that the oldest are forgotten."""


class Mailbox:
    """Keeps the newest of each retained topic, of telemetry what is newest while there is a connection, and answers.

    `retain`, `put_telemetry` and `put_response` may be called by any thread, the rest by the network thread alone.

    Attributes:
        skipped: telemetry that nobody waited for.
        online: whether ``online`` was published on the present connection.
        responses: level below the base topic, bytes, and where it is wanted, of each answer.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self.online = False
        self.responses: deque[tuple[str, bytes, Reply | None]] = deque(maxlen=RESPONSES_WAITING)
        self._lock = threading.Lock()
        self._latest: dict[str, bytes] = {}
        self._dirty: dict[str, None] = {}
        self._telemetry: dict[str, bytes] = {}

    def retain(self, kind: str, data: bytes) -> None:
        """Replace the newest value of a retained topic; it is to be sent."""
        with self._lock:
            self._latest[kind] = data
            self._dirty.setdefault(kind)

    def put_telemetry(self, kind: str, data: bytes) -> None:
        """Replace what waits of a topic of telemetry; without a connection nothing is kept."""
        with self._lock:
            self.skipped += kind in self._telemetry or not self.online
            if self.online:
                self._telemetry[kind] = data

    def latest(self, kind: str) -> bytes | None:
        """Return the newest value of a retained topic; None where there is none."""
        return self._latest.get(kind)

    def forget(self, kind: str) -> None:
        """Forget a retained topic."""
        with self._lock:
            self._latest.pop(kind, None)

    def next_retained(self) -> tuple[str, bytes] | None:
        """Return the retained topic whose turn it is, and its value; None where all are sent."""
        with self._lock:
            return next(((kind, self._latest[kind]) for kind in self._dirty), None)

    def mark_sent(self, kind: str, data: bytes) -> None:
        """Note that a value was sent; a newer one that came meanwhile still is to be."""
        with self._lock:
            if self._latest[kind] is data:
                del self._dirty[kind]

    def take_telemetry(self) -> tuple[str, bytes] | None:
        """Remove and return the oldest topic of telemetry that waits."""
        with self._lock:
            kind = next(iter(self._telemetry), None)
            return None if kind is None else (kind, self._telemetry.pop(kind))

    def begin_connection(self) -> None:
        """Mark every retained topic as to be sent, in order; see `RETAINED`."""
        with self._lock:
            self._dirty = {kind: None for kind in (*RETAINED, *self._latest) if kind in self._latest}

    def end_connection(self) -> None:
        """Forget telemetry, and answers: who asked over the lost connection does not wait for them any more."""
        with self._lock:
            self.online = False
            self.skipped += len(self._telemetry)
            self._telemetry.clear()
        self.responses.clear()

    @property
    def has_retained(self) -> bool:
        """Whether a retained topic is to be sent."""
        return bool(self._dirty)

    def set_online(self) -> None:
        """Note that ``online`` was published: telemetry is taken from now on."""
        with self._lock:
            self.online = True
