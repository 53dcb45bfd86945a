"""The outbox that ends with the process."""

from __future__ import annotations

import itertools
import threading
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from edge.publish.outbox.base import Bounds, Gap, LossReason, Record, StoredEvent

GAPS_MAX: Final = 1000
"""Bound on the gaps that wait; beyond it the oldest is forgotten (a start every few seconds for weeks makes many)."""


class MemoryOutbox:
    """An outbox that ends with the process.

    Args:
        bounds: on the events waiting; those taken by a connection come on top.
        clock_ns: the monotonic clock of ``live_until_ns``.
    """

    def __init__(self, bounds: Bounds, *, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._bounds = bounds
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._live: deque[Record] = deque()
        self._history: deque[Record] = deque()
        self._taken: dict[int, Record] = {}
        self._keys = itertools.count(1)
        self._events = self._data_bytes = self._gaps = self._dropped = 0

    def open(self) -> None:
        """See `Outbox.open`."""

    def begin(self, boot_id: str) -> None:
        """See `Outbox.begin`."""

    def previous(self) -> tuple[str, int] | None:
        """See `Outbox.previous`."""
        return None

    def put(self, event: StoredEvent) -> None:
        """See `Outbox.put`."""
        with self._lock:
            record = Record(next(self._keys), event, made_ns=self._clock_ns())
            self._live.append(record)
            self._count(record, 1)
            self._changed(record.key, record)
            self._enforce_bounds()

    def take(self, *, live_only: bool = False) -> Record | None:
        """See `Outbox.take`."""
        with self._lock:
            self._age()
            self._enforce_bounds()
            lane = self._live if self._live or live_only else self._history
            if not lane:
                return None
            record = lane.popleft()
            self._taken[record.key] = record
            self._count(record, -1)
            return record

    def done(self, record: Record) -> None:
        """See `Outbox.done`."""
        with self._lock:
            if self._taken.pop(record.key, None):
                self._changed(record.key, None)

    def lose(self, record: Record, *, reason: LossReason) -> None:
        """See `Outbox.lose`."""
        with self._lock:
            self._taken.pop(record.key, None)
            self._changed(record.key, None)
            if isinstance(record.item, StoredEvent):
                self._insert_gap(record, record.item, reason)

    def put_back(self, record: Record) -> None:
        """See `Outbox.put_back`."""
        with self._lock:
            if self._taken.pop(record.key, None):
                self._remember([replace(record, attempted=True)])
                self._enforce_bounds()

    def release(self) -> None:
        """See `Outbox.release`."""
        with self._lock:
            back = [replace(record, attempted=True) for record in self._taken.values()]
            self._taken.clear()
            self._remember(back)
            self._enforce_bounds()

    def close(self, *, timeout_s: float) -> None:
        """See `Outbox.close`."""

    def __len__(self) -> int:
        with self._lock:
            return len(self._live) + len(self._history) + len(self._taken)

    def status(self) -> str:
        """See `Outbox.status`."""
        return ""

    def counts(self) -> dict[str, int]:
        """See `Outbox.counts`."""
        with self._lock:
            taken = sum(isinstance(record.item, StoredEvent) for record in self._taken.values())
            return {"queued": self._events + taken, "dropped": self._dropped}

    # What follows is called with the lock held.

    def _changed(self, key: int, record: Record | None) -> None:
        """Called for every record that comes, is replaced, or goes (None)."""

    def _count(self, record: Record, sign: int) -> None:
        if isinstance(record.item, StoredEvent):
            self._events += sign
            self._data_bytes += sign * len(record.item.data)
        else:
            self._gaps += sign

    def _age(self) -> None:
        """Live events whose time is over become history."""
        now_ns = self._clock_ns()
        while self._live and self._live[0].item.live_until_ns < now_ns:  # type: ignore[union-attr]
            self._insert(self._live.popleft())

    def _remember(self, records: list[Record]) -> None:
        """Files many records as history."""
        for record in records:
            self._count(record, 1)
        self._history = deque(sorted([*self._history, *records], key=_key))

    def _insert(self, record: Record) -> int:
        at = len(self._history)
        if self._history and self._history[-1].key > record.key:
            at = bisect_left(self._history, record.key, key=_key)
        self._history.insert(at, record)
        return at

    def _enforce_bounds(self) -> None:
        while self._events > self._bounds.events or self._data_bytes > self._bounds.data_bytes:
            self._drop_oldest("queue_full")
        if self._bounds.age_s is not None:
            horizon_ns = self._clock_ns() - int(self._bounds.age_s * 1e9)
            while self._events and self._lane_of_oldest()[1].made_ns < horizon_ns:
                self._drop_oldest("too_old")

    def _lane_of_oldest(self) -> tuple[deque[Record], Record]:
        for lane in (self._history, self._live):
            for record in lane:
                if isinstance(record.item, StoredEvent):
                    return lane, record
        raise AssertionError("events are counted that are in no lane")

    def _drop_oldest(self, reason: LossReason) -> None:
        lane, record = self._lane_of_oldest()
        assert isinstance(record.item, StoredEvent)
        lane.remove(record)
        self._count(record, -1)
        self._changed(record.key, None)
        self._insert_gap(record, record.item, reason)

    def _insert_gap(self, lost: Record, event: StoredEvent, reason: LossReason) -> None:
        """Records a loss in the event's place, as part of the gap before or after it where one adjoins."""
        self._dropped += 1
        record = replace(lost, item=Gap(event.boot_id, event.seq, event.seq, reason), attempted=False)
        self._count(record, 1)
        at = self._insert(record)
        for first in (at, at - 1):
            if not 0 <= first < len(self._history) - 1:
                continue
            one, two = self._history[first], self._history[first + 1]
            if isinstance(one.item, Gap) and isinstance(two.item, Gap) and (joined := _join(one.item, two.item)):
                for key in (one.key, two.key):
                    self._changed(key, None)
                del self._history[first + 1]
                self._gaps -= 1
                record = self._history[first] = replace(one, item=joined)
        self._changed(record.key, record)
        if self._gaps > GAPS_MAX:
            self._forget_oldest_gap()

    def _forget_oldest_gap(self) -> None:
        oldest = next(record for record in self._history if isinstance(record.item, Gap))
        self._history.remove(oldest)
        self._count(oldest, -1)
        self._changed(oldest.key, None)


def _key(record: Record) -> int:
    return record.key


def _join(one: Gap, two: Gap) -> Gap | None:
    """Two gaps as one, when they are of one start and reason and leave nothing between them."""
    if (one.boot_id, one.reason) == (two.boot_id, two.reason) and one.to_seq + 1 == two.from_seq:
        return replace(one, to_seq=two.to_seq)
    return None
