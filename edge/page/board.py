"""What a viewer sees: the newest message of every topic, the last events, and ten minutes of who was there.

The inference thread writes, the page's thread reads; neither waits for the other longer than a dictionary takes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from edge.publish.base import Message
from edge.publish.payloads import EventPayload
from edge.publish.topics import TOPICS, Delivery

EVENTS_KEPT: Final = 50
PASSING: Final = ("faces", "pulse")
"""Made only while somebody looks on: the last ones are of whenever that was, so nobody who comes later gets them."""
SECONDS_KEPT: Final = 600
UNKNOWN: Final = b"null"

Item = tuple[str, bytes]
"""A topic and its payload as it is published."""


class Board:
    """Keeps what there is to see, and wakes the viewers.

    Attributes:
        counted: events by type since the start.
        last_turn_ns: monotonic time of the last sign of life of the thread that writes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[str, bytes] = {}
        self._events: deque[bytes] = deque(maxlen=EVENTS_KEPT)
        self._seconds: deque[tuple[int, bytes]] = deque(maxlen=SECONDS_KEPT)
        self._viewers: dict[Viewer, None] = {}
        self.counted: dict[str, int] = {}
        self.last_turn_ns = time.monotonic_ns()

    def put(self, message: Message) -> None:
        """Take a message; an answer to somebody's request is nobody else's concern."""
        topic = TOPICS[message.kind]
        if topic.delivery is Delivery.EVENT and message.kind != "event":
            return
        with self._lock:
            if isinstance(message.payload, EventPayload):
                self._events.append(message.data)
                self.counted[message.payload.type] = self.counted.get(message.payload.type, 0) + 1
            else:
                self._latest[message.kind] = message.data
            self._hand_out(message.kind, message.data)

    def put_second(self, at_ms: int) -> None:
        """Note who is there now: ``counts`` as it was last told, or null while nothing is known."""
        with self._lock:
            counts = self._latest.get("counts", UNKNOWN)
            self._seconds.append((at_ms, counts))
            self._hand_out("second", b"[%d,%s]" % (at_ms, counts))

    def put_pulse(self, data: bytes) -> None:
        """Take how the daemon does this second."""
        with self._lock:
            self._latest["pulse"] = data
            self._hand_out("pulse", data)

    def latest(self, kind: str) -> bytes | None:
        """Return the newest payload of a topic; None before the first."""
        with self._lock:
            return self._latest.get(kind)

    def events(self) -> bytes:
        """Return the last events, oldest first, as a JSON array."""
        with self._lock:
            return b"[" + b",".join(self._events) + b"]"

    def join(self, wake: Callable[[], None]) -> Viewer:
        """Return a new viewer's mailbox, filled with all that there is to see.

        Args:
            wake: called from any thread when there is something new; must not block.
        """
        with self._lock:
            viewer = Viewer(wake)
            seconds = b",".join(b"[%d,%s]" % second for second in self._seconds)
            viewer.put("timeline", b"[" + seconds + b"]")
            for kind, data in self._latest.items():
                if kind not in PASSING:
                    viewer.put(kind, data)
            for data in self._events:
                viewer.put("event", data)
            self._viewers[viewer] = None
            return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer."""
        with self._lock:
            self._viewers.pop(viewer, None)

    @property
    def viewers(self) -> int:
        """How many look on."""
        return len(self._viewers)

    def _hand_out(self, kind: str, data: bytes) -> None:
        for viewer in self._viewers:
            viewer.put(kind, data)


class Viewer:
    """One viewer's mailbox: of each topic the newest, of events the last ones. A slow viewer misses, never delays."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._latest: dict[str, bytes] = {}
        self._events: deque[bytes] = deque(maxlen=EVENTS_KEPT)
        self._seconds: deque[bytes] = deque(maxlen=SECONDS_KEPT)

    def put(self, kind: str, data: bytes) -> None:
        """Take one payload; of the kinds that are no list only the newest stays."""
        with self._lock:
            if kind == "event":
                self._events.append(data)
            elif kind == "second":
                self._seconds.append(data)
            else:
                self._latest[kind] = data
        self._wake()

    def take(self) -> list[Item]:
        """Return what is new, and forget it."""
        with self._lock:
            items = [
                *self._latest.items(),
                *(("event", data) for data in self._events),
                *(("second", data) for data in self._seconds),
            ]
            self._latest.clear()
            self._events.clear()
            self._seconds.clear()
        return items
